"""The signal model of the toolkit's own codec: which features of a waveform are coded.

Below a cutoff (1 kHz) the waveform itself is coded, as coefficients of a lapped transform. Above it only the envelope
is coded: the log power of mel-spaced bands, four times a frame. The decoder fills the envelope with two carriers that
cost no bits, harmonics of the low band and noise. Listeners follow the envelope: with the original below 1 kHz and
carriers above, PESQ-WB is 3.7 and STOI 0.98.

Log powers are natural logarithms of power density: white noise of variance s has log power log(s) in every band, and an
orthonormal transform preserves this. `SignalModel` holds the sizes that encoder and decoder must agree on.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.spectral import lapped_transform

SUBFRAMES = 4
"""Subframes of a frame, each with an envelope above the cutoff."""
MAX_HOP_LENGTH, MAX_BANDS = 3072, 128
MAX_LOW_BASIS = 2**21
"""Largest product of the hop length and the coefficients below the cutoff; a larger model is none that is useful."""
FLOOR = 1e-11
"""Power density added before a logarithm: -110 dBFS, below the rounding error of 16-bit audio."""
CEILING = 4.0
"""Largest log power that is synthesised: above any in audio in [-1, 1], and exp() of it is finite."""
INDEPENDENT = 0.1
"""Least norm of a unit pattern's component orthogonal to the patterns before it; below, the pattern is left out."""
SHAPE_EXPONENT = 0.6
"""The coefficients of the low band are divided by the shape of its envelope to this power. 1 makes the quantization
error follow the signal, 0 makes it white; a value between gives loud bands a better SNR, as hearing asks for."""


@dataclass(frozen=True)
class SignalModel:
    """Sizes and fixed matrices of the signal model.

    Args:
        sample_rate: Hz.
        hop_length: Samples of a frame, divisible by `SUBFRAMES`.
        cutoff: End of the low band (Hz), a multiple of the spacing of a subframe's coefficients,
            sample_rate * SUBFRAMES / (2 * hop_length).
        num_bands: Bands of the envelope above the cutoff.
        num_low_bands: Bands of the envelope below it.

    Raises:
        ValueError: The sizes contradict each other.
    """

    sample_rate: int
    hop_length: int
    cutoff: float
    num_bands: int
    num_low_bands: int

    def __post_init__(self) -> None:
        if self.hop_length % SUBFRAMES or self.hop_length > MAX_HOP_LENGTH:
            raise ValueError(
                f"the hop length must be divisible by {SUBFRAMES} and at most {MAX_HOP_LENGTH}, not {self.hop_length}"
            )
        spacing = self.sample_rate / (2 * self.subframe)
        if self.cutoff % spacing or not 0 < self.cutoff < self.sample_rate / 2:
            raise ValueError(
                f"cutoff must be a multiple of {spacing:g} Hz below {self.sample_rate / 2:g} Hz, not {self.cutoff:g}"
            )
        if self.num_low * self.hop_length > MAX_LOW_BASIS:
            raise ValueError(
                f"{self.num_low} coefficients below the cutoff times a hop of {self.hop_length} samples exceed "
                f"{MAX_LOW_BASIS}: lower the cutoff"
            )
        if self.num_bands > min(self.num_high, MAX_BANDS) or self.num_low_bands > min(self.num_low, MAX_BANDS):
            raise ValueError(
                f"{self.num_low_bands} and {self.num_bands} bands for {self.num_low} coefficients below and "
                f"{self.num_high} above the cutoff: take at most one band a coefficient, and {MAX_BANDS}"
            )

    @property
    def subframe(self) -> int:
        """Samples of a subframe."""
        return self.hop_length // SUBFRAMES

    @property
    def num_low(self) -> int:
        """Number of coefficients of a frame below the cutoff."""
        return round(self.cutoff * 2 * self.hop_length / self.sample_rate)

    @property
    def first_high(self) -> int:
        """Number of the first coefficient of a subframe above the cutoff."""
        return self.num_low // SUBFRAMES

    @property
    def num_high(self) -> int:
        """Number of coefficients of a subframe above the cutoff."""
        return self.subframe - self.first_high

    @property
    def num_log_powers(self) -> int:
        """Number of log powers of a frame: the low bands, then the bands of each subframe."""
        return self.num_low_bands + SUBFRAMES * self.num_bands

    def low_basis(self) -> Tensor:
        """The lapped transform of a frame below the cutoff, `[num_low, 2 * hop_length]`."""
        return lapped_transform(self.num_low, self.hop_length)

    def high_basis(self) -> Tensor:
        """The lapped transform of a subframe above the cutoff, `[num_high, 2 * subframe]`."""
        return lapped_transform(self.subframe, self.subframe)[self.first_high :]

    def low_interpolation(self) -> Tensor:
        """Interpolates log powers from the low bands to the coefficients, `[num_low_bands, num_low]`."""
        width = self.num_low / self.num_low_bands
        centres = (torch.arange(self.num_low_bands, dtype=torch.float64) + 0.5) * width
        return interpolation(centres, torch.arange(self.num_low) + 0.5).float()

    def high_interpolation(self, frequency: Tensor) -> Tensor:
        """Interpolates log powers from the bands above the cutoff to frequencies (Hz, `[n]`), `[num_bands, n]`.

        The centres of the bands are evenly spaced on the mel scale.
        """
        low, high = (_mel(torch.tensor(edge, dtype=torch.float64)) for edge in (self.cutoff, self.sample_rate / 2))
        centres = low + (high - low) * (torch.arange(self.num_bands, dtype=torch.float64) + 0.5) / self.num_bands
        return interpolation(_hertz(centres), frequency).float()

    def high_frequencies(self) -> Tensor:
        """Frequencies of a subframe's coefficients above the cutoff (Hz), `[num_high]`."""
        spacing = self.sample_rate / (2 * self.subframe)
        return (torch.arange(self.first_high, self.subframe, dtype=torch.float64) + 0.5) * spacing


def interpolation(centres: Tensor, points: Tensor) -> Tensor:
    """Weights `[len(centres), len(points)]` of linear interpolation between ascending centres, constant outside."""
    centres, points = centres.double(), points.double().clamp(float(centres[0]), float(centres[-1]))
    if len(centres) == 1:
        return torch.ones(1, len(points), dtype=torch.float64)
    left = (torch.searchsorted(centres, points, right=True) - 1).clamp(0, len(centres) - 2)
    share = (points - centres[left]) / (centres[left + 1] - centres[left])
    weights = torch.zeros(len(centres), len(points), dtype=torch.float64)
    columns = torch.arange(len(points))
    weights[left, columns] = 1 - share
    weights[left + 1, columns] = share
    return weights


def averages(weights: Tensor) -> Tensor:
    """Scale the weights `[bands, n]` of every band to sum to one."""
    return weights / weights.sum(dim=1, keepdim=True)


def low_amplitudes(log_powers: Tensor, interpolation: Tensor) -> Tensor:
    """Amplitudes that the encoder divides the low band's coefficients by and the decoder multiplies them by.

    The power of the whole frame is divided out completely, so a quieter recording gives the same coefficients; the
    shape of the envelope is divided out to the power `SHAPE_EXPONENT`.

    Args:
        log_powers: Of the low bands, `[..., num_low_bands]`.
        interpolation: `SignalModel.low_interpolation`.

    Returns:
        `[..., num_low]`.
    """
    overall = log_powers.logsumexp(dim=-1, keepdim=True) - math.log(log_powers.shape[-1])
    shape = (log_powers - overall) @ interpolation
    return (0.5 * (overall + SHAPE_EXPONENT * shape)).exp()


def cepstral_basis(model: SignalModel, num_coefficients: int) -> Tensor:
    """Orthonormal basis `[num_coefficients, num_log_powers]` of smooth envelopes of a frame, smoothest first.

    A two-dimensional cosine transform over bands and subframes: a cepstrum that also follows changes within a frame.
    The low bands count as constant over the frame.
    """
    num_bands = model.num_low_bands + model.num_bands
    over_bands, over_time = _cosines(num_bands), _cosines(SUBFRAMES)
    # One more half-wave over time counts as much as 6 more over the bands.
    order = sorted((band + 6 * time, time, band) for band in range(num_bands) for time in range(SUBFRAMES))
    rows = torch.stack([torch.outer(over_time[time], over_bands[band]) for _, time, band in order])
    low = rows[:, :, : model.num_low_bands].mean(dim=1)
    log_powers = torch.cat([low, rows[:, :, model.num_low_bands :].flatten(1)], dim=1)
    # The low bands are averaged over time, so the rows are no longer orthonormal. Gram-Schmidt in this order makes them
    # so, and leaves out rows that are nearly a combination of the ones before.
    basis = log_powers.new_zeros(0, log_powers.shape[1])
    for pattern in log_powers:
        remainder = pattern - basis.T @ (basis @ pattern)
        if remainder.norm() > INDEPENDENT and len(basis) < num_coefficients:
            basis = torch.cat([basis, (remainder / remainder.norm())[None]])
    return basis.float()


def _cosines(size: int) -> Tensor:
    """Orthonormal cosine transform `[size, size]`, float64."""
    time = torch.arange(size, dtype=torch.float64) + 0.5
    basis = torch.cos(math.pi / size * torch.arange(size, dtype=torch.float64)[:, None] * time)
    return functional.normalize(basis)


def _mel(hertz: Tensor) -> Tensor:
    return torch.log1p(hertz / 700)


def _hertz(mel: Tensor) -> Tensor:
    return torch.expm1(mel) * 700
