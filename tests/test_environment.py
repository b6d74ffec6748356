"""What a number depends on: versions and commit, as they are."""

import json
import re
import subprocess
from importlib import metadata

import pytest
import torch
from tiny_runs import tiny_recipe

import codec.environment as environment_module
from codec.environment import describe_environment
from codec.train.rundir import record_run


@pytest.fixture
def recipe(tmp_path):
    return tiny_recipe(tmp_path / "clips", codec__decoder={"kind": "upsample", "strides": [5, 4], "channels": 16})


def test_versions_name_what_a_number_depends_on(tmp_path, recipe):
    record_run(tmp_path, recipe)
    versions = json.loads((tmp_path / "versions.json").read_text())
    assert versions == json.loads(json.dumps(describe_environment()))
    assert versions["packages"]["torch"] == metadata.version("torch")
    assert {"numpy", "soundfile", "soxr", "lightning-fabric", "safetensors"} <= versions["packages"].keys()
    assert versions["threads"] == torch.get_num_threads()


def git(folder, *arguments):
    facts = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    return subprocess.run(
        ["git", *facts, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def checkout(folder, monkeypatch, package):
    """A git repository with one commit, and this package pretended to lie in its folder `package`."""
    module = folder / package / "environment.py"
    module.parent.mkdir(parents=True)
    module.write_text("")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "x", "--no-verify")
    monkeypatch.setattr(environment_module, "__file__", str(module))
    return git(folder, "rev-parse", "HEAD"), module


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path, monkeypatch):
    commit, module = checkout(tmp_path, monkeypatch, "codec")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert describe_environment()["git_commit"] == commit
    git(tmp_path, "tag", "v1")
    assert describe_environment()["git_commit"] == commit
    module.write_text("# changed")
    assert describe_environment()["git_commit"] == f"{commit}-dirty"


def test_an_installed_package_has_no_commit(tmp_path, monkeypatch):
    """Not even inside the checkout of something else."""
    checkout(tmp_path, monkeypatch, ".venv/site-packages/codec")
    assert describe_environment()["git_commit"] is None


def test_no_git_no_commit(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert describe_environment()["git_commit"] is None
