"""Facts of a model: its parts and their cost, what it looks at, its bitrates and its files."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from codec.config import to_dict
from codec.eval.inspection.operations import Operations, Parameters, count_operations, count_parameters
from codec.eval.inspection.receptive_field import ReceptiveField, measure_receptive_field
from codec.model.codec import Codec
from codec.model.digest import model_identity

CARD_FILE = "README.md"
LICENCE = re.compile(r"^.*\b(?:licen[cs]ed?|weights are) under\b.*$", re.IGNORECASE | re.MULTILINE)
"""The line of a card that names the licence of the weights."""
MAX_CARD = 2**18


class Rate(NamedTuple):
    """Bitrate of a number of levels, of one channel."""

    num_quantizers: int
    nominal: float
    """Before entropy coding (bit/s)."""
    in_files: float | None
    """Mean over the training files of the entropy tables, without header (bit/s); None without tables."""


class ModelFacts(NamedTuple):
    """Facts of a model."""

    name: str
    """As it was asked for."""
    folder: Path
    identity: bytes
    """SHA-256 that files name it by."""
    config: dict[str, Any]
    sample_rate: int
    """Hz."""
    hop_length: int
    """Samples of a frame."""
    frame_rate: float
    """Hz."""
    latency: int
    """Algorithmic delay (samples): a hop, and the delay of the decoder with the lookahead."""
    delay: int
    lookahead: int
    receptive_field: ReceptiveField
    parameters: Parameters
    operations: Operations
    rates: list[Rate]
    """For 1 .. K levels."""
    file_bytes: dict[str, int]
    """Size of each file in the folder."""
    licence: str
    """Line of the card that names it; empty if there is none."""


def inspect_model(codec: Codec, name: str, folder: Path) -> ModelFacts:
    """Collect the facts of a model.

    Args:
        codec: In eval mode and float32.
        name: As it was asked for.
        folder: With its files.
    """
    config, tables = codec.config, codec.entropy
    in_files = [None] * codec.quantizer.num_quantizers if tables is None else tables.bits_per_frame.tolist()
    return ModelFacts(
        name=name,
        folder=folder,
        identity=model_identity(codec),
        config=to_dict(config),
        sample_rate=codec.sample_rate,
        hop_length=codec.hop_length,
        frame_rate=config.frame_rate,
        latency=codec.latency,
        delay=codec.delay,
        lookahead=config.lookahead,
        receptive_field=measure_receptive_field(codec),
        parameters=count_parameters(codec),
        operations=count_operations(codec),
        rates=[
            Rate(levels, levels * config.bitrate_per_level, None if bits is None else bits * config.frame_rate)
            for levels, bits in enumerate(in_files, start=1)
        ],
        file_bytes={path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
        licence=_read_licence(folder / CARD_FILE),
    )


def model_to_json(facts: ModelFacts) -> dict[str, Any]:
    """The facts as JSON has them."""
    field = facts.receptive_field
    return facts._asdict() | {
        "folder": str(facts.folder),
        "identity": facts.identity.hex(),
        "receptive_field": field._asdict() | {"total_samples": field.total_samples},
        "parameters": facts.parameters._asdict(),
        "operations": facts.operations._asdict(),
        "rates": [rate._asdict() for rate in facts.rates],
    }


def _read_licence(card: Path) -> str:
    if not card.is_file():
        return ""
    with card.open(encoding="utf-8", errors="replace") as file:
        found = LICENCE.findall(file.read(MAX_CARD))
    return found[-1].strip()[:300] if found else ""
