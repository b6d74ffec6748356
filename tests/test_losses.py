import math
import sys

import numpy as np
import pytest
import torch

from codec.errors import ConfigError, ModelError
from codec.train.losses import SpectralLosses, waveform_loss
from codec.train.mel import MelSpectrogram, mel_filterbank

RATE = 16000


def noise(*shape, seed=0, scale=0.1):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def spectral():
    return SpectralLosses(RATE, (256, 1024), (20, 80))


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


def numpy_compressed(samples, fft_size):
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(fft_size) / fft_size)
    spectrum = numpy_spectrum(samples, fft_size, fft_size // 4) / np.linalg.norm(window)
    size = (np.abs(spectrum) ** 2 + 1e-8) ** 0.15
    return size, spectrum * (np.abs(spectrum) ** 2 + 1e-8) ** -0.35


# --- mel ---


@pytest.mark.parametrize(("fft_size", "num_mels"), [(256, 20), (1024, 80), (2048, 128)])
def test_mel_filterbank_equals_numpy(fft_size, num_mels):
    bank = mel_filterbank(RATE, fft_size, num_mels)
    np.testing.assert_allclose(bank.numpy(), numpy_filterbank(RATE, fft_size, num_mels), atol=3e-5)


@pytest.mark.parametrize("num_samples", [1, 100, 3000])
def test_mel_spectrogram_equals_numpy(num_samples):
    audio = noise(2, 1, num_samples)
    log_mel = MelSpectrogram(RATE, 512, 128, 40)(audio)
    assert log_mel.shape == (2, 40, num_samples // 128 + 1)
    for item, samples in zip(log_mel, audio[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(item.numpy().T, numpy_log_mel(samples, 512, 128, 40), atol=1e-3)


def test_mel_spectrogram_of_silence_is_the_floor_and_has_a_gradient():
    audio = torch.zeros(1, 1, 2000, requires_grad=True)
    log_mel = MelSpectrogram(RATE, 512, 128, 40)(audio)
    torch.testing.assert_close(log_mel, torch.full_like(log_mel, math.log(1e-5)))
    log_mel.sum().backward()
    assert audio.grad.isfinite().all()


def test_mel_spectrogram_ignores_autocast():
    mel, audio = MelSpectrogram(RATE, 512, 128, 40), noise(1, 1, 2000)
    expected = mel(audio)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(mel(audio), expected)


def test_too_many_mels_are_refused_in_one_line():
    with pytest.raises(ConfigError, match="of 80 mel filters hold no bin of a 256-point FFT") as error:
        mel_filterbank(RATE, 256, 80)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("sample_rate", [8000, 16000, 24000, 44100, 48000])
def test_default_resolutions_fit_every_rate(sample_rate):
    assert len(SpectralLosses(sample_rate).resolutions) == 4


def test_missing_torchaudio_names_the_pair_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    with pytest.raises(ModelError, match=r"pip install 'torch>=2\.11,<2\.15' torchaudio") as error:
        mel_filterbank(RATE, 256, 20)
    assert "\n" not in str(error.value)


# --- waveform ---


@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 10.0, 20.0])
def test_waveform_loss_is_minus_a_tenth_of_the_snr(snr_db):
    target = noise(3, 1, 4000) * torch.tensor([0.1, 1.0, 5.0])[:, None, None]
    audio = target * (1 + 10 ** (-snr_db / 20))
    expected = math.log10(10 ** (-snr_db / 10) + 1e-3)
    assert waveform_loss(audio, target).item() == pytest.approx(expected, abs=0.01)  # -60 dBFS floor


def test_waveform_loss_at_its_ends():
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


# --- spectral ---


@pytest.mark.parametrize("scale", [0.1, 1e-4, 1e-7])  # the last is below both floors
def test_spectral_losses_equal_numpy(spectral, scale):
    audio, target = noise(2, 1, 3000, scale=scale), noise(2, 1, 3000, seed=1)
    mel, stft = [], []
    for fft_size, num_mels in ((256, 20), (1024, 80)):
        for ours, theirs in zip(audio[:, 0].numpy(), target[:, 0].numpy(), strict=True):
            log_mels = [numpy_log_mel(samples, fft_size, fft_size // 4, num_mels) for samples in (ours, theirs)]
            mel.append(np.abs(log_mels[0] - log_mels[1]).mean())
            (size, full), (target_size, target_full) = (numpy_compressed(s, fft_size) for s in (ours, theirs))
            stft.append(0.5 * ((size - target_size) ** 2 + np.abs(full - target_full) ** 2).mean())
    distance = spectral(audio, target)
    assert distance.mel.item() == pytest.approx(np.mean(mel), rel=1e-4)
    assert distance.stft.item() == pytest.approx(np.mean(stft), rel=1e-4)


def test_spectral_losses_of_equal_audio_are_zero(spectral):
    audio = noise(2, 1, 3000)
    assert spectral(audio, audio.clone()) == (0, 0)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_spectral_losses_of_a_scaled_copy(spectral, factor):
    target = noise(1, 1, 8000)
    distance = spectral(factor * target, target)
    assert distance.mel.item() == pytest.approx(abs(math.log(factor)), rel=1e-4)
    # |kX|^c - |X|^c = (k^c - 1) |X|^c, in size and complex alike, but for the noise floor
    energy = np.mean([(numpy_compressed(target[0, 0].numpy(), n)[0] ** 2).mean() for n in (256, 1024)])
    assert distance.stft.item() == pytest.approx((factor**0.3 - 1) ** 2 * energy, rel=1e-3)


def test_spectral_gradient():
    losses = SpectralLosses(RATE, (16, 32), (1, 2)).double()
    audio, target = noise(2, 1, 30).double().requires_grad_(), noise(2, 1, 30, seed=1).double()
    assert torch.autograd.gradcheck(lambda a: tuple(losses(a, target)), audio, atol=1e-7)
    assert torch.autograd.gradcheck(lambda a: losses(a, target).mel * 3 + losses(a, target).stft, audio)


@pytest.mark.parametrize("ours", [0.0, 1e-20, 1e-7, 0.1])
@pytest.mark.parametrize("theirs", [0.0, 1e-7, 0.1])
def test_gradients_are_finite_for_silence(spectral, ours, theirs):
    audio, target = noise(2, 1, 2000, scale=ours).requires_grad_(), noise(2, 1, 2000, seed=1, scale=theirs)
    distance = spectral(audio, target)
    total = distance.mel + distance.stft + waveform_loss(audio, target)
    total.backward()
    assert total.isfinite() and audio.grad.isfinite().all()
    assert audio.grad.abs().max() < 1e4


def test_below_its_floor_the_mel_loss_has_no_gradient(spectral):
    audio = noise(1, 1, 2000, scale=1e-9).requires_grad_()
    spectral(audio, noise(1, 1, 2000, seed=1)).mel.backward()
    assert audio.grad.abs().max() == 0


def test_losses_of_a_batch_are_the_mean_over_items(spectral):
    audio, target = noise(4, 1, 3000), noise(4, 1, 3000, seed=1) * torch.logspace(-3, 0, 4)[:, None, None]
    for loss in (waveform_loss, lambda a, t: spectral(a, t).mel, lambda a, t: spectral(a, t).stft):
        items = [loss(audio[i : i + 1], target[i : i + 1]) for i in range(4)]
        torch.testing.assert_close(loss(audio, target), torch.stack(items).mean(), rtol=2e-6, atol=0)


def test_losses_ignore_autocast(spectral):
    audio, target = noise(2, 1, 3000).requires_grad_(), noise(2, 1, 3000, seed=1)

    def total():
        distance = spectral(audio, target)
        return distance.mel + distance.stft + waveform_loss(audio, target)

    expected = total()
    (gradient,) = torch.autograd.grad(expected, audio)
    with torch.autocast("cpu", torch.bfloat16):
        loss = total()
        (same,) = torch.autograd.grad(loss, audio)
    assert torch.equal(loss, expected) and torch.equal(same, gradient)
    assert spectral(audio.bfloat16(), target).mel.dtype == torch.float32


def test_losses_work_without_gradients(spectral):
    audio, target = noise(1, 1, 3000), noise(1, 1, 3000, seed=1)
    with torch.no_grad():
        quiet = spectral(audio, target)
    assert not quiet.mel.requires_grad
    assert quiet == spectral(audio.requires_grad_(), target)


def test_no_gradient_reaches_the_target(spectral):
    audio, target = noise(1, 1, 3000).requires_grad_(), noise(1, 1, 3000, seed=1).requires_grad_()
    sum(spectral(audio, target)).backward()
    assert target.grad is None and audio.grad is not None


def test_noisier_is_worse(spectral):
    target, disturbance = noise(1, 1, 4000), noise(1, 1, 4000, seed=1)
    values = [
        (*spectral(a, target), waveform_loss(a, target)) for a in (target + s * disturbance for s in (0.1, 0.3, 1))
    ]
    for rising in zip(*values, strict=True):
        assert rising[0] < rising[1] < rising[2]


def test_buffers_stay_out_of_checkpoints(spectral):
    assert spectral.state_dict() == {}


@pytest.mark.parametrize(
    ("fft_sizes", "num_mels", "words"),
    [((256, 512), (20,), "2 FFT"), ((), (), "0 FFT"), ((258,), (20,), "258")],
)
def test_resolutions_are_checked(fft_sizes, num_mels, words):
    with pytest.raises(ConfigError, match=words):
        SpectralLosses(RATE, fft_sizes, num_mels)
