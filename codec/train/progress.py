"""The counters of a run that a checkpoint holds beside its tensors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from codec.config import from_dict
from codec.ranges import Count, Weight


@dataclass
class Progress:
    """Counters of a run; `state.json` of a checkpoint has a key for each."""

    step: Count = 0
    """Optimizer steps done."""
    initialized: bool = False
    """Whether all codebooks are initialised."""
    best_score: float = math.inf
    """Best validation score, lower is better; infinite before the first validation."""
    skipped_steps: Count = 0
    """Steps whose loss or gradient was not finite."""
    bad_steps_in_a_row: Count = 0
    """How many steps in a row, up to the last one, were skipped."""
    seconds: Weight = 0.0
    """Time spent in training, without validation and saving."""

    def to_json(self) -> dict[str, Any]:
        """Values for JSON, which has no infinity."""
        return asdict(self) | {"best_score": self.best_score if math.isfinite(self.best_score) else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """Read the values that `to_json` wrote; other keys are ignored.

        Raises:
            ConfigError: A value is of another type or out of range.
        """
        found = {field.name: values[field.name] for field in fields(cls)}
        found["best_score"] = math.inf if found["best_score"] is None else found["best_score"]
        return from_dict(cls, found, source="the state of the run")
