"""First step of the encoder: audio [B, 1, T] -> features [B, num_low + num_log_powers, F] of the signal model.

The gain of a recording only shifts the log powers, because the low band is divided by its envelope. So a quiet
recording is coded as well as a loud one.
"""

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.model.layers import Cache, with_left_context
from codec.model.signal_model import FLOOR, SUBFRAMES, SignalModel, averages, low_amplitudes

LOG_POWER_MEAN = -11.5
"""Mean log power of speech, about -50 dB; subtracted to centre the features."""
LOG_POWER_SCALE = 3.2
"""Log powers are divided by this, 14 dB: features of the envelope and of the low band are then about equally large."""


class SignalAnalysis(nn.Module):
    """Computes the low band divided by its envelope, and the log powers of all bands; fixed, in float32.

    A frame depends on the two hops that its lapped transform covers. A DC offset has no influence: it is orthogonal to
    the basis.
    """

    low_basis: Tensor
    quadrature: Tensor
    low_bands: Tensor
    low_interpolation: Tensor
    window_bins: Tensor
    high_bands: Tensor

    def __init__(self, model: SignalModel) -> None:
        super().__init__()
        self.model = model
        low, hop = without_mean(model.low_basis()), model.hop_length
        window = torch.hann_window(hop + 2)[1:-1]
        frequency = torch.arange(hop // 2 + 1) * (model.sample_rate / hop)
        inside = frequency >= model.cutoff
        bins = torch.fft.rfft(torch.eye(hop) * (window / window.norm()))[:, inside]
        self._hold("low_basis", low.T)
        # Reversed in time, the basis of cosines is one of sines. The sum of both squares does not depend on the phase
        # of the signal.
        self._hold("quadrature", low.flip(-1).T)
        self._hold("low_bands", averages(model.low_interpolation()).T)
        self._hold("low_interpolation", model.low_interpolation())
        self._hold("window_bins", without_mean(torch.cat([bins.real, bins.imag], dim=1).T).T)
        self._hold("high_bands", averages(model.high_interpolation(frequency[inside])).T)

    def _hold(self, name: str, matrix: Tensor) -> None:
        self.register_buffer(name, matrix.contiguous(), persistent=False)

    def forward(self, audio: Tensor, cache: Cache | None = None) -> Tensor:
        """Map audio `[B, 1, F * hop_length]` to features `[B, num_low + num_log_powers, F]`, float32."""
        with full_precision(audio.device):
            audio = with_left_context(self, audio.to(self.low_basis.dtype), self.model.hop_length, cache)
            coefficients, power = transform_low_band(audio, self.low_basis, self.quadrature)
            low_log_powers = (power @ self.low_bands + FLOOR).log()
            high_log_powers = (self._high_power(audio) + FLOOR).log()
            coefficients = coefficients / low_amplitudes(low_log_powers, self.low_interpolation)
            log_powers = torch.cat([low_log_powers, high_log_powers], dim=-1)
            return torch.cat([coefficients, (log_powers - LOG_POWER_MEAN) / LOG_POWER_SCALE], dim=-1).transpose(1, 2)

    def _high_power(self, audio: Tensor) -> Tensor:
        """Power densities `[B, F, SUBFRAMES * num_bands]` above the cutoff: a window of one hop, every subframe."""
        parts = audio.reshape(audio.shape[0], -1, self.model.subframe)
        count = parts.shape[1] - SUBFRAMES
        windows = torch.cat([parts[:, shift : shift + count] for shift in range(SUBFRAMES)], dim=-1)
        real, imag = (windows @ self.window_bins).chunk(2, dim=-1)
        power = (real.square() + imag.square()) @ self.high_bands
        return power.reshape(audio.shape[0], -1, SUBFRAMES * self.model.num_bands)


def transform_low_band(audio: Tensor, basis: Tensor, quadrature: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the lapped transform and their phase-independent power, both `[B, F, num_low]`.

    Args:
        audio: Preceded by one hop of context, `[B, 1, (F + 1) * hop_length]`.
        basis: Cosine basis, `[2 * hop_length, num_low]`.
        quadrature: Sine basis, `[2 * hop_length, num_low]`.
    """
    hops = audio.reshape(audio.shape[0], -1, basis.shape[0] // 2)
    frames = torch.cat([hops[:, :-1], hops[:, 1:]], dim=-1)
    coefficients = frames @ basis
    return coefficients, (coefficients.square() + (frames @ quadrature).square()) / 2


def without_mean(basis: Tensor) -> Tensor:
    """Subtract the mean of each row `[n, L]`: the rows are then orthogonal to a DC offset."""
    return basis - basis.mean(dim=1, keepdim=True)
