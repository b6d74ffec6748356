"""The folder of a report: clips as they come, then the pages."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor

from codec.eval.page.clip import Decode, clip_script, read_facts
from codec.files import replace_text

_HERE = Path(__file__).parent
SHARED_SCRIPTS = ("report", "dom", "format", "theme", "bytes", "clips", "colormap", "pictures")
INDEX_SCRIPTS = (
    *("evaluation", "table", "scale", "curves", "bands", "means", "robustness", "usage", "rows"),
    *("fft", "spectrum", "timeline", "players", "strips", "clip", "index"),
)
LISTENING_SCRIPTS = ("random", "trials", "session", "mixer", "looping", "mushra", "abx", "listening")


class ReportPage:
    """A report that is being written; files of an earlier report in the folder are replaced.

    Args:
        folder: Where to write; created with its parents.
        title: Heading of the report. The listening test does not show it, since it may name a codec.
    """

    def __init__(self, folder: Path, title: str) -> None:
        self.folder, self.title = folder, title

    def add_clip(self, number: int, name: str, sample_rate: int, original: Tensor, decodes: Sequence[Decode]) -> None:
        """Write `clips/NNN.js`, with the audio as 16-bit FLAC.

        Args:
            number: From 1, the place in the report.
            name: The `path` of the rows of this clip.
            sample_rate: Of all audio (Hz).
            original: Samples `[C, T]`, C at most 8, nominally in [-1, 1].
            decodes: In the order of their keys: 1 is the first.

        Raises:
            AudioError: A decode has another shape than the original, or samples can't be written as FLAC.
            WriteError: The file can't be written.
        """
        replace_text(self._clip_path(number), clip_script(number, name, sample_rate, original, decodes))

    def finish(self, evaluation: Mapping[str, Any]) -> None:
        """Write `index.html`, `listening.html` and `page/`.

        Args:
            evaluation: Plain JSON, None for what is missing: about (dict), metrics {name: {label, unit, better}},
                edges_hz, means, rows, bd_rate, usage {codec: [share of codewords used, per level]}. Clips in the
                folder that none of the rows name are left out.

        Raises:
            ValueError: It holds NaN or infinity, which JSON does not have.
            WriteError: A file can't be written.
        """
        clips = self._clips({row["path"] for row in evaluation["rows"]})
        data = {**evaluation, "clips": clips}
        data["rows"] = [{key: value for key, value in row.items() if key != "bands"} for row in evaluation["rows"]]
        identity = hashlib.sha256(json.dumps([self.title, clips]).encode()).hexdigest()[:12]
        for source in sorted((_HERE / "assets").iterdir()):
            replace_text(self.folder / "page" / source.name, source.read_text(encoding="utf-8"))
        templates = _templates()
        texts = {
            "listening.html": templates.get_template("listening.html").render(
                scripts=[*SHARED_SCRIPTS, *LISTENING_SCRIPTS], data={"id": identity, "clips": clips}
            ),
            "index.html": templates.get_template("index.html").render(
                scripts=[*SHARED_SCRIPTS, *INDEX_SCRIPTS], data=data, title=self.title, about=data["about"]
            ),
        }
        for name, text in texts.items():
            replace_text(self.folder / name, text)

    def _clip_path(self, number: int) -> Path:
        return self.folder / "clips" / f"{number:03d}.js"

    def _clips(self, names: set[str]) -> list[dict[str, Any]]:
        """Facts of the clips in the folder that have one of these names, by number."""
        found = [read_facts(path) for path in (self.folder / "clips").glob("*.js")]
        kept = [facts for facts in found if facts is not None and facts["name"] in names]
        return sorted(kept, key=lambda facts: int(facts["number"]))


def _templates() -> Environment:
    templates = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_encodable,
    )
    templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return templates


def _encodable(value: Any) -> Any:
    """Escape what UTF-8 can't hold: bytes of a file name in another encoding arrive as lone surrogates."""
    return value.encode("utf-8", "backslashreplace").decode() if type(value) is str else value
