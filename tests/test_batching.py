"""Batches of files of similar length; a batch gives the same as each file by itself."""

import numpy as np
import pytest
import torch
from messages import one_line
from models import HOP, assert_beam_codes_equal, noise, tiny_codec, tiny_tables

from codec.audio.file import save_audio
from codec.errors import AudioError, BitstreamError, ConfigError
from codec.inference.batching import MIN_FILL, Recording, Size, compress_batch, load_recording, plan_batches, read_size
from codec.inference.compression import compress, compress_file, compress_source
from codec.model.digest import model_identity

# ---- The plan


def mono(*lengths):
    return [Size(1, length) for length in lengths]


def random_sizes(seed, count=200):
    generator = np.random.default_rng(seed)
    return [Size(int(generator.integers(1, 4)), int(generator.integers(1, 5_000))) for _ in range(count)]


@pytest.mark.parametrize("capacity", [0, 100, 5_000, 40_000, 10**9])
@pytest.mark.parametrize("seed", range(3))
def test_laws_of_a_plan(seed, capacity):
    """Every file once; within the capacity, padding included; no file much shorter than the longest."""
    sizes = random_sizes(seed)
    batches = plan_batches(sizes, capacity)
    assert sorted(number for batch in batches for number in batch) == list(range(len(sizes)))
    assert [min(batch) for batch in batches] == sorted(min(batch) for batch in batches)
    for batch in batches:
        lengths = [sizes[number].num_samples for number in batch]
        assert lengths[0] == max(lengths)
        if len(batch) > 1:
            assert sum(sizes[number].num_channels for number in batch) * max(lengths) <= capacity
            assert min(lengths) >= MIN_FILL * max(lengths)


@pytest.mark.parametrize(
    ("sizes", "capacity", "batches"),
    [
        (mono(), 100, []),
        (mono(10, 10, 10, 10), 40, [[0, 1, 2, 3]]),
        (mono(10, 10, 10, 10), 39, [[0, 1, 2], [3]]),
        (mono(10, 10, 10), 0, [[0], [1], [2]]),
        (mono(10, 100, 9), 50, [[0, 2], [1]]),  # a file beyond the capacity is alone
        (mono(10, 5, 10), 100, [[0, 2], [1]]),  # and one that would be half padding
        (mono(9, 10, 8), 100, [[1, 0, 2]]),
        ([Size(2, 10), Size(2, 10), Size(1, 10)], 40, [[0, 1], [2]]),  # every channel is an item
    ],
)
def test_plans(sizes, capacity, batches):
    assert plan_batches(sizes, capacity) == batches


def test_files_of_similar_length_fill_their_batches():
    """Little padding, and few batches that are not full."""
    sizes = mono(*(int(length) for length in np.random.default_rng(0).integers(32_000, 64_000, 256)))
    batches = plan_batches(sizes, 960_000)
    padded = sum(len(batch) * sizes[batch[0]].num_samples for batch in batches)
    assert padded < 1.03 * sum(size.num_samples for size in sizes)
    assert len(batches) <= 1 + padded / 960_000 * 1.1


# ---- The batch


def recording(num_channels, num_samples, seed):
    return Recording(noise(num_channels, num_samples, seed=seed), 16_000, num_samples)


SHAPES = [(1, 4_000), (2, 3_999), (1, 1), (1, 4_001), (3, HOP), (1, HOP + 1)]


@pytest.mark.parametrize("decoder", ["harmonic_noise", "upsample", "upsample_lookahead"])
@pytest.mark.parametrize("num_quantizers", [None, 2])
def test_a_batch_equals_its_recordings_alone(decoder, num_quantizers):
    """The number of frames at the end depends on the delay."""
    codec = tiny_codec(decoder)
    recordings = [recording(*shape, seed) for seed, shape in enumerate(SHAPES)]
    together = compress_batch(codec, recordings, num_quantizers=num_quantizers)
    for each, bitstream in zip(recordings, together, strict=True):
        alone = compress(codec, each.audio[None], num_quantizers=num_quantizers)
        assert bitstream.header == alone.header
        channels = codec.pad(each.audio[:, None])
        assert_beam_codes_equal(codec, torch.from_numpy(bitstream.codes), torch.from_numpy(alone.codes), channels)


@pytest.mark.parametrize("has_tables", [False, True], ids=["packed", "entropy-coded"])
def test_a_batch_of_files_of_any_rate_and_number_of_channels(tmp_path, has_tables):
    codec, paths = tiny_codec(), []
    codec.entropy = tiny_tables(codec, noise(1, 1, 20_000)) if has_tables else None
    for seed, (rate, num_channels) in enumerate([(16_000, 1), (44_100, 2), (8_000, 1), (48_000, 1), (11_025, 3)]):
        paths.append(tmp_path / f"{rate}.wav")
        save_audio(paths[-1], noise(1, num_channels, rate // 3 + seed, seed=seed).clamp(-1, 1), rate)
    recordings = [load_recording(path, codec.sample_rate) for path in paths]
    for path, each, bitstream in zip(paths, recordings, compress_batch(codec, recordings), strict=True):
        header = compress_file(codec, path, path.with_suffix(".codec"))
        assert bitstream.header == header
        assert bitstream.header.model_id == model_identity(codec)
        assert len(bitstream.to_bytes()) <= header.num_bytes
        alone = compress_source(codec, path)
        channels = codec.pad(each.audio[:, None])
        assert_beam_codes_equal(codec, torch.from_numpy(bitstream.codes), torch.from_numpy(alone.codes), channels)
        assert alone.to_bytes() == path.with_suffix(".codec").read_bytes()
        assert read_size(path, codec.sample_rate) == Size(*each.audio.shape)


@pytest.mark.parametrize(
    ("audio", "num_samples", "error", "facts"),
    [
        (torch.zeros(100), 100, AudioError, ("[C, T]", "[100]")),
        (torch.zeros(1, 0), 0, AudioError, ("[C, T]", "[1, 0]")),
        (torch.zeros(0, 100), 100, AudioError, ("[C, T]", "[0, 100]")),
        (torch.full((1, 100), torch.inf), 100, AudioError, ("Inf",)),
        (torch.zeros(1, 100), 200, BitstreamError, ("frames", "num_samples", 200)),
        (torch.zeros(1, 200), 100, BitstreamError, ("frames", "num_samples", 100)),
    ],
)
def test_wrong_recordings_are_refused(audio, num_samples, error, facts):
    with pytest.raises(error, match=one_line(*facts)):
        compress_batch(tiny_codec(), [recording(1, 100, 0), Recording(audio, 16_000, num_samples)])


def test_more_levels_than_the_model_has_are_refused():
    with pytest.raises(ConfigError, match=one_line("num_quantizers", 5, 1, 4)):
        compress_batch(tiny_codec(), [recording(1, 100, 0)], num_quantizers=5)
