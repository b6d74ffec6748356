import math

import pytest
import torch
from messages import one_line
from models import noise
from tiny_transformers import FRAMES, RATE, save_tiny

from codec.errors import ConfigError, ModelError
from codec.eval.systems.transformers_codecs import TransformersCodec, TransformersModel

pytestmark = pytest.mark.filterwarnings("default")  # of transformers, which is not ours


@pytest.fixture(autouse=True)
def needs_transformers():
    pytest.importorskip("transformers")


@pytest.mark.parametrize("family", FRAMES)
def test_a_model_knows_its_sizes(family, tmp_path):
    save_tiny(family, tmp_path)
    model = TransformersModel(tmp_path)
    num_quantizers, hop_length = FRAMES[family]
    assert (model.family, model.sample_rate, model.codebook_size) == (family, RATE, 16)
    assert (model.num_quantizers, model.hop_length) == (num_quantizers, hop_length)
    assert model.bitrate_per_level == RATE / hop_length * 4
    for num_samples in (1, hop_length, 1001):
        codes = model.encode(noise(2, num_samples))
        num_frames = math.ceil(num_samples / hop_length)
        assert codes.shape == (2, num_quantizers, num_frames)
        assert model.decode(codes).shape == (2, num_frames * hop_length)


@pytest.mark.parametrize(("family", "argument"), [("dac", "n_quantizers"), ("mimi", "num_quantizers")])
def test_the_first_levels_are_those_that_the_library_gives(family, argument, tmp_path):
    reference = save_tiny(family, tmp_path)
    audio, model = noise(1, 960), TransformersModel(tmp_path)
    with torch.no_grad():
        theirs = reference.encode(audio[None], **{argument: 2}).audio_codes
        decoded = reference.decode(audio_codes=theirs).audio_values
    codes = model.encode(audio, 2)
    assert torch.equal(codes, theirs) and len(codes.unique()) > 3
    torch.testing.assert_close(model.decode(codes), decoded.view(1, -1))


def test_the_first_levels_of_encodec_are_those_of_its_bandwidth(tmp_path):
    reference = save_tiny("encodec", tmp_path)
    audio, model = noise(1, 960, scale=30), TransformersModel(tmp_path)  # loud, for more than one code
    with torch.no_grad():
        theirs = reference.encode(audio[None], bandwidth=4.0)
        decoded = reference.decode(theirs.audio_codes, theirs.audio_scales).audio_values
    codes = model.encode(audio, 1)  # 4 kbit/s are one level of 1000 frames a second and 4 bits
    assert torch.equal(codes, theirs.audio_codes[0]) and len(codes.unique()) > 3
    torch.testing.assert_close(model.decode(codes), decoded[:, 0])


def test_the_size_is_that_of_the_codes(tmp_path):
    save_tiny("dac", tmp_path)
    system = TransformersCodec("tiny", tmp_path, 3, 12_000, RATE)
    coded = system(noise(1, 8 * 9))
    assert coded.codes.shape == (1, 3, 9)
    assert coded.num_bytes == math.ceil(3 * 9 * 4 / 8)
    assert (coded.nominal_bitrate, system.setting) == (12_000, "12 kbit/s")


def test_a_folder_that_holds_no_codec(tmp_path):
    with pytest.raises(ConfigError, match=one_line(tmp_path / "none", "save_pretrained")):
        TransformersModel(tmp_path / "none")
    with pytest.raises(ModelError, match=one_line(tmp_path)):
        TransformersModel(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=one_line(tmp_path, "bert", "encodec, dac, mimi")):
        TransformersModel(tmp_path)


def test_an_encodec_of_chunks(tmp_path):
    save_tiny("encodec", tmp_path, chunk_length_s=1.0, overlap=0.01, normalize=True)
    with pytest.raises(ConfigError, match=one_line(tmp_path, "chunks", "24 kHz")):
        TransformersModel(tmp_path)


def test_weights_that_are_pickled_are_not_read(tmp_path):
    reference = save_tiny("dac", tmp_path)
    (tmp_path / "model.safetensors").unlink()
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=one_line(tmp_path)):
        TransformersModel(tmp_path)


def test_damaged_weights(tmp_path):
    save_tiny("dac", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(ModelError, match=one_line(tmp_path)):
        TransformersModel(tmp_path)
