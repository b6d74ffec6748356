"""The record of a long evaluation: the result of every file as soon as it is there, so that it can be resumed.

Its first line is the question: systems, metrics, conditions, rate. Each further line is a file with its result. A line
that a killed process left incomplete is ignored, and that file is judged again.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from codec.errors import ConfigError
from codec.eval.file_judge import FileJudge, FileResult
from codec.files import replace_text
from codec.jsonfile import append_json_lines, json_lines

LEDGER_FILE = "progress.jsonl"


def question(judge: FileJudge, how: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal for results to go together.

    Args:
        judge: Systems, metrics, conditions and kept files.
        how: Identity of the model and how it ran.
    """
    return {
        **how,
        "systems": [[system.codec, system.setting] for system in judge.systems],
        "sample_rate": judge.sample_rate,
        "metrics": list(judge.metrics),
        "conditions": [condition.name for condition in judge.conditions],
        "kept": sorted(map(str, judge.kept)),
    }


class Ledger:
    """Results of files in a folder.

    Args:
        folder: It exists.
        asked: See `question`.
        resume: Take over the results that are there; otherwise they are replaced.

    Raises:
        ConfigError: The results that are there answer another question.
    """

    def __init__(self, folder: Path, asked: dict[str, Any], *, resume: bool) -> None:
        path = folder / LEDGER_FILE
        self.done: dict[Path, FileResult] = {}
        lines = _lines(path) if resume else []
        if lines:
            differs = [name for name, value in asked.items() if lines[0].get(name) != value]
            if differs:
                raise ConfigError(f"{folder} holds an evaluation with another {differs[0]}", overwrite=True)
            for line in lines[1:]:
                with contextlib.suppress(KeyError, TypeError, ValueError):  # a damaged line: that file is judged again
                    file = Path(line["path"])
                    if file.is_file() and file.stat().st_size == line["size"]:
                        self.done[file] = _result(line)
        else:
            replace_text(path, json.dumps(asked))
        self._path = path

    def add(self, path: Path, result: FileResult) -> None:
        """Record the result of a file; it is on the disk when this returns."""
        counts = {codec: _sparse(uses) for codec, uses in result.counts.items()}
        equal = None if result.equal is None else result.equal.tolist()
        size = path.stat().st_size
        line = {"path": str(path), "size": size, "rows": result.rows, "counts": counts, "equal": equal}
        append_json_lines(self._path, [line])


def _lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a ledger; none if there is no file."""
    return [line for line in json_lines(path) if isinstance(line, dict)] if path.exists() else []


def _result(line: dict[str, Any]) -> FileResult:
    equal = None if line["equal"] is None else np.array(line["equal"], dtype=np.int64)
    counts = {codec: _dense(uses) for codec, uses in line["counts"].items()}
    return FileResult(line["rows"], counts, equal, None, [])


def _sparse(uses: Any) -> dict[str, Sequence[int]]:
    """Uses of codewords `[K, N]` as indices and counts: most of a short file are 0."""
    flat = uses.ravel()
    (index,) = flat.nonzero()
    return {"shape": list(uses.shape), "index": index.tolist(), "count": flat[index].tolist()}


def _dense(uses: dict[str, Any]) -> Any:
    flat = np.zeros(int(np.prod(uses["shape"])), dtype=np.int64)
    flat[uses["index"]] = uses["count"]
    return flat.reshape(uses["shape"])
