"""The counters of a run come back from strict JSON as they were."""

import json
import math

import pytest

from codec.train.progress import Progress


@pytest.mark.parametrize("best_score", [math.inf, 0.75])
def test_counters_survive_strict_json(best_score):
    progress = Progress(
        step=7, initialized=True, best_score=best_score, skipped_steps=3, bad_steps_in_a_row=2, seconds=1.5
    )
    text = json.dumps(progress.to_json() | {"of another reader": 1}, allow_nan=False)
    assert Progress.from_json(json.loads(text)) == progress
