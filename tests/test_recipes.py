import dataclasses
from pathlib import Path
from typing import get_args

import pytest

from codec.audio.manifest import list_items
from codec.config import CodecConfig, shipped
from codec.model.builder import build_codec
from codec.recipe import SHIPPED_CLIPS, DataConfig, GaussianConfig, load_recipe
from codec.train.data.segments import data_root
from codec.train.validation import Validator

FOLDER = shipped("recipes")
NAMES = sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.toml"))
AUDIO = [name for name in NAMES if isinstance(load_recipe(name).data, DataConfig)]


@pytest.mark.parametrize("name", NAMES)
def test_recipe_loads_and_builds(name):
    recipe = load_recipe(name)
    assert recipe.name == Path(name).name
    codec = build_codec(recipe.codec)
    assert codec.hop_length == recipe.codec.hop_length
    assert codec.quantizer.num_quantizers == recipe.codec.quantizer.num_quantizers


@pytest.mark.parametrize("name", AUDIO)
def test_a_segment_is_longer_than_the_latency(name):
    recipe = load_recipe(name)
    codec = build_codec(recipe.codec)
    assert recipe.data.segment_seconds * recipe.codec.sample_rate >= codec.latency


@pytest.mark.parametrize("name", NAMES)
def test_recipe_reaches_its_codebooks(name):
    recipe = load_recipe(name)
    train, num_steps = recipe.train, recipe.train.steps
    if isinstance(recipe.data, GaussianConfig):
        num_steps = train.epochs * -(-recipe.data.num_vectors // train.batch_size)
    assert train.bypass_steps < num_steps
    assert train.validate_every <= num_steps


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_what_it_makes_and_how_it_is_run(name):
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(
        line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]
    )
    assert len(comment) > 80
    assert f"codec-train {name}" in comment
    if name in AUDIO and str(load_recipe(name).data.root) != SHIPPED_CLIPS:
        assert "--data.root" in comment


@pytest.mark.parametrize("name", AUDIO)
def test_recipe_validates_at_rates_that_it_has(name):
    config = load_recipe(name)
    for bitrate in config.validation.bitrates:
        assert config.codec.num_quantizers_for(bitrate) * config.codec.bitrate_per_level == pytest.approx(
            bitrate, rel=1e-3
        )


@pytest.mark.parametrize("part", ["encoder", "quantizer", "decoder"])
def test_every_kind_of_part_is_used_by_a_recipe(part):
    (field,) = (field for field in dataclasses.fields(CodecConfig) if field.name == part)
    kinds = {get_args(choice)[0]().kind for choice in get_args(field.type)}
    assert len(kinds) >= 2
    assert {getattr(load_recipe(name).codec, part).kind for name in NAMES} == kinds


def test_quickstart_has_its_data_at_hand():
    recipe = load_recipe("quickstart")
    root = data_root(recipe.data)
    train = list_items(root, recipe.data.train, split="train", kinds=recipe.data.kinds)
    valid = list_items(root, recipe.data.valid, split="valid", kinds=recipe.data.kinds)
    assert len(train) >= recipe.train.batch_size and valid
    assert all(item.path.is_file() and item.speaker and item.seconds for item in (*train, *valid))
    assert not {item.speaker for item in train} & {item.speaker for item in valid}
    assert [path.name for path in Validator.of_recipe(recipe).paths] == [item.path.name for item in valid]


def test_a_recipe_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "mine.toml").write_text("# Mine.\nseed = 7\n", encoding="utf-8-sig")  # as editors on Windows write it
    assert load_recipe(str(tmp_path / "mine.toml")).seed == 7
