"""Facts of a `.codec` file: header, chunks, index, sizes and the use of its codes, damaged or not."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from codec.bitstream import PACKED, BitstreamReader, EntropyCoder, Header, describe_lost
from codec.bitstream.header import CHUNK_OVERHEAD, HEADER_BYTES, VERSION, Frames, tail_bytes
from codec.errors import BitstreamError
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health, count_codes

MAX_COUNTED = 2**22
"""Codes of all levels together, above which their use is not counted: no model has so many, but a header may."""


class CodeFile(NamedTuple):
    """Facts of a `.codec` file."""

    path: Path
    num_bytes: int
    """Of the whole file."""
    header: Header
    """If the file was never closed, its length is computed from its chunks."""
    is_closed: bool
    has_index: bool
    """Whether the index is there and right."""
    chunk_bytes: list[int]
    """Size of each chunk whose checksum is right, with its 12 bytes of overhead."""
    lost: tuple[Frames, ...]
    """Frame ranges whose chunk is damaged or missing."""
    counts: Tensor | None
    """Uses of every code, int64 `[K, N]`, in the intact chunks; None if the codes could not be read."""

    @property
    def overhead_bytes(self) -> int:
        """Bytes of the intact chunks that are not payload."""
        return CHUNK_OVERHEAD * len(self.chunk_bytes)

    @property
    def index_bytes(self) -> int:
        """Size of index and trailer; 0 if they are damaged or missing."""
        return tail_bytes(self.header.num_chunks) if self.has_index else 0

    @property
    def other_bytes(self) -> int:
        """Bytes that belong to nothing intact."""
        return self.num_bytes - HEADER_BYTES - sum(self.chunk_bytes) - self.index_bytes

    @property
    def bitrate(self) -> float:
        """Bitrate of the whole file, all channels (bit/s)."""
        return 8 * self.num_bytes / self.header.duration_s

    @property
    def health(self) -> CodebookHealth | None:
        """Entropy (bit), perplexity and usage of every level; None if no codes could be read."""
        return None if self.counts is None or not self.chunk_bytes else codebook_health(self.counts)

    @property
    def damage(self) -> str:
        """What is damaged, in words; empty if nothing is."""
        if self.lost:
            return describe_lost(self.header, self.lost)
        if not self.is_closed:
            return "the file was never closed: what it holds is intact, but its end is missing"
        if not self.has_index:
            return "the index is damaged or missing; no codes are lost"
        return f"{self.other_bytes} bytes belong to nothing; no codes are lost" if self.other_bytes else ""


def inspect_file(path: Path, coder: EntropyCoder | None = None) -> CodeFile:
    """Read a `.codec` file and check all of it, chunk by chunk, in constant memory.

    Args:
        path: The file.
        coder: Entropy coder of the model that made it. Without it the codes of an entropy-coded file are not read, but
            its checksums are.

    Raises:
        BitstreamError: It can't be read, is no `.codec` file, or has an unusable header; or the coder does not fit.
    """
    try:
        with path.open("rb") as file:
            header = Header.from_file(file)
            reads_codes = header.payload_kind == PACKED or coder is not None
            reader = BitstreamReader(file, coder if reads_codes else _NoTables(header))
            num_levels, size = header.num_quantizers, header.codebook_size
            is_counted = reads_codes and num_levels * size <= MAX_COUNTED
            counts = torch.zeros(num_levels, size, dtype=torch.int64) if is_counted else None
            sizes = []
            for _, codes in reader:
                sizes.append(reader.chunk_bytes)
                if counts is not None:
                    counts += count_codes(torch.from_numpy(codes), size)
            num_bytes = path.stat().st_size
            whole = reader.is_closed, reader.has_index
            return CodeFile(path, num_bytes, reader.header, *whole, sizes, reader.lost, counts)
    except OSError as error:
        raise BitstreamError(f"can't read {path}: {error.strerror or error}") from error


def file_to_json(facts: CodeFile, model: str | None) -> dict[str, Any]:
    """The facts as JSON has them.

    Args:
        facts: Of a file.
        model: Name of the model that made it; None if it is not known.
    """
    header, health = facts.header, facts.health
    codes = header.to_json()
    return {
        "path": str(facts.path),
        "version": VERSION,
        "payload": "packed" if header.payload_kind == PACKED else "entropy-coded",
        **codes,
        "model": {**codes["model"], "name": model},
        "frames_per_chunk": header.frames_per_chunk,
        "num_chunks": header.num_chunks,
        "chunk_bytes": facts.chunk_bytes,
        "is_closed": facts.is_closed,
        "has_index": facts.has_index,
        "lost_seconds": [[header.time_s(start), header.time_s(stop)] for start, stop in facts.lost],
        "damage": facts.damage,
        "num_bytes": facts.num_bytes,
        "header_bytes": HEADER_BYTES,
        "overhead_bytes": facts.overhead_bytes,
        "index_bytes": facts.index_bytes,
        "other_bytes": facts.other_bytes,
        "bitrate": facts.bitrate,
        "levels": None if health is None else {name: values.tolist() for name, values in health._asdict().items()},
    }


class _NoTables(EntropyCoder):
    """Stands for the tables of a model that is not at hand: all codes are read as 0, and only checksums count."""

    def __init__(self, header: Header) -> None:
        self.num_quantizers, self.codebook_size = header.num_quantizers, header.codebook_size

    def decode(self, payload: bytes, shape: tuple[int, int, int]) -> NDArray[np.int64]:
        """Zeros of the shape (C, K, f) of the codes."""
        return np.zeros(shape, np.int64)
