"""What every codec is to files, batches and commands: a network behind `encode` and `decode`, and its sizes.

`codec.model.codec.Codec` is the codec of this toolkit: causal, so it also runs block by block. A codec of another
library (`codec.adapters`) runs on a recording as a whole.
"""

import itertools
import math
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codec.errors import AudioError, BitstreamError, ConfigError
from codec.model.entropy_tables import EntropyTables

MAX_PEAK = 4.0
"""Louder audio is refused: it is most likely integer samples that were not scaled to [-1, 1]."""


class AudioCodec(nn.Module):
    """Maps audio `[B, 1, T]` to codes `[B, K, F]` and back, T samples to F = ceil((T + delay) / hop_length) frames.

    Args:
        sample_rate: Hz.
        hop_length: Samples of a frame.
        delay: Samples that the frames cover beyond the audio.
        num_quantizers: Levels K.
        codebook_size: Codewords N of a level.
        max_peak: Louder audio is refused.
        entropy: Tables to entropy-code its codes with in files; without them codes are packed.
        identity: SHA-256 that files name the model by, if it is known; see `codec.model.digest.model_identity`.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        hop_length: int,
        delay: int,
        num_quantizers: int,
        codebook_size: int,
        max_peak: float = MAX_PEAK,
        entropy: EntropyTables | None = None,
        identity: bytes | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        self.hop_length = hop_length
        self.delay = delay
        self.num_quantizers = num_quantizers
        self.codebook_size = codebook_size
        self.max_peak = max_peak
        self.entropy = entropy
        self.identity = identity

    @abstractmethod
    def encode(self, audio: Tensor, num_quantizers: int | None = None, *, beam: int = 1) -> Tensor:
        """Encode whole signals.

        Args:
            audio: float32 `[B, 1, T]` in [-1, 1] at `sample_rate`; put channels into the batch.
            num_quantizers: Number of levels to use, from the first; all by default.
            beam: Paths kept in the search, if the codec has such a search.

        Returns:
            Codes int64 `[B, K, F]`.
        """

    @abstractmethod
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Decode codes int64 `[B, k, F]` of the first k levels to audio `[B, 1, T]`; T is `num_samples`."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The configuration of the model as JSON has it."""

    @property
    def device(self) -> torch.device:
        """Device of the model. Buffers count too: a model with EMA codebooks may have no parameters."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz), exact."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate_per_level(self) -> float:
        """Bitrate of one level of one channel without entropy coding (bit/s)."""
        return self.frame_rate * math.log2(self.codebook_size)

    def num_frames(self, num_samples: int) -> int:
        """Number of frames F that code `num_samples` samples."""
        return -(-(num_samples + self.delay) // self.hop_length)

    def pad(self, audio: Tensor) -> Tensor:
        """Append zeros to `[B, 1, T]` up to whole frames, `delay` included."""
        missing = self.num_frames(audio.shape[-1]) * self.hop_length - audio.shape[-1]
        return F.pad(audio, (0, missing)) if missing else audio

    def num_quantizers_for(self, bitrate: float) -> int:
        """Largest number of levels whose files take at most `bitrate` (bit/s, one channel) on average.

        With entropy tables the average is over the training files of the tables, without header; a single file may take
        more or less. Without tables it is the nominal rate.

        Raises:
            ConfigError: One level already takes more.
        """
        if self.entropy is None:
            lowest = self.bitrate_per_level
            levels = int(min(self.num_quantizers, bitrate / lowest + 1e-9))
        else:
            rates = self.entropy.bits_per_frame.double() * self.frame_rate
            lowest, levels = float(rates[0]), int((rates <= bitrate).sum())
        if levels < 1:
            raise ConfigError(f"bitrate {bitrate:g} bit/s is below the lowest of this model, {lowest:.0f} bit/s")
        return levels

    def check_num_quantizers(self, num_quantizers: int | None) -> None:
        """Raise ConfigError unless `num_quantizers` is None or in 1 .. K."""
        if num_quantizers is not None and not 1 <= num_quantizers <= self.num_quantizers:
            raise ConfigError(f"num_quantizers {num_quantizers} is not in 1 .. {self.num_quantizers}")

    def check_codes(self, codes: Tensor) -> None:
        """Raise BitstreamError unless `codes` is int64 `[B, k, F]` with codes of this model."""
        levels, size = self.num_quantizers, self.codebook_size
        if codes.ndim != 3 or codes.dtype != torch.int64 or not 1 <= codes.shape[1] <= levels or 0 in codes.shape:
            raise BitstreamError(
                f"codes must be int64 [B, k, F] with k in 1 .. {levels}, not {codes.dtype} {list(codes.shape)}"
            )
        lowest, highest = (bound.item() for bound in torch.aminmax(codes))
        if lowest < 0 or highest >= size:
            raise BitstreamError(f"codes must be in 0 .. {size - 1}; found {lowest if lowest < 0 else highest}")

    def check_num_samples(self, codes: Tensor, num_samples: int | None) -> int:
        """Number of samples T that codes `[B, k, F]` decode to: `num_samples`, or all that the frames hold if None.

        Raises:
            BitstreamError: More samples are asked for than the frames hold, or none.
        """
        available = max(codes.shape[-1] * self.hop_length - self.delay, 0)
        num_samples = available if num_samples is None else num_samples
        if not 1 <= num_samples <= available:
            raise BitstreamError(f"{codes.shape[-1]} frames decode to 1 .. {available} samples, not {num_samples}")
        return num_samples

    def check_samples(self, audio: Tensor) -> None:
        """Raise AudioError for NaN, Inf or a peak above what the encoder takes; one pass, streams call it often."""
        if not audio.numel():
            return
        lowest, highest = (float(bound) for bound in torch.aminmax(audio.detach()))
        peak = max(-lowest, highest)
        if not math.isfinite(peak):
            raise AudioError("audio has NaN or Inf samples")
        if peak > self.max_peak:
            raise AudioError(f"audio has a peak of {peak:.6g}: scale it to [-1, 1] (divide 16-bit samples by 32768)")

    def check_audio(self, audio: Tensor) -> None:
        """Raise AudioError unless `audio` is a float32 tensor `[B, 1, T]` with samples that the encoder takes."""
        if not isinstance(audio, Tensor):
            raise AudioError(f"audio must be a torch tensor, not {type(audio).__name__}: use torch.from_numpy")
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.dtype != torch.float32:
            raise AudioError(
                f"audio must be float32 [B, 1, T], not {audio.dtype} {list(audio.shape)}; channels go into the batch"
            )
        if audio.numel() == 0:
            raise AudioError("audio has no samples")
        self.check_samples(audio)
