"""Models on disk: loaded bit for bit as saved, or an error of one line."""

import json

import pytest
import torch
from messages import one_line
from models import PARTS, noise, tiny_codec, tiny_tables
from safetensors.torch import load_file, save_file

from codec.config import CodecConfig, FSQConfig, IdentityDecoderConfig, IdentityEncoderConfig, QuantizerConfig
from codec.errors import ConfigError, ModelError
from codec.inference.fingerprint import save_fingerprint, take_fingerprint
from codec.inference.pretrained import find_model, load_codec, save_codec
from codec.model.builder import SizeLimit, build_codec
from codec.model.digest import inference_tensors, model_identity

GRADIENT = QuantizerConfig(update="gradient", num_quantizers=2, codebook_size=8, codebook_dim=None)


@pytest.fixture
def folder(tmp_path):
    save_codec(tiny_codec(), tmp_path / "model")
    return tmp_path / "model"


# ---- Round trip


@pytest.mark.parametrize("name", PARTS)
def test_a_saved_model_comes_back_to_the_bit(tmp_path, name):
    codec = tiny_codec(name, seed=3)
    save_codec(codec, tmp_path / "a" / "b")
    loaded = load_codec(tmp_path / "a" / "b")
    assert loaded.config == codec.config
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for key, tensor in inference_tensors(codec).items():
        assert torch.equal(inference_tensors(loaded)[key], tensor), key
    audio = noise(2, 1, 333)
    codes = codec.encode(audio)
    assert torch.equal(loaded.encode(audio), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["config.json", "model.safetensors"]


def test_gradient_codebooks_are_saved_and_loaded(tmp_path):
    codec = tiny_codec(quantizer=GRADIENT)
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert torch.equal(loaded.quantizer.codebooks.table, codec.quantizer.codebooks.table)
    assert torch.equal(loaded.quantizer.codebooks.counts, torch.ones(2, 8))


def test_statistics_of_a_loaded_model_fit_its_codewords(folder):
    """Training statistics are not stored, and training can start from a model without them."""
    codebooks = load_codec(folder).quantizer.codebooks
    assert torch.equal(codebooks.counts, torch.ones(4, 16))
    assert torch.equal(codebooks.sums, codebooks.table)
    assert not any("counts" in key or "sums" in key for key in load_file(folder / "model.safetensors"))


def test_half_precision_weights_load_as_float32(folder):
    tensors = load_file(folder / "model.safetensors")
    save_file({key: tensor.bfloat16() for key, tensor in tensors.items()}, folder / "model.safetensors")
    for key, tensor in inference_tensors(load_codec(folder)).items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[key].bfloat16().float())


def test_entropy_tables_are_saved_and_loaded(tmp_path):
    codec = tiny_codec()
    codec.entropy = tiny_tables(tiny_codec(), noise(1, 1, 2_000))
    save_codec(codec, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "entropy.safetensors",
        "model.safetensors",
    ]
    loaded = load_codec(tmp_path)
    assert all(torch.equal(tensor, codec.entropy.tensors()[name]) for name, tensor in loaded.entropy.tensors().items())
    assert model_identity(loaded) == model_identity(codec)
    save_codec(tiny_codec(), tmp_path)
    assert load_codec(tmp_path).entropy is None


def test_a_model_saved_over_another_loses_the_fingerprint_of_that_one(tmp_path):
    save_codec(tiny_codec(), tmp_path)
    save_fingerprint(take_fingerprint(tiny_codec()), tmp_path)
    save_codec(tiny_codec(seed=1), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    load_codec(tmp_path)


# ---- Where a model is found


def test_a_run_directory_is_its_best_checkpoint_else_its_last(tmp_path):
    for name in ("step-1", "step-2"):
        save_codec(tiny_codec(seed=int(name[-1])), tmp_path / "checkpoints" / name)
    index = tmp_path / "checkpoints" / "index.json"
    index.write_text(json.dumps({"last": "step-2"}))
    assert find_model(tmp_path).name == "step-2"
    index.write_text(json.dumps({"last": "step-2", "best": "step-1"}))
    assert find_model(str(tmp_path)).name == "step-1"
    assert model_identity(load_codec(tmp_path)) == model_identity(tiny_codec(seed=1))
    assert find_model(tmp_path / "checkpoints" / "step-2").name == "step-2"


@pytest.mark.parametrize("text", ["{", "[]", "{}", '"step-1"', "\xff"])
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ModelError, match=one_line("index.json", "damaged")):
        load_codec(tmp_path)


def test_a_missing_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "index.json").write_text('{"last": "step-9"}')
    with pytest.raises(ModelError, match=one_line("step-9")):
        load_codec(tmp_path)


def test_a_model_that_does_not_exist(tmp_path):
    with pytest.raises(ModelError, match=one_line("'no-such-model'", "run directory")):
        load_codec("no-such-model")
    with pytest.raises(ModelError, match=one_line(tmp_path)):
        load_codec(tmp_path)


# ---- Files that do not fit


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda tensors: tensors.pop("decoder.skip.weight"), ("decoder.skip.weight", "absent in the file")),
        (lambda tensors: tensors.update(extra=torch.zeros(2)), ("extra", "[2]", "absent in the model")),
        (
            lambda tensors: tensors.update({"decoder.skip.weight": torch.zeros(9)}),
            ("decoder.skip.weight", "[9]", "in the file", "in the model"),
        ),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_tensors_of_another_architecture_are_refused(folder, change, facts):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=one_line("architecture", *facts)):
        load_codec(folder)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"x" * 100])
def test_damaged_weights_are_refused(folder, damage):
    path = folder / "model.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=one_line("read", "weights", path)):
        load_codec(folder)


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-1], lambda data: b"x" * 100])
def test_damaged_entropy_tables_are_refused(folder, damage):
    path = folder / "entropy.safetensors"
    save_file(tiny_tables(tiny_codec(), noise(1, 1, 2_000)).tensors(), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ModelError, match=one_line("read", "entropy tables", path)):
        load_codec(folder)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda tables: tables.pop("rows"), ("read", "entropy tables", "rows")),
        (lambda tables: tables.update(extra=torch.zeros(2)), ("read", "entropy tables", "extra")),
        (lambda tables: tables.update(rows=tables["rows"][:3].clone()), ("4 levels", "16 codewords")),
    ],
    ids=["missing", "extra", "misshapen"],
)
def test_entropy_tables_of_another_model_are_refused(folder, change, facts):
    tables = tiny_tables(tiny_codec(), noise(1, 1, 2_000)).tensors()
    change(tables)
    save_file(tables, folder / "entropy.safetensors")
    with pytest.raises(ModelError, match=one_line(*facts)):
        load_codec(folder)


@pytest.mark.parametrize("damage", [lambda text: text[:-5], lambda text: "", lambda text: "[1]", lambda text: "\xff"])
def test_a_damaged_configuration_is_refused(folder, damage):
    path = folder / "config.json"
    path.write_bytes(damage(path.read_text()).encode("latin-1"))
    with pytest.raises(ModelError, match=one_line("read", "configuration", folder)):
        load_codec(folder)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"latent_dims": 12}, ("latent_dims", "latent_dim")),
        ({"lookahead": -1}, ("lookahead", -1)),
        ({"decoder": 3}, ("decoder", "harmonic_noise", "upsample")),
        ({"decoder": {"kind": "magic"}}, ("decoder", "harmonic_noise", "upsample")),
        ({"decoder": {"strides": [4, 5]}}, ("decoder.strides", "decoder.kind")),
        ({"bands": {"cutoff": 1000}}, ("codec.bands", "cutoff", "1600 Hz", "8000 Hz", 1000)),
        ({"decoder": {"kind": "upsample", "strides": [4, 4]}}, ("strides", 16, "hop", 20)),
    ],
)
def test_a_configuration_that_makes_no_model_is_refused(folder, change, facts):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ModelError, match=one_line(*facts)):
        load_codec(folder)


def test_a_configuration_that_begins_with_a_byte_order_mark_is_read(folder):
    config = load_codec(folder).config
    (folder / "config.json").write_text((folder / "config.json").read_text(), encoding="utf-8-sig")
    assert load_codec(folder).config == config


def test_a_missing_configuration_is_named(folder):
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=one_line("config.json")):
        load_codec(folder)


# ---- Identity


def test_weights_of_another_grid_are_refused(tmp_path):
    """FSQ codes depend on the steps of each value, which no shape shows."""
    parts = {"latent_dim": 20, "encoder": IdentityEncoderConfig(), "decoder": IdentityDecoderConfig()}
    grids = [CodecConfig(quantizer=FSQConfig(steps=steps), **parts) for steps in ((8, 2), (2, 8))]
    save_codec(build_codec(grids[0]), tmp_path / "a")
    save_codec(build_codec(grids[1]), tmp_path / "b")
    (tmp_path / "a" / "model.safetensors").replace(tmp_path / "b" / "model.safetensors")
    with pytest.raises(ModelError, match=one_line("quantizer.steps", "[8, 2]", "[2, 8]")):
        load_codec(tmp_path / "b")


def test_a_release_is_checked_when_it_is_loaded(folder):
    save_fingerprint(take_fingerprint(tiny_codec(seed=1)), folder)  # `folder` holds seed 0
    with pytest.raises(ModelError, match=one_line("results", "release")):
        load_codec(folder)


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: torch.randn(2, 3), 6),
        (lambda: torch.randn(size=(2, 3), dtype=torch.float64), 6),
        (lambda: torch.zeros(size=(2, 2)), 4),
        (lambda: torch.full((3, 4), 1.0), 12),
        (lambda: torch.eye(5), 25),
        (lambda: torch.eye(n=5, m=2), 10),
    ],
)
def test_new_tensors_are_counted_by_their_shape(make, count):
    with SizeLimit(count):
        make()
    with SizeLimit(count - 1), pytest.raises(ConfigError, match="larger model"):
        make()
