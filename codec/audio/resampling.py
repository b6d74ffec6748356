"""Resampling of streams and of whole signals. The only module that imports soxr.

C channels, T samples of a signal, n or m samples of a block; float32.
"""

import math

import numpy as np
import numpy.typing as npt
import soxr
import torch

from codec.errors import AudioError

Block = npt.NDArray[np.float32]  # [C, n]

REACH = 200
"""Samples of the lower rate that an output sample depends on, on either side. VHQ's filter is below 1e-9 after 136."""
MAX_PERIOD = 1000
"""Samples of the higher rate, at most, from one instant that both rates share to the next. soxr keeps a table of that
many phases. At other rates it counts the phase, with a rounding error that grows with the length of the signal."""
_ZEROS = 2**20


class Resampler:
    """Resamples a stream of blocks; the result is the same, bit for bit, for blocks of any size.

    Output sample m lies at input sample m * from_rate / to_rate: soxr's filter is linear-phase and its delay is
    removed. So early pushes return few samples or none, and `flush` returns the remaining ones. Blocks pass unchanged
    if the rates are equal. Quality is soxr's VHQ: 28 bits, more than float32 holds, in 1.1 to 1.4 times the time of HQ
    (20 bits), thousands of times faster than real time.

    Attributes:
        num_returned: Output samples of a channel so far, with those skipped.

    Raises:
        AudioError: A rate (Hz) or the number of channels is below 1.
    """

    def __init__(self, from_rate: int, to_rate: int, num_channels: int) -> None:
        if min(from_rate, to_rate, num_channels) < 1:
            what = f"{num_channels} channels from {from_rate} to {to_rate} Hz"
            raise AudioError(f"can't resample {what}; all three must be at least 1")
        self.from_rate, self.to_rate, self.num_channels = from_rate, to_rate, num_channels
        common = math.gcd(from_rate, to_rate)
        # Input samples from one instant that both rates share to the next; 0 if that is far.
        self._period = from_rate // common if max(from_rate, to_rate) // common <= MAX_PERIOD else 0
        self._stream = soxr.ResampleStream(from_rate, to_rate, num_channels, dtype="float32", quality="VHQ")
        self._num_pushed = self.num_returned = 0

    def inputs_of(self, first: int, stop: int) -> tuple[int, int]:
        """Input samples, first and one past the last, that output samples `first` .. `stop` - 1 depend on.

        Some may lie beyond the end of the signal.
        """
        if self.from_rate == self.to_rate:
            return first, stop
        reach = -(-REACH * self.from_rate // min(self.from_rate, self.to_rate))
        earliest = max(0, first * self.from_rate // self.to_rate - reach)
        return earliest - earliest % max(1, self._period), -(-stop * self.from_rate // self.to_rate) + reach

    def skip(self, num_samples: int) -> None:
        """Begin in the middle of a signal, after `num_samples` that count as silence.

        Output samples that do not reach back to them are those of the whole signal: bit for bit, or within 1e-7 where
        soxr filters by the Fourier transform.

        Args:
            num_samples: As `inputs_of` gives it; nothing was pushed yet.
        """
        if self._period:
            self._num_pushed = num_samples
            self.num_returned = num_samples * self.to_rate // self.from_rate
            return
        most = max(1, _ZEROS // self.num_channels)
        for start in range(0, num_samples, most):  # thousands of times faster than real time
            self.push(np.zeros((self.num_channels, min(most, num_samples - start)), np.float32))

    def push(self, block: Block) -> Block:
        """Resample the next block `[C, n]`; returns the samples `[C, m]` that are ready, m >= 0."""
        if self.from_rate == self.to_rate:
            self.num_returned += block.shape[1]
            return block
        self._num_pushed += block.shape[1]
        resampled = self._process(block, last=False)
        self.num_returned += resampled.shape[1]
        return resampled

    def flush(self) -> Block:
        """End the stream and return its remaining samples `[C, m]`: T samples make ceil(T * to_rate / from_rate)."""
        if self.from_rate == self.to_rate:
            return np.zeros((self.num_channels, 0), np.float32)
        # soxr rounds the total to the nearest integer. Zeros for one more output sample make it reach the ceiling.
        num_zeros = self.from_rate // self.to_rate + 1
        tail = self._process(np.zeros((self.num_channels, num_zeros), np.float32), last=True)
        total = -(-self._num_pushed * self.to_rate // self.from_rate)
        return tail[:, : total - self.num_returned]

    def _process(self, block: Block, last: bool) -> Block:
        frames = np.ascontiguousarray(block.T, dtype=np.float32)
        return np.ascontiguousarray(self._stream.resample_chunk(frames, last=last).T)


def resample(audio: torch.Tensor, from_rate: int, to_rate: int) -> torch.Tensor:
    """Resample audio `[..., T]` to `[..., ceil(T * to_rate / from_rate)]`, float32, on the same device."""
    if from_rate == to_rate or not audio.numel():
        return audio.float()
    block = audio.detach().float().cpu().reshape(-1, audio.shape[-1]).numpy()
    resampler = Resampler(from_rate, to_rate, len(block))
    resampled = np.concatenate([resampler.push(block), resampler.flush()], axis=1)
    return torch.from_numpy(resampled).reshape(*audio.shape[:-1], -1).to(audio.device)
