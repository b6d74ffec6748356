"""A codec whose encoder and decoder run in ONNX Runtime; files and streams work as with PyTorch."""

import torch
from torch import Tensor

from codec.errors import AudioError, BitstreamError, ModelError, one_line, require
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.model.layers import Cache
from codec.onnx.check import largest_deviation
from codec.onnx.graphs import Graph, Graphs, trace_graphs


class OnnxCodec(Codec):
    """A codec that runs the graphs of `codec` in place of its modules.

    It shares the modules, and so the keys of a `Cache`: a stream may change between the two from block to block.

    Args:
        codec: The model that the graphs were traced from, on the CPU.
        graphs: See `trace_graphs`.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        ModelError: ONNX Runtime rejects the graphs.
    """

    def __init__(self, codec: Codec, graphs: Graphs) -> None:
        parts = codec.encoder, codec.quantizer, codec.decoder, codec.config, codec.allocation
        super().__init__(*parts, entropy=codec.entropy, identity=model_identity(codec))
        self.train(codec.training)
        self._encode = GraphSession(graphs.encoder)
        self._decode = GraphSession(graphs.decoder)
        self._beam = graphs.beam

    def encode_frames(
        self, audio: Tensor, num_quantizers: int | None = None, cache: Cache | None = None, *, beam: int = 1
    ) -> Tensor:
        """Encode whole frames `[B, 1, F * hop_length]` to codes `[B, K, F]`; a stream passes its cache.

        The graph holds one search: its beam, all levels. Another beam runs in PyTorch, and so do fewer levels if their
        codes are not a prefix of all codes (with a beam above 1, or a variable bitrate). In blocks of ten seconds both
        take equally long.

        Raises:
            AudioError: Not float32, not on the CPU, or not a whole number of frames.
            ConfigError: `beam` is not in 1 .. 64.
        """
        if audio.dtype != torch.float32 or audio.device.type != "cpu" or audio.shape[-1] % self.hop_length:
            raise AudioError(
                f"the ONNX engine takes float32 on the CPU in whole frames of {self.hop_length} samples, "
                f"not {audio.dtype} {list(audio.shape)} on {audio.device}"
            )
        levels = self.quantizer.num_quantizers if num_quantizers is None else num_quantizers
        is_prefix = beam == 1 and self.allocation is None
        if beam != self._beam or (levels < self.quantizer.num_quantizers and not is_prefix):
            return super().encode_frames(audio, num_quantizers, cache, beam=beam)
        return self._encode(audio, cache)[:, :levels]

    def decode_frames(self, codes: Tensor, cache: Cache | None = None) -> Tensor:
        """Decode codes `[B, k, F]` to `[B, 1, F * hop_length]`, `delay` samples late; a stream passes its cache.

        Raises:
            BitstreamError: Not int64, or not on the CPU.
        """
        if codes.dtype != torch.int64 or codes.device.type != "cpu":
            raise BitstreamError(f"the ONNX engine takes int64 on the CPU, not {codes.dtype} on {codes.device}")
        return self._decode(codes, cache)


def load_onnx(codec: Codec) -> OnnxCodec:
    """Run a model in ONNX Runtime, with as many threads as PyTorch has now, after a parity check with PyTorch.

    Raises:
        ConfigError: ONNX Runtime is not installed.
        ModelError: The model can't be written as ONNX, or its graphs give other results.
    """
    engine = OnnxCodec(codec, trace_graphs(codec))
    largest_deviation(codec, engine)
    return engine


class GraphSession:
    """A graph in ONNX Runtime, called with the `Cache` of a stream.

    Inputs and outputs share memory with the tensors. Bound buffers (`io_binding`) were not faster.
    """

    def __init__(self, graph: Graph) -> None:
        runtime = require("onnxruntime", "export")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # errors come as exceptions
        try:
            self.session = runtime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the error classes of ONNX Runtime are private
            raise ModelError(
                f"ONNX Runtime {runtime.__version__} does not take the graph: {one_line(error)}"
            ) from error
        self.graph = graph

    def __call__(self, given: Tensor, cache: Cache | None) -> Tensor:
        """Run the graph on audio or codes; a stream passes its cache."""
        cache = {} if cache is None else cache
        feed = {self.graph.input: given.detach().numpy()}
        for layer, (name, shape) in zip(self.graph.layers, self.graph.states, strict=True):
            state = cache.get(layer)
            feed[name] = (torch.zeros(len(given), *shape) if state is None else state.detach()).numpy()
        result, *states = self.session.run(None, feed)
        cache.update(zip(self.graph.layers, map(torch.from_numpy, states), strict=True))
        return torch.from_numpy(result)
