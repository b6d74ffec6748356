import re
from pathlib import Path

import pytest

from codec.audio.file import WRITE_FORMATS
from codec.cli.options import (
    DecodeOptions,
    EncodeOptions,
    EvalOptions,
    TrainOptions,
    override,
    override_keys,
    parse,
    parse_bitrate,
    parse_training,
)
from codec.errors import ConfigError
from codec.recipe import load_recipe


class TestOptions:
    def test_encode(self) -> None:
        words = ["a.wav", "b", "-o", "out/", "--num-quantizers", "3", "--model", "run", "--overwrite"]
        assert parse(EncodeOptions, words, "codec-encode") == EncodeOptions(
            inputs=(Path("a.wav"), Path("b")), output="out/", num_quantizers=3, model="run", overwrite=True
        )

    def test_a_file_whose_name_begins_with_a_dash(self) -> None:
        assert parse(EncodeOptions, ["--", "-a.wav"], "codec-encode").inputs == (Path("-a.wav"),)

    def test_eval(self) -> None:
        words = ["a.wav", "--bitrates", "1500", "3k", "--metrics", "mel", "snr"]
        options = parse(EvalOptions, words, "codec-eval")
        assert (options.bitrates, options.metrics, options.split) == (("1500", "3k"), ("mel", "snr"), "valid")

    @pytest.mark.parametrize("suffix", WRITE_FORMATS)
    def test_every_format_that_can_be_written_is_a_choice(self, suffix: str) -> None:
        assert parse(DecodeOptions, ["--format", suffix[1:]], "codec-decode").format == suffix[1:]

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["a.wav", "--modle", "x"], "Unrecognized options: --modle, x"),
            (["a.wav", "--num-quantizers", "two"], "--num-quantizers: 'two' is no INT"),
            (["a.wav", "--device", "tpu"], "invalid choice 'tpu' for argument '--device'. Expected one of"),
        ],
    )
    def test_a_mistake_is_one_line(self, words: list[str], reason: str) -> None:
        with pytest.raises(ConfigError) as caught:
            parse(EncodeOptions, words, "codec-encode")
        assert str(caught.value).startswith(reason)
        assert "\n" not in str(caught.value)
        assert "---" not in str(caught.value)


class TestTraining:
    def test_own_options_and_overrides_in_any_order(self) -> None:
        words = ["quickstart", "--train.steps", "10", "--out", "x", "--data.kinds", "a", "b", "--resume", "--seed=3"]
        options, overrides = parse_training(words)
        assert options == TrainOptions("quickstart", out=Path("x"), resume=True)
        assert overrides == ["--train.steps", "10", "--data.kinds", "a", "b", "--seed=3"]

    def test_recipe_first(self) -> None:
        with pytest.raises(ConfigError, match="the recipe comes first"):
            parse_training(["--out", "x", "quickstart"])

    @pytest.mark.parametrize("words", [[], ["--help"], ["-h", "--resume"]])
    def test_help_lists_the_recipes(self, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as stop:
            parse_training(words)
        assert stop.value.code in (None, 0)
        text = capsys.readouterr().out
        assert re.search(r"^  quickstart +A tiny 16 kHz codec", text, re.MULTILINE)
        assert "codec-train RECIPE --help lists them" in text

    def test_help_of_a_recipe_has_its_values(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            parse_training(["quickstart", "--help"])
        text = " ".join(capsys.readouterr().out.split())
        recipe = load_recipe("quickstart")
        assert f"--train.steps INT (default: {recipe.train.steps})" in text
        assert f"--codec.sample-rate INT Hz. (default: {recipe.codec.sample_rate})" in text


class TestOverride:
    def test_values_are_typed(self) -> None:
        words = ["--train.steps", "7", "--data.root=~/x", "--data.kinds", "a", "b", "--train.max_minutes", "None"]
        recipe = override(load_recipe("quickstart"), [*words, "--codec.quantizer.normalize", "--optimizer.lr", "1e-4"])
        assert (recipe.train.steps, recipe.data.root, recipe.data.kinds) == (7, Path("~/x"), ("a", "b"))
        assert (recipe.train.max_minutes, recipe.codec.quantizer.normalize, recipe.optimizer.lr) == (None, True, 1e-4)

    def test_nothing_else_changes(self) -> None:
        recipe = load_recipe("quickstart")
        assert override(recipe, []) == recipe
        assert override(recipe, ["--train.steps", str(recipe.train.steps)]) == recipe

    def test_keys(self) -> None:
        words = ["--train.max-minutes=3", "--codec.quantizer.no-normalize", "-1", "x", "--optimizer.lr", "1e-3"]
        assert override_keys(words) == ["train.max_minutes", "codec.quantizer.normalize", "optimizer.lr"]

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (["--train.stepz", "1"], "unknown key 'train.stepz'; did you mean 'train.steps'?"),
            (["--train.batch-sise=1"], "unknown key 'train.batch_sise'; did you mean 'train.batch_size'?"),
            (["--devise", "cpu"], "no option --devise: see codec-train --help"),
            (["--train.steps", "-3"], "train.steps: Input should be greater than 0, not -3"),
            (["--train.steps", "x"], "--train.steps: invalid literal for int() with base 10: 'x'"),
            (
                ["--codec.quantizer.num-quantizers", "65"],
                "codec.quantizer.num_quantizers: Input should be less than or equal to 64, not 65",
            ),
            (
                ["--data.gain-db", "3", "-3"],
                "data: gain_db must go from low to high, not 3 to -3",
            ),
        ],
    )
    def test_a_mistake_is_one_line(self, words: list[str], reason: str) -> None:
        with pytest.raises(ConfigError) as caught:
            override(load_recipe("quickstart"), words)
        assert str(caught.value) == reason


class TestBitrate:
    @pytest.mark.parametrize(("text", "bitrate"), [("6000", 6000), ("6k", 6000), ("1.5K", 1500), ("6e3", 6000)])
    def test_forms(self, text: str, bitrate: float) -> None:
        assert parse_bitrate(text) == bitrate

    @pytest.mark.parametrize("text", ["", "k", "fast", "-3k", "0", "nan", "inf"])
    def test_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=f"bitrate '{text}' is no positive number"):
            parse_bitrate(text)
