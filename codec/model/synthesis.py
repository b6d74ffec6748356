"""Last step of the decoder: controls of every frame -> audio [B, 1, F * hop_length].

    coefficients x envelope --lapped transform--> low band
    |low band| --lapped transform--> harmonic carrier; random signs: noise carrier; power 1 in every band and subframe
    (sqrt(share) harmonics + sqrt(1 - share) noise) x envelope --lapped transform--> bands above the cutoff

The rectified low band has the harmonics of the voice in every band, in step with its pitch. Spectral band replication
works alike (Dietz et al., "Spectral Band Replication, a Novel Approach in Audio Coding", 2002); the rectifier is from
Makhoul & Berouti, "High-frequency regeneration in speech coding systems", 1979. The noise is a fixed function of the
frame number: streams, files and all engines produce the same.

Subframe j of frame f is centred j - SUBFRAMES / 2 subframes after the start of hop f. Overlap delays the low band by a
hop and the bands above by a subframe; further delays align the two.
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.dsp.spectral import overlap_add
from codec.model.analysis import LOG_POWER_MEAN, LOG_POWER_SCALE, without_mean
from codec.model.layers import Cache, with_left_context
from codec.model.signal_model import CEILING, SUBFRAMES, SignalModel, averages, low_amplitudes

NOISE_FRAMES = 200
"""Period of the noise: four seconds at 50 frames a second."""
TINY = 1e-20
"""Added to the power of a carrier before dividing by it; far below that of the quietest recording."""


class Delay(nn.Module):
    """Delays `[B, C, F]` by `size` frames, with zeros at the start of a signal."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, C, F]` to `[B, C, F]`."""
        return with_left_context(self, x, self.size, cache)[..., : x.shape[-1]]


class OverlapAdd(nn.Module):
    """Overlap-adds frames of two hops; the output is delayed by one hop."""

    def __init__(self, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length

    def forward(self, frames: Tensor, cache: Cache | None = None) -> Tensor:
        """Map `[B, 2 * hop_length, F]` to audio `[B, 1, F * hop_length]`."""
        return overlap_add(with_left_context(self, frames, 1, cache), self.hop_length)


class Noise(nn.Module):
    """Coefficients of white noise: random signs, a function of the frame number modulo `NOISE_FRAMES`.

    Signs give every subframe exactly its power; normal numbers would not. The state is the number of the next frame.
    """

    signs: Tensor

    def __init__(self, num_coefficients: int) -> None:
        super().__init__()
        count = NOISE_FRAMES * SUBFRAMES * num_coefficients
        # Highest bit of the powers of 747796405 modulo 2^32: integer arithmetic is the same on every machine.
        words = itertools.accumulate(itertools.repeat(747796405, count), lambda word, factor: word * factor % 2**32)
        signs = torch.tensor([-1.0 if word < 2**31 else 1.0 for word in words])
        self.register_buffer("signs", signs.view(NOISE_FRAMES, -1), persistent=False)

    def cache_at(self, frame: Tensor) -> Cache:
        """Cache of streams at frame numbers `frame`, int `[B]`."""
        return {self: (frame % NOISE_FRAMES).to(self.signs.dtype)[:, None, None]}

    def forward(self, like: Tensor, cache: Cache | None = None) -> Tensor:
        """Noise `[B, F, SUBFRAMES * num_coefficients]` for the next frames of `like` `[B, C, F]`."""
        start = None if cache is None else cache.get(self)
        if start is None:
            start = self.signs.new_zeros(like.shape[0], 1, 1)
        number = start[:, 0] + torch.arange(like.shape[-1], device=like.device)
        if cache is not None:
            cache[self] = (start + like.shape[-1]) % NOISE_FRAMES
        return functional.embedding((number % NOISE_FRAMES).long(), self.signs)


class HarmonicNoiseSynthesis(nn.Module):
    """Synthesis by the signal model: fixed, without parameters, controlled by `size` values per frame.

    The controls are the features of `SignalAnalysis`, and a logit for each band of each subframe: the share of the
    harmonic carrier in the power. The audio lags `delay` samples behind the hops of the frames.
    """

    low_basis: Tensor
    low_interpolation: Tensor
    high_basis: Tensor
    carrier_basis: Tensor
    high_interpolation: Tensor
    high_averages: Tensor

    def __init__(self, model: SignalModel) -> None:
        super().__init__()
        self.model = model
        self.delay = model.hop_length + model.subframe
        # The overlap of the low band looks back one frame. The harmonics and the delay look back a subframe from there.
        self.context_frames = 2
        self.sizes = [model.num_low, model.num_low_bands, SUBFRAMES * model.num_bands, SUBFRAMES * model.num_bands]
        self.size = sum(self.sizes)
        weights = model.high_interpolation(model.high_frequencies())
        for name, matrix in {
            "low_basis": model.low_basis(),
            "low_interpolation": model.low_interpolation(),
            "high_basis": model.high_basis(),
            "carrier_basis": without_mean(model.high_basis()).T,  # a rectified signal has a large DC offset
            "high_interpolation": weights,
            "high_averages": averages(weights).T,
        }.items():
            self.register_buffer(name, matrix.contiguous(), persistent=False)
        self.low_overlap = OverlapAdd(model.hop_length)
        self.high_overlap = OverlapAdd(model.subframe)
        self.low_delay = Delay(model.subframe)
        self.envelope_delay = Delay(SUBFRAMES // 2)
        self.noise = Noise(model.num_high)

    def forward(self, controls: Tensor, cache: Cache | None = None) -> Tensor:
        """Map controls `[B, size, F]` to audio `[B, 1, F * hop_length]`, float32."""
        with full_precision(controls.device):
            controls = controls.to(self.low_basis.dtype)
            coefficients, low_envelope, high_envelope, logits = torch.split(
                controls.transpose(1, 2), self.sizes, dim=-1
            )
            low = self._low_band(coefficients, self._log_powers(low_envelope), cache)
            envelope = torch.cat([self._by_subframe(self._log_powers(high_envelope)), self._by_subframe(logits)], dim=1)
            log_powers, logits = self.envelope_delay(envelope, cache).transpose(1, 2).chunk(2, dim=-1)
            harmonics, noise = self._carriers(low, controls, cache)
            # Kept away from 0 and 1, where the gradient of a square root is infinite.
            share = (0.002 + 0.996 * logits.sigmoid()) @ self.high_interpolation
            amplitude = (0.5 * log_powers @ self.high_interpolation).exp()
            high = amplitude * (share.sqrt() * harmonics + (1 - share).sqrt() * noise)
            above: Tensor = self.high_overlap((high @ self.high_basis).transpose(1, 2), cache)
            below: Tensor = self.low_delay(low, cache)
            return below + above

    def _log_powers(self, features: Tensor) -> Tensor:
        return (features * LOG_POWER_SCALE + LOG_POWER_MEAN).clamp(max=CEILING)

    def _by_subframe(self, values: Tensor) -> Tensor:
        """Reorder `[B, F, SUBFRAMES * n]` to `[B, n, F * SUBFRAMES]`."""
        return values.reshape(values.shape[0], -1, self.model.num_bands).transpose(1, 2)

    def _low_band(self, coefficients: Tensor, log_powers: Tensor, cache: Cache | None) -> Tensor:
        """Audio `[B, 1, F * hop_length]` below the cutoff, delayed by a hop."""
        coefficients = coefficients * low_amplitudes(log_powers, self.low_interpolation)
        audio: Tensor = self.low_overlap((coefficients @ self.low_basis).transpose(1, 2), cache)
        return audio

    @torch.no_grad()
    def _carriers(self, low: Tensor, controls: Tensor, cache: Cache | None) -> tuple[Tensor, Tensor]:
        """Harmonic and noise carrier, `[B, F * SUBFRAMES, num_high]`, with power one in every band."""
        blocks = low.abs().reshape(low.shape[0], -1, self.model.subframe).transpose(1, 2)
        blocks = with_left_context(self, blocks, 1, cache).transpose(1, 2)
        harmonics = torch.cat([blocks[:, :-1], blocks[:, 1:]], dim=-1) @ self.carrier_basis
        power = harmonics.square() @ self.high_averages @ self.high_interpolation
        noise = self.noise(controls, cache)
        return harmonics * (power + TINY).rsqrt(), noise.reshape(harmonics.shape)
