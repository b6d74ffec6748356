"""The scripts that complete command lines, run in bash, beside what the parser takes."""

import shutil
import subprocess

import pytest
from messages import one_line

from codec import cli
from codec.cli.command_line import parse, parse_with_recipe
from codec.cli.completion import OPTIONS, RECIPE_KEYS, completion_script
from codec.cli.options import EncodeOptions
from codec.errors import ConfigError

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="run  apt-get install bash")
COMMANDS = sorted(OPTIONS)


@pytest.fixture
def complete(tmp_path):
    """Words that bash offers for the last of these."""
    (tmp_path / "talk.wav").touch()

    def run(*words):
        function = f"_{words[0].replace('-', '_')}"
        ask = f'. ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); {function}; printf "%s\\n" "${{COMPREPLY[@]}}"'
        (tmp_path / "script").write_text(completion_script(words[0], "bash"))
        done = subprocess.run(["bash", "-uc", ask, "bash", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0 and not done.stderr, done.stderr
        return done.stdout.split()

    return run


@pytest.mark.parametrize("prog", COMMANDS)
def test_every_option_is_offered_and_is_one(complete, prog):
    """The parser refuses a value, or asks for an input; it knows the option."""
    offered = complete(prog, "-")
    assert {"--json", "--progress", "--help", "--version", "--completion"} <= set(offered)
    assert len(offered) == len(set(offered))
    for option in set(offered) - {"-h", "--help", "--version", "--completion"}:
        read = parse_with_recipe if prog in RECIPE_KEYS else parse
        with pytest.raises(ConfigError) as caught:
            read(OPTIONS[prog], [option, "x", "--no-such"], prog)
        assert "--no-such" in str(caught.value)


def test_the_start_of_an_option(complete):
    assert complete("codec-encode", "a.wav", "--mod") == ["--mode", "--model"]
    assert complete("codec-encode", "--ver") == ["--verify", "--version"]
    assert complete("codec-train", "quickstart", "--codec.quantizer.k") == ["--codec.quantizer.kind"]
    assert complete("codec-release", "run", "--codec") == []
    assert complete("codec-release", "run", "--data.ro") == ["--data.root"]


def test_values(complete):
    assert complete("codec-encode", "a.wav", "--format", "n") == ["npy", "npz"]
    assert complete("codec-decode", "--progress", "o") == ["on", "off"]
    assert complete("codec-bench", "--modes", "float32", "b") == ["bf16_decoder", "bf16"]
    assert complete("codec-train", "x", "--codec.encoder.kind", "") == ["envelope", "conv", "identity"]
    assert complete("codec-train", "quick") == ["quickstart"]


@pytest.mark.parametrize(
    "words", [("codec-encode", "ta"), ("codec-encode", "--mode", "onnx", "ta"), ("codec-encode", "--model", "ta")]
)
def test_elsewhere_the_shell_offers_files(complete, words):
    """It does where the function offers nothing, by `complete -o default`."""
    assert complete(*words) == []
    assert "complete -o default -F _codec_encode codec-encode" in completion_script("codec-encode", "bash")


@pytest.mark.parametrize("prog", COMMANDS)
def test_every_command_prints_its_script(prog, capsys):
    name = {"codec-eval": "eval_main"}.get(prog, f"{prog.removeprefix('codec-')}_main")
    with pytest.raises(SystemExit, match="0"):
        getattr(cli, name)(["--completion", "bash"])
    assert capsys.readouterr() == (completion_script(prog, "bash"), "")


def test_zsh_runs_the_script_of_bash():
    before, rest = completion_script("codec-encode", "zsh").split("_codec_encode()", 1)
    assert "bashcompinit" in before and completion_script("codec-encode", "bash") == f"_codec_encode(){rest}"


@pytest.mark.parametrize("words", [["--completion"], ["--completion", "fish"]])
def test_another_shell_is_refused_in_one_line(words, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.encode_main(words)
    out, err = capsys.readouterr()
    assert not out and err.count("\n") == 1 and "bash or zsh" in err
    with pytest.raises(ConfigError, match=one_line("bash", "zsh")):
        completion_script("codec-encode", "fish")


def test_a_file_of_that_name(capsys):
    assert parse(EncodeOptions, ["--", "--completion"], "codec-encode").inputs == ("--completion",)
