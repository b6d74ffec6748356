"""A codec without encoder and decoder networks: layout, lengths, streams and files at hops of one and many samples."""

import math

import pytest
import torch
from messages import one_line
from models import assert_codes_equal, noise, seeded, tiny_codec, tiny_config

from codec.bitstream import Bitstream
from codec.config import (
    CodecConfig,
    FSQConfig,
    IdentityDecoderConfig,
    IdentityEncoderConfig,
    QuantizerConfig,
    UpsampleDecoderConfig,
    from_dict,
    to_dict,
)
from codec.errors import ConfigError
from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.inference.pretrained import load_codec, save_codec
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.model.builder import build_codec
from codec.model.passthrough import IdentityDecoder, IdentityEncoder
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.search import nearest

HOPS = [1, 3, 64]
IDENTITY = {"encoder": IdentityEncoderConfig(), "decoder": IdentityDecoderConfig()}


@pytest.fixture(params=HOPS)
def hop(request):
    return request.param


def identity_codec(hop_length, *, update="gradient", **facts):
    """Two levels of sixteen codewords, or as `facts` say, on vectors of `hop_length` samples."""
    quantizer = QuantizerConfig(**{"update": update, "num_quantizers": 2, "codebook_size": 16} | facts)
    return tiny_codec(latent_dim=hop_length, quantizer=quantizer, **IDENTITY)


# ---- Layout


def test_the_samples_of_a_frame_are_its_channels(hop):
    audio = noise(2, 1, 7 * hop)
    latents = IdentityEncoder(hop)(audio)
    assert latents.shape == (2, hop, 7)
    for frame in range(7):
        for channel in range(hop):
            assert torch.equal(latents[:, channel, frame], audio[:, 0, frame * hop + channel])


def test_the_layout_goes_there_and_back(hop):
    encoder, decoder = IdentityEncoder(hop), IdentityDecoder(hop)
    audio, latents = noise(2, 1, 5 * hop), noise(2, hop, 5)
    assert torch.equal(decoder(encoder(audio)), audio)
    assert torch.equal(encoder(decoder(latents)), latents)
    assert torch.equal(decoder(latents, {}), decoder(latents))
    assert torch.equal(encoder(audio, {}), encoder(audio))


def test_identity_parts_have_no_parameters_no_state_and_no_delay(hop):
    encoder, decoder = IdentityEncoder(hop), IdentityDecoder(hop)
    assert not encoder.state_dict()
    assert not decoder.state_dict()
    cache = {}
    decoder(encoder(noise(1, 1, hop), cache), cache)
    assert cache == {}
    assert decoder.delay == 0
    assert encoder.hop_length == decoder.hop_length == hop


# ---- The whole codec


@pytest.mark.parametrize("latent_dim", [1, 64])
def test_every_length_is_coded_and_comes_back(latent_dim):
    codec = identity_codec(latent_dim)
    assert codec.delay == 0
    assert codec.latency == codec.hop_length == latent_dim
    for num_samples in (1, 2, 63, 64, 65, 128, 333):
        audio = noise(2, 1, num_samples, seed=num_samples)
        codes = codec.encode(audio)
        assert codes.shape == (2, 2, math.ceil(num_samples / latent_dim))
        assert codec.decode(codes, num_samples).shape == audio.shape
        assert codec.decode(codes).shape == (2, 1, codes.shape[-1] * latent_dim)


def test_each_vector_of_samples_comes_back_as_its_codeword(hop):
    """By hand: silence fills the last vector, and the two levels are searched in turn."""
    codec = identity_codec(hop)
    audio = noise(1, 1, 20 * hop - hop // 2)
    vectors = torch.cat([audio[0, 0], torch.zeros(hop // 2)]).view(20, hop)
    table = codec.quantizer.codebooks.table
    first = table[0, nearest(vectors, table[0])]
    both = first + table[1, nearest(vectors - first, table[1])]
    codes = codec.encode(audio)
    assert torch.equal(codec.decode(codes[:, :1]).view(20, hop), first)
    assert torch.equal(codec.decode(codes).view(20, hop), both)


def test_the_training_pass_is_encode_and_decode(hop):
    codec = identity_codec(hop)
    audio = noise(2, 1, 9 * hop + hop // 2)
    output = codec(audio)
    codes = codec.encode(audio)
    assert torch.equal(output.quantizer.codes, codes)
    assert torch.equal(output.audio, codec.decode(codes, audio.shape[-1]))
    assert torch.equal(codec(audio, quantize=False).audio, audio)


def test_only_frames_within_the_length_of_an_item_are_counted(hop):
    lengths = torch.tensor([10 * hop, 3 * hop + 1, 1])
    output = identity_codec(hop)(noise(3, 1, 10 * hop), lengths=lengths)
    expected = 10 + math.ceil((3 * hop + 1) / hop) + 1
    assert output.quantizer.statistics.counts.sum(-1).tolist() == [expected, expected]


# ---- Streams


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("quantizer", ["vector", "fsq"])
def test_a_stream_in_blocks_is_the_whole(hop, size, quantizer):
    fsq = tiny_codec(latent_dim=hop, quantizer=FSQConfig(steps=(5,)), **IDENTITY)
    codec = fsq if quantizer == "fsq" else identity_codec(hop)
    audio = noise(2, 1, {1: 200, 7: 500, 1000: 2100}[size] + hop // 2)
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec, audio.shape[-1])
    blocks = [encoder.push(block) for block in audio.split(size, dim=-1)]
    assert sum(block.shape[-1] for block in blocks) == audio.shape[-1] // hop
    codes = torch.cat([*blocks, encoder.flush()], dim=-1)
    whole = codec.encode(audio)
    if quantizer == "vector":
        assert_codes_equal(codec, codes, whole, codec.encoder(codec.pad(audio)))
    else:
        assert torch.equal(codes, whole)
    streamed = torch.cat([decoder.push(block) for block in codes.split(size, dim=-1)], dim=-1)
    torch.testing.assert_close(streamed, codec.decode(codes, audio.shape[-1]), rtol=0, atol=1e-6)


# ---- Files


@pytest.mark.parametrize("num_samples", [1, 1000, 1001])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_codes_survive_a_bitstream(hop, num_samples, num_channels):
    codec = identity_codec(hop)
    audio = noise(1, num_channels, num_samples)
    bitstream = Bitstream.from_bytes(compress(codec, audio, beam=1).to_bytes())
    header = bitstream.header
    assert (header.hop_length, header.delay, header.num_samples, header.codebook_size) == (hop, 0, num_samples, 16)
    codes = torch.from_numpy(bitstream.codes)
    assert torch.equal(codes, codec.encode(audio.transpose(0, 1)))
    decoded = decompress(codec, bitstream)
    assert torch.equal(decoded, codec.decode(codes, num_samples).transpose(0, 1))


def test_a_codec_without_a_parameter_makes_bitstreams_too(hop):
    """Codewords that are moving averages are buffers."""
    codec = identity_codec(hop, update="ema")
    assert not list(codec.parameters())
    audio = noise(1, 1, 1000)
    bitstream = Bitstream.from_bytes(compress(codec, audio, beam=1).to_bytes())
    assert torch.equal(torch.from_numpy(bitstream.codes), codec.encode(audio))
    assert torch.equal(decompress(codec, bitstream), codec.decode(codec.encode(audio), 1000))


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_codec_is_saved_and_loaded(tmp_path, hop, update):
    codec = identity_codec(hop, update=update)
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert loaded.config == codec.config
    audio = noise(1, 1, 333)
    assert torch.equal(loaded.encode(audio), codec.encode(audio))


# ---- Configuration


def test_the_hop_length_is_latent_dim(hop):
    config = from_dict(
        CodecConfig,
        {"latent_dim": hop, "encoder": {"kind": "identity"}, "decoder": {"kind": "identity"}},
        source="here",
    )
    assert config.encoder == IdentityEncoderConfig()
    assert config.decoder == IdentityDecoderConfig()
    assert config.hop_length == hop
    assert config.frame_rate == 16_000 / hop
    assert from_dict(CodecConfig, to_dict(config), source="here") == config
    codec = build_codec(config)
    assert isinstance(codec.encoder, IdentityEncoder)
    assert isinstance(codec.decoder, IdentityDecoder)
    assert codec.hop_length == hop


@pytest.mark.parametrize(
    ("values", "facts"),
    [
        ({"latent_dim": 12, "encoder": {"hop_length": 20}}, ("decoder", 12, "encoder", 20)),
        ({"latent_dim": 12, "lookahead": 5, "encoder": {"kind": "identity"}}, ("lookahead", 5, 0)),
        ({"encoder": {"kind": "identity", "strides": [4]}}, ("encoder.strides", "encoder.kind")),
        ({"encoder": {"kind": "identity"}, "decoder": {"kind": "none"}}, ("harmonic_noise", "upsample", "identity")),
    ],
    ids=["hops", "lookahead", "strides", "kind"],
)
def test_configurations_that_contradict_themselves_are_refused(values, facts):
    with pytest.raises(ConfigError, match=one_line("here", *facts)):
        from_dict(CodecConfig, {"decoder": {"kind": "identity"}} | values, source="here")


def test_the_encoder_or_the_decoder_alone_can_be_the_identity():
    encoder_only = tiny_config(
        "upsample",
        latent_dim=20,
        encoder=IdentityEncoderConfig(),
        decoder=UpsampleDecoderConfig(strides=(5, 4), channels=8),
    )
    decoder_only = tiny_config(latent_dim=20, decoder=IdentityDecoderConfig())
    for config in (encoder_only, decoder_only):
        codec = build_codec(config).eval().requires_grad_(False)
        assert codec.hop_length == 20
        latents = codec.encoder(codec.pad(noise(2, 1, 500)))
        codec.quantizer.initialize(latents, initialization=Initialization(iterations=2), generator=seeded(0))
        for num_samples in (1, 20, 99):
            assert codec.decode(codec.encode(noise(2, 1, num_samples)), num_samples).shape == (2, 1, num_samples)
