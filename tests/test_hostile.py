"""Hostile files of every kind: each is refused in one line, in little time and memory."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAX_SECONDS, MAX_MB = 5.0, 300
SKIPPED_LINES = ("history: ", "rebuilt index: ")  # these files are read without the records that are none


@pytest.fixture(scope="module")
def costs(tmp_path_factory):
    script = Path(__file__).with_name("hostile_files.py")
    argv = [sys.executable, "-W", "error", str(script), str(tmp_path_factory.mktemp("hostile"))]
    return json.loads(subprocess.run(argv, check=True, capture_output=True, timeout=300).stdout)


def test_each_is_refused_in_one_line(costs):
    assert len(costs) > 80
    for name, cost in costs.items():
        if name.startswith(SKIPPED_LINES):
            assert cost["result"] == "read", (name, cost)
        else:
            assert "CodecError" in cost["result"], (name, cost)
            assert "\n" not in cost["text"] and len(cost["text"]) < 2500, (name, cost)


def test_none_takes_long(costs):
    assert {name: cost["seconds"] for name, cost in costs.items() if cost["seconds"] > MAX_SECONDS} == {}


def test_none_takes_much_memory(costs):
    assert {name: cost["mb"] for name, cost in costs.items() if cost["mb"] > MAX_MB} == {}
