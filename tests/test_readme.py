"""The README's Python runs, its commands exist, and its two first shell blocks are the set-up and the tests."""

import re
import shutil
from pathlib import Path

import pytest

from codec.cli.train import parse_training
from codec.config import CodecConfig, from_dict
from codec.inference.pretrained import save_codec
from codec.model.builder import build_codec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TINY = {
    "latent_dim": 8,
    "encoder": {"channels": 8, "num_blocks": 1},
    "quantizer": {"num_quantizers": 2, "codebook_size": 16, "codebook_dim": 4},
    "decoder": {"channels": 8, "num_blocks": 1},
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "data" / "clips", tmp_path / "data" / "clips")
    save_codec(build_codec(from_dict(CodecConfig, TINY, source="test")), tmp_path / "runs" / "quickstart")
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    assert capsys.readouterr().out == "400 bit/s\n"  # 50 frames/s x 2 levels x 4 bit
    assert {path.name for path in Path("runs/quickstart").glob("example.*")} == {"example.codec", "example.wav"}


def test_first_two_shell_blocks_are_set_up_and_tests() -> None:
    main_job, tests = blocks("sh")[:2]
    assert README.index(main_job) < README.index(tests)
    assert all(name in main_job for name in ("venv", "install", "codec-train", "codec-encode", "codec-decode"))
    assert tests.rstrip().endswith("pytest")


@pytest.mark.parametrize(
    "line", re.findall(r"^    (?:torchrun .*--no-python )?(codec-train \S.*?)(?:  .*)?$", README, re.M)
)
def test_training_commands_parse(line: str) -> None:
    words = [word for word in line.split()[1:] if word != "--help"]
    options, changes = parse_training(words)
    assert options.recipe in ("speech_16khz", "gaussian_vq")
    assert set(changes) <= {"data.root"}


def test_no_placeholder_is_left() -> None:
    assert "PLACEHOLDER" not in README + (ROOT / "recipes" / "speech_16khz.toml").read_text(encoding="utf-8")
