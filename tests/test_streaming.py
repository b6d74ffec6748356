"""Streams in blocks of any size give the same as the whole signal."""

import math
import subprocess
import sys

import pytest
import torch
from messages import one_line
from models import HOP, PARTS, assert_codes_equal, noise, tiny_codec
from safetensors.torch import load_file, save_file

from codec.config import CodecConfig, IdentityDecoderConfig, IdentityEncoderConfig
from codec.errors import AudioError, BitstreamError, ConfigError
from codec.inference.pretrained import save_codec
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.model.builder import build_codec

FRAME_BLOCKS = [1, 2, 3, 7]
SAMPLE_BLOCKS = {
    **{f"{frames}_frames": [frames * HOP] for frames in FRAME_BLOCKS},
    "one_sample": [1],
    "ragged": [1, 0, 57, 19, 200, 20, 3],
    "whole": [10_000],
}


@pytest.fixture(params=PARTS)
def codec(request):
    return tiny_codec(request.param)


def blocks_of(whole, sizes):
    """Cut the last axis into blocks of these sizes, repeated to its end."""
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


def test_an_encoder_copies_the_buffer_of_the_caller():
    """A live source reuses one buffer for all blocks."""
    codec = tiny_codec()
    audio = noise(1, 1, 10 * HOP)
    encoder, block, codes = StreamEncoder(codec), torch.empty(1, 1, 25), []
    for part in audio.split(25, dim=-1):
        block.copy_(part)
        codes.append(encoder.push(block))
    assert torch.equal(torch.cat([*codes, encoder.flush()], dim=-1), encode_stream(codec, audio, [25]))


def test_two_streams_of_one_model_are_independent():
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
    ("block", "facts"),
    [
        (torch.zeros(20), ("float32", "[B, 1, T]", "float32", "[20]")),
        (torch.zeros(1, 2, 20), ("[B, 1, T]", "[1, 2, 20]")),
        (torch.zeros(0, 1, 20), ("[B, 1, T]", "[0, 1, 20]")),
        (torch.zeros(1, 1, 20, dtype=torch.float64), ("float32", "float64")),
        (torch.zeros(1, 1, 20, dtype=torch.int16), ("float32", "int16")),
        (torch.zeros(2, 1, 20), ("batch size 2", "batch size 1")),
        (torch.full((1, 1, 20), math.nan), ("NaN",)),
    ],
)
def test_wrong_blocks_are_refused(block, facts):
    encoder = StreamEncoder(tiny_codec())
    encoder.push(torch.zeros(1, 1, 5))
    with pytest.raises(AudioError, match=one_line(*facts)):
        encoder.push(block)
    assert encoder.num_samples == 5
    assert encoder.flush().shape == (1, 4, 2)


def test_an_encoder_cannot_be_used_after_its_flush():
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
    with pytest.raises(AudioError, match=one_line("StreamEncoder")):
        encoder.push(torch.zeros(1, 1, 1))


@pytest.mark.parametrize("num_quantizers", [0, 5])
def test_a_number_of_levels_that_the_model_lacks_is_refused(num_quantizers):
    with pytest.raises(ConfigError, match=one_line("num_quantizers", num_quantizers, 1, 4)):
        StreamEncoder(tiny_codec(), num_quantizers)


@pytest.mark.parametrize(
    ("codes", "facts"),
    [
        (torch.zeros(1, 5, 0, dtype=torch.int64), ("int64", "[B, k, F]")),
        (torch.zeros(1, 4, 0), ("int64", "float32")),
        (torch.zeros(4, 3, dtype=torch.int64), ("int64", "[B, k, F]")),
        (torch.zeros(1, 4, 3), ("int64", "float32")),
        (torch.full((1, 4, 3), 16), (0, 15, 16)),
        (torch.zeros(2, 4, 3, dtype=torch.int64), ("batch size 2", "batch size 1")),
        (torch.zeros(1, 3, 3, dtype=torch.int64), ("3 levels", 4)),
    ],
)
def test_wrong_codes_are_refused(codes, facts):
    """They do not change the stream."""
    codec = tiny_codec()
    decoder, untouched = StreamDecoder(codec), StreamDecoder(codec)
    for stream in (decoder, untouched):
        stream.push(torch.ones(1, 4, 2, dtype=torch.int64))
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        decoder.push(codes)
    following = torch.full((1, 4, 3), 7)
    assert torch.equal(decoder.push(following), untouched.push(following))


def test_a_decoder_gives_no_more_samples_than_were_asked_for():
    codec = tiny_codec()
    codes = codec.encode(noise(1, 1, 200))
    decoder = StreamDecoder(codec, 45)
    lengths = [decoder.push(block).shape[-1] for block in codes.split(1, dim=-1)]
    assert lengths == [0, 15, 20, 10, *[0] * (codes.shape[-1] - 4)]


def test_a_decoder_without_context_keeps_its_batch_size_too():
    config = CodecConfig(latent_dim=4, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig())
    decoder = StreamDecoder(build_codec(config).eval())
    decoder.push(torch.zeros(2, 1, 3, dtype=torch.int64))
    with pytest.raises(BitstreamError, match=one_line("batch size 1", "batch size 2")):
        decoder.push(torch.zeros(1, 1, 3, dtype=torch.int64))


def test_another_sample_rate_is_refused():
    StreamEncoder(tiny_codec(), sample_rate=16_000)
    with pytest.raises(AudioError, match=one_line("44100 Hz", "16000 Hz", "resample", "codec.audio.resampling")):
        StreamEncoder(tiny_codec(), sample_rate=44_100)


# ---- The end of a decoder's stream


@pytest.mark.parametrize("num_samples", [1, HOP, 10 * HOP + 7])
def test_a_flushed_encoder_made_frames_for_all_samples(codec, num_samples):
    """So a decoder has returned all samples when it has decoded them."""
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec, num_samples)
    codes = torch.cat([encoder.push(noise(2, 1, num_samples)), encoder.flush()], dim=-1)
    audio = [decoder.push(block) for block in codes.split(1, dim=-1)]
    assert sum(block.shape[-1] for block in audio) == num_samples
    rest = decoder.flush()
    assert rest.shape == (2, 1, 0)
    assert rest.dtype == torch.float32


def test_a_decoder_cannot_be_used_after_its_flush():
    codes = torch.zeros(1, 4, 3, dtype=torch.int64)
    decoder = StreamDecoder(tiny_codec())
    with pytest.raises(BitstreamError, match="no frames"):
        decoder.flush()
    decoder.push(codes)
    decoder.flush()
    with pytest.raises(BitstreamError, match="flushed already"):
        decoder.flush()
    with pytest.raises(BitstreamError, match=one_line("StreamDecoder")):
        decoder.push(codes)


def test_a_truncated_stream_is_refused_at_its_end():
    """An error as from `Codec.decode`; the stream can still be completed."""
    decoder = StreamDecoder(tiny_codec(), 3 * HOP - 5)
    decoder.push(torch.zeros(1, 4, 3, dtype=torch.int64))
    with pytest.raises(BitstreamError, match=one_line("3 frames", "35 samples", 55, "push")):
        decoder.flush()
    decoder.push(torch.zeros(1, 4, 1, dtype=torch.int64))
    assert decoder.flush().shape == (1, 1, 0)


def test_a_stream_that_lacks_a_single_sample_is_refused_at_its_end():
    codec = tiny_codec()
    available = 3 * HOP - codec.delay
    for num_samples in (available, available + 1):
        decoder = StreamDecoder(codec, num_samples)
        assert decoder.push(torch.zeros(1, 4, 3, dtype=torch.int64)).shape[-1] == available
        if num_samples == available:
            decoder.flush()
        else:
            with pytest.raises(BitstreamError, match=one_line(available, available + 1)):
                decoder.flush()


# ---- State


def through_a_file(state, path):
    save_file(state, path)
    return load_file(path)


def finish(encoder, audio):
    return torch.cat([encoder.push(audio), encoder.flush()], dim=-1)


@pytest.mark.parametrize("pushed", [0, 1, HOP - 1, HOP, HOP + 3, 9 * HOP, 30 * HOP + 7])
def test_an_encoder_restored_from_its_state_continues_bit_for_bit(tmp_path, pushed):
    codec, audio = tiny_codec(), noise(2, 1, 30 * HOP + 7)
    encoder = StreamEncoder(codec, 3)
    encoder.push(audio[..., :pushed])
    restored = StreamEncoder.restore(codec, through_a_file(encoder.state(), tmp_path / "state"))
    assert restored.num_samples == pushed
    assert torch.equal(finish(restored, audio[..., pushed:]), finish(encoder, audio[..., pushed:]))


@pytest.mark.parametrize("pushed", [0, 1, 2, 9, 30])
def test_a_decoder_restored_from_its_state_continues_bit_for_bit(tmp_path, codec, pushed):
    codes = codec.encode(noise(2, 1, 30 * HOP + 7), 3)
    decoder = StreamDecoder(codec, 30 * HOP + 7)
    for block in codes[..., :pushed].split(1, dim=-1) if pushed else ():
        decoder.push(block)
    restored = StreamDecoder.restore(codec, through_a_file(decoder.state(), tmp_path / "state"))
    assert restored.num_samples == 30 * HOP + 7
    assert restored.num_frames == pushed
    for block in codes[..., pushed:].split(2, dim=-1):
        audio = decoder.push(block)
        assert torch.equal(restored.push(block), audio)
    assert restored.flush().shape == (2, 1, 0)


OTHER_PROCESS = """
from safetensors.torch import load_file, save_file
from codec import StreamDecoder, StreamEncoder, load_codec

codec = load_codec("model")
rest = load_file("rest")
encoder = StreamEncoder.restore(codec, load_file("encoder"))
decoder = StreamDecoder.restore(codec, load_file("decoder"))
codes = encoder.push(rest["audio"])
result = {"codes": codes, "last": encoder.flush(), "audio": decoder.push(codes)}
save_file({name: tensor.contiguous() for name, tensor in result.items()}, "result")
"""


def test_a_stream_continues_in_another_process(tmp_path):
    codec, audio = tiny_codec(), noise(2, 1, 20 * HOP + 7)
    save_codec(codec, tmp_path / "model")
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    decoder.push(encoder.push(audio[..., :155]))
    save_file(encoder.state(), tmp_path / "encoder")
    save_file(decoder.state(), tmp_path / "decoder")
    save_file({"audio": audio[..., 155:].contiguous()}, tmp_path / "rest")
    subprocess.run([sys.executable, "-c", OTHER_PROCESS], cwd=tmp_path, check=True, timeout=120)
    result, codes = load_file(tmp_path / "result"), encoder.push(audio[..., 155:])
    assert torch.equal(result["codes"], codes)
    assert torch.equal(result["last"], encoder.flush())
    assert torch.equal(result["audio"], decoder.push(codes))


def test_a_state_is_a_copy():
    """Writing to a context in place changes neither the state nor a stream that is restored from it."""
    codec, audio = tiny_codec(), noise(1, 1, 10 * HOP + 7)
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    decoder.push(encoder.push(audio))
    for stream in (encoder, decoder):
        state = stream.state()
        before = {name: tensor.clone() for name, tensor in state.items()}
        for each in (stream, type(stream).restore(codec, state)):
            with torch.inference_mode():
                for tensor in (*each._cache.values(), *([each._rest] if each is encoder else [])):
                    tensor.fill_(9.0)
        assert all(torch.equal(state[name], before[name]) for name in before)


def test_the_names_in_a_state():
    codec = tiny_codec()
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    counters = {"model_id", "batch_size", "num_quantizers", "num_samples", "finished"}
    assert encoder.state().keys() == counters | {"beam"}
    assert decoder.state().keys() == counters | {"num_frames"}
    decoder.push(encoder.push(torch.zeros(1, 1, HOP + 3)))
    layers = {"encoder.analysis", "encoder.blocks.0.depthwise"}
    assert encoder.state().keys() == counters | {"beam", "rest"} | layers
    parts = ("low_overlap", "high_overlap", "low_delay", "envelope_delay", "noise")
    synthesis = {"decoder.synthesis", *(f"decoder.synthesis.{part}" for part in parts)}
    assert decoder.state().keys() == counters | {"num_frames", "decoder.blocks.0.depthwise"} | synthesis
    assert decoder.state()["decoder.synthesis.noise"].tolist() == [[[1.0]]]  # the number of the next frame
    assert encoder.state()["rest"].shape == (1, 1, 3)


def test_a_flushed_stream_says_so_in_its_state():
    codec = tiny_codec()
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    decoder.push(finish(encoder, noise(1, 1, 5)))
    decoder.flush()
    for stream, error in ((encoder, AudioError), (decoder, BitstreamError)):
        assert stream.state()["finished"] == 1
        with pytest.raises(error, match="flushed already"):
            type(stream).restore(codec, stream.state()).flush()


def test_the_state_of_a_stream_without_context():
    config = CodecConfig(latent_dim=4, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig())
    codec = build_codec(config).eval()
    audio = noise(2, 1, 5 * codec.hop_length + 1)
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    codes = encoder.push(audio)
    decoder.push(codes)
    assert torch.equal(finish(StreamEncoder.restore(codec, encoder.state()), audio), finish(encoder, audio))
    with pytest.raises(BitstreamError, match=one_line("batch size 1", "batch size 2")):
        StreamDecoder.restore(codec, decoder.state()).push(codes[:1])


BAD_STATES = {
    "a layer is missing": ({"encoder.blocks.0.depthwise": None}, ["no", "'encoder.blocks.0.depthwise'"]),
    "a counter is missing": ({"num_samples": None}, ["no", "'num_samples'"]),
    "the rest is missing": ({"rest": None}, ["no", "'rest'"]),
    "unknown": ({"encoder.layers.9": torch.zeros(1)}, ["'encoder.layers.9'"]),
    "shape": (
        {"encoder.blocks.0.depthwise": torch.zeros(2, 16, 3)},
        ["'encoder.blocks.0.depthwise'", "float32 [2, 16, 3]", "float32 [2, 16, 2]"],
    ),
    "dtype": (
        {"encoder.blocks.0.depthwise": torch.zeros(2, 16, 2).bfloat16()},
        ["'encoder.blocks.0.depthwise'", "bfloat16", "float32"],
    ),
    "batch of a layer": ({"encoder.blocks.0.depthwise": torch.zeros(1, 16, 2)}, ["[1, 16, 2]", "[2, 16, 2]"]),
    "batch": ({"batch_size": torch.tensor(3)}, ["'rest'", "[2, 1, 7]", "[3, 1, 7]"]),
    "samples": ({"num_samples": torch.tensor(8)}, ["'rest'", "[2, 1, 7]", "[2, 1, 8]"]),
    "no samples": ({"batch_size": torch.tensor(0)}, ["'num_samples'", 107, 0, 0]),
    "dtype of a counter": (
        {"num_samples": torch.tensor(107.0)},
        ["'num_samples'", "float32 []", "int64"],
    ),
    "levels": ({"num_quantizers": torch.tensor(5)}, ["'num_quantizers'", 5, 1, 4]),
    "negative": ({"num_samples": torch.tensor(-1)}, ["'num_samples'", -1, 0]),
    "model": ({"model_id": torch.zeros(32, dtype=torch.uint8)}, ["model 000000000000"]),
}


@pytest.mark.parametrize("kind", BAD_STATES)
def test_states_that_do_not_fit_are_refused(kind):
    changes, facts = BAD_STATES[kind]
    codec = tiny_codec()
    encoder = StreamEncoder(codec)
    encoder.push(noise(2, 1, 5 * HOP + 7))
    state = {name: tensor for name, tensor in (encoder.state() | changes).items() if tensor is not None}
    with pytest.raises(ConfigError, match=one_line("state", *facts)):
        StreamEncoder.restore(codec, state)


@pytest.mark.parametrize(
    ("changes", "facts"),
    [
        (
            {"decoder.synthesis.low_overlap": torch.zeros(2, 40, 2)},
            ["'decoder.synthesis.low_overlap'", "[2, 40, 2]", "[2, 40, 1]"],
        ),
        ({"num_frames": torch.tensor(0)}, ["'batch_size'", 2, 0, 0]),
        ({"num_quantizers": torch.tensor(0)}, ["'num_quantizers'", 0, 1, 4]),
        ({"num_samples": torch.tensor(-2)}, ["'num_samples'", -2, -1]),
        ({"finished": torch.tensor(2)}, ["'finished'", 2, 0, 1]),
        ({"rest": torch.zeros(2, 1, 3)}, ["'rest'"]),
    ],
)
def test_states_of_a_decoder_that_do_not_fit_are_refused(changes, facts):
    codec = tiny_codec()
    decoder = StreamDecoder(codec)
    decoder.push(torch.zeros(2, 4, 3, dtype=torch.int64))
    with pytest.raises(ConfigError, match=one_line("state", *facts)):
        StreamDecoder.restore(codec, decoder.state() | changes)


def test_a_state_of_another_model_of_the_same_shape_is_refused():
    with pytest.raises(ConfigError, match=one_line("model")):
        StreamEncoder.restore(tiny_codec(seed=1), StreamEncoder(tiny_codec()).state())


def test_a_decoder_takes_every_result_of_an_encoder(codec):
    """Blocks shorter than a hop complete no frame."""
    audio = noise(2, 1, 10 * HOP)
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec, audio.shape[-1])
    decoded = [decoder.push(encoder.push(block)) for block in audio.split(7, dim=-1)]
    decoded += [decoder.push(encoder.flush()), decoder.flush()]
    expected = codec.decode(codec.encode(audio), audio.shape[-1])
    torch.testing.assert_close(torch.cat(decoded, dim=-1), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch_size", [10**12, 2**61])
def test_a_damaged_state_allocates_nothing(batch_size):
    encoder = StreamEncoder(tiny_codec())
    encoder.push(noise(1, 1, 50))
    state = encoder.state() | {"batch_size": torch.tensor(batch_size)}
    with pytest.raises(ConfigError, match=one_line("'rest'")):
        StreamEncoder.restore(encoder.codec, state)
    with pytest.raises(ConfigError, match=one_line("'batch_size'", "tensor")):
        StreamEncoder.restore(encoder.codec, state | {"batch_size": 1})
