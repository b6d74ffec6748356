"""A model of ours as transformers loads it: same codes and audio, batches by padding masks, one folder for both."""

import json
from pathlib import Path

import pytest
import torch
from messages import one_line
from models import PARTS, noise, tiny_codec, tiny_tables

import codec
from codec.config import FSQConfig
from codec.errors import ConfigError, ModelError, WriteError
from codec.inference.pretrained import load_codec, save_codec
from codec.model.digest import model_identity

pytestmark = pytest.mark.filterwarnings("default")  # of transformers, which is not ours
transformers = pytest.importorskip("transformers")

MODELS = {**{name: {} for name in PARTS}, "fsq": {"quantizer": FSQConfig(steps=(4, 4, 4))}}


@pytest.fixture(autouse=True)
def own_modules(monkeypatch, tmp_path_factory):
    """The library copies the class to a folder in the home of the user."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path_factory.mktemp("modules")))


def make(name):
    parts = {} if name in PARTS else MODELS[name]
    return tiny_codec(*([name] if name in PARTS else []), **parts)


def load(folder):
    return transformers.AutoModel.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(params=MODELS)
def both(request, tmp_path):
    ours = make(request.param)
    codec.save_for_transformers(ours, tmp_path / "model")
    return ours, load(tmp_path / "model").requires_grad_(False)


def test_codes_and_audio_are_ours(both):
    ours, model = both
    audio = noise(2, 1, 333)
    codes = ours.encode(audio)
    assert torch.equal(model.encode(audio).audio_codes, codes) and len(codes.unique()) > 4
    assert model.encode(audio).audio_codes_mask is None
    assert torch.equal(model.decode(codes).audio_values, ours.decode(codes))
    whole = model(audio)
    assert torch.equal(whole.audio_codes, codes) and torch.equal(whole.audio_values, ours.decode(codes, 333))
    assert torch.equal(model(audio, audio_codes=codes).audio_values, whole.audio_values)
    levels = ours.num_quantizers
    assert torch.equal(model.encode(audio, num_quantizers=1, beam=2).audio_codes, ours.encode(audio, 1, beam=2))
    assert torch.equal(model(audio, num_quantizers=levels).audio_codes, codes)
    assert model_identity(model.codec) == model_identity(ours)


def test_training_can_start(both):
    """The statistics of the codebooks, which no file has, are those of a loaded model."""
    _, model = both
    counts = [buffer for name, buffer in model.named_buffers() if name.endswith("counts")]
    assert all((count == 1).all() for count in counts)


def test_sizes_are_in_the_configuration(both):
    ours, model = both
    config = model.config
    assert (config.sampling_rate, config.hop_length, config.frame_rate) == (16_000, 20, 800)
    assert (config.num_quantizers, config.codebook_size) == (ours.num_quantizers, ours.codebook_size)
    assert config.codec == ours.config


def test_a_batch_gives_what_each_item_gives(both, tmp_path):
    """By the masks of the feature extractor that is in the folder."""
    ours, model = both
    extractor = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "model")
    items = [noise(length, seed=length) for length in (1, 20, 333, 100)]
    inputs = extractor([item.numpy() for item in items], sampling_rate=16_000, return_tensors="pt")
    encoded = model.encode(**inputs)
    audio = model.decode(encoded.audio_codes, inputs["padding_mask"]).audio_values
    assert audio.shape == (4, 1, 333) and torch.equal(audio, model(**inputs).audio_values)
    for item, codes, mask, decoded in zip(items, encoded.audio_codes, encoded.audio_codes_mask, audio, strict=True):
        frames = ours.num_frames(len(item))
        assert mask.tolist() == [True] * frames + [False] * (len(mask) - frames)
        alone = ours.encode(item[None, None])
        assert torch.equal(codes[:, :frames], alone[0])
        torch.testing.assert_close(decoded[:, : len(item)], ours.decode(alone, len(item))[0], rtol=1e-4, atol=1e-5)
        assert (decoded[:, len(item) :] == 0).all()


def test_padding_is_not_heard(both):
    """Whatever the padding holds."""
    _, model = both
    audio, mask = noise(1, 1, 333), torch.ones(1, 333)
    mask[:, 200:] = 0
    clean = model.encode(audio * mask[:, None], mask)
    for given in (mask, mask[:, None], mask.bool()):
        assert torch.equal(model.encode(audio, given).audio_codes, clean.audio_codes)


def test_a_tuple_in_place_of_names(both):
    _, model = both
    audio = noise(1, 1, 100)
    (codes,) = model.encode(audio, return_dict=False)
    assert torch.equal(codes, model.encode(audio)["audio_codes"])
    (decoded,) = model.decode(codes, return_dict=False)
    assert torch.equal(model(audio, return_dict=False)[1], decoded[..., :100])


def test_one_folder_for_both(tmp_path):
    ours = tiny_codec()
    ours.entropy = tiny_tables(ours, noise(1, 1, 2000))
    codec.save_for_transformers(ours, tmp_path / "model")
    again = load_codec(tmp_path / "model")
    assert again.config == ours.config and model_identity(again) == model_identity(ours)
    load(tmp_path / "model").save_pretrained(tmp_path / "saved")
    saved = load_codec(tmp_path / "saved")  # the library keeps no tables for entropy coding
    ours.entropy = None
    assert model_identity(saved) == model_identity(ours)
    assert torch.equal(load(tmp_path / "saved").encode(noise(1, 1, 99)).audio_codes, ours.encode(noise(1, 1, 99)))


def test_our_part_of_the_configuration_is_read_strictly(tmp_path):
    codec.save_for_transformers(tiny_codec(), tmp_path)
    path = tmp_path / "config.json"
    values = json.loads(path.read_text())
    values["codec_config"]["latent_dims"] = values["codec_config"].pop("latent_dim")
    path.write_text(json.dumps(values))
    with pytest.raises(ModelError, match=one_line(path, "latent_dims", "latent_dim")):
        load_codec(tmp_path)
    with pytest.raises(ConfigError, match=one_line("latent_dims", "latent_dim")):
        load(tmp_path)
    path.write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=one_line("bert", f"transformers:{tmp_path}")):
        load_codec(tmp_path)


def test_a_model_that_is_there_is_kept(tmp_path):
    save_codec(tiny_codec(seed=1), tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    with pytest.raises(WriteError, match=one_line(tmp_path, "overwrite")):
        codec.save_for_transformers(tiny_codec(), tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    codec.save_for_transformers(tiny_codec(), tmp_path, overwrite=True)
    assert model_identity(load_codec(tmp_path)) == model_identity(tiny_codec())


def test_what_it_refuses(tmp_path):
    codec.save_for_transformers(tiny_codec(), tmp_path)
    model = load(tmp_path)
    audio, mask = noise(2, 1, 50), torch.ones(2, 50)
    left, hole, empty = mask.clone(), mask.clone(), mask.clone()
    left[0, :10], hole[0, 20:30], empty[1] = 0, 0, 0
    for wrong in (left, hole, empty):
        with pytest.raises(ValueError, match=one_line("padding", "padding_side")):
            model.encode(audio, wrong)
    with pytest.raises(ValueError, match=one_line("[2, 49]", "[2, 1, 50]")):
        model.encode(audio, mask[:, :49])
    with pytest.raises(ValueError, match=one_line("[B, 1, T]")):
        model.encode(audio[:, 0])
    with pytest.raises(ValueError, match=one_line("5", "1 .. 4")):
        model.encode(audio, num_quantizers=5)


def test_the_shipped_model(tmp_path):
    ours = load_codec("speech_16khz")
    codec.save_for_transformers(ours, tmp_path)
    assert {path.name for path in Path(tmp_path).iterdir()} == {
        "config.json",
        "entropy.safetensors",
        "model.safetensors",
        "modeling_codec.py",
        "preprocessor_config.json",
    }
    audio = noise(1, 1, 4000, scale=0.1)
    assert torch.equal(load(tmp_path).encode(audio).audio_codes, ours.encode(audio))
