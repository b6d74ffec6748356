"""Audible error as a loss: the difference in loudness, band by band of the ear, that no masking hides.

Squared errors spend bits where the energy is; the ear hears ratios, nothing below its threshold, little of an error
beside a loud sound, and noise that was added more than sound that is missing. The model of ITU-T P.862 (PESQ), reduced
to what has a clear reason: its Bark bands and its aggregation, but the level of the original for both signals, no time
alignment, no compensation of filters or gain, and the threshold in quiet by formula (Terhardt, "Calculating virtual
pitch", 1979). A model that was trained with it is flattered by PESQ: say so beside the figures.
"""

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.dsp.spectral import stft

FRAME_SECONDS = 0.032
NUM_BANDS = 49
SPEECH_DB = 73.0  # sound pressure level that an original is taken to be played at
SILENCE_POWER = 3e-8  # an original quieter than -75 dBFS is taken to have this mean power
EXPONENT = 0.23  # of loudness over power (Zwicker)
MASKED = 0.25  # share of the quieter of two loudnesses by which they may differ unheard
SYMMETRIC, ADDED = 0.1, 0.0309  # weights of all errors and of added sound (P.862, eq. for the score)


class LoudnessError(nn.Module):
    """Audible difference of loudness, mean over frames and items, in float32 whatever autocast says.

    Args:
        sample_rate: Of the audio (Hz).
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
        """Compare audio `[B, 1, T]` with target `[B, 1, T]`; 0 where no difference is heard."""
        with full_precision(audio.device):
            audio, target = audio.float(), target.float()
            power = target.square().mean(dim=-1, keepdim=True).clamp_min(SILENCE_POWER)
            gain = (10 ** (SPEECH_DB / 10) / power).sqrt()
            ours, theirs = self._powers(audio * gain), self._powers(target * gain)
            mine, wanted = self._loudness(ours), self._loudness(theirs)
            audible = ((mine - wanted).abs() - MASKED * torch.minimum(mine, wanted)).clamp_min(0) * self.widths
            added = ((ours + 50) / (theirs + 50)) ** 1.2
            added = torch.where(added < 3, 0, added.clamp_max(12))
            everywhere = (audible.square().sum(dim=1) * self.widths.sum() + 1e-12).sqrt()
            return (SYMMETRIC * everywhere + ADDED * (audible * added).sum(dim=1)).mean()

    def _powers(self, audio: Tensor) -> Tensor:
        """Power of each band of each frame, `[B, bands, F]`, relative to the threshold of hearing at 1 kHz."""
        spectrum = stft(audio.squeeze(1), self.fft_size, self.hop_length, self.window)
        return torch.matmul(self.bands, spectrum.real.square() + spectrum.imag.square())

    def _loudness(self, power: Tensor) -> Tensor:
        """Sone per Bark up to a factor (P.862; Zwicker & Feldtkeller, 1967)."""
        excess = (0.5 + 0.5 * power / self.threshold) ** EXPONENT - 1
        return 0.1866 * (self.threshold / 0.5) ** EXPONENT * excess.clamp_min(0)


def bark_bands(sample_rate: int, fft_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bands of equal width on the Bark scale, 7 asinh(f / 650 Hz), each with a bin at least.

    Returns:
        Which bins a band sums `[N, bins]`, centres `[N]` (Hz) and widths `[N, 1]` (Bark).
    """
    frequency = torch.arange(1, fft_size // 2 + 1) * (sample_rate / fft_size)  # without the constant part
    bark = 7 * torch.asinh(frequency / 650)
    step = float(7 * torch.asinh(torch.tensor(sample_rate / 2 / 650))) / NUM_BANDS
    members = nn.functional.one_hot((bark / step).long().clamp_max(NUM_BANDS - 1), NUM_BANDS).T.float()
    members = members[members.any(dim=1)]  # low ones are narrower than a bin
    centres = (members @ frequency) / members.sum(dim=1)
    bands = torch.cat([torch.zeros(len(members), 1), members], dim=1)
    edges = 7 * torch.asinh((members * frequency).amax(dim=1) / 650)
    return bands, centres, torch.diff(edges, prepend=torch.zeros(1))[:, None]


def threshold_in_quiet(frequency: Tensor) -> Tensor:
    """Sound pressure level (dB) below which nothing is heard at a frequency (Hz)."""
    khz = frequency / 1000
    return 3.64 * khz**-0.8 - 6.5 * torch.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz**4
