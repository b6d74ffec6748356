"""An evaluation as plain values, for JSON files and for the page of a report."""

from collections.abc import Sequence
from typing import Any

from codec.environment import describe_environment
from codec.eval.evaluate import Evaluation
from codec.eval.metrics.metrics import METRICS
from codec.jsonfile import plain
from codec.model.audio_codec import AudioCodec
from codec.model.digest import model_identity


def describe_run(codec: AudioCodec, command: str, mode: str = "float32") -> dict[str, Any]:
    """What an evaluation ran: the model that is judged, how, and versions.

    Args:
        codec: The model.
        command: The command line.
        mode: Mode of the model, see `codec.inference.modes.speed_up`.
    """
    return {
        "command": command,
        "model": {"identity": model_identity(codec).hex(), "config": codec.describe()},
        "mode": mode,
        "device": str(codec.device),
        "versions": describe_environment(),
    }


def to_plain(evaluation: Evaluation, about: dict[str, Any], bd_rates: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """All results as plain JSON: NaN and infinity are None.

    Args:
        evaluation: Any.
        about: See `describe_run`.
        bd_rates: See `codec.eval.bd_table.bd_rates`.
    """
    metrics = {name: METRICS[name] for name in evaluation.metrics}
    results = {
        "about": about,
        "seconds": evaluation.seconds,
        "metrics": {name: {"label": m.label, "unit": m.unit, "better": m.better} for name, m in metrics.items()},
        "edges_hz": evaluation.edges_hz,
        "means": evaluation.means,
        "bd_rate": list(bd_rates),
        "rows": evaluation.rows,
        "unread": {path: str(error) for path, error in evaluation.unread.items()},
        "health": {
            codec: {name: values.tolist() for name, values in health._asdict().items()}
            for codec, health in evaluation.health.items()
        },
        "agreement": None if evaluation.agreement is None else evaluation.agreement.tolist(),
    }
    return dict(plain(results))
