import itertools
import math

import numpy as np
import pytest
import torch
from audio_cases import pcm_noise, tone

from codec.audio.resampling import Resampler, resample
from codec.errors import AudioError


@pytest.mark.parametrize("block_samples", [1, 7, 1_000])
@pytest.mark.parametrize(("from_rate", "to_rate"), [(16_000, 44_100), (44_100, 16_000), (48_000, 8_000)])
def test_resampling_does_not_depend_on_blocks(block_samples: int, from_rate: int, to_rate: int) -> None:
    audio = pcm_noise(2, 5_003)
    resampler = Resampler(from_rate, to_rate, 2)
    block = audio[0].numpy()
    pieces = [resampler.push(block[:, start : start + block_samples]) for start in range(0, 5_003, block_samples)]
    streamed = np.concatenate([*pieces, resampler.flush()], axis=1)
    assert np.array_equal(streamed, resample(audio, from_rate, to_rate)[0].numpy())  # to the bit


@pytest.mark.parametrize(("from_rate", "to_rate"), list(itertools.permutations([8_000, 11_025, 16_000, 48_000], 2)))
def test_resampled_length_is_the_ceiling(from_rate: int, to_rate: int) -> None:
    for num_samples in [1, 2, 3, 5, 6, 7, 99, 1_234]:
        resampled = resample(torch.ones(num_samples), from_rate, to_rate)
        assert resampled.shape == (math.ceil(num_samples * to_rate / from_rate),)


@pytest.mark.parametrize(("from_rate", "to_rate"), list(itertools.permutations([8_000, 16_000, 44_100, 48_000], 2)))
def test_resampling_keeps_time_and_level(from_rate: int, to_rate: int) -> None:
    resampled = resample(tone(from_rate, from_rate), from_rate, to_rate)
    expected = tone(to_rate, to_rate)
    inside = slice(to_rate // 10, -to_rate // 10)  # the filter sees silence beyond both ends
    assert (resampled - expected)[..., inside].abs().max() < 1e-5


def test_what_the_new_rate_cannot_hold_is_removed() -> None:
    resampled = resample(tone(48_000, 48_000, hz=10_000), 48_000, 16_000)
    assert resampled[..., 2_000:-2_000].abs().max() < 0.5e-7  # 140 dB below the tone, the specification of VHQ


def test_an_impulse_stays_in_place() -> None:
    audio = torch.zeros(1, 1, 2_000)
    audio[..., 600] = 1.0
    assert resample(audio, 16_000, 48_000)[0, 0].argmax() == 1_800
    assert resample(audio, 48_000, 16_000)[0, 0].argmax() == 200


def test_last_sample_is_computed_not_padded() -> None:
    # 48 kHz to 16 kHz of 3k + 1 samples: soxr alone rounds down and drops the last one.
    resampled = resample(tone(3_001, 48_000, hz=16_000 / 3.7), 48_000, 16_000)
    longer = resample(torch.nn.functional.pad(tone(3_001, 48_000, hz=16_000 / 3.7), (0, 999)), 48_000, 16_000)
    assert resampled.shape[-1] == 1_001
    assert torch.allclose(resampled, longer[..., :1_001], atol=1e-6)
    assert resampled[..., -1].abs() > 1e-3


@pytest.mark.parametrize(
    ("to_rate", "tolerance"),
    [
        (16_000, 0),
        (44_100, 0),
        (48_000, 0),
        (11_025, 0),
        (8_000, 1e-7),  # filtered by the Fourier transform, which rounds by the place in its block
        (24_000, 1e-7),
        (22_254, 1e-7),  # 8000 to 11127: soxr counts the phase, with an error that grows
    ],
)
@pytest.mark.parametrize(("first", "stop"), [(0, 500), (20_001, 20_002), (90_000, 91_234), (99_990, 100_000)])
def test_a_part_is_resampled_as_it_is_in_the_whole(to_rate: int, tolerance: float, first: int, stop: int) -> None:
    num_samples = -(-100_000 * 16_000 // to_rate)
    audio = pcm_noise(2, num_samples)[0].numpy()
    whole = resample(torch.from_numpy(audio), 16_000, to_rate).numpy()[:, first:stop]
    resampler = Resampler(16_000, to_rate, 2)
    begin, end = resampler.inputs_of(first, stop)
    assert end - begin < (stop - first + 900) * 16_000 / to_rate + 900
    resampler.skip(begin)
    position = resampler.num_returned
    assert position <= first
    found = np.concatenate([resampler.push(audio[:, begin:end]), resampler.flush()], axis=1)
    found = found[:, first - position : stop - position]
    assert found.shape == whole.shape == (2, stop - first)
    assert np.abs(found - whole).max() <= tolerance


def test_equal_rates_are_the_identity() -> None:
    audio = pcm_noise(2, 300)
    resampler = Resampler(16_000, 16_000, 2)
    block = audio[0].numpy()
    assert resampler.push(block) is block
    assert resampler.flush().shape == (2, 0)
    assert torch.equal(resample(audio, 16_000, 16_000), audio)


def test_resample_keeps_leading_dimensions() -> None:
    audio = pcm_noise(6, 480).reshape(3, 2, 480)
    resampled = resample(audio, 48_000, 16_000)
    assert resampled.shape == (3, 2, 160)
    assert torch.equal(resampled[2, 1], resample(audio[2, 1], 48_000, 16_000))


@pytest.mark.parametrize("arguments", [(0, 16_000, 1), (16_000, -1, 1), (16_000, 8_000, 0)])
def test_resampler_refuses_nonsense(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(AudioError, match="at least 1"):
        Resampler(*arguments)
