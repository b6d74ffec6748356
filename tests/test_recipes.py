import pytest
import torch

from codec.config import load_recipe, shipped
from codec.model.codec import build_codec
from codec.train.data import SHIPPED_CLIPS, data_root, list_items
from codec.train.validation import Validator

NAMES = sorted(path.stem for path in shipped("recipes").rglob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_recipe_loads_and_builds(name):
    recipe = load_recipe(name)
    assert recipe.name == name
    with torch.device("meta"):
        codec = build_codec(recipe.codec)
    assert codec.hop_length == recipe.codec.hop_length
    assert codec.quantizer.num_quantizers == recipe.codec.quantizer.num_quantizers
    assert recipe.data.segment_seconds * recipe.codec.sample_rate >= codec.latency


@pytest.mark.parametrize("name", NAMES)
def test_recipe_reaches_its_codebooks(name):
    train = load_recipe(name).train
    assert train.bypass_steps < train.steps
    assert train.validate_every <= train.steps


@pytest.mark.parametrize("name", NAMES)
def test_recipe_says_what_it_makes_and_how_it_is_run(name):
    lines = (shipped("recipes") / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(
        line.lstrip("# ") for line in lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")]
    )
    assert len(comment) > 80
    assert f"codec-train {name}" in comment
    if str(load_recipe(name).data.root) != SHIPPED_CLIPS:
        assert "--data.root" in comment


@pytest.mark.parametrize("name", NAMES)
def test_recipe_validates_at_rates_that_it_has(name):
    config = load_recipe(name)
    for bitrate in config.validation.bitrates:
        assert config.codec.num_quantizers_for(bitrate) * config.codec.bits_per_level == pytest.approx(bitrate)


def test_quickstart_has_its_data_at_hand():
    recipe = load_recipe("quickstart")
    root = data_root(recipe.data)
    train = list_items(root, recipe.data.train, split="train", kinds=recipe.data.kinds)
    valid = list_items(root, recipe.data.valid, split="valid", kinds=recipe.data.kinds)
    assert len(train) >= recipe.train.batch_size and valid
    assert all(item.path.is_file() and item.speaker and item.seconds for item in (*train, *valid))
    assert not {item.speaker for item in train} & {item.speaker for item in valid}
    assert [path.name for path in Validator.of_recipe(recipe).paths] == [item.path.name for item in valid]
