"""Read JSON files that may be damaged or hostile: the time and the memory are bounded.

A record that grows as a run goes on is a file of JSON lines: a line that a killed process left incomplete is ignored.
"""

import json
import os
from collections.abc import Iterable, Iterator
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


def _int64(digits: str) -> int:
    number = int(digits) if len(digits) < 20 else 2**63
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"an integer of {len(digits)} digits does not fit into 64 bits")
    return number
