import pytest
import torch
from models import noise

from codec.train.losses.discriminators import BAND_EDGES, Discriminators, PeriodDiscriminator, SpectralDiscriminator


@pytest.fixture(scope="module")
def parts():
    torch.manual_seed(0)
    return [PeriodDiscriminator(3, channels=2), SpectralDiscriminator(256, channels=4)]


@pytest.mark.parametrize("which", [0, 1])
def test_an_item_is_judged_independently_of_its_batch(parts, which):
    """So processes that share a batch compute the same scores and features as one process."""
    audio = noise(2, 1, 3000)
    together = parts[which](audio)
    for item in range(2):
        alone = parts[which](audio[item : item + 1])
        assert torch.allclose(together.scores[item], alone.scores[0], atol=1e-5)
        assert torch.allclose(together.features[-1][item], alone.features[-1][0], atol=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_score_has_a_limited_receptive_field(parts, which):
    """A change at the end reaches the last scores and not the first."""
    audio = noise(1, 1, 20_000)
    changed = audio.clone()
    changed[..., -50:] += 1.0
    shape = [(-1, 3), (20_000 // 64 + 1, -1)][which]  # time and phase, frame and frequency
    before, after = (parts[which](each).scores.view(*shape) for each in (audio, changed))
    assert torch.equal(before[0], after[0]) and not torch.equal(before[-1], after[-1])


@pytest.mark.parametrize("num_samples", [1, 2, 3, 100, 641])
def test_any_length_can_be_judged(parts, num_samples):
    for part in parts:
        output = part(noise(1, 1, num_samples))
        assert output.scores.numel() > 0 and output.scores.isfinite().all()


def test_silence_has_a_finite_gradient(parts):
    for part in parts:
        audio = torch.zeros(1, 1, 2000, requires_grad=True)
        part(audio).scores.sum().backward()
        assert audio.grad.isfinite().all()


def test_phases_of_a_period_share_their_weights():
    """Shifted by one sample, a signal has the same columns in another order."""
    part = PeriodDiscriminator(4, channels=2)
    audio = noise(1, 1, 4000)
    audio[..., -1] = 0
    shifted = torch.cat([torch.zeros(1, 1, 1), audio[..., :-1]], dim=-1)
    columns, moved = (part(each).scores.view(-1, 4) for each in (audio, shifted))
    assert torch.allclose(columns[:, :3], moved[:, 1:], atol=1e-6)


def test_bands_cover_the_spectrum_once(parts):
    _, part = parts
    covered = [bin for low, high in part.bands for bin in range(low, high)]
    assert covered == list(range(129)) and len(part.bands) == len(BAND_EDGES) - 1


def test_bands_above_the_last_one_are_not_heard():
    """Two bands of five end at a quarter of half the sample rate: a tone above it changes nothing, one below does."""
    part = SpectralDiscriminator(256, channels=2, num_bands=2)
    audio, time = noise(1, 1, 4000, scale=0.1), torch.arange(4000)
    below, above = (torch.hann_window(4000) * torch.sin(torch.pi * share * time) for share in (0.1, 0.6))
    scores, with_above, with_below = (part(each).scores for each in (audio, audio + above, audio + below))
    assert torch.allclose(scores, with_above, atol=1e-3) and not torch.allclose(scores, with_below, atol=1e-2)
    assert len(part.layers) == 2


def test_the_spectrum_of_unit_noise_has_about_unit_power():
    """One initialisation of the networks then suits every FFT size."""
    for fft_size in (256, 1024):
        spectrum = SpectralDiscriminator(fft_size, channels=2)._spectrum(noise(4, 1, 16_000, scale=1.0))
        assert 0.5 < float(spectrum.square().sum(dim=1).mean()) < 2.0
        assert spectrum.shape[1] == 2 and spectrum.shape[-1] == fft_size // 2 + 1


def test_forward_gives_the_scores_of_judge():
    discriminators = Discriminators(periods=(2, 3), period_channels=2, fft_sizes=(128,), spectral_channels=2)
    audio = noise(2, 1, 3000)
    outputs = discriminators.judge(audio)
    assert len(outputs) == 3 and [len(output.features) for output in outputs] == [5, 5, 25]
    for scores, output in zip(discriminators(audio), outputs, strict=True):
        assert torch.equal(scores, output.scores)
