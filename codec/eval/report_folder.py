"""The folder of a report: the page, the results, and the record with which an evaluation is resumed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codec.errors import WriteError
from codec.eval.file_judge import FileJudge, FileResult
from codec.eval.ledger import LEDGER_FILE, Ledger, question
from codec.eval.page.page import ReportPage
from codec.files import replace_text

RESULTS_FILE = "results.json"


class ReportFolder:
    """Takes the result of every file as it comes: first its audio for the page, then the line of the record.

    Args:
        path: The folder; made if needed.
        judge: Systems, metrics, conditions, and the files whose audio is kept.
        how: Identity of the model and how it runs: results go together only where this is equal.
        resume: Go on with what is there.
        overwrite: Begin anew in a folder that holds an evaluation.

    Raises:
        ConfigError: The evaluation that is there has another model, other systems, metrics or conditions.
        WriteError: One is there, and neither `resume` nor `overwrite` is given; or the folder holds other files.
    """

    def __init__(self, path: Path, judge: FileJudge, how: Mapping[str, Any], *, resume: bool, overwrite: bool) -> None:
        is_ours = (path / LEDGER_FILE).exists()
        if is_ours and not (resume or overwrite):
            raise WriteError(f"{path} holds an evaluation", resume=True, overwrite=True)
        if not is_ours and path.is_dir() and any(path.iterdir()):
            raise WriteError(f"{path} holds other files: name a new folder")
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.sample_rate = judge.sample_rate
        self.ledger = Ledger(path, question(judge, how), resume=resume)
        self.numbers = {kept: number for number, kept in enumerate(sorted(judge.kept), start=1)}
        if not self.ledger.done:
            shutil.rmtree(path / "clips", ignore_errors=True)
        self.codec = judge.systems[0].codec
        self.page = ReportPage(path, title=self.codec)

    def add(self, path: Path, result: FileResult) -> None:
        """Take the result of a file."""
        if result.original is not None:
            number = self.numbers[path]
            self.page.add_clip(number, str(path), self.sample_rate, result.original, result.decodes)
        self.ledger.add(path, result)

    def finish(self, results: dict[str, Any]) -> None:
        """Write the page around the clips, and the results beside it."""
        num_files = len({row["path"] for row in results["rows"]})
        self.page.title = f"{self.codec} on {num_files} file{'s' if num_files > 1 else ''}"
        usage = {codec: health["usage"] for codec, health in results["health"].items()}
        self.page.finish(results | {"usage": usage})
        replace_text(self.path / RESULTS_FILE, json.dumps(results, indent=1, allow_nan=False) + "\n")
