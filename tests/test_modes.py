"""Faster modes: equal codes where documented, close audio elsewhere, and one identity."""

import pytest
import torch
from messages import one_line
from models import CONV_ENCODER, HOP, PARTS, noise, tiny_codec, tiny_tables

from codec.cli.options import ModelOptions
from codec.config import FSQConfig, IdentityDecoderConfig, IdentityEncoderConfig
from codec.dsp.precision import has_fast_bfloat16
from codec.errors import ConfigError, ModelError
from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.inference.modes import MODES, speed_up
from codec.inference.pretrained import load_codec, save_codec
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.model.digest import model_identity

AUDIO = noise(2, 1, 900)


@pytest.fixture(params=PARTS)
def codec(request, tmp_path):
    codec = tiny_codec(request.param)
    codec.entropy = tiny_tables(codec, AUDIO)
    save_codec(codec, tmp_path)
    return load_codec(tmp_path)


def snr(audio, reference):
    return 10 * torch.log10(reference.square().sum() / (audio - reference).square().sum())


def test_float32_is_the_model_itself(codec):
    assert speed_up(codec, "float32") is codec


def test_a_bfloat16_decoder_leaves_the_codes_alone(codec):
    fast = speed_up(codec, "bf16_decoder")
    codes = codec.encode(AUDIO)
    assert torch.equal(fast.encode(AUDIO), codes)
    audio, reference = fast.decode(codes, 900), codec.decode(codes, 900)
    assert audio.dtype == torch.float32
    assert 20 < snr(audio, reference) < 70  # bfloat16 has 8 bits: close, and not the same


def test_bfloat16_throughout_gives_nearly_the_codes(codec):
    fast = speed_up(codec, "bf16")
    codes, expected = fast.encode(AUDIO), codec.encode(AUDIO)
    assert codes.dtype == torch.int64
    assert 0.8 < (codes == expected).double().mean() < 1
    assert (codes == expected)[:, 0].double().mean() > 0.9


def test_the_model_itself_stays_as_it_is(codec):
    codes = codec.encode(AUDIO)
    audio = codec.decode(codes)
    speed_up(codec, "bf16").encode(AUDIO)
    assert all(tensor.dtype == torch.float32 for tensor in codec.parameters())
    assert torch.equal(codec.decode(codec.encode(AUDIO)), audio)


@pytest.mark.parametrize("mode", MODES)
def test_files_name_the_same_model_in_every_mode(codec, mode):
    fast = speed_up(codec, mode)
    assert model_identity(fast) == model_identity(codec)
    bitstream = compress(codec, AUDIO[:1])
    assert decompress(fast, bitstream).shape == (1, 1, 900)
    assert compress(fast, AUDIO[:1]).header == bitstream.header
    assert compress(fast, AUDIO[:1]).num_bytes < bitstream.header.num_bytes  # entropy-coded


@pytest.mark.parametrize("mode", ["bf16_decoder", "bf16"])
def test_a_stream_in_bfloat16_is_the_whole_in_bfloat16(mode):
    fast = speed_up(tiny_codec(), mode)
    encoder, decoder = StreamEncoder(fast), StreamDecoder(fast, 900)
    codes = torch.cat([*(encoder.push(block) for block in AUDIO.split(70, dim=-1)), encoder.flush()], dim=-1)
    whole = fast.encode(AUDIO)
    assert (codes == whole).double().mean() > 0.9  # matrix products of other shapes round differently
    audio = torch.cat([decoder.push(block) for block in codes.split(3, dim=-1)], dim=-1)
    assert snr(audio, fast.decode(codes, 900)) > 30


OTHERS = {
    "conv_encoder": {"encoder": CONV_ENCODER},
    "identity_decoder": {"latent_dim": HOP, "encoder": CONV_ENCODER, "decoder": IdentityDecoderConfig()},
    "fsq": {"quantizer": FSQConfig(steps=(5, 4, 3))},
    "identity": {"latent_dim": HOP, "encoder": IdentityEncoderConfig()},
}


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("mode", ["bf16_decoder", "bf16"])
def test_every_part_runs_in_bfloat16(name, mode):
    codec = tiny_codec(**OTHERS[name])
    fast = speed_up(codec, mode)
    codes = fast.encode(AUDIO)
    assert (codes == codec.encode(AUDIO)).double().mean() > 0.7
    assert snr(fast.decode(codes, 900), codec.decode(codes, 900)) > 20
    encoder, decoder = StreamEncoder(fast), StreamDecoder(fast, 900)
    audio = torch.cat([decoder.push(encoder.push(block)) for block in AUDIO.split(HOP, dim=-1)], dim=-1)
    assert snr(audio[..., :700], fast.decode(codes, 900)[..., :700]) > 10


def test_a_model_in_a_fast_mode_cannot_be_sped_up_again():
    fast = speed_up(tiny_codec(), "bf16")
    for mode in MODES:
        with pytest.raises(ConfigError, match=one_line("fast mode")):
            speed_up(fast, mode)
    with pytest.raises(ConfigError, match=one_line("fast mode")):
        speed_up(speed_up(tiny_codec(), "onnx"), "bf16")


def test_rounded_weights_are_not_saved(tmp_path):
    with pytest.raises(ModelError, match=one_line("precision")):
        save_codec(speed_up(tiny_codec(), "bf16_decoder"), tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_an_engine_keeps_the_identity_of_the_model_that_was_traced():
    codec = tiny_codec()
    identity, engine = model_identity(codec), speed_up(codec, "onnx")
    next(iter(codec.parameters())).add_(1.0)
    assert model_identity(codec) != identity
    assert model_identity(engine) == identity


def test_an_unknown_mode():
    with pytest.raises(ConfigError, match=one_line("'int3'", "float32", "bf16_decoder", "bf16", "onnx")):
        speed_up(tiny_codec(), "int3")


def test_the_commands_offer_every_mode():
    assert ModelOptions.__annotations__["mode"].__origin__.__args__ == MODES


def test_a_processor_has_fast_bfloat16_if_it_has_the_instructions(monkeypatch):
    for avx512, amx in ((False, False), (True, False), (False, True)):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda value=avx512: value)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda value=amx: value)
        assert has_fast_bfloat16(torch.device("cpu")) == (avx512 or amx)


def test_a_loaded_model_that_is_changed_has_an_identity_of_its_own(codec):
    identity = model_identity(codec)
    next(iter(codec.parameters())).add_(1.0)
    assert model_identity(codec) != identity
