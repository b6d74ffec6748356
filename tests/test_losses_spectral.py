import math
import sys

import numpy as np
import pytest
import torch
from messages import one_line
from models import noise

from codec.dsp.mel import mel_filterbank
from codec.errors import ConfigError, ModelError
from codec.train.losses.spectral import (
    SILENCE_POWER,
    TARGET_RMS,
    BandComparison,
    MelDistance,
    normalize_rms,
    waveform_loss,
)

RATE = 16000


@pytest.fixture(scope="module")
def mel():
    return MelDistance(RATE, (256, 1024), (20, 80))


def numpy_spectrum(samples, fft_size, hop_length):
    padded = np.pad(samples.astype(np.float64), fft_size // 2)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft_size) / fft_size)
    starts = range(0, len(padded) - fft_size + 1, hop_length)
    return np.stack([np.fft.rfft(padded[start : start + fft_size] * window) for start in starts])


def numpy_filterbank(sample_rate, fft_size, num_mels):
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    bins = np.arange(fft_size // 2 + 1) * sample_rate / fft_size
    return np.stack([np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(num_mels)], axis=1)


def numpy_log_mel(samples, fft_size, hop_length, num_mels):
    magnitude = np.abs(numpy_spectrum(samples, fft_size, hop_length))
    return np.log(np.maximum(magnitude @ numpy_filterbank(RATE, fft_size, num_mels), 1e-5))


# --- mel ---


@pytest.mark.parametrize(("fft_size", "num_mels"), [(256, 20), (1024, 80), (2048, 128)])
def test_mel_filterbank_equals_numpy(fft_size, num_mels):
    bank = mel_filterbank(RATE, fft_size, num_mels)
    np.testing.assert_allclose(bank.numpy(), numpy_filterbank(RATE, fft_size, num_mels), atol=3e-5)


def test_too_many_mels_are_refused():
    with pytest.raises(ConfigError, match=one_line(80, "mel filters", 256)):
        mel_filterbank(RATE, 256, 80)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100, 48000])
def test_default_resolutions_fit_every_rate(sample_rate):
    assert len(MelDistance(sample_rate).resolutions) == 7


def test_missing_torchaudio_names_the_pair_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    with pytest.raises(ModelError, match=one_line("pip install", "'torch>=2.11,<2.15'", "torchaudio")):
        mel_filterbank(RATE, 256, 20)


# --- waveform ---


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 10.0, 20.0])
def test_waveform_loss_is_minus_a_tenth_of_the_snr(snr_db):
    target = noise(3, 1, 4000) * torch.tensor([0.1, 1.0, 5.0])[:, None, None]
    audio = target * (1 + 10 ** (-snr_db / 20))
    expected = math.log10(10 ** (-snr_db / 10) + 1e-3)
    assert waveform_loss(audio, target).item() == pytest.approx(expected, abs=0.01)  # -60 dBFS floor


def test_waveform_loss_of_equal_and_of_silent_audio():
    target = noise(2, 1, 4000)
    assert waveform_loss(target, target).item() == pytest.approx(-3)
    assert waveform_loss(torch.zeros_like(target), target).item() == pytest.approx(0, abs=1e-3)


def test_waveform_loss_gradient_equals_closed_form():
    target, audio = noise(2, 1, 500), noise(2, 1, 500, seed=1).requires_grad_()
    waveform_loss(audio, target).backward()
    error = (audio - target).detach()
    power = target.square().mean(-1, keepdim=True) + 1e-6
    ratio = error.square().mean(-1, keepdim=True) / power + 1e-3
    expected = 2 * error / 500 / power / ratio / math.log(10) / 2
    torch.testing.assert_close(audio.grad, expected)


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_waveform_loss_below_a_frequency_is_that_of_filtered_audio(snr_db):
    """An error above the cutoff costs nothing."""
    target, disturbance = noise(2, 1, 8000), noise(2, 1, 8000, seed=1)
    audio = target + 10 ** (-snr_db / 20) * disturbance
    filtered = [torch.fft.rfft(each.double()) for each in (audio, target)]
    for spectrum in filtered:
        spectrum[..., 500:] = 0  # of 4000 bins up to 8 kHz: 1 kHz
    expected = waveform_loss(*(torch.fft.irfft(spectrum, 8000).float() for spectrum in filtered))
    # The floor of the target's power is there once for all frequencies: 0.001 of what lies below 1 kHz.
    assert waveform_loss(audio, target, highest=1 / 8).item() == pytest.approx(expected.item(), abs=2e-3)
    high = torch.sin(2 * math.pi * 3000 / RATE * torch.arange(8000.0))
    louder = waveform_loss(audio + high, target, highest=1 / 8)
    assert louder.item() == pytest.approx(expected.item(), abs=2e-3)
    whole = waveform_loss(audio, target, highest=0.9999)  # by Parseval's theorem
    assert whole.item() == pytest.approx(waveform_loss(audio, target).item(), abs=2e-3)


def test_waveform_loss_of_a_quiet_tone_does_not_depend_on_a_limit_above_it():
    """Powers below a frequency are those of samples: the floor of silence means the same for both."""
    target = (2 * SILENCE_POWER) ** 0.5 * torch.sin(2 * torch.pi * 500 * torch.arange(RATE) / RATE)[None, None]
    for audio in (0.5 * target, 0 * target):
        limited, whole = waveform_loss(audio, target, highest=0.5), waveform_loss(audio, target)
        torch.testing.assert_close(limited, whole, rtol=1e-4, atol=1e-5)
    assert float(whole) == pytest.approx(math.log10(0.5 + 1e-3), abs=1e-4)


def test_waveform_loss_below_a_frequency_has_the_gradient_of_its_formula():
    target, audio = noise(2, 1, 50).double(), noise(2, 1, 50, seed=1).double().requires_grad_()

    def of(audio):  # the loss itself is in float32
        power = (torch.fft.rfft(target)[..., :6].abs().square().sum(-1) * 2 / 2500).squeeze(1)
        error = (torch.fft.rfft(audio - target)[..., :6].abs().square().sum(-1) * 2 / 2500).squeeze(1)
        return (error / (power + SILENCE_POWER) + 1e-3).log10().mean()

    (expected,) = torch.autograd.grad(of(audio), audio)
    single = audio.detach().float().requires_grad_()
    loss = waveform_loss(single, target.float(), highest=6 / 25)
    loss.backward()
    assert loss.item() == pytest.approx(of(audio).item(), abs=1e-5)
    torch.testing.assert_close(single.grad, expected.float(), rtol=1e-4, atol=1e-6)


# --- rms ---


def test_items_are_scaled_by_the_gain_that_brings_the_target_to_one_rms():
    target = noise(3, 1, 4000) * torch.tensor([1e-2, 1.0, 9.0])[:, None, None]
    audio = 0.5 * target
    scaled, wanted = normalize_rms(audio, target)
    torch.testing.assert_close(wanted.square().mean(-1).sqrt(), torch.full((3, 1), TARGET_RMS))
    torch.testing.assert_close(scaled, 0.5 * wanted)
    _, silent = normalize_rms(audio[:1], 1e-6 * target[:1])
    assert silent.square().mean().sqrt() < 0.01 * TARGET_RMS  # silence is not made loud


# --- mel distance ---


@pytest.mark.parametrize("scale", [0.1, 1e-4, 1e-7])  # the last is below both floors
def test_mel_distance_equals_numpy(mel, scale):
    audio, target = noise(2, 1, 3000, scale=scale), noise(2, 1, 3000, seed=1)
    expected = []
    for fft_size, num_mels in ((256, 20), (1024, 80)):
        for ours, theirs in zip(audio[:, 0].numpy(), target[:, 0].numpy(), strict=True):
            log_mels = [numpy_log_mel(samples, fft_size, fft_size // 4, num_mels) for samples in (ours, theirs)]
            expected.append(np.abs(log_mels[0] - log_mels[1]).mean())
    assert mel(audio, target).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_the_seven_resolutions_equal_numpy():
    audio, target = noise(1, 1, 5000), noise(1, 1, 5000, seed=1, scale=0.02)
    expected = []
    for fft_size, num_mels in zip((32, 64, 128, 256, 512, 1024, 2048), (5, 8, 12, 20, 40, 80, 128), strict=True):
        ours, theirs = (
            numpy_log_mel(each[0, 0].numpy(), fft_size, fft_size // 4, num_mels) for each in (audio, target)
        )
        expected.append(np.abs(ours - theirs).mean())
    assert MelDistance(RATE)(audio, target).item() == pytest.approx(np.mean(expected), rel=1e-4)


def test_mel_distance_of_equal_audio_is_zero(mel):
    audio = noise(2, 1, 3000)
    assert mel(audio, audio.clone()) == 0


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_mel_distance_of_a_scaled_copy(mel, factor):
    target = noise(1, 1, 8000)
    assert mel(factor * target, target).item() == pytest.approx(abs(math.log(factor)), rel=1e-4)


def test_mel_gradient():
    losses = MelDistance(RATE, (16, 32), (1, 2)).double()
    audio, target = noise(2, 1, 30).double().requires_grad_(), noise(2, 1, 30, seed=1).double()
    assert torch.autograd.gradcheck(lambda a: 3 * losses(a, target), audio, atol=1e-7)


@pytest.mark.parametrize("ours", [0.0, 1e-20, 1e-7, 0.1])
@pytest.mark.parametrize("theirs", [0.0, 1e-7, 0.1])
def test_gradients_are_finite_for_silence(mel, ours, theirs):
    audio, target = noise(2, 1, 2000, scale=ours).requires_grad_(), noise(2, 1, 2000, seed=1, scale=theirs)
    total = mel(audio, target) + waveform_loss(audio, target) + waveform_loss(audio, target, highest=1 / 8)
    total.backward()
    assert total.isfinite() and audio.grad.isfinite().all()
    assert audio.grad.abs().max() < 1e4


def test_the_mel_distance_has_no_gradient_below_its_floor(mel):
    audio = noise(1, 1, 2000, scale=1e-9).requires_grad_()
    mel(audio, noise(1, 1, 2000, seed=1)).backward()
    assert audio.grad.abs().max() == 0


def test_losses_of_a_batch_are_the_mean_over_items(mel):
    audio, target = noise(4, 1, 3000), noise(4, 1, 3000, seed=1) * torch.logspace(-3, 0, 4)[:, None, None]
    for loss in (waveform_loss, lambda a, t: waveform_loss(a, t, highest=1 / 8), mel):
        items = [loss(audio[i : i + 1], target[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(loss(audio, target), torch.stack(items).mean(), rtol=2e-6, atol=0)


def test_losses_ignore_autocast(mel):
    audio, target = noise(2, 1, 3000).requires_grad_(), noise(2, 1, 3000, seed=1)

    def total():
        return mel(audio, target) + waveform_loss(audio, target) + waveform_loss(audio, target, highest=1 / 8)

    expected = total()
    (gradient,) = torch.autograd.grad(expected, audio)
    with torch.autocast("cpu", torch.bfloat16):
        loss = total()
        (same,) = torch.autograd.grad(loss, audio)
    assert torch.equal(loss, expected) and torch.equal(same, gradient)
    assert mel(audio.bfloat16(), target).dtype == torch.float32


def test_losses_work_without_gradients(mel):
    audio, target = noise(1, 1, 3000), noise(1, 1, 3000, seed=1)
    with torch.no_grad():
        quiet = mel(audio, target)
    assert not quiet.requires_grad
    assert quiet == mel(audio.requires_grad_(), target)


def test_no_gradient_reaches_the_target(mel):
    audio, target = noise(1, 1, 3000).requires_grad_(), noise(1, 1, 3000, seed=1).requires_grad_()
    mel(audio, target).backward()
    assert target.grad is None and audio.grad is not None


def test_more_noise_is_a_larger_loss(mel):
    target, disturbance = noise(1, 1, 4000), noise(1, 1, 4000, seed=1)
    noisy = [target + share * disturbance for share in (0.1, 0.3, 1)]
    for loss in (mel, waveform_loss, lambda a, t: power_error(a, t, RATE)):
        values = [loss(audio, target) for audio in noisy]
        assert values[0] < values[1] < values[2]


def test_buffers_stay_out_of_checkpoints(mel):
    assert mel.state_dict() == {}


@pytest.mark.parametrize(
    ("fft_sizes", "num_mels", "facts"),
    [((256, 512), (20,), (2, 1)), ((), (), (0, 0)), ((258,), (20,), (258,))],
)
def test_resolutions_are_checked(fft_sizes, num_mels, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        MelDistance(RATE, fft_sizes, num_mels)


# --- power error ---


def power_error(audio, target, sample_rate):
    return BandComparison(sample_rate)(audio, target).error_db


def test_energy_of_one_band_that_is_six_decibels_down():
    target = noise(1, 1, 2 * RATE, scale=0.1)
    spectrum = torch.fft.rfft(target)
    frequency = torch.fft.rfftfreq(2 * RATE, 1 / RATE)
    spectrum[..., (frequency >= 2000) & (frequency < 3000)] /= 2
    audio = torch.fft.irfft(spectrum).requires_grad_()
    energy = BandComparison(RATE)(audio, target).energy
    assert energy.item() == pytest.approx(math.log(4) / 9, rel=0.05)
    energy.backward()
    assert audio.grad.isfinite().all() and audio.grad.any()
    assert BandComparison(RATE)(target, target).energy == 0


@pytest.mark.parametrize("scale", [0.1, 1e-3])
def test_power_error_of_one_band_that_is_six_decibels_down(scale):
    """One of nine bands: a ninth of 6 dB, whatever the gain of the recording."""
    target = noise(1, 1, 64_000, scale=scale)
    spectrum = torch.fft.rfft(target)
    frequency = torch.arange(spectrum.shape[-1]) * RATE / 64_000
    spectrum[..., (frequency >= 2000) & (frequency < 3000)] /= 2
    audio = torch.fft.irfft(spectrum, 64_000)
    # At the edges of the band the window of 64 ms holds a little of both sides.
    assert power_error(audio, target, RATE).item() == pytest.approx(20 * math.log10(2) / 9, rel=0.05)


def test_power_error_of_equal_silent_and_halved_audio():
    target = noise(2, 1, 8000)
    assert power_error(target, target, RATE) == 0
    assert power_error(target / 2, target, RATE).item() == pytest.approx(20 * math.log10(2), rel=1e-2)
    assert power_error(torch.zeros_like(target), torch.zeros_like(target), RATE) == 0
    assert power_error(torch.zeros_like(target), target, RATE) > 20
    assert not power_error(target.clone().requires_grad_(), target, RATE).requires_grad


def test_energy_is_that_of_the_whole_item():
    """The two halves changed places: every band keeps its energy, but no frame does."""
    target = noise(1, 1, 2 * RATE)
    target[..., RATE:] /= 10
    errors = BandComparison(RATE)(target.roll(RATE, dims=-1), target)
    assert errors.energy < 0.05 and errors.error_db > 15


def test_a_band_that_is_silent_in_the_original_has_the_power_of_the_floor():
    """A tone at 500 Hz with one at 5 kHz whose band power is the floor, 1e-6: that band is 3 dB too loud."""
    time = torch.arange(4 * RATE, dtype=torch.float64) / RATE
    fade = torch.hann_window(len(time))  # no frame holds the step of a cut
    target, added = ((fade * torch.sin(2 * torch.pi * hz * time)).float()[None, None] for hz in (500, 5000))
    gain = TARGET_RMS / target.square().mean().sqrt()
    added = added / added.square().mean().sqrt() * (1e-6 / (1024 / 2)) ** 0.5
    energy = BandComparison(RATE)(gain * target + added, gain * target).energy
    assert float(energy) == pytest.approx(math.log(2) / 9, rel=0.03)


def test_every_frequency_below_the_last_edge_is_in_one_band():
    """Bands are [0, 250), [250, 500) Hz and so on; 8 kHz, the last bin, is in none."""
    bands = BandComparison(RATE).bands
    assert torch.equal(bands.sum(dim=0)[:-1], torch.ones(bands.shape[1] - 1))
    edges = [float(torch.nonzero(band)[0]) * RATE / 1024 for band in bands]
    assert edges == [0, 250, 500, 1000, 1500, 2000, 3000, 4000, 6000]


@pytest.mark.parametrize("sample_rate", [8000, 16_000, 24_000, 48_000])
def test_power_error_fits_every_rate(sample_rate):
    assert power_error(noise(1, 1, 9000), noise(1, 1, 9000, seed=1), sample_rate).isfinite()
