"""Trace the two halves of a codec as ONNX graphs, each with its state as inputs and outputs.

    encoder   audio [B, 1, F * hop_length], states -> codes [B, K, F], states
    decoder   codes [B, k, F] of the first k levels, states -> audio [B, 1, F * hop_length], states

B, F and k are free. The states are the contexts that the causal layers keep in a `Cache`: zeros at the start of a
signal, the outputs of the last block in a stream. So one graph serves offline and streaming use.
"""

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from codec.dsp.precision import full_precision
from codec.errors import ModelError, require
from codec.model.codec import Codec
from codec.model.layers import Cache
from codec.model.quantizer.residual import VectorQuantizer

OPSET = 17
"""ONNX operator set of the graphs; every ONNX Runtime since 1.12 reads it."""


class State(NamedTuple):
    """State of a causal layer between two blocks."""

    name: str
    """Path of the layer in the codec. The graph's input is `name`, its output `next.name`."""
    shape: tuple[int, int]
    """Channels and frames; the tensor is float32 `[B, *shape]`."""


class Graph(NamedTuple):
    """Half of a codec."""

    model: bytes
    """ONNX file, float32."""
    input: str
    """Name of the first input: audio or codes."""
    output: str
    """Name of the first output: codes or audio."""
    states: tuple[State, ...]
    """In the order of the other inputs and outputs."""
    layers: tuple[nn.Module, ...]
    """Layers of the codec that the states belong to."""


class Graphs(NamedTuple):
    """Both halves of a codec."""

    encoder: Graph
    decoder: Graph
    beam: int
    """Paths kept in the search of the encoder."""


def trace_graphs(codec: Codec, beam: int = 1) -> Graphs:
    """Trace encoder and decoder of a model.

    Args:
        codec: On the CPU, in eval mode.
        beam: Paths kept in the search, see `Codec.encode`; fixed in the graph.

    Raises:
        ConfigError: The package onnx is not installed, or `beam` is not in 1 .. 64.
        ModelError: The model is on another device or in bfloat16, or has a part that can't be written as ONNX.
    """
    _check(codec)
    audio = torch.zeros(2, 1, 3 * codec.hop_length)
    with torch.no_grad(), full_precision(audio.device):  # else a caller's autocast would put casts into the graphs
        cache: Cache = {}
        codes = codec.encode_frames(audio, cache=cache, beam=beam)
        axes = {"audio": {0: "batch", 2: "samples"}, "codes": {0: "batch", 2: "frames"}}
        encoder = _trace(codec, _Encoder(codec, cache, beam), audio, ("audio", "codes"), axes)
        decoder = _trace_decoder(codec, _Decoder, codes)
    return Graphs(encoder, decoder, beam)


def trace_rated_graphs(codec: Codec, rates: Sequence[int]) -> Graphs:
    """Trace graphs that serve several bitrates at once, with the greedy search.

    The greedy codes of fewer levels are a prefix, but a variable bitrate leaves out other levels at each rate. So the
    encoder, whose batch size is 1, returns codes int64 `[1, K + R, F]`: all K codes of each frame, then its number of
    levels at each of the R rates. The decoder takes the codes of several rates as a batch: levels whose code is -1 are
    left out.

    Args:
        codec: On the CPU, in eval mode.
        rates: Largest number of levels at each rate; K is the largest of them.

    Raises:
        ConfigError: The package onnx is not installed.
        ModelError: See `trace_graphs`.
    """
    _check(codec)
    audio = torch.zeros(1, 1, 3 * codec.hop_length)
    with torch.no_grad(), full_precision(audio.device):
        cache: Cache = {}
        codes = codec.encode_frames(audio, cache=cache)
        axes = {"audio": {2: "samples"}, "codes": {2: "frames"}}
        encoder = _trace(codec, _RatedEncoder(codec, cache, rates), audio, ("audio", "codes"), axes)
        decoder = _trace_decoder(codec, _RatedDecoder, codes.expand(2, -1, -1))
    return Graphs(encoder, decoder, beam=1)


def _check(codec: Codec) -> None:
    require("onnx", "export")  # PyTorch's exporter needs it, and its own error does not say how to install it
    if codec.device.type != "cpu":
        raise ModelError(f"ONNX graphs are made of a model on the CPU, not on {codec.device}: load it there")
    if not codec.is_float32:
        raise ModelError("ONNX graphs are made of a model in float32, not in bfloat16: load it in mode float32")


def _trace_decoder(codec: Codec, half: "type[_Decoder]", codes: Tensor) -> Graph:
    cache: Cache = {}
    codec.decode_frames(codes, cache)
    axes = {"codes": {0: "batch", 1: "levels", 2: "frames"}, "audio": {0: "batch", 2: "samples"}}
    return _trace(codec, half(codec, cache), codes, ("codes", "audio"), axes)


class _Half(nn.Module):
    """Half of a codec as a function of its input and its states, in the order of the layers."""

    def __init__(self, codec: Codec, cache: Cache) -> None:
        super().__init__()
        self.codec = codec
        self.layers = tuple(cache)
        self.states = tuple(cache.values())

    def forward(self, given: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        # The exporter has just enabled this log by mistake, which prints unsupported operators to standard output.
        torch._C._jit_set_onnx_log_enabled(False)
        cache = dict(zip(self.layers, states, strict=True))
        result = self.run(given, cache)
        return result, *(cache[layer] for layer in self.layers)

    def run(self, given: Tensor, cache: Cache) -> Tensor:
        raise NotImplementedError


class _Encoder(_Half):
    def __init__(self, codec: Codec, cache: Cache, beam: int) -> None:
        super().__init__(codec, cache)
        self.beam = beam

    def run(self, given: Tensor, cache: Cache) -> Tensor:
        latents = self.codec.encoder(given, cache)
        batch, channels, num_frames = latents.shape
        # The quantizer gets all frames as one item. It codes each independently, and the batch size would become fixed
        # in the graph, because the quantizer reads it as a Python number.
        frames = latents.transpose(0, 1).reshape(1, channels, batch * num_frames)
        active = self.codec.levels_of_frames(given, cache=cache)
        active = None if active is None else active.reshape(1, batch * num_frames)
        codes = self.codec.quantizer.encode(frames, beam=self.beam, num_active=active)
        return codes.reshape(-1, batch, num_frames).transpose(0, 1)


class _RatedEncoder(_Half):
    """Encodes like `Codec.encode_frames`, for several rates at once; see `trace_rated_graphs`."""

    def __init__(self, codec: Codec, cache: Cache, rates: Sequence[int]) -> None:
        super().__init__(codec, cache)
        self.rates = torch.tensor(rates)

    def run(self, given: Tensor, cache: Cache) -> Tensor:
        codes = self.codec.quantizer.encode(self.codec.encoder(given, cache), int(max(self.rates)))
        levels = self.codec.levels_of_frames(given, self.rates, cache)
        if levels is None:
            levels = self.rates[:, None] + torch.zeros_like(codes[0, :1])
        return torch.cat([codes, levels[None]], dim=1)


class _Decoder(_Half):
    """Decodes like `Codec.decode_frames`, with one table of all levels, so that the number of levels is free."""

    def __init__(self, codec: Codec, cache: Cache) -> None:
        super().__init__(codec, cache)
        quantizer = codec.quantizer
        if isinstance(quantizer, VectorQuantizer):
            levels = [quantizer._place(level, codebook) for level, codebook in enumerate(quantizer.codebooks.table)]
            self.table = torch.cat(levels)
            self.offsets = torch.arange(len(levels))[:, None] * quantizer.codebook_size

    def run(self, given: Tensor, cache: Cache) -> Tensor:
        quantizer = self.codec.quantizer
        if isinstance(quantizer, VectorQuantizer):
            codewords = nn.functional.embedding(given + self.offsets[: given.shape[1]], self.table)
            quantized = quantizer.project_out(codewords.sum(dim=1).transpose(1, 2))
        else:
            quantized = quantizer.decode(given)
        audio: Tensor = self.codec.decoder(quantized, cache)
        return audio


class _RatedDecoder(_Decoder):
    """Decodes like `_Decoder`, and leaves out levels whose code is -1; see `trace_rated_graphs`."""

    def __init__(self, codec: Codec, cache: Cache) -> None:
        super().__init__(codec, cache)
        if isinstance(codec.quantizer, VectorQuantizer):
            self.table = nn.functional.pad(self.table, (0, 0, 0, 1))  # the last codeword is zero

    def run(self, given: Tensor, cache: Cache) -> Tensor:
        if isinstance(self.codec.quantizer, VectorQuantizer):
            given = torch.where(given < 0, len(self.table) - 1 - self.offsets[: given.shape[1]], given)
        return super().run(given, cache)


def _trace(codec: Codec, half: _Half, given: Tensor, names: tuple[str, str], axes: dict[str, dict[int, str]]) -> Graph:
    """Trace one half with PyTorch's older exporter.

    It is a part of PyTorch and takes half a second. The newer one needs onnxscript, takes 5 to 12 seconds for the
    smallest model, and fixes the batch size of the encoder.
    """
    name_of = {module: name for name, module in codec.named_modules()}
    layer_names = [name_of[layer] for layer in half.layers]
    inputs = [names[0], *layer_names]
    outputs = [names[1], *(f"next.{name}" for name in layer_names)]
    axes = axes | {name: {0: "batch"} for name in (*inputs[1:], *outputs[1:])}
    # The exporter warns that it is deprecated, and of every size that becomes a Python number. This does no harm:
    # `codec.onnx.check` shows that the graph is right for other sizes.
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = Path(folder, "graph.onnx")
        try:
            torch.onnx.export(
                half.eval(),
                (given, *half.states),
                file,
                dynamo=False,
                input_names=inputs,
                output_names=outputs,
                dynamic_axes=axes,
                opset_version=OPSET,
            )
        except (RuntimeError, NotImplementedError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{names[0]} to {names[1]} can't be written as ONNX: {reason}") from error
        model = file.read_bytes()
    states = [
        State(name, (state.shape[1], state.shape[2])) for name, state in zip(layer_names, half.states, strict=True)
    ]
    return Graph(model, *names, tuple(states), half.layers)
