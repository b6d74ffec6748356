"""Training that is killed at random moments, and what it does on a disk that is full or read-only.

The long version kills more often, at new moments: `pytest -m kills_long tests/test_kills.py`.
"""

import errno
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_runs import adversarial_changes, history, tiny_recipe, write_recipe

from codec.cli import train_main
from codec.inference.pretrained import load_codec
from codec.train.checkpoint import read_index

SCRIPT = Path(__file__).parent / "train_and_be_killed.py"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}


def kill_and_resume(clips, folder, number, seed):
    """Names of the last checkpoints when the runs FOLDER/0, ... were killed, by the script."""
    recipe = tiny_recipe(
        clips,
        **adversarial_changes(start_step=3),
        codec__quantizer__dead_threshold=0.6,
        train__steps=12,
        train__checkpoint_every=2,
    )
    command = [sys.executable, SCRIPT, write_recipe(recipe, folder / "recipe.toml"), folder, number, seed]
    result = subprocess.run(
        list(map(str, command)), env=ENVIRONMENT, capture_output=True, text=True, timeout=1200, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout)


def assert_same_end(run, whole):
    """Weights, codebooks, discriminators, optimizers, counters and the curve are equal to the last bit."""
    ends = [
        each / "checkpoints" / json.loads((each / "checkpoints/index.json").read_text())["last"]
        for each in (run, whole)
    ]
    assert ends[0].name == ends[1].name
    for name in ("model.safetensors", "training.safetensors"):
        assert (ends[0] / name).read_bytes() == (ends[1] / name).read_bytes(), name
    states = [json.loads((end / "state.json").read_text()) for end in ends]
    for state in states:
        state.pop("seconds")
    assert states[0] == states[1]
    assert history(run) == history(whole)
    assert [path.name for path in run.glob("**/.*partial*")] == []


def check_kills(clips, folder, number, seed):
    steps = kill_and_resume(clips, folder, number, seed)
    assert len(steps) == number
    for index in range(number):
        assert_same_end(folder / str(index), folder / "whole")
    print(f"{number} of {number} resumes are bit-exact, killed after {steps}")


def test_a_killed_run_resumes_bit_for_bit(clips, tmp_path):
    check_kills(clips, tmp_path, 2, 0)


@pytest.mark.kills_long
def test_a_run_killed_at_many_moments_resumes_bit_for_bit(clips, tmp_path):
    check_kills(clips, tmp_path, 20, random.randrange(2**32))


@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_goes_bad_ends_training_with_one_line(clips, tmp_path, monkeypatch, capsys, fault):
    """The checkpoint before stays, and the run goes on from it."""
    recipe, run = tiny_recipe(clips, train__steps=7, train__checkpoint_every=2), tmp_path / "run"
    words = [str(write_recipe(recipe, tmp_path / "recipe.toml")), "--out", str(run), "--device", "cpu"]

    def fail_later(_):
        if read_index(run).get("last") == "step-00000004":
            raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(os, "fsync", fail_later)
    with pytest.raises(SystemExit, match="2"):
        train_main(words)
    error = re.sub(".*\\r", "", capsys.readouterr().err).splitlines()[-1]
    assert re.fullmatch(f"codec-train: can't write {run}/.*step-00000006.*: {os.strerror(fault)}", error), error
    assert read_index(run)["last"] == "step-00000004"
    load_codec(run)
    monkeypatch.undo()
    with pytest.raises(SystemExit, match="0"):
        train_main([*words, "--resume"])
    assert read_index(run)["last"] == "step-00000007"
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == [
        "index.json",
        "step-00000006",
        "step-00000007",
    ]
