import numpy as np
import pytest
import torch
from messages import one_line
from metric_cases import RATE, noise

from codec.audio.resampling import resample
from codec.errors import AudioError
from codec.eval.metrics.clip import Clip, Original


def test_a_value_is_computed_once_for_each_function_and_argument():
    calls = []

    def total(clip, factor):
        calls.append(factor)
        return factor * float(clip.samples.sum())

    clip = Clip(np.arange(4.0), RATE)
    assert [clip.once(total, factor) for factor in (2, 3, 2, 3)] == [12, 18, 12, 18]
    assert calls == [2, 3]
    assert Clip(np.arange(5.0), RATE).once(total, 2) == 20, "another clip has its own values"


def test_a_clip_at_another_rate_is_resampled_once():
    clip = Clip(noise(1000), 8000)
    at_16k = clip.at(RATE)
    assert at_16k is clip.at(RATE) and at_16k.sample_rate == RATE
    assert torch.equal(at_16k.samples, resample(clip.samples, 8000, RATE).double())
    assert clip.at(8000) is clip


def test_tensors_and_read_only_arrays_become_float64():
    array = noise(100).astype(np.float32)
    tensor = torch.from_numpy(array.copy()).requires_grad_()
    array.setflags(write=False)
    for samples in (array, tensor):
        clip = Clip(samples, RATE)
        assert clip.samples.dtype == torch.float64 and not clip.samples.requires_grad
        assert np.array_equal(clip.samples.numpy(), array)


def test_an_original_pairs_its_channels_and_keeps_its_own():
    samples, decoded = noise(2, 300), noise(2, 300, seed=1)
    original = Original(samples, RATE)
    pairs = original.pairs(decoded)
    assert [np.array_equal(ours.samples, decoded[c]) for c, (ours, _) in enumerate(pairs)] == [True, True]
    assert [np.array_equal(reference.samples, samples[c]) for c, (_, reference) in enumerate(pairs)] == [True, True]
    assert all(again[1] is first[1] for again, first in zip(original.pairs(samples), pairs, strict=True))
    assert len(Original(samples[0], RATE).pairs(decoded[0])) == 1


@pytest.mark.parametrize("shape", [(0,), (1, 0), (0, 10), (1, 2, 10), ()])
def test_an_original_of_another_shape_is_refused(shape):
    with pytest.raises(AudioError, match=one_line("[C, T]")):
        Original(np.ones(shape), RATE)


def test_decoded_audio_that_does_not_fit_is_refused():
    original = Original(np.ones((2, 10)), RATE)
    with pytest.raises(AudioError, match=one_line("(2, 11)", "(2, 10)")):
        original.pairs(np.ones((2, 11)))
    with pytest.raises(AudioError, match=one_line("NaN")):
        original.pairs(np.full((2, 10), np.nan))
    with pytest.raises(AudioError, match=one_line("Inf")):
        Original(np.array([1.0, np.inf]), RATE)
    with pytest.raises(AudioError, match=one_line("(2, 3)", "[T]")):
        Clip(np.ones((2, 3)), RATE)
