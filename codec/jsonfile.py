"""Read JSON files that may be damaged or hostile, in bounded time and memory; and write strict JSON.

A record that grows as a run goes on is a file of JSON lines: a line that a killed process left incomplete is ignored.
"""

import base64
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 2**19
"""Far above the size of what this program writes, but for results of codec-eval. Parsed, a byte takes up to 35 bytes of
memory."""


def read_json(path: Path, *, max_bytes: int = MAX_BYTES) -> Any:
    """Read a JSON file of at most `max_bytes`; its integers fit int64.

    Raises:
        OSError: It can't be read.
        ValueError: It is no JSON, not UTF-8, too large, nested too deep, or has a larger integer.
    """
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    return parse_json(data.decode("utf-8-sig"))


def parse_json(text: str) -> Any:
    """Parse JSON; its integers fit int64.

    Raises:
        ValueError: It is no JSON, nested too deep, or has a larger integer.
    """
    try:
        return json.loads(text, parse_int=_int64)
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error


def json_lines(path: Path, *, max_line: int = -1) -> Iterator[Any]:
    """Yield the values of a file of JSON lines, without the lines that are no JSON.

    Args:
        path: The file.
        max_line: Characters that are read at once: a longer line counts as several. -1: no limit.

    Raises:
        OSError: It can't be read.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in iter(lambda: file.readline(max_line), ""):
            try:
                value = parse_json(line)
            except ValueError:
                continue
            yield value


def append_json_lines(path: Path, values: Iterable[Any]) -> None:
    """Add lines to a file of JSON lines; they are on the disk when this returns.

    Raises:
        OSError: It can't be written.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(f"\n{json.dumps(value)}" for value in values))  # the line break ends an incomplete line
        file.flush()
        os.fsync(file.fileno())


def plain(value: Any) -> Any:
    """Convert a result to the values of strict JSON, at any depth.

    A NamedTuple becomes an object with its fields by name, a path its text. NaN and infinity, which JSON does not have,
    become None.
    """
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(values: Mapping[str, Any]) -> str:
    r"""Format a result, see `plain`, as an object in one line of ASCII.

    Text that is not UTF-8, such as the name of a file may be, has U+FFFD in place of what is not. A second field has
    its bytes: `path` and `path_base64`.

    >>> json_line({"path": Path("caf\udce9"), "bitrate": math.nan})
    '{"path": "caf\\ufffd", "path_base64": "Y2Fm6Q==", "bitrate": null}'
    """
    return json.dumps(_unicode(plain(values)), allow_nan=False)


def _unicode(value: Any) -> Any:
    """Replace what is not Unicode in the texts of JSON values, and add their bytes to objects."""
    if isinstance(value, str):
        return _bytes(value).decode("utf-8", "replace")
    if isinstance(value, list):
        return [_unicode(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, inner in value.items():
        readable = found[_unicode(name)] = _unicode(inner)
        if isinstance(inner, str) and readable.encode() != (data := _bytes(inner)):
            found[f"{_unicode(name)}_base64"] = base64.b64encode(data).decode()
    return found


def _bytes(text: str) -> bytes:
    """The bytes that a text stands for; Python reads those of a name that are not UTF-8 as lone surrogates."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a lone surrogate that stands for no byte
        return text.encode("utf-8", "surrogatepass")


def _int64(digits: str) -> int:
    number = int(digits) if len(digits) < 20 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"an integer of {len(digits)} digits does not fit into 64 bits")
    return number
