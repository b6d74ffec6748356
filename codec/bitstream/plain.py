"""Codes as plain arrays, for training language models on them: .npy, .npz and .jsonl <-> Bitstream.

    .npy    int16 or int32 [C, K, F], no metadata
    .npz    the same as `codes`, and the header's fields as scalars
    .jsonl  one object a channel: {"channel": 0, "codes": K lists of F integers, and the header's fields}

A file that is read needs only the codes, [C, K, F] or, for one channel, [K, F]. Fields that it lacks are taken from the
model.
"""

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codec.bitstream.container import Bitstream
from codec.bitstream.header import PACKED, Header
from codec.errors import BitstreamError
from codec.files import new_file

Contents = tuple[NDArray[Any], dict[str, Any]]  # codes, and the header's fields that the file holds

SUFFIXES = (".npy", ".npz", ".jsonl")
_MODEL_FIELDS = ("model_sample_rate", "hop_length", "delay", "codebook_size", "model_id")
_FIELDS = ("sample_rate", "num_samples", "num_quantizers", *_MODEL_FIELDS)
_UNREADABLE = (  # errors of NumPy, zipfile and json on damaged files
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    MemoryError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)


def write_codes(path: str | Path, bitstream: Bitstream, *, overwrite: bool = False) -> None:
    """Write codes to a .npy, .npz or .jsonl file, which appears complete or not at all.

    Raises:
        BitstreamError: Another suffix, or frames are lost.
        WriteError: The file exists and `overwrite` is False, or it can't be written.
    """
    path = Path(path)
    bitstream.require_intact()
    header = bitstream.header
    codes = bitstream.codes.astype(np.int16 if header.codebook_size <= 2**15 else np.int32)
    facts: dict[str, Any] = {name: getattr(header, name) for name in _FIELDS}
    facts["model_id"] = header.model_id.hex()
    suffix = _suffix(path)
    with new_file(path, overwrite=overwrite) as file:
        if suffix == ".npy":
            np.save(file, codes, allow_pickle=False)
        elif suffix == ".npz":
            np.savez(file, codes=codes, **facts)
        else:
            for channel, rows in enumerate(codes):
                line = json.dumps({"channel": channel, "codes": rows.tolist(), **facts})
                file.write(line.encode() + b"\n")


def read_codes(path: str | Path, model: Header) -> Bitstream:
    """Read codes from a .npy, .npz or .jsonl file.

    Args:
        path: The file.
        model: Describes the model that decodes them: num_quantizers is its number of levels; sample_rate, num_channels
            and num_samples are not used. If the file does not say otherwise, the original rate is the model's, and the
            length is all that the frames hold.

    Raises:
        BitstreamError: The file can't be read, holds no codes of this model, or contradicts the model.
    """
    path = Path(path)
    read = {".npy": _read_npy, ".npz": _read_npz, ".jsonl": _read_jsonl}[_suffix(path)]
    try:
        return _as_bitstream(*_guarded(read, path), model)
    except BitstreamError as error:
        raise BitstreamError(f"{path}: {error}") from error


def _guarded(read: Callable[[Path], Contents], path: Path) -> Contents:
    """Call a reader and turn every error of a damaged file into a BitstreamError of one line."""
    try:
        return read(path)
    except BitstreamError:
        raise
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        reason = getattr(error, "strerror", None) or reason
        raise BitstreamError(f"can't be read as {path.suffix}: {reason}") from error


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise BitstreamError(f"{path}: the suffix is {path.suffix!r}, but must be one of {', '.join(SUFFIXES)}")
    return path.suffix


def _as_bitstream(codes: NDArray[Any], facts: dict[str, Any], model: Header) -> Bitstream:
    """Combine the codes, the fields in the file and those of the model."""
    if codes.dtype.kind not in "iu":
        raise BitstreamError(f"codes are {codes.dtype}, but must be integers")
    codes = codes[np.newaxis] if codes.ndim == 2 else codes
    if codes.ndim != 3 or not codes.size:
        raise BitstreamError(f"codes are {list(codes.shape)}, but must be [C, K, F] or [K, F], and not empty")
    _check_facts(facts, codes, model)
    header = replace(
        model,
        sample_rate=facts.get("sample_rate", model.model_sample_rate),
        num_channels=codes.shape[0],
        num_quantizers=codes.shape[1],
        frames_per_chunk=0,
        payload_kind=PACKED,
    )
    num_samples = facts.get("num_samples", header.samples_in(codes.shape[2]))
    return Bitstream(replace(header, num_samples=num_samples), codes)


def _check_facts(facts: dict[str, Any], codes: NDArray[Any], model: Header) -> None:
    expected = {name: getattr(model, name) for name in _MODEL_FIELDS} | {"model_id": model.model_id.hex()}
    for name in expected.keys() & facts.keys():
        if facts[name] != expected[name]:
            raise BitstreamError(f"{name} is {facts[name]!r}, but the model has {expected[name]!r}")
    num_quantizers = codes.shape[1]
    if facts.get("num_quantizers", num_quantizers) != num_quantizers:
        raise BitstreamError(f"num_quantizers is {facts['num_quantizers']!r}, but the codes have {num_quantizers}")
    if num_quantizers > model.num_quantizers:
        raise BitstreamError(f"the codes have {num_quantizers} levels, but the model has {model.num_quantizers}")


def _read_npy(path: Path) -> Contents:
    # As a memory map: the shape is checked against the file's size before anything is allocated.
    return np.array(np.lib.format.open_memmap(path, mode="r")), {}


def _read_npz(path: Path) -> Contents:
    if not zipfile.is_zipfile(path):
        raise BitstreamError("can't be read as .npz: it is no zip archive")
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        if "codes" not in arrays:
            raise BitstreamError(f"there is no array 'codes' among {sorted(arrays)}")
        return arrays["codes"], {name: arrays[name].item() for name in _FIELDS if name in arrays}


def _read_jsonl(path: Path) -> Contents:
    channels: dict[int, NDArray[Any]] = {}
    common: dict[str, Any] = {}
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            record = json.loads(line)
            if not isinstance(record, dict) or "codes" not in record:
                raise BitstreamError(f"line {number} is no object with 'codes'")
            channel = record.get("channel", len(channels))
            if type(channel) is not int or channel in channels:
                raise BitstreamError(f"line {number}: channel {channel!r} is no integer, or there twice")
            channels[channel] = _rows(record["codes"], number)
            facts = {name: record[name] for name in _FIELDS if name in record}
            if len(channels) > 1 and facts != common:
                raise BitstreamError(f"line {number} and the lines before it have different metadata")
            common = facts
    if sorted(channels) != list(range(len(channels))) or not channels:
        raise BitstreamError(f"the channels are {sorted(channels)}, but must be 0, 1 and so on, none left out")
    shapes = {codes.shape for codes in channels.values()}
    if len(shapes) > 1:
        raise BitstreamError(f"the channels have different shapes: {sorted(shapes)}")
    return np.stack([channels[channel] for channel in sorted(channels)]), common


def _rows(rows: Any, number: int) -> NDArray[Any]:
    """Return the codes of one line as [K, F]."""
    try:
        codes = np.array(rows)
    except ValueError as error:
        raise BitstreamError(f"line {number}: the lists of codes differ in length") from error
    if codes.dtype.kind not in "iu" or codes.ndim != 2:
        raise BitstreamError(
            f"line {number}: codes are {codes.dtype} {list(codes.shape)}, but must be K lists of F integers"
        )
    return codes
