"""Codes as plain arrays, for training language models on them: .npy, .npz and .jsonl <-> Bitstream.

    .npy    int16 or int32 [C, K, F], no metadata
    .npz    the same as `codes`, and the header's fields as scalars
    .jsonl  one object: {"codes": K lists of F integers, and the header's fields}; C times K lists for C > 1 channels

A file that is read needs only the codes, [C, K, F] or, for one channel, [K, F]. Fields that it lacks are taken from the
model. A .jsonl file may hold many recordings, one a line, which `read_recordings` reads. Lines with a `channel` are the
channels of one recording instead.
"""

import contextlib
import json
import math
import re
import reprlib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from codec.bitstream.container import Bitstream
from codec.bitstream.header import MAX_CHANNELS, PACKED, Header
from codec.errors import BitstreamError, one_line
from codec.files import new_file

Contents = tuple[NDArray[Any], dict[str, Any]]  # codes, and the header's fields that the file holds

SUFFIXES = (".npy", ".npz", ".jsonl")
_MODEL_FIELDS = ("model_sample_rate", "hop_length", "delay", "codebook_size", "model_id")
_FIELDS = ("sample_rate", "num_samples", "num_quantizers", *_MODEL_FIELDS)
# A small .npz can unpack to any size. As in a .codec file a code takes at least one bit, beyond the first 2^23 codes.
_FREE_BYTES, _MAX_EXPANSION = 2**26, 64  # of codes as int64, in all and by byte of the file
_MAX_FIELD_BYTES = 2**10
_MAX_LINE = 3 * 2**23  # characters of .jsonl: about two hours at 600 codes a second
_MAX_MARKS = 2**17  # brackets, braces and quotes of a line: these take the most memory a character


def write_codes(path: str | Path, bitstream: Bitstream, *, overwrite: bool = False) -> None:
    """Write codes to a .npy, .npz or .jsonl file, which appears complete or not at all.

    Raises:
        BitstreamError: Another suffix, frames are lost, or the recording is too long for .jsonl.
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
            line = json.dumps({"codes": (codes[0] if len(codes) == 1 else codes).tolist(), **facts})
            if len(line) >= _MAX_LINE:
                raise BitstreamError(f"{path} would have a line of {len(line)} characters: write .npz or .npy")
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
    with _named_errors(path):
        return _as_bitstream(*read(path), model)


def count_recordings(path: str | Path) -> int:
    """Number of recordings in a .jsonl file, by its lines; 1 if they are channels.

    Raises:
        BitstreamError: The file can't be read.
    """
    path = Path(path)
    with _named_errors(path):
        lines = _lines(path)
        first = next(lines, None)
        if first is not None and "channel" in _record(*first):
            return 1
        return (first is not None) + sum(1 for _ in lines)


def read_recordings(path: str | Path, model: Header) -> Iterator[tuple[str, Bitstream | BitstreamError]]:
    """Read a .jsonl file of one recording a line; a bad line does not stop the others.

    Args:
        path: The file.
        model: As for `read_codes`.

    Yields:
        The name of each recording and its codes, or what is wrong with its line. The name is the stem of its `path` or
        `file`, and the number of its line where it has none or another recording has the same.

    Raises:
        BitstreamError: The file can't be read.
    """
    path = Path(path)
    names: set[str] = set()
    with _named_errors(path):
        for number, line in _lines(path):
            name = str(number)
            found: Bitstream | BitstreamError
            try:
                with _named_errors(path):
                    record = _record(number, line)
                    name = _name(record.get("path", record.get("file"))) or name
                    found = _as_bitstream(*_recording(record, number), model)
            except BitstreamError as error:
                found = error
            name = name if name not in names else f"{name}.{number}"
            names.add(name)
            yield name, found


@contextlib.contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Raise every error of a damaged file as a BitstreamError of one line that names the file."""
    try:
        yield
    except BitstreamError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise BitstreamError(f"{path}: {error}") from error
    except Exception as error:  # the errors of NumPy, zipfile and json on damaged files have no common class
        reason = getattr(error, "strerror", None) or one_line(error)[:200]
        raise BitstreamError(f"{path}: can't be read as {path.suffix}: {reason}") from error


def _suffix(path: Path) -> str:
    if path.suffix not in SUFFIXES:
        raise BitstreamError(f"{path}: the suffix is {path.suffix!r}, but must be one of {', '.join(SUFFIXES)}")
    return path.suffix


def _as_bitstream(codes: NDArray[Any], facts: dict[str, Any], model: Header) -> Bitstream:
    """Combine the codes, the fields in the file and those of the model."""
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
            raise BitstreamError(f"{name} is {reprlib.repr(facts[name])}, but the model has {expected[name]!r}")
    num_quantizers = codes.shape[1]
    if facts.get("num_quantizers", num_quantizers) != num_quantizers:
        found = reprlib.repr(facts["num_quantizers"])
        raise BitstreamError(f"num_quantizers is {found}, but the codes have {num_quantizers}")
    if num_quantizers > model.num_quantizers:
        raise BitstreamError(f"the codes have {num_quantizers} levels, but the model has {model.num_quantizers}")


def _read_npy(path: Path) -> Contents:
    with path.open("rb") as file:
        return _read_array(file, "iu", max(_FREE_BYTES, _MAX_EXPANSION * path.stat().st_size)), {}


def _read_npz(path: Path) -> Contents:
    if not zipfile.is_zipfile(path):
        raise BitstreamError("can't be read as .npz: it is no zip archive")
    with zipfile.ZipFile(path) as archive:
        members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
        if "codes" not in members:
            raise BitstreamError(f"there is no array 'codes' among {reprlib.repr(sorted(members))}")
        used = {name: members[name] for name in ("codes", *_FIELDS) if name in members}
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in used.values()):
            raise BitstreamError("it is compressed in a way that NumPy does not write")
        with archive.open(used.pop("codes")) as file:
            codes = _read_array(file, "iu", max(_FREE_BYTES, _MAX_EXPANSION * path.stat().st_size))
        return codes, {name: _read_field(archive, member) for name, member in used.items()}


def _read_field(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Any:
    with archive.open(member) as file:
        return _read_array(file, "iufU", _MAX_FIELD_BYTES).item()


def _read_array(file: IO[bytes], kinds: str, max_bytes: int) -> NDArray[Any]:
    """Read an array in NumPy's format whose header is checked first; nothing is unpickled.

    Args:
        file: At the start of the array.
        kinds: Letters of the kinds of types that it may have.
        max_bytes: Of the array as int64, or as it is if its elements are larger.

    Raises:
        BitstreamError: The array is of another kind or larger, or the file ends too early.
    """
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise BitstreamError(f"version {version[0]}.{version[1]} of NumPy's format is not for arrays of integers")
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read_header(file)
    if dtype.kind not in kinds:
        raise BitstreamError(f"codes are {dtype}, but must be integers")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * max(8, dtype.itemsize) > max_bytes:
        raise BitstreamError(f"the header claims {reprlib.repr(list(shape))} of {dtype}, more than the file can hold")
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise BitstreamError(f"it ends after {len(data)} of {count * dtype.itemsize} bytes of {list(shape)} codes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not empty."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), ""), start=1):
            if line.isspace():
                continue
            if len(line) == _MAX_LINE or sum(map(line.count, '[{"')) > _MAX_MARKS:
                raise BitstreamError(f"line {number} is too long for K lists of F integers")
            yield number, line


def _record(number: int, line: str) -> dict[str, Any]:
    record = json.loads(line)
    if not isinstance(record, dict) or "codes" not in record:
        raise BitstreamError(f"line {number} is no object with 'codes'")
    return record


def _recording(record: dict[str, Any], number: int) -> Contents:
    """Codes [K, F] or [C, K, F] of a line, and its fields."""
    try:
        codes = np.array(record["codes"])
    except ValueError as error:
        raise BitstreamError(f"line {number}: the lists of codes differ in length") from error
    if codes.dtype.kind not in "iu" or codes.ndim not in (2, 3):
        raise BitstreamError(
            f"line {number}: codes are {codes.dtype} {list(codes.shape)}, but must be K lists of F integers"
        )
    return codes, {name: record[name] for name in _FIELDS if name in record}


def _name(path: Any) -> str:
    """Part of a file name from the path of a recording; "" if there is none."""
    return re.sub(r"[^\w.-]", "_", Path(path).stem)[:100] if isinstance(path, str) else ""


def _read_jsonl(path: Path) -> Contents:
    """Read the only recording of a file: a line, or lines that each are a channel."""
    channels: dict[int, NDArray[Any]] = {}
    common: dict[str, Any] = {}
    for number, line in _lines(path):
        record = _record(number, line)
        codes, facts = _recording(record, number)
        channel = record.get("channel", 0)
        if len(channels) == MAX_CHANNELS:
            raise BitstreamError(f"there are more than {MAX_CHANNELS} channels")
        if channels and "channel" not in record:
            raise BitstreamError(f"line {number} is another recording: use read_recordings")
        if type(channel) is not int or channel in channels:
            raise BitstreamError(f"line {number}: channel {reprlib.repr(channel)} is no integer, or there twice")
        if channels and facts != common:
            raise BitstreamError(f"line {number} and the lines before it have different metadata")
        channels[channel], common = codes, facts
    if sorted(channels) != list(range(len(channels))) or not channels:
        raise BitstreamError(
            f"the channels are {reprlib.repr(sorted(channels))}, but must be 0, 1 and so on, none left out"
        )
    shapes = {codes.shape for codes in channels.values()}
    if len(shapes) > 1:
        raise BitstreamError(f"the channels have different shapes: {reprlib.repr(sorted(shapes))}")
    if len(channels) == 1:
        return channels[0], common
    return np.stack([channels[channel] for channel in sorted(channels)]), common
