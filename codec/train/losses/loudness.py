"""Audible error as a loss: the difference of loudness in Bark bands, after masking.

A squared error is dominated by the bands with most energy. The ear hears ratios, nothing below its threshold, little of
an error beside a loud sound, and added noise more than missing sound. This is a reduced model of ITU-T P.862 (PESQ). It
keeps the Bark bands and the aggregation. It differs in the gain, which is that of the original for both signals, in the
threshold in quiet, which is a formula (Terhardt, "Calculating virtual pitch", 1979), and in that there is no time
alignment and no compensation of filters or gain. PESQ overrates a model trained with this loss: say so beside its
figures.
"""

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.dsp.spectral import stft

FRAME_SECONDS = 0.032
NUM_BANDS = 49
SPEECH_DB = 73.0  # sound pressure level at which originals are assumed to be played (dB)
SILENCE_POWER = 3e-8  # mean power (-75 dBFS) that a quieter original is assumed to have
EXPONENT = 0.23  # of loudness as a function of power (Zwicker)
MASKED = 0.25  # a difference is inaudible below this share of the quieter of two loudnesses
SYMMETRIC, ASYMMETRIC = 0.1, 0.0309  # weights of the two disturbances (P.862, equation of the score)


class LoudnessError(nn.Module):
    """Audible difference of loudness, mean over frames and items, in float32 also under autocast.

    Args:
        sample_rate: Sample rate of the audio (Hz).
    """

    window: Tensor
    bands: Tensor
    widths: Tensor
    threshold: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop_length = max(1, round(sample_rate * FRAME_SECONDS / 2))
        self.fft_size = 2 * self.hop_length
        window = torch.hann_window(self.fft_size)
        bands, centres, widths = bark_bands(sample_rate, self.fft_size)
        self.register_buffer("window", window / window.norm() * (2 / self.fft_size) ** 0.5, persistent=False)
        self.register_buffer("bands", bands, persistent=False)
        self.register_buffer("widths", widths, persistent=False)
        self.register_buffer("threshold", 10 ** (threshold_in_quiet(centres) / 10)[:, None], persistent=False)

    def forward(self, audio: Tensor, target: Tensor) -> Tensor:
        """Compare audio `[B, 1, T]` with target `[B, 1, T]`; 0 if no difference is audible."""
        with full_precision(audio.device):
            audio, target = audio.float(), target.float()
            power = target.square().mean(dim=-1, keepdim=True).clamp_min(SILENCE_POWER)
            gain = (10 ** (SPEECH_DB / 10) / power).sqrt()
            decoded, original = self._powers(audio * gain), self._powers(target * gain)
            loudness, target_loudness = self._loudness(decoded), self._loudness(original)
            masked = MASKED * torch.minimum(loudness, target_loudness)
            audible = ((loudness - target_loudness).abs() - masked).clamp_min(0) * self.widths
            asymmetry = ((decoded + 50) / (original + 50)) ** 1.2  # large where sound was added
            asymmetry = torch.where(asymmetry < 3, 0, asymmetry.clamp_max(12))
            disturbance = (audible.square().sum(dim=1) * self.widths.sum() + 1e-12).sqrt()
            return (SYMMETRIC * disturbance + ASYMMETRIC * (audible * asymmetry).sum(dim=1)).mean()

    def _powers(self, audio: Tensor) -> Tensor:
        """Power of each band of each frame, `[B, bands, F]`, relative to the threshold of hearing at 1 kHz."""
        spectrum = stft(audio.squeeze(1), self.fft_size, self.hop_length, self.window)
        return torch.matmul(self.bands, spectrum.real.square() + spectrum.imag.square())

    def _loudness(self, power: Tensor) -> Tensor:
        """Loudness density in sone per Bark, up to a factor (P.862; Zwicker & Feldtkeller, 1967)."""
        excess = (0.5 + 0.5 * power / self.threshold) ** EXPONENT - 1
        return 0.1866 * (self.threshold / 0.5) ** EXPONENT * excess.clamp_min(0)


def bark_bands(sample_rate: int, fft_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bands of equal width on the Bark scale, 7 asinh(f / 650 Hz), each with at least one bin.

    Returns:
        Members `[N, bins]`, 1 for the bins of a band, else 0; centres `[N]` (Hz); widths `[N, 1]` (Bark).
    """
    frequency = torch.arange(1, fft_size // 2 + 1) * (sample_rate / fft_size)  # without the bin at 0 Hz
    bark = 7 * torch.asinh(frequency / 650)
    step = float(7 * torch.asinh(torch.tensor(sample_rate / 2 / 650))) / NUM_BANDS
    members = nn.functional.one_hot((bark / step).long().clamp_max(NUM_BANDS - 1), NUM_BANDS).T.float()
    members = members[members.any(dim=1)]  # low bands are narrower than a bin: drop empty ones
    centres = (members @ frequency) / members.sum(dim=1)
    bands = torch.cat([torch.zeros(len(members), 1), members], dim=1)
    edges = 7 * torch.asinh((members * frequency).amax(dim=1) / 650)
    return bands, centres, torch.diff(edges, prepend=torch.zeros(1))[:, None]


def threshold_in_quiet(frequency: Tensor) -> Tensor:
    """Sound pressure level (dB) of the threshold of hearing at a frequency (Hz)."""
    khz = frequency / 1000
    return 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
