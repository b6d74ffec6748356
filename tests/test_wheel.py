"""The wheel: what it holds, and that it encodes and decodes in another environment, offline, with its own model."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import codec
from codec.config import shipped
from codec.eval.metrics.clip import Original
from codec.eval.metrics.metrics import measure
from codec.inference.compression import compress
from codec.inference.decompression import decompress

ROOT = Path(codec.__file__).parents[1]
MODELS = sorted(path.parent for path in shipped("weights").glob("*/model.safetensors"))
MAX_WEIGHTS_BYTES = 20_000_000
CLIP = "speech_en-us.flac"


def run(*words, cwd, **variables):
    """Run a program with one thread, which must succeed; returns what it wrote to standard output."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OMP_NUM_THREADS": "1"} | variables
    result = subprocess.run(list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def pip(*words, cwd, python=sys.executable):
    """Run pip for an environment without any package index."""
    quiet = ("--quiet", "--no-deps", "--no-index", "--disable-pip-version-check")
    return run(sys.executable, "-m", "pip", "--python", python, *words, *quiet, cwd=cwd)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling", reason="hatchling builds the wheel: pip install -e '.[dev]'")
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    """Folder of the commands of a new environment that sees the packages of this one, but not the checkout."""
    environment = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    pip("install", wheel, cwd=environment.parent, python=python)
    (packages,) = environment.glob("lib/python*/site-packages")
    # Only now, for pip would find the checkout there. Its own .pth file, which names the checkout, is not followed.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    where = run(python, "-c", "import codec; print(codec.__file__)", cwd=environment.parent)
    assert Path(where.strip()).is_relative_to(environment)
    return python.parent


def without_network():
    """Words that start a program without network, or none where the system does not allow it."""
    prefix = ("unshare", "--map-root-user", "--net")
    works = shutil.which("unshare") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0
    return prefix if works else ()


def test_the_wheel_holds_what_the_package_reads(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "codec").rglob("*") if path.is_file()}
    for kind in ("recipes", "clips"):
        folder = shipped(kind)
        package |= {f"codec/{kind}/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}
    assert {name for name in package if "__pycache__" not in name} == {name for name in names if name[:6] == "codec/"}
    assert {"codec/recipes/speech_16khz.toml", f"codec/clips/{CLIP}", "codec/clips/MANIFEST.tsv"} <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_models_that_ship_are_complete_and_small():
    assert [folder.name for folder in MODELS] == ["speech_16khz"]
    for folder in MODELS:
        files = {path.name: path.stat().st_size for path in folder.iterdir()}
        assert set(files) == {
            *("config.json", "model.safetensors", "entropy.safetensors"),
            *("fingerprint.json", "README.md"),
        }
        assert files["model.safetensors"] <= MAX_WEIGHTS_BYTES


def test_an_installed_wheel_works_offline(commands, tmp_path):
    shutil.copy(shipped("clips") / CLIP, tmp_path / "talk.flac")
    no_proxy = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    for words in (("codec-encode", "talk.flac"), ("codec-decode", "talk.codec")):
        run(*without_network(), commands / words[0], *words[1:], cwd=tmp_path, **no_proxy)
    audio = codec.load_audio(tmp_path / "talk.flac")
    decoded = codec.load_audio(tmp_path / "talk.decoded.wav")
    assert decoded.shape == audio.shape
    model = codec.load_codec(MODELS[0])
    expected = decompress(model, compress(model, audio))
    names = ("si_sdr", "stoi")
    figures, ours = (
        measure(each[0], Original(audio[0], model.sample_rate), names).values for each in (decoded, expected)
    )
    assert figures == pytest.approx(ours, rel=1e-3, abs=0.01)
    assert (decoded - expected).abs().max() < 1e-3  # 16 bits, and near-ties that another number of threads may flip
