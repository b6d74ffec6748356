"""Encode and decode live streams: push blocks of any size, get codes or audio as soon as they are complete.

The state of a stream is the cache of the causal layers, the samples of an unfinished hop and a few counters. Blocks of
any size give the same as the whole signal. A stream that is saved and restored continues bit for bit:

    save_file(encoder.state(), "talk.safetensors")
    encoder = StreamEncoder.restore(codec, load_file("talk.safetensors"))
"""

from typing import Self

import torch
from torch import Tensor

from codec.errors import AudioError, BitstreamError, ConfigError
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.model.layers import Cache
from codec.model.quantizer.beam import MAX_BEAM, check_beam

State = dict[str, Tensor]
"""State of a stream: from the first frame on the context of each causal layer by its path in the codec, like
"encoder.layers.1.depthwise"; counters as int64 scalars; and "model_id", the model's identity, uint8 `[32]`. The tensors
are copies, ready for `safetensors.torch.save_file`."""

_CPU = torch.device("cpu")
_MAX_COUNT = 2**62


class StreamEncoder:
    """Encodes a stream of audio blocks; every complete hop makes a frame.

    Args:
        codec: In eval mode.
        num_quantizers: Use the first `num_quantizers` levels; all by default.
        beam: Paths kept in the search, see `Codec.encode`.
        sample_rate: Rate of the blocks (Hz), to be checked; blocks are not resampled.

    Raises:
        ConfigError: `num_quantizers` is not in 1 .. K, or `beam` not in 1 .. 64.
        AudioError: `sample_rate` is not the model's.
    """

    def __init__(
        self, codec: Codec, num_quantizers: int | None = None, *, beam: int = 1, sample_rate: int | None = None
    ) -> None:
        codec.check_num_quantizers(num_quantizers)
        check_beam(beam)
        if sample_rate not in (None, codec.sample_rate):
            raise AudioError(
                f"the stream has {sample_rate} Hz, the model {codec.sample_rate} Hz: "
                "resample its blocks with codec.audio.resampling.Resampler"
            )
        self.codec = codec
        self.num_quantizers = num_quantizers or codec.quantizer.num_quantizers
        self.beam = beam
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
            AudioError: Wrong shape, another batch size than before, NaN or Inf, or the stream is flushed.
        """
        if self._finished:
            raise AudioError("the stream is flushed: make a new StreamEncoder")
        if audio.ndim != 3 or audio.shape[1] != 1 or audio.shape[0] == 0 or audio.dtype != torch.float32:
            raise AudioError(f"a block must be float32 [B, 1, T], not {audio.dtype} {list(audio.shape)}")
        if self._rest is not None and len(audio) != len(self._rest):
            raise AudioError(f"a block of batch size {len(audio)} in a stream of batch size {len(self._rest)}")
        self.codec.check_samples(audio)
        self.num_samples += audio.shape[-1]
        return self._encode(audio)

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the stream: pad it with silence and return the codes of its last frames.

        Raises:
            AudioError: Nothing was pushed, or the stream is flushed already.
        """
        if self._finished:
            raise AudioError("the stream is flushed already")
        if self._rest is None or self.num_samples == 0:
            raise AudioError("audio has no samples")
        self._finished = True
        padding = self.codec.num_frames(self.num_samples) * self.codec.hop_length - self.num_samples
        return self._encode(self._rest.new_zeros(len(self._rest), 1, padding))

    def state(self) -> State:
        """Copy the state of the stream, for `restore`.

        Besides the contexts of the layers it holds "rest", the samples `[B, 1, t]` of the unfinished hop, and the
        counters "batch_size" (0 before the first push), "num_quantizers", "beam", "num_samples" and "finished" (1 after
        `flush`).
        """
        rest = {} if self._rest is None else {"rest": _copy(self._rest)}
        return rest | _saved(
            self.codec,
            self._cache,
            batch_size=0 if self._rest is None else len(self._rest),
            num_quantizers=self.num_quantizers,
            beam=self.beam,
            num_samples=self.num_samples,
            finished=self._finished,
        )

    @classmethod
    def restore(cls, codec: Codec, state: State) -> Self:
        """Continue a stream of this model from its `state`, in this process or another.

        One frame of zeros is encoded to learn the names and shapes that a state of this model has.

        Raises:
            ConfigError: The state does not fit the model: a name is missing or unknown, or a tensor has another shape
                or dtype.
        """
        contexts = dict(state)
        batch_size = _take_count(contexts, "batch_size")
        levels = _take_count(contexts, "num_quantizers", 1, codec.quantizer.num_quantizers)
        stream = cls(codec, levels, beam=_take_count(contexts, "beam", 1, MAX_BEAM))
        stream.num_samples = _take_count(contexts, "num_samples", 0, _MAX_COUNT if batch_size else 0)
        stream._finished = bool(_take_count(contexts, "finished", 0, 1 if stream.num_samples else 0))
        if batch_size:
            length = 0 if stream._finished else stream.num_samples % codec.hop_length
            stream._rest = _take(contexts, "rest", (batch_size, 1, length), torch.float32, codec.device)
        layers: Cache = {}
        if stream._finished or stream.num_samples >= codec.hop_length:
            codec.encode_frames(torch.zeros(1, 1, codec.hop_length, device=codec.device), 1, layers)
        stream._cache = _restored(codec, layers, contexts, batch_size)
        return stream

    def _encode(self, audio: Tensor) -> Tensor:
        if self._rest is not None and self._rest.shape[-1]:  # do not copy a large block to prepend nothing
            audio = torch.cat([self._rest, audio], dim=-1)
        whole = audio.shape[-1] - audio.shape[-1] % self.codec.hop_length
        self._rest = audio[..., whole:].clone()  # the caller may reuse its buffer
        if whole == 0:
            return torch.zeros(len(audio), self.num_quantizers, 0, dtype=torch.int64, device=audio.device)
        return self.codec.encode_frames(audio[..., :whole], self.num_quantizers, self._cache, beam=self.beam)


class StreamDecoder:
    """Decodes a stream of codes. Audio lags `codec.delay` samples behind its frames; the first `delay` are dropped.

    Args:
        codec: In eval mode.
        num_samples: Length of the audio; by default all that the frames hold.
    """

    def __init__(self, codec: Codec, num_samples: int | None = None) -> None:
        self.codec = codec
        self.num_samples = num_samples
        self.num_frames = 0
        self._cache: Cache = {}
        self._batch_size = self._num_quantizers = 0
        self._finished = False

    @torch.inference_mode()
    def push(self, codes: Tensor) -> Tensor:
        """Decode the next frames.

        Args:
            codes: int64 `[B, k, f]` of the first k levels, any f; B and k stay the same for the whole stream.

        Returns:
            The audio `[B, 1, t]` that is now complete, t >= 0.

        Raises:
            BitstreamError: Wrong shape, another batch size or number of levels than before, codes out of range, or the
                stream is flushed.
        """
        if self._finished:
            raise BitstreamError("the stream is flushed: make a new StreamDecoder")
        is_empty = codes.ndim == 3 and codes.shape[2] == 0  # the encoder has no complete hop yet
        self.codec.check_codes(codes.new_zeros(*codes.shape[:2], 1) if is_empty else codes)
        if self.num_frames == 0:
            self._batch_size, self._num_quantizers = codes.shape[:2]
        if len(codes) != self._batch_size:
            raise BitstreamError(f"codes of batch size {len(codes)} in a stream of batch size {self._batch_size}")
        if codes.shape[1] != self._num_quantizers:
            raise BitstreamError(f"codes of {codes.shape[1]} levels in a stream of {self._num_quantizers}")
        if is_empty:
            return torch.zeros(len(codes), 1, 0, device=codes.device)
        audio = self.codec.decode_frames(codes, self._cache)
        position = self.num_frames * self.codec.hop_length - self.codec.delay
        self.num_frames += codes.shape[2]
        first = max(-position, 0)
        last = audio.shape[-1] if self.num_samples is None else self.num_samples - position
        return audio[..., first : max(last, first)]

    @torch.inference_mode()
    def flush(self) -> Tensor:
        """End the stream. Nothing is left to return, because every push returns all audio that is complete.

        The frames of a flushed encoder hold all of its samples. The frames of one that was cut off lack the last
        `codec.delay` samples, which depend on later frames.

        Returns:
            Audio `[B, 1, 0]`.

        Raises:
            BitstreamError: Nothing was pushed, the stream is flushed already, or its frames hold fewer than
                `num_samples` samples.
        """
        if self._finished:
            raise BitstreamError("the stream is flushed already")
        if self.num_frames == 0:
            raise BitstreamError("the stream has no frames")
        available = max(self.num_frames * self.codec.hop_length - self.codec.delay, 0)
        if self.num_samples is not None and self.num_samples > available:
            raise BitstreamError(
                f"the stream's {self.num_frames} frames hold {available} samples, not the {self.num_samples} asked "
                "for: push the frames that are missing"
            )
        self._finished = True
        return torch.zeros(self._batch_size, 1, 0, device=self.codec.device)

    def state(self) -> State:
        """Copy the state of the stream, for `restore`.

        Besides the contexts of the layers it holds the counters "batch_size" and "num_quantizers" (both 0 before the
        first push), "num_frames", "num_samples" (-1: all that the frames hold) and "finished" (1 after `flush`).
        """
        return _saved(
            self.codec,
            self._cache,
            batch_size=self._batch_size,
            num_quantizers=self._num_quantizers,
            num_frames=self.num_frames,
            num_samples=-1 if self.num_samples is None else self.num_samples,
            finished=self._finished,
        )

    @classmethod
    def restore(cls, codec: Codec, state: State) -> Self:
        """Continue a stream of this model from its `state`; as `StreamEncoder.restore`.

        Raises:
            ConfigError: The state does not fit the model.
        """
        contexts = dict(state)
        num_samples = _take_count(contexts, "num_samples", -1)
        stream = cls(codec, None if num_samples == -1 else num_samples)
        stream.num_frames = _take_count(contexts, "num_frames")
        started = min(stream.num_frames, 1)
        stream._batch_size = _take_count(contexts, "batch_size", started, started * _MAX_COUNT)
        levels = started * codec.quantizer.num_quantizers
        stream._num_quantizers = _take_count(contexts, "num_quantizers", started, levels)
        stream._finished = bool(_take_count(contexts, "finished", 0, started))
        layers: Cache = {}
        if started:
            codec.decode_frames(torch.zeros(1, 1, 1, dtype=torch.int64, device=codec.device), layers)
        stream._cache = _restored(codec, layers, contexts, stream._batch_size)
        return stream


def _saved(codec: Codec, cache: Cache, **counters: int) -> State:
    """Make a state: copies of the contexts in a cache by the paths of their layers, and counters as scalars."""
    state = {path: _copy(cache[layer]) for path, layer in codec.named_modules() if layer in cache}
    state["model_id"] = torch.tensor(list(model_identity(codec)), dtype=torch.uint8)
    return state | {name: torch.tensor(count, dtype=torch.int64) for name, count in counters.items()}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


def _restored(codec: Codec, layers: Cache, contexts: State, batch_size: int) -> Cache:
    """Take all contexts as a cache; `layers`, a cache of batch size 1, tells which there are and their shapes."""
    saved = _take(contexts, "model_id", (32,), torch.uint8, _CPU)
    theirs, ours = saved.numpy().tobytes(), model_identity(codec)
    if theirs != ours:
        raise _misfit(f"it is of model {theirs.hex()[:12]}, not of {ours.hex()[:12]}")
    cache: Cache = {}
    for path, layer in codec.named_modules():
        if layer in layers:
            shape = (batch_size, *layers[layer].shape[1:])
            cache[layer] = _take(contexts, path, shape, layers[layer].dtype, codec.device)
    if contexts:
        raise _misfit(f"it has {min(contexts)!r}, which a stream of this model and length does not have")
    return cache


def _take(contexts: State, name: str, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Remove a tensor and return a copy of it; it must have this shape and dtype."""
    tensor = contexts.pop(name, None)
    if not isinstance(tensor, Tensor):
        raise _misfit(f"it has no {name!r}" if tensor is None else f"{name!r} is no tensor")
    if tensor.shape != shape or tensor.dtype != dtype:
        raise _misfit(f"{name!r} is {tensor.dtype} {list(tensor.shape)}, not {dtype} {list(shape)}")
    if tensor.layout != torch.strided or tensor.is_meta or not bool(tensor.isfinite().all()):
        raise _misfit(f"{name!r} holds NaN, Inf or no numbers")
    return tensor.detach().to(device, copy=True)


def _take_count(contexts: State, name: str, lowest: int = 0, highest: int = _MAX_COUNT) -> int:
    """Remove an int64 scalar and return it; it must lie in lowest .. highest."""
    count = int(_take(contexts, name, (), torch.int64, _CPU))
    if not lowest <= count <= highest:
        raise _misfit(f"{name!r} is {count}, not in {lowest} .. {highest}")
    return count


def _misfit(reason: str) -> ConfigError:
    return ConfigError(f"the state does not fit: {reason}; save it from a stream of the same model")
