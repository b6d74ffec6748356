import json
import math
import re
from pathlib import Path

import pytest
from messages import one_line

import codec.config as config_module
from codec.config import (
    CodecConfig,
    ConvEncoderConfig,
    FSQConfig,
    HarmonicNoiseDecoderConfig,
    QuantizerConfig,
    UpsampleDecoderConfig,
    from_dict,
    leaves,
    shipped,
    to_dict,
    unknown_key,
)
from codec.errors import ConfigError
from codec.recipe import DataConfig, GaussianConfig, OptimizerConfig, Recipe, TrainConfig, find_recipe, load_recipe


def nested(path, value):
    """Values of a recipe in which only the dotted `path` is set."""
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


def message(values, config=Recipe):
    """The error that `values` cause, which is one line and starts with its source."""
    with pytest.raises(ConfigError) as error:
        from_dict(config, {"name": "x"} | values if config is Recipe else values, source="my.toml")
    text = str(error.value)
    assert "\n" not in text and text.startswith("my.toml: ")
    return text.removeprefix("my.toml: ")


# ---- Unknown keys


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("seeed", "seed"),
        ("trian.steps", None),
        ("train.stepz", "train.steps"),
        ("train.batchsize", "train.batch_size"),
        ("codec.latent_dimension", "codec.latent_dim"),
        ("codec.encoder.stride", "codec.encoder.strides"),
        ("codec.quantizer.codebooksize", "codec.quantizer.codebook_size"),
        ("codec.decoder.chanels", "codec.decoder.channels"),
        ("validation.bitrate", "validation.bitrates"),
    ],
)
def test_an_unknown_key_names_the_nearest(key, nearest):
    facts = ("unknown key", "'trian'") if nearest is None else ("unknown key", f"{key!r}", f"{nearest!r}")
    assert re.search(one_line(*facts), message(nested(key, 1)))


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("lr", "optimizer.lr"),
        ("train.lr", "optimizer.lr"),
        ("optimizer.steps", "train.steps"),
        ("segment_seconds", "data.segment_seconds"),
        ("codec.encoder.codebook_size", "codec.quantizer.codebook_size"),
        ("codec.num_quantizers", "codec.quantizer.num_quantizers"),
        ("codec.decoder.cutoff", "codec.bands.cutoff"),
    ],
)
def test_a_key_in_the_wrong_section_names_the_right_one(key, nearest):
    assert re.search(one_line("unknown key", f"{key!r}", f"{nearest!r}"), message(nested(key, 1)))


def test_an_unknown_key_like_no_other_lists_all_once():
    known = message({"qqqqq": 1}).split(": ")[-1].split(", ")
    assert known == list(dict(leaves(Recipe)))
    assert {"name", "train.steps", "codec.decoder.kernel_size", "codec.decoder.strides"} <= set(known)


def test_a_key_of_the_other_decoder_says_so():
    other = message(nested("codec.decoder", {"kind": "upsample", "num_blocks": 2}))
    assert re.search(one_line("'codec.decoder.num_blocks'", "codec.decoder.kind"), other)
    assert "codec.decoder.kind" in message(nested("codec.decoder.strides", [320]))


def test_keys_are_those_of_a_written_recipe():
    def paths(values, prefix=""):
        for name, value in values.items():
            yield from paths(value, f"{prefix}{name}.") if isinstance(value, dict) else [prefix + name]

    upsample = Recipe(name="x", codec=CodecConfig(encoder=ConvEncoderConfig(), decoder=UpsampleDecoderConfig()))
    other = Recipe(name="x", codec=CodecConfig(quantizer=FSQConfig()), data=GaussianConfig())
    written = {*paths(to_dict(Recipe(name="x"))), *paths(to_dict(upsample)), *paths(to_dict(other))}
    assert set(dict(leaves(Recipe))) == written
    assert re.search(one_line("'train.step'", "'train.steps'"), unknown_key("train.step", Recipe))


# ---- Values


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("codec.sample_rate", 0),
        ("codec.sample_rate", 16000.5),
        ("codec.latent_dim", 0),
        ("codec.lookahead", -1),
        ("codec.encoder.kernel_size", 0),
        ("codec.encoder.expansion", 0),
        ("codec.quantizer.update", "adam"),
        ("codec.quantizer.num_quantizers", 0),
        ("codec.quantizer.num_quantizers", 65),
        ("codec.quantizer.codebook_size", 1),
        ("codec.quantizer.codebook_size", 65537),
        ("codec.quantizer.codebook_dim", 0),
        ("codec.quantizer.decay", 1),
        ("codec.quantizer.decay", -0.1),
        ("codec.quantizer.dead_threshold", -0.1),
        ("codec.quantizer.quantizer_dropout", 1.1),
        ("codec.encoder.hop_length", 0),
        ("codec.decoder.num_blocks", -1),
        ("codec.bands.cutoff", 0),
        ("codec.bands.num_bands", 0),
        ("codec.bands.num_low_bands", 0),
        ("data.segment_seconds", 0),
        ("data.segment_seconds", math.inf),
        ("data.num_workers", -1),
        ("loss.mel", -1),
        ("loss.waveform", math.nan),
        ("optimizer.lr", 0),
        ("optimizer.lr", math.inf),
        ("optimizer.lr", "fast"),
        ("optimizer.final_lr", -1e-5),
        ("optimizer.max_grad_norm", 0),
        ("optimizer.ema_decay", 1),
        ("train.steps", 0),
        ("train.steps", None),
        ("train.max_minutes", 0),
        ("train.batch_size", 0),
        ("train.precision", "fp8"),
        ("train.log_every", 0),
        ("validation.max_files", 0),
        ("name", 3),
    ],
)
def test_a_value_out_of_range_is_named_with_its_key(key, value):
    text = message(nested(key, value))
    assert text.startswith(f"{key}: ") and text.endswith(f", not {value!r}")


@pytest.mark.parametrize(
    ("key", "value", "at"),
    [
        ("codec.encoder", {"kind": "conv", "strides": [320, 0]}, "codec.encoder.strides.1"),
        ("optimizer.betas", [0.9, 1.0], "optimizer.betas.1"),
        ("optimizer.betas", [0.9], "optimizer.betas.1"),
        ("data.gain_db", [-12, math.inf], "data.gain_db.1"),
        ("validation.bitrates", [1500, -1], "validation.bitrates.1"),
    ],
)
def test_a_value_in_a_list_is_named_with_its_place(key, value, at):
    assert message(nested(key, value)).startswith(f"{at}: ")


@pytest.mark.parametrize("key", ["codec", "train", "codec.encoder"])
def test_a_section_is_a_table(key):
    assert message(nested(key, 3)).startswith(f"{key}: ")


def test_a_recipe_has_a_name():
    with pytest.raises(ConfigError, match=one_line("r", "name", "required")):
        from_dict(Recipe, {}, source="r")
    with pytest.raises(ConfigError, match=one_line("r", "dictionary")):
        from_dict(Recipe, [], source="r")


@pytest.mark.parametrize(
    ("codec", "facts"),
    [
        (
            {"encoder": {"kind": "conv", "strides": [2, 160]}},
            ("codec.encoder", "strides", "channels", "num_blocks", "one entry"),
        ),
        (
            {"encoder": {"kind": "conv", "strides": [], "channels": [], "num_blocks": []}},
            ("codec.encoder", "strides", "channels", "num_blocks"),
        ),
        (
            {"decoder": {"kind": "upsample", "strides": [2, 4]}},
            ("codec", "decoder strides", 8, "hop", 320),
        ),
        (
            {"decoder": {"kind": "upsample", "channels": 24}},
            ("codec.decoder", "channels", 24, "number of strides"),
        ),
        ({"decoder": {"kind": "upsample", "strides": []}}, ("codec.decoder", "channels", 512)),
    ],
)
def test_parts_that_do_not_fit_are_explained(codec, facts):
    assert re.search(one_line(*facts), message({"codec": codec}))


@pytest.mark.parametrize("decoder", [{"kind": "wavenet"}, {"kind": 1}, 3, "wavenet", None, []])
def test_an_unknown_decoder_lists_the_kinds(decoder):
    text = message(nested("codec.decoder", decoder))
    kinds = ("harmonic_noise", "upsample", "identity")
    assert re.search(one_line("codec.decoder", "kind", *kinds, f"{decoder!r}"), text)


def test_decoder_kinds():
    def decoder(values):
        return from_dict(CodecConfig, {"decoder": values}, source="x").decoder

    assert decoder({}) == decoder({"kind": "harmonic_noise"}) == HarmonicNoiseDecoderConfig()
    assert decoder({"kind": "upsample"}) == UpsampleDecoderConfig()
    assert decoder({"channels": 64}).channels == 64
    assert CodecConfig(decoder=UpsampleDecoderConfig(channels=64)).decoder.channels == 64


def test_configurations_are_frozen():
    recipe = Recipe(name="x")
    with pytest.raises(AttributeError):
        recipe.seed = 3
    with pytest.raises(AttributeError):
        recipe.codec.sample_rate = 8000


# ---- Round trip


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(name="x"),
        Recipe(
            name="full",
            seed=7,
            codec=CodecConfig(
                sample_rate=24_000,
                encoder=ConvEncoderConfig(strides=(4, 8), channels=(8, 16), num_blocks=(0, 1)),
                quantizer=QuantizerConfig(update="gradient", codebook_dim=None, normalize=True),
                decoder=UpsampleDecoderConfig(strides=(8, 4), channels=64),
            ),
            data=DataConfig(root=Path("/a/b"), valid=Path("v.tsv"), kinds=("speech", "music"), gain_db=(-3.5, 0.25)),
            optimizer=OptimizerConfig(lr=1.23456789e-4),
            train=TrainConfig(max_minutes=0.1, precision="32-true"),
        ),
    ],
)
def test_to_dict_and_back(recipe):
    written = json.loads(json.dumps(to_dict(recipe)))
    assert from_dict(Recipe, written, source="x") == recipe
    assert from_dict(CodecConfig, to_dict(recipe.codec), source="x") == recipe.codec


# ---- Rates


def test_rates_of_the_default():
    config = CodecConfig()
    assert (config.hop_length, config.frame_rate, config.bitrate_per_level) == (320, 50.0, 500.0)
    assert CodecConfig(sample_rate=44_100).frame_rate == 44_100 / 320


@pytest.mark.parametrize(
    ("bitrate", "levels"),
    [(500, 1), (999.99, 1), (1000, 2), (1499, 2), (1500, 3), (6000, 12), (6001, 12), (1e9, 12), (math.inf, 12)],
)
def test_most_levels_that_do_not_exceed_a_bitrate(bitrate, levels):
    assert CodecConfig().num_quantizers_for(bitrate) == levels


@pytest.mark.parametrize("levels", range(1, 13))
@pytest.mark.parametrize("sample_rate", [16_000, 22_050, 44_100, 48_000])
def test_the_exact_bitrate_of_some_levels_gives_them(sample_rate, levels):
    config = CodecConfig(sample_rate=sample_rate, quantizer=QuantizerConfig(codebook_size=1000))
    bitrate = levels * config.bitrate_per_level
    assert config.num_quantizers_for(bitrate) == levels
    assert config.num_quantizers_for(float(f"{bitrate:.12g}")) == levels  # as printed, maybe rounded down
    if levels > 1:
        assert config.num_quantizers_for(bitrate * (1 - 1e-6)) == levels - 1


@pytest.mark.parametrize("bitrate", [499.9, 0, -1])
def test_a_bitrate_below_the_lowest_is_refused(bitrate):
    with pytest.raises(ConfigError, match=one_line("bitrate", f"{bitrate:g} bit/s", "500 bit/s")):
        CodecConfig().num_quantizers_for(bitrate)


# ---- Recipes on disk


@pytest.fixture
def recipe_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("seed = 5\n[train]\nsteps = 7\n", encoding="utf-8")
    return path


def test_a_recipe_lists_only_what_differs(recipe_file):
    recipe = load_recipe(str(recipe_file))
    assert (recipe.name, recipe.seed, recipe.train.steps) == ("mine", 5, 7)
    assert recipe == Recipe(name="mine", seed=5, train=TrainConfig(steps=7))


def test_a_recipe_may_name_itself(recipe_file):
    recipe_file.write_text('name = "other"\n', encoding="utf-8")
    assert load_recipe(str(recipe_file)).name == "other"


def test_a_recipe_may_be_based_on_another(recipe_file):
    """Sections are merged, lists replaced; the name is the file's own, and the path is relative to the file."""
    folder = recipe_file.parent / "variants"
    folder.mkdir()
    recipe_file.write_text(
        'name = "basis"\nseed = 5\n[codec.encoder]\nkind = "conv"\nkernel_size = 3\n'
        "strides = [320]\nchannels = [8]\nnum_blocks = [2]\n"
        "[train]\nsteps = 7\nbatch_size = 4\n"
    )
    middle, child = folder / "middle.toml", folder / "child.toml"
    middle.write_text('base = "../mine.toml"\n[train]\nsteps = 8\n')
    child.write_text('base = "middle.toml"\n[codec.encoder]\nnum_blocks = [1]\n')
    recipe = load_recipe(str(child))
    assert (recipe.name, recipe.seed, recipe.train.steps, recipe.train.batch_size) == ("child", 5, 8, 4)
    assert (recipe.codec.encoder.kernel_size, recipe.codec.encoder.num_blocks) == (3, (1,))


def test_a_section_of_another_kind_inherits_nothing(recipe_file):
    recipe_file.write_text("[codec.decoder]\nnum_blocks = 5\nkernel_size = 9\n")
    child = recipe_file.with_name("child.toml")
    child.write_text('base = "mine.toml"\n[codec.decoder]\nkind = "upsample"\nchannels = 64\n')
    assert load_recipe(str(child)).codec.decoder == UpsampleDecoderConfig(channels=64)
    child.write_text('base = "mine.toml"\n[codec.decoder]\nkind = "harmonic_noise"\nchannels = 64\n')  # what it was
    decoder = load_recipe(str(child)).codec.decoder
    assert (decoder.channels, decoder.num_blocks, decoder.kernel_size) == (64, 5, 9)


def test_a_mistake_is_named_where_it_was_made(recipe_file):
    recipe_file.write_text("[train]\nstep = 7\n")
    child = recipe_file.with_name("child.toml")
    child.write_text('base = "mine.toml"\n')
    with pytest.raises(ConfigError, match=one_line("mine.toml", "'train.step'")):
        load_recipe(str(child))


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ('base = "nowhere.toml"', ("base", "'nowhere.toml'")),
        ("base = 7", ("base", 7)),
        ('base = "other.toml"', ("base", "'mine.toml'")),
        ('base = "mine.toml"', ("base", "'mine.toml'")),
    ],
)
def test_a_base_that_is_missing_or_circular_is_refused(recipe_file, text, facts):
    recipe_file.write_text(text + "\n")
    recipe_file.with_name("other.toml").write_text('base = "mine.toml"\n')
    with pytest.raises(ConfigError, match=one_line(*facts)):
        load_recipe(str(recipe_file))


def test_recipes_are_found_by_path_and_by_name(recipe_file, monkeypatch):
    assert find_recipe(str(recipe_file)) == recipe_file
    assert find_recipe("quickstart") == shipped("recipes") / "quickstart.toml"
    monkeypatch.chdir(recipe_file.parent)
    assert find_recipe("mine.toml") == Path("mine.toml")


@pytest.mark.parametrize("name", ["nothing like it", "", ".", "recipes"])
def test_a_missing_recipe_lists_the_shipped_ones(name, monkeypatch):
    monkeypatch.chdir(shipped("recipes").parent)
    with pytest.raises(ConfigError, match=one_line(f"{name!r}", ".toml", "quickstart", "speech_16khz")):
        find_recipe(name)


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"seed = \n", ("TOML", "line 1")),
        (b"[train\nsteps = 1", ("TOML",)),
        (b"seed = 1\nseed = 2", ("TOML",)),
        (b'name = "\xff\xfe"', ("TOML",)),
        (b"[train]\nstepz = 1", ("'train.stepz'", "'train.steps'")),
        (b"[train]\nsteps = 0", ("train.steps", "greater than 0", 0)),
    ],
)
def test_a_mistake_in_a_recipe_is_named_with_its_file(recipe_file, content, facts):
    recipe_file.write_bytes(content)
    with pytest.raises(ConfigError, match=one_line(recipe_file, *facts)):
        load_recipe(str(recipe_file))


def test_shipped_reads_the_root_of_a_checkout(monkeypatch, tmp_path):
    root = Path(config_module.__file__).parents[1]
    assert shipped("recipes") == root / "recipes"
    assert shipped("clips") == root / "data/clips"
    assert shipped("weights") == root / "codec/weights"
    assert shipped("recipes").is_dir() and (shipped("clips") / "MANIFEST.tsv").is_file()


def test_shipped_reads_the_package_of_a_wheel(monkeypatch, tmp_path):
    for kind in ("recipes", "clips", "weights"):
        (tmp_path / "codec" / kind).mkdir(parents=True)
    monkeypatch.setattr(config_module, "__file__", str(tmp_path / "codec/config.py"))
    for kind in ("recipes", "clips", "weights"):
        assert shipped(kind) == tmp_path / "codec" / kind


def test_a_range_from_high_to_low_is_refused():
    with pytest.raises(ConfigError, match=one_line("x.toml", "gain_db", 3, -3)):
        from_dict(Recipe, {"name": "x", "data": {"gain_db": [3.0, -3.0]}}, source="x.toml")
