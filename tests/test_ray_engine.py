"""Corpus runs on real Ray: the same codes as in this process, each recording once, whatever is killed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from messages import one_line

pytest.importorskip("pyarrow", reason="run  pip install pyarrow")
pytest.importorskip("ray", reason="run  pip install 'ray[data]'")

from corpus_cases import save_model, write_folder

from codec.corpus import shards
from codec.corpus.ray_engine import RayEngine
from codec.errors import ConfigError

ENCODE = "from codec.cli import encode_main; encode_main()"
MANY = {f"{number % 7}/{number:04d}.wav": 8000 + 700 * (number % 50) for number in range(240)}
"""Some minutes of audio, which are several tasks."""


def codec_encode(*words, **how):
    """Start codec-encode in a process of its own, which ends with all that Ray started."""
    return subprocess.Popen(
        [sys.executable, "-c", ENCODE, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def stored(folder):
    """Codes of all recordings by name; each is there once."""
    rows = [row for path in shards.shard_paths(folder) for row in shards.read_shard(path)]
    assert len({row.path for row in rows}) == len(rows)
    return {row.path: row.bitstream.codes for row in rows}


def assert_same_codes(found, expected):
    assert found.keys() == expected.keys()
    for name, codes in expected.items():
        np.testing.assert_array_equal(found[name], codes)


def descendants(pid):
    """Processes that a process has started, and those that they have, by their command lines."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return {child: commands[child] for child in found - {pid}}


def workers(pid):
    """Processes of actors that encode."""
    return [child for child, command in descendants(pid).items() if command.startswith("ray::MapWorker")]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, process, seconds=120.0):
    """Wait until something is so, or the process has ended."""
    end = time.monotonic() + seconds
    while not (found := condition()) and process.poll() is None:
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Folder, model, and the codes that this process gives."""
    root = tmp_path_factory.mktemp("corpus")
    folder, model = write_folder(root / "in", MANY), save_model(root / "model")
    process = codec_encode(folder, "-o", root / "local", "--format", "parquet", "--model", model)
    assert process.wait() == 0, process.communicate()
    process.communicate()
    return folder, model, stored(root / "local")


def test_a_killed_worker_and_a_killed_driver_lose_nothing(tmp_path, corpus):
    """On real Ray: a worker dies, the process that commands dies, and a second run ends what is left."""
    folder, model, expected = corpus
    (folder / "junk.wav").write_bytes(b"junk")
    out = tmp_path / "out"
    words = [folder, "-o", out, "--engine", "ray", "--workers", "2", "--model", model, "--shard-hours", "1e-6"]
    first = codec_encode(*words)
    wait_for(lambda: shards.shard_paths(out), first)
    for worker in workers(first.pid)[:1]:
        kill(worker)
    num_shards = len(shards.shard_paths(out))
    wait_for(lambda: len(shards.shard_paths(out)) > num_shards, first)
    first.kill()
    first.communicate()
    before = stored(out)
    second = codec_encode(*words, "--resume")
    num_shards = len(shards.shard_paths(out))
    wait_for(lambda: len(shards.shard_paths(out)) > num_shards, second)
    for worker in workers(second.pid)[:1]:
        kill(worker)
    output, errors = second.communicate()
    (folder / "junk.wav").unlink()
    assert second.returncode == 1 and "junk.wav" in errors, errors
    assert int(output.split()[0]) == len(expected) - len(before), (output, errors)
    assert_same_codes(stored(out), expected)
    assert output.count("\n") == 1 and errors.count("\n") == 3, (output, errors)  # nothing of Ray


def test_a_cluster_that_does_not_answer_is_one_line():
    for address in ("127.0.0.1:9", "nonsense"):
        with pytest.raises(ConfigError, match=one_line("no Ray cluster answers", address)):
            RayEngine(address)


@pytest.mark.corpus_long
@pytest.mark.parametrize("seed", range(10))
def test_kills_at_random_moments(tmp_path, corpus, seed):
    """Workers and drivers die at random moments; the last run is left alone."""
    folder, model, expected = corpus
    out, chance = tmp_path / "out", random.Random(seed)
    words = [folder, "-o", out, "--engine", "ray", "--workers", "2", "--model", model, "--shard-hours", "1e-6"]
    for _ in range(2):
        process = codec_encode(*words, "--resume")
        wait_for(lambda process=process: workers(process.pid), process)
        time.sleep(chance.uniform(0, 6))
        for worker in workers(process.pid)[:1]:
            kill(worker)
        time.sleep(chance.uniform(0, 6))
        process.kill()
        process.communicate()
    process = codec_encode(*words, "--resume")
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert_same_codes(stored(out), expected)


@pytest.mark.corpus_long
def test_a_recording_that_kills_its_worker_is_bad(tmp_path, corpus):
    """Whatever worker opens one of the recordings dies, as one does that has no memory left."""
    folder, model, expected = corpus
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import builtins, os, pathlib, signal\n"
        "real = pathlib.Path.open\n"
        "def opened(self, *args, **how):\n"
        "    if self.name == '0003.wav':\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, *args, **how)\n"
        "pathlib.Path.open = opened\n"
    )
    paths = [str(hook), *filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[1])])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    out = tmp_path / "out"
    words = [folder, "-o", out, "--engine", "ray", "--workers", "2", "--model", model]
    process = codec_encode(*words, env=environment)
    _, errors = process.communicate()
    assert process.returncode == 1, errors
    (bad,) = [json.loads(line) for line in (out / "bad.jsonl").read_text().split("\n") if line]
    assert bad["path"] == "3/0003.wav" and "died" in bad["reason"]
    found = stored(out)
    assert_same_codes(found, {name: codes for name, codes in expected.items() if name != "3/0003.wav"})
