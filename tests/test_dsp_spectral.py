import math

import numpy as np
import pytest
import torch
from messages import one_line
from models import noise

from codec.dsp.precision import full_precision
from codec.dsp.spectral import overlap_add, stft
from codec.errors import ConfigError

CPU = torch.device("cpu")


def numpy_stft(samples, fft_size, hop_length, window):
    padded = np.pad(samples.astype(np.float64), fft_size // 2)
    starts = range(0, len(padded) - fft_size + 1, hop_length)
    return np.stack([np.fft.rfft(padded[start : start + fft_size] * window) for start in starts], axis=1)


@pytest.mark.parametrize("num_samples", [1, 7, 32, 64, 1000])
@pytest.mark.parametrize("hop_length", [16, 24, 32])
def test_stft_equals_numpy(num_samples, hop_length):
    audio, window = noise(num_samples), torch.hann_window(64)
    spectrum = stft(audio, 64, hop_length, window)
    expected = numpy_stft(audio.numpy(), 64, hop_length, window.numpy())
    assert spectrum.dtype == torch.complex64
    assert spectrum.shape == expected.shape == (33, num_samples // hop_length + 1)
    np.testing.assert_allclose(spectrum.numpy(), expected, atol=1e-5)


def test_stft_of_a_sine_is_one_line():
    sine = torch.cos(2 * math.pi * 8 / 64 * torch.arange(1024))
    middle = stft(sine, 64, 16, torch.hann_window(64))[:, 20].abs()
    assert middle.argmax() == 8
    torch.testing.assert_close(middle[8], torch.tensor(16.0))  # half the sum of the window
    assert middle[11:].max() < 1e-4


def test_stft_keeps_leading_dimensions():
    audio, window = noise(2, 3, 100), torch.hann_window(16)
    spectrum = stft(audio, 16, 4, window)
    assert spectrum.shape == (2, 3, 9, 26)
    torch.testing.assert_close(spectrum[1, 2], stft(audio[1, 2], 16, 4, window))


def test_stft_gradient_is_that_of_torch():
    audio, window = noise(2, 50).double().requires_grad_(), torch.hann_window(16).double()

    def parts(audio):
        return torch.view_as_real(stft(audio, 16, 4, window))

    assert torch.autograd.gradcheck(parts, audio)
    assert torch.autograd.gradgradcheck(parts, audio)
    plain = torch.stft(audio, 16, 4, window=window, pad_mode="constant", return_complex=True)
    weight = noise(*plain.shape, 2).double()
    (expected,) = torch.autograd.grad((torch.view_as_real(plain) * weight).sum(), audio)
    (gradient,) = torch.autograd.grad((parts(audio) * weight).sum(), audio)
    torch.testing.assert_close(gradient, expected)


def test_stft_is_float32_under_autocast_and_for_half_precision_input():
    audio, window = noise(1, 200), torch.hann_window(32)
    expected = stft(audio, 32, 8, window)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(stft(audio, 32, 8, window), expected)
        assert stft(audio.bfloat16(), 32, 8, window).dtype == torch.complex64


@pytest.mark.parametrize(
    ("fft_size", "hop_length", "window_size", "fact"),
    [(15, 4, 15, "even"), (16, 0, 16, "hop"), (16, 9, 16, "hop"), (16, 4, 8, "window")],
)
def test_stft_sizes_are_checked(fft_size, hop_length, window_size, fact):
    with pytest.raises(ConfigError, match=one_line(fact)):
        stft(noise(100), fft_size, hop_length, torch.ones(window_size))


def numpy_overlap_add(frames, hop_length):
    """The whole sum, tail included, cut to the blocks that are complete."""
    num_items, frame_length, num_frames = frames.shape
    out = np.zeros((num_items, (num_frames - 1) * hop_length + frame_length))
    for f in range(num_frames):
        out[:, f * hop_length : f * hop_length + frame_length] += frames[:, :, f]
    return out[:, None, : num_frames * hop_length]


def after_silence(frames, num_silent):
    return torch.nn.functional.pad(frames, (num_silent, 0))


@pytest.mark.parametrize("overlap", [1, 2, 3, 4])
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_overlap_add_equals_numpy(overlap, num_frames):
    frames = noise(2, 5 * overlap, num_frames)
    audio = overlap_add(after_silence(frames, overlap - 1), 5)
    assert audio.shape == (2, 1, 5 * num_frames)
    np.testing.assert_allclose(audio.numpy(), numpy_overlap_add(frames.numpy(), 5), atol=1e-6)


@pytest.mark.parametrize("overlap", [1, 2, 4])
@pytest.mark.parametrize("block", [1, 2, 7])
def test_overlap_add_streamed_equals_offline(overlap, block):
    frames = after_silence(noise(2, 3 * overlap, 20), overlap - 1)
    parts = [overlap_add(frames[..., start : min(start + block, 20) + overlap - 1], 3) for start in range(0, 20, block)]
    assert torch.equal(torch.cat(parts, dim=-1), overlap_add(frames, 3))


def test_overlap_add_gradient():
    frames = noise(2, 6, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: overlap_add(f, 2), (frames,))


@pytest.mark.parametrize(("frame_length", "hop_length"), [(640, 300), (320, 640), (640, 0)])
def test_frames_are_a_multiple_of_the_hop(frame_length, hop_length):
    with pytest.raises(ConfigError, match=one_line(frame_length, "multiple", hop_length)):
        overlap_add(torch.zeros(1, frame_length, 3), hop_length)


def test_full_precision_switches_autocast_off_and_back():
    left, right = noise(32, 32), noise(32, 32, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        with full_precision(CPU):
            assert torch.equal(left @ right, torch.mm(left, right)) and (left @ right).dtype == torch.float32
        assert (left @ right).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("device", "settings"), [("cuda", torch.backends.cuda.matmul), ("cpu", torch.backends.mkldnn.matmul)]
)
@pytest.mark.parametrize("before", ["tf32", "ieee", "none"])
@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_full_precision_switches_tf32_off_and_back(device, settings, before):
    initial = settings.fp32_precision
    try:
        settings.fp32_precision = before
        with pytest.raises(KeyError), full_precision(torch.device(device)):
            assert settings.fp32_precision == "ieee"
            raise KeyError
        assert settings.fp32_precision == before
    finally:
        settings.fp32_precision = initial
