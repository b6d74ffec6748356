"""Streams in blocks of any size give what the whole signal gives."""

import math

import pytest
import torch
from models import DECODERS, HOP, assert_codes_equal, noise, tiny_codec

from codec.config import CodecConfig, IdentityDecoderConfig, IdentityEncoderConfig
from codec.errors import AudioError, BitstreamError, ConfigError
from codec.model.codec import build_codec
from codec.streaming import StreamDecoder, StreamEncoder

FRAME_BLOCKS = [1, 2, 3, 7]
SAMPLE_BLOCKS = {
    **{f"{frames}_frames": [frames * HOP] for frames in FRAME_BLOCKS},
    "one_sample": [1],
    "ragged": [1, 0, 57, 19, 200, 20, 3],
    "whole": [10_000],
}


@pytest.fixture(params=DECODERS)
def codec(request):
    return tiny_codec(request.param)


def blocks_of(whole, sizes):
    """Cut the last axis into blocks of these sizes, round and round until it ends."""
    position = number = 0
    while position < whole.shape[-1]:
        size = sizes[number % len(sizes)]
        yield whole[..., position : position + size]
        position += size
        number += 1


def encode_stream(codec, audio, sizes, num_quantizers=None):
    encoder = StreamEncoder(codec, num_quantizers)
    codes = [encoder.push(block) for block in blocks_of(audio, sizes)]
    assert encoder.num_samples == audio.shape[-1]
    return torch.cat([*codes, encoder.flush()], dim=-1)


def decode_stream(codec, codes, sizes, num_samples=None):
    decoder = StreamDecoder(codec, num_samples)
    return torch.cat([decoder.push(block) for block in blocks_of(codes, sizes)], dim=-1)


@pytest.mark.parametrize("sizes", SAMPLE_BLOCKS.values(), ids=SAMPLE_BLOCKS)
def test_codes_of_a_stream_are_those_of_the_whole(sizes):
    codec = tiny_codec()
    audio = noise(2, 1, 30 * HOP + 7)
    latents = codec.encoder(codec.pad(audio))
    assert_codes_equal(codec, encode_stream(codec, audio, sizes), codec.encode(audio), latents)
    assert_codes_equal(codec, encode_stream(codec, audio, sizes, 2), codec.encode(audio, 2), latents)


@pytest.mark.parametrize("frames", FRAME_BLOCKS)
def test_audio_of_a_stream_is_that_of_the_whole(codec, frames):
    for num_samples in (None, 30 * HOP + 7, 1):
        codes = codec.encode(noise(2, 1, num_samples or 30 * HOP))
        streamed = decode_stream(codec, codes, [frames], num_samples)
        torch.testing.assert_close(streamed, codec.decode(codes, num_samples), rtol=0, atol=1e-5)


def test_every_length_goes_through_a_stream(codec):
    for num_samples in range(1, 3 * HOP + 2):
        audio = noise(1, 1, num_samples)
        codes = encode_stream(codec, audio, [7, 16])
        assert codes.shape[-1] == codec.num_frames(num_samples)
        assert decode_stream(codec, codes, [1, 2], num_samples).shape == (1, 1, num_samples)


def test_a_frame_comes_as_soon_as_its_hop_is_complete(codec):
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    num_frames = num_samples = 0
    for pushed, sample in enumerate(noise(1, 1, 6 * HOP).split(1, dim=-1), start=1):
        codes = encoder.push(sample)
        num_frames += codes.shape[-1]
        assert codes.shape[:2] == (1, 4)
        assert num_frames == pushed // HOP
        if codes.shape[-1]:
            num_samples += decoder.push(codes).shape[-1]
        assert num_samples >= pushed - codec.latency + 1


def test_an_encoder_keeps_no_hold_on_the_caller_s_buffer():
    """A live source fills the same block again and again."""
    codec = tiny_codec()
    audio = noise(1, 1, 10 * HOP)
    encoder, block, codes = StreamEncoder(codec), torch.empty(1, 1, 25), []
    for part in audio.split(25, dim=-1):
        block.copy_(part)
        codes.append(encoder.push(block))
    assert torch.equal(torch.cat([*codes, encoder.flush()], dim=-1), encode_stream(codec, audio, [25]))


def test_two_streams_of_one_model_do_not_meet():
    codec = tiny_codec()
    first, second = noise(1, 1, 200, seed=1), noise(1, 1, 200, seed=2)
    encoders, codes = (StreamEncoder(codec), StreamEncoder(codec)), ([], [])
    for blocks in zip(first.split(30, dim=-1), second.split(30, dim=-1), strict=True):
        for encoder, block, parts in zip(encoders, blocks, codes, strict=True):
            parts.append(encoder.push(block))
    for audio, parts in zip((first, second), codes, strict=True):
        together = torch.cat(parts, dim=-1)
        assert torch.equal(together, encode_stream(codec, audio, [30])[..., : together.shape[-1]])


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (torch.zeros(20), "a block must be float32 .B, 1, T., not torch.float32 .20."),
        (torch.zeros(1, 2, 20), "not torch.float32 .1, 2, 20."),
        (torch.zeros(1, 1, 20, dtype=torch.float64), "not torch.float64"),
        (torch.zeros(1, 1, 20, dtype=torch.int16), "not torch.int16"),
        (torch.zeros(2, 1, 20), "batch size 2 in a stream of batch size 1"),
        (torch.full((1, 1, 20), math.nan), "NaN or Inf"),
    ],
)
def test_blocks_that_are_refused(block, message):
    encoder = StreamEncoder(tiny_codec())
    encoder.push(torch.zeros(1, 1, 5))
    with pytest.raises(AudioError, match=message):
        encoder.push(block)
    assert encoder.num_samples == 5
    assert encoder.flush().shape == (1, 4, 2)


def test_an_encoder_ends_once():
    encoder = StreamEncoder(tiny_codec())
    with pytest.raises(AudioError, match="no samples"):
        encoder.flush()
    encoder.push(torch.zeros(1, 1, 0))
    with pytest.raises(AudioError, match="no samples"):
        encoder.flush()
    encoder.push(torch.zeros(1, 1, 1))
    encoder.flush()
    with pytest.raises(AudioError, match="flushed already"):
        encoder.flush()
    with pytest.raises(AudioError, match="make a new StreamEncoder"):
        encoder.push(torch.zeros(1, 1, 1))


@pytest.mark.parametrize("num_quantizers", [0, 5])
def test_a_number_of_levels_that_the_model_does_not_have(num_quantizers):
    with pytest.raises(ConfigError, match=r"is not in 1 \.\. 4"):
        StreamEncoder(tiny_codec(), num_quantizers)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 4, 0, dtype=torch.int64), "int64 .B, k, F."),
        (torch.zeros(4, 3, dtype=torch.int64), "int64 .B, k, F."),
        (torch.zeros(1, 4, 3), "not torch.float32"),
        (torch.full((1, 4, 3), 16), "found 16"),
        (torch.zeros(2, 4, 3, dtype=torch.int64), "batch size 2 in a stream of another batch size"),
    ],
)
def test_codes_that_are_refused(codes, message):
    decoder = StreamDecoder(tiny_codec())
    decoder.push(torch.zeros(1, 4, 1, dtype=torch.int64))
    with pytest.raises(BitstreamError, match=message):
        decoder.push(codes)


def test_a_decoder_gives_no_more_samples_than_were_asked_for():
    codec = tiny_codec()
    codes = codec.encode(noise(1, 1, 200))
    decoder = StreamDecoder(codec, 45)
    lengths = [decoder.push(block).shape[-1] for block in codes.split(1, dim=-1)]
    assert lengths == [0, 20, 20, 5, *[0] * (codes.shape[-1] - 4)]


def test_a_decoder_without_context_keeps_its_batch_size_too():
    config = CodecConfig(latent_dim=4, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig())
    decoder = StreamDecoder(build_codec(config).eval())
    decoder.push(torch.zeros(2, 1, 3, dtype=torch.int64))
    with pytest.raises(BitstreamError, match="codes of batch size 1 in a stream of another batch size"):
        decoder.push(torch.zeros(1, 1, 3, dtype=torch.int64))
