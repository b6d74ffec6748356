"""Trackers: where the numbers, figures and audio of a run are recorded."""

import contextlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from codec.errors import ConfigError, one_line, require
from codec.files import new_path, write_errors
from codec.jsonfile import json_lines, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WANDB_ID_FILE = "wandb_id"
_MAX_LINE = 2**16  # characters of a record
_WANDB_SETTINGS = {"console": "off", "quiet": True, "save_code": False, "disable_git": True, "x_disable_stats": True}


class Tracker(Protocol):
    """Records what a run reports; `step` is the number of optimizer steps done."""

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name, `group/name`."""

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Record audio `[T]` in [-1, 1]."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Record a matplotlib figure."""

    def close(self) -> None:
        """Write out what is buffered."""


class TensorboardTracker:
    """Event files for `tensorboard --logdir`; events after `last_step` are hidden: a resumed run repeats them."""

    def __init__(self, folder: Path, last_step: int = 0) -> None:
        self.folder = folder
        self.writer = SummaryWriter(str(folder), purge_step=last_step + 1)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name, `group/name`."""
        with write_errors(self.folder):
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Record audio `[T]` in [-1, 1]."""
        with write_errors(self.folder):
            self.writer.add_audio(name, audio.clamp(-1, 1)[None], step, sample_rate)

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Record a matplotlib figure."""
        with write_errors(self.folder):
            self.writer.add_figure(name, figure, step)

    def close(self) -> None:
        """Write out what is buffered."""
        with write_errors(self.folder):
            self.writer.close()


class HistoryTracker:
    """Numbers as JSON lines in one file: the learning curve without a viewer. Audio and figures are not recorded.

    Lines of steps after `last_step` are dropped: a resumed run repeats them.
    """

    def __init__(self, path: Path, last_step: int = 0) -> None:
        with new_path(path, overwrite=True) as partial, partial.open("w", encoding="utf-8") as kept:
            for record in read_history(path) if path.exists() else ():
                if record["step"] <= last_step:
                    kept.write(json.dumps(record) + "\n")
        self.path = path
        self.file = path.open("a", encoding="utf-8")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append one line; a value that is not finite becomes null."""
        with write_errors(self.path):
            self.file.write(json.dumps(plain({"step": step, **values})) + "\n")
            self.file.flush()

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Not recorded."""

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Not recorded."""

    def close(self) -> None:
        """Close the file. An error here is one that `scalars` has raised: every line was written at once."""
        with contextlib.suppress(OSError):
            self.file.close()


class WandbTracker:
    """A run of project `codec` at Weights & Biases, or its record under RUN/wandb where WANDB_MODE is offline.

    Account, server and mode are the user's own settings (`wandb login`, WANDB_MODE). wandb gets no console output,
    code, git state or machine load. A resumed run continues the wandb run whose id is in RUN/wandb_id. It repeats
    steps, which wandb's own step counter does not allow: `step` is logged as a value, the x axis of all others.

    Args:
        run_dir: Directory of the run, which exists.
        name: Name of the run.
        config: Settings of the run, such as the recipe as a dict.

    Raises:
        ConfigError: wandb is not installed or can't start: no API key, no network (after 90 s), or an unknown setting.
    """

    def __init__(self, run_dir: Path, *, name: str, config: Mapping[str, Any]) -> None:
        self.wandb = require("wandb", "wandb")
        id_file = run_dir / WANDB_ID_FILE
        run_id = id_file.read_text(encoding="utf-8", errors="replace").strip()[:128] if id_file.exists() else ""
        try:
            self.run = self.wandb.init(
                project="codec",
                name=name,
                config=dict(config),
                dir=str(run_dir),
                id=run_id or None,
                resume="allow",
                reinit="create_new",  # do not reuse the run of another tracker
                settings=_WANDB_SETTINGS,
            )
        except (self.wandb.Error, ValueError, OSError) as error:
            reason = one_line(error).rstrip(".")
            raise ConfigError(f"wandb can't start: {reason}: run `wandb login`, or set WANDB_MODE=offline") from error
        id_file.write_text(self.run.id + "\n", encoding="utf-8")
        self.run.define_metric("step")
        self.run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Record numbers by name, `group/name`; wandb also shows NaN and infinity."""
        self.run.log({"step": step, **values})

    def audio(self, name: str, audio: Tensor, sample_rate: int, step: int) -> None:
        """Record audio `[T]` in [-1, 1]."""
        samples = audio.detach().clamp(-1, 1).cpu().numpy()
        self.run.log({"step": step, name: self.wandb.Audio(samples, sample_rate)})

    def figure(self, name: str, figure: "Figure", step: int) -> None:
        """Record a matplotlib figure."""
        from PIL import Image  # installed with matplotlib; most runs record no figures

        picture = io.BytesIO()
        figure.savefig(picture, format="png")  # wandb.Image(figure) fails where pyplot was never imported
        self.run.log({"step": step, name: self.wandb.Image(Image.open(picture))})

    def close(self) -> None:
        """Write or send what is buffered, and end the run."""
        self.run.finish()


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a history: "step", and numbers by name or None if they were not finite.

    Lines that are no records are left out: a killed run may leave an incomplete one.
    """
    for record in json_lines(path, max_line=_MAX_LINE):
        if isinstance(record, dict) and _is_number(record.get("step")) and all(map(_is_value, record.values())):
            yield record


def _is_value(value: Any) -> bool:
    return value is None or _is_number(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e300
