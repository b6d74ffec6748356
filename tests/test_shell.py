"""Commands as processes of a shell: odd names and locales, readers that leave, versions, warnings."""

import base64
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from models import noise, tiny_codec

from codec.audio.file import save_audio
from codec.inference.pretrained import save_codec

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    save_codec(tiny_codec(), folder)
    return folder


@pytest.fixture
def shell(tmp_path, model):
    """Run words of a shell in an empty folder, where `encode` and `decode` are the commands with a tiny model."""
    for name in ("encode", "decode"):
        code = f"from codec import cli; cli.{name}_main()"
        script = f'#!/bin/sh\nexec "{sys.executable}" -c "{code}" --model "{model}" --device cpu "$@"\n'
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()

    def run(line, **environment):
        command = [
            "bash",
            "-c",
            f'set -o pipefail; encode() {{ ../encode "$@"; }}; decode() {{ ../decode "$@"; }}; {line}',
        ]
        done = subprocess.run(command, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, timeout=120)
        return done.returncode, done.stdout, done.stderr.decode()

    run.folder = folder
    return run


def write_noise(path, seed=0):
    path = Path(os.fsdecode(path))
    path.parent.mkdir(exist_ok=True)
    save_audio(path, noise(1, 1, 3000, seed=seed).clamp(-1, 1), 16_000)


@pytest.mark.parametrize("environment", [{}, ASCII], ids=["utf-8", "ascii"])
def test_names_that_the_locale_lacks(shell, environment):
    """One that is not UTF-8 is encoded and decoded like the others, and printed with an escape."""
    names = [b"a", b"caf\xe9", "é".encode()]
    for name in names:
        write_noise(os.fsencode(shell.folder) + b"/in/" + name + b".wav")
    code, out, err = shell("encode in -o codes && decode codes -o out", **environment)
    assert (code, err) == (0, "")
    assert len(out.splitlines()) == 6 and rb"codes/caf\udce9.codec" in out
    assert {os.fsencode(path.name) for path in (shell.folder / "out").iterdir()} == {
        name + b".decoded.wav" for name in names
    }


def test_a_reader_who_leaves_ends_a_run_quietly(shell):
    for name in "abc":
        write_noise(shell.folder / f"in/{name}.wav")
    code, _, err = shell("encode in -o out --batch-seconds 0 | true")
    assert (code, err) == (141, "")
    assert not list((shell.folder / "out").glob(".*"))
    assert shell("encode --help | true")[::2] == (141, "")


@pytest.mark.parametrize("environment", [{}, ASCII], ids=["utf-8", "ascii"])
def test_objects_name_the_bytes_of_a_file_in_every_locale(shell, environment):
    names = [b"caf\xe9.wav", "é.wav".encode()]
    for name in names:
        write_noise(os.fsencode(shell.folder) + b"/in/" + name)
    code, out, err = shell("encode in -o codes --json", **environment)
    assert (code, err) == (0, "")
    found = [json.loads(line) for line in out.decode("ascii").splitlines()]
    paths = [base64.b64decode(each.get("path_base64", "")) or each["path"].encode() for each in found]
    assert sorted(paths) == [b"in/" + name for name in names]


def test_a_reader_of_objects_who_leaves_ends_a_run_quietly(shell):
    for name in "abc":
        write_noise(shell.folder / f"in/{name}.wav")
    assert shell("encode in -o out --batch-seconds 0 --json | true")[::2] == (141, "")


def test_our_warnings_are_one_line(shell):
    lines = [
        "import warnings; from codec import cli; from codec.cli.notes import notes_printed; cli._set_up_streams()",
        "with notes_printed('codec-x'):",
        "    warnings.warn_explicit('careful', UserWarning, cli.__file__, 1)",
        "    warnings.warn_explicit('other', UserWarning, 'torch.py', 1)",
    ]
    (shell.folder / "warn.py").write_text("\n".join(lines))
    _, _, err = shell(f'"{sys.executable}" warn.py')
    assert err.splitlines() == ["codec-x: warning: careful", "torch.py:1: UserWarning: other"]


def test_a_pipeline(shell):
    """Its result is that of files, nothing else is on standard output, and nothing is left behind."""
    write_noise(shell.folder / "a.wav")
    (shell.folder / "tmp").mkdir()
    temporary = {"TMPDIR": str(shell.folder / "tmp")}
    code, out, err = shell("cat a.wav | encode - | decode - -o - --format flac", **temporary)
    assert code == 0
    assert sorted(line.split()[0] for line in err.splitlines()) == ["stdout.codec", "stdout.flac"]
    assert soundfile.info(io.BytesIO(out)).frames == 3000
    assert {path.name for path in shell.folder.rglob("*")} == {"a.wav", "tmp"}


def test_a_target_that_appears_while_it_is_encoded_is_kept(shell):
    """Neither it nor what a killed process leaves stays half-written."""
    samples = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 60)
    soundfile.write(shell.folder / "a.wav", samples, 16_000)
    wait = 'until [ -n "$(ls -A | grep partial)" ]; do sleep 0.01; done'
    code, out, err = shell(f"encode a.wav & {wait}; echo theirs > a.codec; wait $!")
    assert (code, out) == (2, b"") and "a.codec is already there" in err
    assert (shell.folder / "a.codec").read_text() == "theirs\n"
    assert shell(f"../encode a.wav -o b.codec & {wait}; kill -9 $!; wait $!")[0] == 137
    assert len(list(shell.folder.glob(".*.partial"))) == 1
    assert shell("encode a.wav -o b.codec")[0] == 0
    assert {path.name for path in shell.folder.iterdir()} == {"a.wav", "a.codec", "b.codec"}
