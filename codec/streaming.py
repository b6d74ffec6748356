"""Live streams: push blocks of any size, get codes or audio as soon as they exist.

The state is the cache of the causal layers and the samples of an unfinished hop. Blocks give what the whole gives.
"""

import torch
from torch import Tensor

from codec.errors import AudioError, BitstreamError
from codec.model.codec import Codec
from codec.model.layers import Cache


class StreamEncoder:
    """Encodes a stream of audio blocks; every complete hop makes a frame.

    Args:
        codec: In eval mode.
        num_quantizers: Use the first so many levels; all by default.
    """

    def __init__(self, codec: Codec, num_quantizers: int | None = None) -> None:
        codec.check_num_quantizers(num_quantizers)
        self.codec = codec
        self.num_quantizers = num_quantizers
        self.num_samples = 0
        self._cache: Cache = {}
        self._rest: Tensor | None = None
        self._finished = False

    @torch.inference_mode()
    def push(self, audio: Tensor) -> Tensor:
        """Encode the next samples.

        Args:
            audio: float32 `[B, 1, T]` in [-1, 1], any T; B stays the same for the whole stream.

        Returns:
            Codes int64 `[B, K, f]` of the frames that are now complete, f >= 0.

        Raises:
            AudioError: Wrong shape, another batch size than before, NaN or Inf, or pushed after `flush`.
        """
        if self._finished:
            raise AudioError("the stream is flushed: make a new StreamEncoder")
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.dtype != torch.float32:
            raise AudioError(f"a block must be float32 [B, 1, T], not {audio.dtype} {list(audio.shape)}")
        if self._rest is not None and len(audio) != len(self._rest):
            raise AudioError(f"a block of batch size {len(audio)} in a stream of batch size {len(self._rest)}")
        if not torch.isfinite(audio).all():
            raise AudioError("audio has NaN or Inf samples")
        self.num_samples += audio.shape[-1]
        return self._encode(audio)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the stream and return the codes of its last frames, padded with silence.

        Raises:
            AudioError: Nothing was pushed, or flushed already.
        """
        if self._finished:
            raise AudioError("the stream is flushed already")
        if self._rest is None or self.num_samples == 0:
            raise AudioError("audio has no samples")
        self._finished = True
        padding = self.codec.num_frames(self.num_samples) * self.codec.hop_length - self.num_samples
        return self._encode(self._rest.new_zeros(len(self._rest), 1, padding))

    def _encode(self, audio: Tensor) -> Tensor:
        audio = audio if self._rest is None else torch.cat([self._rest, audio], dim=-1)
        whole = audio.shape[-1] - audio.shape[-1] % self.codec.hop_length
        self._rest = audio[..., whole:].clone()  # the caller may use its buffer again
        if whole == 0:
            levels = self.num_quantizers or self.codec.quantizer.num_quantizers
            return torch.zeros(len(audio), levels, 0, dtype=torch.int64, device=audio.device)
        return self.codec.encode_frames(audio[..., :whole], self.num_quantizers, self._cache)


class StreamDecoder:
    """Decodes a stream of codes; audio comes `codec.delay` samples after its frame, and that delay is dropped.

    Args:
        codec: In eval mode.
        num_samples: End after so many samples; by default all that the frames hold.
    """

    def __init__(self, codec: Codec, num_samples: int | None = None) -> None:
        self.codec = codec
        self.num_samples = num_samples
        self._position = -codec.delay
        self._cache: Cache = {}
        self._batch_size: int | None = None

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            codes: int64 `[B, k, f]`, f >= 1; B and k stay the same for the whole stream.

        Returns:
            The audio `[B, 1, t]` that is now complete, t >= 0.

        Raises:
            BitstreamError: Wrong shape or codes out of range.
        """
        self.codec.check_codes(codes)
        if self._batch_size not in (None, len(codes)):
            raise BitstreamError(f"codes of batch size {len(codes)} in a stream of another batch size")
        self._batch_size = len(codes)
        audio = self.codec.decode_frames(codes, self._cache)
        first = max(-self._position, 0)
        last = audio.shape[-1] if self.num_samples is None else self.num_samples - self._position
        self._position += audio.shape[-1]
        return audio[..., first : max(last, first)]
