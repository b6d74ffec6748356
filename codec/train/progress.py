"""How far a run has come: the numbers that a checkpoint holds beside its tensors."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass
class Progress:
    """What a resumed run must know besides tensors; `state.json` of a checkpoint has a key for each."""

    step: int = 0
    """Optimizer steps done."""
    initialized: bool = False
    """Whether all codebooks were set."""
    best_score: float = math.inf
    """Of the validations so far, lower is better; infinite before the first."""
    skipped_steps: int = 0
    """Whose loss or gradient was not finite."""
    bad_steps_in_a_row: int = 0
    """How many of them came last, one after the other."""
    seconds: float = 0.0
    """Of training alone."""

    def to_json(self) -> dict[str, Any]:
        """Plain values; JSON has no infinity."""
        return asdict(self) | {"best_score": self.best_score if math.isfinite(self.best_score) else None}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Progress":
        """The progress that `to_json` wrote; further values are left aside."""
        found = {field.name: values[field.name] for field in fields(cls)}
        return cls(**found | {"best_score": math.inf if found["best_score"] is None else found["best_score"]})
