"""The metadata block at the head of a model card, by which the Hugging Face hub finds and shows a model.

The block is YAML. Every value is written as JSON, which YAML includes.
"""

import json
from typing import Any

from codec.model.codec import Codec
from codec.release.card import Figures

FENCE = "---\n"
LICENCE = "apache-2.0"
TASK = "audio-to-audio"
TAGS = ("audio", "neural-audio-codec", "audio-tokenizer", "vector-quantization")


def metadata_block(codec: Codec, name: str, figures: Figures | None = None, *, licence: str | None = LICENCE) -> str:
    """Write the block.

    Args:
        codec: The model.
        name: Its name.
        figures: Results of codec-eval, if any.
        licence: Of the weights, as the hub names it; None if it is not known.
    """
    facts: dict[str, Any] = {} if licence is None else {"license": licence}
    facts |= {
        "library_name": "codec",
        "pipeline_tag": TASK,
        "tags": TAGS,
        "sample_rate": codec.sample_rate,
        "frame_rate": codec.config.frame_rate,
    }
    if figures is not None:
        facts["model-index"] = [{"name": name, "results": _results(figures)}]
    return FENCE + "".join(f"{key}: {json.dumps(value)}\n" for key, value in facts.items()) + FENCE


def _results(figures: Figures) -> list[dict[str, Any]]:
    """One result for each mean, as the hub has them; metrics without a value are left out."""
    conditions = {mean["condition"] for mean in figures.means}
    results = []
    for mean in figures.means:
        at = f"{mean['bitrate']:.0f} bit/s" + (f", {mean['condition']}" if len(conditions) > 1 else "")
        scores = {metric: score["mean"] for metric, score in mean["metrics"].items()}
        metrics = [
            {"type": metric, "name": f"{metric} at {at}", "value": round(score, 3)}
            for metric, score in scores.items()
            if score is not None
        ]
        dataset = {"type": "audio", "name": f"{figures.num_files} files, {figures.seconds:.0f} s"}
        results.append({"task": {"type": TASK}, "dataset": dataset, "metrics": metrics})
    return results
