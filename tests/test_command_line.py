import re
from pathlib import Path

import pytest
from messages import one_line

from codec.audio.file import WRITE_FORMATS
from codec.cli.command_line import override, parse, parse_with_recipe
from codec.cli.options import (
    BenchOptions,
    DecodeOptions,
    EncodeOptions,
    EvalOptions,
    ExportOptions,
    ReleaseOptions,
    TrainOptions,
)
from codec.cli.train import parse_training
from codec.config import CodecConfig, FSQConfig, UpsampleDecoderConfig
from codec.errors import ConfigError
from codec.recipe import Recipe, load_recipe


class TestOptions:
    def test_encode(self) -> None:
        words = ["a.wav", "b", "-o", "out/", "--num-quantizers", "3", "--model", "run", "--overwrite"]
        assert parse(EncodeOptions, words, "codec-encode") == EncodeOptions(
            inputs=("a.wav", "b"), output="out/", num_quantizers=3, model="run", overwrite=True
        )

    def test_a_file_whose_name_begins_with_a_dash(self) -> None:
        assert parse(EncodeOptions, ["--", "-a.wav"], "codec-encode").inputs == ("-a.wav",)

    def test_eval(self) -> None:
        words = ["a.wav", "--bitrates", "1500", "3k", "--metrics", "mel", "snr"]
        options = parse(EvalOptions, words, "codec-eval")
        assert (options.bitrates, options.metrics, options.split) == ((1500, 3000), ("mel", "snr"), "valid")

    def test_options_and_inputs_in_any_order(self) -> None:
        words = ["a.wav", "--overwrite", "b.wav", "--num_quantizers=3", "c.wav", "--format", "npz", "--", "-d.wav"]
        options = parse(EncodeOptions, words, "codec-encode")
        assert options.inputs == ("a.wav", "b.wav", "c.wav", "-d.wav")
        assert (options.overwrite, options.num_quantizers, options.format) == (True, 3, "npz")

    def test_a_negative_number_is_a_value(self) -> None:
        assert parse(EvalOptions, ["a.wav", "--gains", "0", "-20", "-1.5e1"], "codec-eval").gains == (0, -20, -15)

    def test_a_tilde_is_the_home_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The shell leaves it alone after an equals sign and in quotes."""
        monkeypatch.setenv("HOME", "/home/me")
        options = parse(EncodeOptions, ["~/a.wav", "a~.wav", "--output=~/out/", "--model=~/run"], "codec-encode")
        assert options.inputs == ("/home/me/a.wav", "a~.wav")
        assert (options.output, options.model) == ("/home/me/out/", "/home/me/run")
        train, changes = parse_with_recipe(TrainOptions, ["quickstart", "--out=~/r", "--data.root=~/d"], "codec-train")
        assert train.out == Path("/home/me/r")
        assert override(load_recipe("quickstart"), changes).data.root == Path("/home/me/d")

    @pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1", "mps"])
    def test_devices(self, device: str) -> None:
        assert parse(EncodeOptions, ["a.wav", "--device", device], "codec-encode").device == device

    def test_none_is_a_value_where_there_may_be_none(self) -> None:
        assert parse(EncodeOptions, ["a.wav", "--model", "None", "-o", "None"], "codec-encode").model is None
        assert parse(EvalOptions, ["a.wav", "--split", "None"], "codec-eval").split == "None"

    @pytest.mark.parametrize("words", [[], ["--quick", "--seconds", "3"], ["--no-quick"]])
    def test_a_flag_sets_what_is_not_given(self, words: list[str]) -> None:
        presets = {"quick": {"seconds": 1.0, "rounds": 2}}
        options = parse(BenchOptions, words, "codec-bench", presets)
        defaults = BenchOptions()
        expected = (3.0, 2) if options.quick else (defaults.seconds, defaults.rounds)
        assert (options.seconds, options.rounds) == expected

    @pytest.mark.parametrize("suffix", WRITE_FORMATS)
    def test_every_format_that_can_be_written_is_a_choice(self, suffix: str) -> None:
        assert parse(DecodeOptions, ["--format", suffix[1:]], "codec-decode").format == suffix[1:]

    @pytest.mark.parametrize(
        ("options", "words", "facts"),
        [
            (EncodeOptions, ["a.wav", "--overwite"], ("--overwite", "--overwrite")),
            (EncodeOptions, ["a.wav", "-x"], ("-x", "prog --help")),
            (EncodeOptions, ["a.wav", "--train.steps", "3"], ("--train.steps", "prog --help")),
            (EncodeOptions, ["--inputs", "a.wav"], ("--inputs",)),
            (EncodeOptions, ["a.wav", "--num-quantizers", "two"], ("num_quantizers", "integer")),
            (EncodeOptions, ["a.wav", "--num-quantizers"], ("--num-quantizers", "value")),
            (EncodeOptions, ["a.wav", "--device", "tpu"], ("device", "'tpu'", "auto", "cpu", "cuda", "cuda:1", "mps")),
            (EncodeOptions, ["a.wav", "--device", "cuda:x"], ("device", "'cuda:x'")),
            (EncodeOptions, ["a.wav", ""], ("empty",)),
            (EncodeOptions, ["a.wav", "-o", ""], ("empty",)),
            (EncodeOptions, ["a.wav", "--model="], ("empty",)),
            (ReleaseOptions, ["-o", "out"], ("--model", "missing", "prog --help")),
            (ExportOptions, ["model", "other", "-o", "out"], ("'other'", "prog --help")),
        ],
    )
    def test_a_mistake_is_one_line(self, options: type, words: list[str], facts: tuple[str, ...]) -> None:
        with pytest.raises(ConfigError, match=one_line(*facts)):
            parse(options, words, "prog")


class TestTraining:
    def test_own_options_and_overrides_in_any_order(self) -> None:
        words = ["quickstart", "--train.steps", "10", "--out", "x", "--data.kinds", "a", "b", "--resume", "--seed=3"]
        options, changes = parse_training(words)
        assert options == TrainOptions(recipe="quickstart", out=Path("x"), resume=True)
        assert changes == {"train.steps": ["10"], "data.kinds": ["a", "b"], "seed": ["3"]}

    def test_keys_of_the_recipe_and_options_of_another_command(self) -> None:
        words = ["--data.root", "data", "run", "-o", "out", "--data.no-in-memory"]
        options, changes = parse_with_recipe(ReleaseOptions, words, "codec-release")
        assert options == ReleaseOptions(model="run", output=Path("out"))
        assert changes == {"data.root": ["data"], "data.in_memory": ["false"]}

    def test_recipe_first(self) -> None:
        with pytest.raises(ConfigError, match=one_line("recipe", "first")):
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


def changed(*words: str, name: str = "quickstart") -> Recipe:
    """A recipe with values replaced as on the command line."""
    return override(load_recipe(name), parse_training([name, *words])[1])


class TestOverride:
    def test_values_are_typed(self) -> None:
        words = ["--train.steps", "7", "--data.root=x", "--data.kinds", "a", "b", "--train.max_minutes", "None"]
        recipe = changed(*words, "--codec.quantizer.normalize", "--optimizer.lr", "1e-4", "--data.gain-db", "-3", "3")
        assert (recipe.train.steps, recipe.data.root, recipe.data.kinds) == (7, Path("x"), ("a", "b"))
        assert (recipe.train.max_minutes, recipe.codec.quantizer.normalize, recipe.optimizer.lr) == (None, True, 1e-4)
        assert recipe.data.gain_db == (-3, 3)

    def test_nothing_else_changes(self) -> None:
        recipe = load_recipe("quickstart")
        assert changed() == recipe
        assert changed("--train.steps", str(recipe.train.steps)) == recipe

    def test_forms(self) -> None:
        assert changed("--train.max-minutes=3").train.max_minutes == 3
        assert changed("--train.trackers").train.trackers == ()
        assert changed("--data.kinds=speech").data.kinds == ("speech",)
        assert changed("--train.steps", "3", "--train.steps", "4").train.steps == 4
        normalized = changed("--codec.quantizer.normalize")
        assert override(normalized, parse_training(["x", "--codec.quantizer.no-normalize"])[1]) == changed()

    def test_a_section_of_another_kind(self) -> None:
        """Its other keys are those of the new kind, in any order, and the rest of it has the defaults of that kind."""
        words = ["--codec.decoder.channels", "64", "--codec.decoder.kind", "upsample"]
        quantizer = ["--codec.quantizer.steps", "4", "3", "--codec.quantizer.kind=fsq"]
        codec = changed(*words, *quantizer).codec
        assert codec.decoder == UpsampleDecoderConfig(channels=64)
        assert codec.quantizer == FSQConfig(steps=(4, 3))
        conv = ["--codec.encoder.kind", "conv", "--codec.encoder.strides", "320", "--codec.encoder.channels", "8"]
        encoder = changed(*conv, "--codec.encoder.num-blocks", "1").codec.encoder
        assert (encoder.strides, encoder.channels) == ((320,), (8,)), "of an envelope encoder, channels is one number"
        same = ["--codec.decoder.kind", "harmonic_noise", "--codec.decoder.num-blocks", "1"]
        assert changed(*same).codec.decoder.channels == load_recipe("quickstart").codec.decoder.channels
        assert isinstance(changed(*words).codec, CodecConfig)

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["--train.stepz", "1"], ("'train.stepz'", "'train.steps'")),
            (["--train.batch-sise=1"], ("'train.batch_sise'", "'train.batch_size'")),
            (["--devise", "cpu"], ("--devise", "--device")),
            (["--train.steps", "-3"], ("train.steps", "greater than 0", "'-3'")),
            (["--train.steps", "x"], ("train.steps", "integer")),
            (["--train.steps"], ("--train.steps", "value")),
            (["--train.steps", "3", "4"], ("'4'", "codec-train --help")),
            (["--train.steps", "None"], ("train.steps", "integer")),
            (["--data.gain-db", "3", "-3"], ("data", "gain_db", 3, -3)),
            (["--codec.encoder.channels", "8", "9"], ("--codec.encoder.channels", "one value", "8 9")),
            (["--data.gain-db", "3"], ("data.gain_db.1", "required")),
            (["--codec.decoder.strides", "2"], ("'codec.decoder.strides'", "codec.decoder.kind")),
            (["--codec.decoder.kind", "wavenet"], ("codec.decoder", "harmonic_noise", "upsample", "identity")),
            (["--codec.quantizer.num-quantizers", "65"], ("codec.quantizer.num_quantizers", 64)),
        ],
    )
    def test_a_mistake_is_one_line(self, words: list[str], facts: tuple[object, ...]) -> None:
        with pytest.raises(ConfigError, match=one_line(*facts)):
            changed(*words)
