"""Short-time Fourier transform, lapped transform, and causal overlap-add.

`stft` takes a whole signal (losses, pictures). `overlap_add` also works in a stream and ends the decoder:
frames [B, L, F] -> audio [B, 1, T]. T samples, L frame length, F frames.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from codec.dsp.precision import full_precision
from codec.errors import ConfigError


def stft(audio: Tensor, fft_size: int, hop_length: int, window: Tensor) -> Tensor:
    """Complex spectrum of windowed frames, in the precision of the window.

    Frame f is centred on sample f * hop_length. fft_size // 2 zeros are added on both sides, so every T >= 1 works
    (reflection would need T > fft_size // 2).

    Args:
        audio: Real samples [..., T], at most as precise as the window.
        fft_size: Frame length, even (samples).
        hop_length: Step between frames, at most fft_size // 2 (samples).
        window: Weights [fft_size], float32 or float64.

    Returns:
        Spectrum [..., fft_size // 2 + 1, F] with F = T // hop_length + 1; not scaled.

    Raises:
        ConfigError: The sizes contradict each other.
    """
    _check_sizes(fft_size, hop_length, window)
    with full_precision(audio.device):
        spectrum: Tensor = _FramesFFT.apply(audio, window, hop_length)
        return spectrum.transpose(-1, -2)


def overlap_add(frames: Tensor, hop_length: int) -> Tensor:
    """Add overlapping frames and return the samples that no later frame will change.

    With L = m * hop_length, hop f is the sum over j < m of frames[:, j*hop:(j+1)*hop, f - j]: the first part of
    frame f, the second part of frame f - 1, and so on. So the first m - 1 frames are only context: zeros at the start
    of a signal, the last frames of the block before in a stream. The output is delayed by L - hop_length samples.

    Args:
        frames: Synthesis frames, preceded by m - 1 frames of context [B, L, m - 1 + F].
        hop_length: Step between frames, a divisor of L (samples).

    Returns:
        Audio [B, 1, F * hop_length].

    Raises:
        ConfigError: hop_length does not divide L.
    """
    num_items, frame_length, num_frames = frames.shape
    overlap = _overlap(frame_length, hop_length)
    num_blocks = num_frames - (overlap - 1)
    blocks = frames[:, :hop_length, overlap - 1 :]
    for j in range(1, overlap):
        start = overlap - 1 - j
        blocks = blocks + frames[:, j * hop_length : (j + 1) * hop_length, start : start + num_blocks]
    return blocks.transpose(1, 2).reshape(num_items, 1, num_blocks * hop_length)


def lapped_transform(num_channels: int, hop_length: int) -> Tensor:
    """Basis of the modified discrete cosine transform with a sine window, orthonormal.

    Princen, Johnson & Bradley, "Subband/transform coding using filter bank designs based on time domain aliasing
    cancellation", 1987. Analysis and overlap-added synthesis with all `hop_length` channels reconstruct exactly.

    Returns:
        Weights `[num_channels, 2 * hop_length]`, lowest frequency first; channels beyond `hop_length` are zero.
    """
    time = torch.arange(2 * hop_length, dtype=torch.float64) + 0.5
    frequency = (torch.arange(min(num_channels, hop_length), dtype=torch.float64) + 0.5)[:, None]
    window = torch.sin(math.pi / (2 * hop_length) * time)
    cosine = torch.cos(math.pi / hop_length * (time + hop_length / 2) * frequency)
    basis = math.sqrt(2 / hop_length) * window * cosine
    return functional.pad(basis, (0, 0, 0, num_channels - len(basis))).float()


class _FramesFFT(torch.autograd.Function):
    """Real FFT of windowed frames with a fast gradient: one real inverse FFT and a few sums of slices.

    PyTorch's own gradient uses a full complex FFT and adds frames sample by sample. It is many times slower, and was a
    third of the time of a multi-resolution loss on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, audio: Tensor, window: Tensor, hop_length: int) -> Tensor:
        ctx.save_for_backward(window)
        ctx.hop_length, ctx.num_samples = hop_length, audio.shape[-1]
        half = len(window) // 2
        frames = functional.pad(audio, (half, half)).unfold(-1, len(window), hop_length)
        spectrum: Tensor = torch.fft.rfft(frames * window)
        return spectrum

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Overlap-add of sum_k Re(G_k exp(2 pi i k n / N)); the bins that irfft mirrors are halved first."""
        (window,) = ctx.saved_tensors
        half = gradients[0] * 0.5
        half[..., 0] *= 2
        half[..., -1] *= 2
        frames = torch.fft.irfft(half, norm="forward").mul_(window)
        samples = _add_up(frames, ctx.hop_length)[..., len(window) // 2 :][..., : ctx.num_samples]
        return samples, None, None


def _add_up(frames: Tensor, hop_length: int) -> Tensor:
    """Overlap-add frames [..., F, L] including the tail; L need not be a multiple of the hop."""
    *batch, num_frames, frame_length = frames.shape
    num_hops = -(-frame_length // hop_length)
    total = frames.new_zeros(*batch, num_frames + num_hops - 1, hop_length)
    for j in range(num_hops):
        part = frames[..., j * hop_length : (j + 1) * hop_length]
        total[..., j : j + num_frames, : part.shape[-1]] += part
    return total.flatten(-2)


def _overlap(frame_length: int, hop_length: int) -> int:
    if hop_length < 1 or frame_length < hop_length or frame_length % hop_length:
        raise ConfigError(
            f"frame length {frame_length} is not a multiple of hop length {hop_length}: choose one that is"
        )
    return frame_length // hop_length


def _check_sizes(fft_size: int, hop_length: int, window: Tensor) -> None:
    if fft_size < 2 or fft_size % 2 or not 1 <= hop_length <= fft_size // 2:
        raise ConfigError(f"FFT size {fft_size} with hop length {hop_length}: take an even size, a hop of at most half")
    if window.shape != (fft_size,):
        raise ConfigError(f"window of shape {tuple(window.shape)}, but the FFT size is {fft_size}: make them equal")
