import dataclasses
import errno
import json
import os
import subprocess
import sys

import pytest
from messages import one_line
from tiny_runs import tiny_recipe

from codec.errors import ConfigError, WriteError
from codec.train.rundir import build_trackers, check_new, holds_run, lock_run, read_run, record_run


@pytest.fixture
def recipe(tmp_path):
    return tiny_recipe(tmp_path / "clips", codec__decoder={"kind": "upsample", "strides": [5, 4], "channels": 16})


def save_something(run_dir):
    (run_dir / "checkpoints/step-00000003").mkdir(parents=True)
    (run_dir / "checkpoints/step-00000003/checksums.json").write_text("{}")


def test_a_recorded_recipe_comes_back(tmp_path, recipe):
    record_run(tmp_path / "deep/run", recipe)
    assert read_run(tmp_path / "deep/run") == recipe
    written = json.loads((tmp_path / "deep/run/recipe.json").read_text())
    assert written["loss"]["mel"] == 10.0  # a default


def test_a_directory_holds_one_run(tmp_path, recipe):
    run_dir = tmp_path / "run"
    check_new(run_dir)
    record_run(run_dir, recipe)
    assert not holds_run(run_dir)
    check_new(run_dir)  # nothing was saved yet: it may start again
    save_something(run_dir)
    assert holds_run(run_dir)
    with pytest.raises(ConfigError, match=one_line(run_dir, "already", "resume=True", "run_dir")):
        check_new(run_dir)


def test_a_folder_with_other_things_is_no_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "recipe.json").write_text("{}")
    assert not holds_run(tmp_path)


def test_checkpoints_without_a_recipe_are_a_run_too(tmp_path):
    """Starting there would overwrite them."""
    save_something(tmp_path)
    assert holds_run(tmp_path)
    with pytest.raises(ConfigError, match=one_line(tmp_path, "already")):
        check_new(tmp_path)


def test_a_run_directory_that_cannot_be_written_is_an_error(tmp_path, recipe):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=one_line("write", tmp_path / "file")):
        record_run(tmp_path / "file" / "run", recipe)


@pytest.mark.parametrize("content", [None, "", "{", "\x00"])
def test_a_folder_without_recipe_cannot_be_resumed(tmp_path, content):
    if content is not None:
        (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ConfigError, match=one_line("resume", tmp_path, "recipe.json", "init_from")):
        read_run(tmp_path)


@pytest.mark.parametrize("content", ["[]", "3", '{"name": "x", "modell": {}}', '{"seed": 1}'])
def test_a_recorded_recipe_of_another_version_is_an_error_that_names_the_file(tmp_path, content):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(ConfigError, match=one_line(tmp_path / "recipe.json")):
        read_run(tmp_path)


def test_a_run_is_tracked_in_tensorboard_and_in_its_history(tmp_path, recipe):
    trackers = build_trackers(tmp_path, recipe, 0)
    for tracker in trackers:
        tracker.scalars({"loss/total": 1.0}, 1)
        tracker.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == 1
    assert json.loads((tmp_path / "history.jsonl").read_text()) == {"step": 1, "loss/total": 1.0}


def test_a_run_directory_takes_one_process(tmp_path):
    with lock_run(tmp_path / "run"):
        with pytest.raises(ConfigError, match=one_line("another codec-train", tmp_path / "run")):
            lock_run(tmp_path / "run")
        lock_run(tmp_path / "other").__exit__(None, None, None)
    with lock_run(tmp_path / "run"):
        pass


def test_a_lock_dies_with_its_process(tmp_path):
    code = """
import os, pathlib, sys
from codec.train.rundir import lock_run
lock = lock_run(pathlib.Path(sys.argv[1]))
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 9
    with lock_run(tmp_path):
        pass


def test_a_recipe_that_cannot_be_written_leaves_the_one_before(tmp_path, recipe, monkeypatch):
    record_run(tmp_path, recipe)

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteError, match=one_line(tmp_path, "No space left")) as caught:
        record_run(tmp_path, dataclasses.replace(recipe, name="other"))
    assert str(caught.value).count("can't write") == 1 and read_run(tmp_path) == recipe
