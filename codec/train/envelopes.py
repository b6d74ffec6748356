"""Intelligibility as a loss: how well the envelopes of frequency bands of decoded audio follow those of the original.

The short-time objective intelligibility measure (STOI; Taal et al., "An algorithm for intelligibility prediction of
time-frequency weighted noisy speech", 2011) with what a loss needs: frames of 25 ms at the codec's own rate instead of
25.6 ms at 10 kHz, segments that are nearly silent left out instead of frames, and no step without a gradient.
"""

import torch
from torch import Tensor, nn

from codec.errors import ConfigError
from codec.precision import full_precision
from codec.spectral import stft

FRAMES_PER_SECOND = 80  # two frames of 25 ms overlap by half
SEGMENT = 30  # frames, 0.4 s
LOWEST_HZ, NUM_BANDS = 150.0, 15  # centres of third-octave bands, the highest at 3810 Hz
CLIP = 1 + 10 ** (15 / 20)  # a band counts as lost at a signal-to-distortion ratio of -15 dB (eq. 3)
SILENCE = 1e-3  # power of a segment, about -65 dBFS, that the loudest one is taken to have at least
DYNAMIC_RANGE = 1e-4  # of the mean power of segments that count: 40 dB below the loudest one of the item


class EnvelopeCorrelation(nn.Module):
    """One minus the mean correlation of band envelopes over 0.4 s, in float32 whatever autocast says.

    Args:
        sample_rate: Of the audio (Hz), at least 8980: the highest band ends at 4490 Hz.

    Raises:
        ConfigError: The rate is lower, or has no frames of a whole number of samples.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        self.hop_length, rest = divmod(sample_rate, FRAMES_PER_SECOND)
        self.fft_size = 2 * self.hop_length
        if rest or sample_rate < 8980:
            raise ConfigError(
                f"loss.intelligibility needs a sample rate of at least 8980 Hz and divisible by {FRAMES_PER_SECOND}, "
                f"not {sample_rate}: set its weight to 0"
            )
        self.register_buffer("window", torch.hann_window(self.fft_size), persistent=False)
        self.register_buffer("bands", third_octaves(sample_rate, self.fft_size), persistent=False)

    def forward(self, audio: Tensor, target: Tensor) -> Tensor:
        """Compare audio `[B, 1, T]` with target `[B, 1, T]`; 0 for equal ones, zero where an item is too short."""
        if target.shape[-1] // self.hop_length + 1 < SEGMENT:
            return 0.0 * audio.sum()
        with full_precision(audio.device):
            with torch.no_grad():
                wanted = self._envelopes(target)
                power = wanted.square().sum(dim=1).mean(dim=-1)  # of segments, [B, S]
                counted = power > DYNAMIC_RANGE * power.amax(dim=1, keepdim=True).clamp_min(SILENCE)
            similarity = correlation(self._envelopes(audio), wanted).mean(dim=1)
            return ((1 - similarity) * counted).sum(dim=1).div(counted.sum(dim=1).clamp_min(1)).mean()

    def _envelopes(self, audio: Tensor) -> Tensor:
        """Magnitudes of the bands, `[B, bands, S, SEGMENT]` for S segments."""
        spectrum = stft(audio.squeeze(1).float(), self.fft_size, self.hop_length, self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        envelopes: Tensor = (torch.matmul(self.bands, power) + 1e-9).sqrt()
        return envelopes.unfold(-1, SEGMENT, 1)


def third_octaves(sample_rate: int, fft_size: int) -> Tensor:
    """Which bins each band sums, 0 or 1, `[NUM_BANDS, fft_size // 2 + 1]`; every band has one at least."""
    frequency = torch.arange(fft_size // 2 + 1) * (sample_rate / fft_size)
    centre = LOWEST_HZ * 2 ** (torch.arange(NUM_BANDS)[:, None] / 3)
    inside = (frequency >= centre * 2 ** (-1 / 6)) & (frequency < centre * 2 ** (1 / 6))
    nearest = nn.functional.one_hot((frequency - centre).abs().argmin(dim=1), len(frequency)).bool()
    return torch.where(inside.any(dim=1, keepdim=True), inside, nearest).float()


def correlation(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Correlation of envelopes `[..., SEGMENT]` (eq. 2-5), the decoded ones scaled to the power of the original.

    Returns:
        `[...]`, at most 1.
    """
    scale = wanted.norm(dim=-1, keepdim=True) / decoded.norm(dim=-1, keepdim=True)
    clipped = torch.minimum(decoded * scale, wanted * CLIP)
    ours, theirs = (each - each.mean(dim=-1, keepdim=True) for each in (clipped, wanted))
    similarity: Tensor = (ours * theirs).sum(dim=-1) / (ours.norm(dim=-1) * theirs.norm(dim=-1) + 1e-6)
    return similarity
