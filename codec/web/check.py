"""Compare the graphs of a page, as ONNX Runtime runs them here, with PyTorch."""

import torch
from torch import Tensor

from codec.errors import ModelError
from codec.model.codec import Codec
from codec.model.layers import Cache
from codec.onnx.check import BLOCKS, NEAR_TIE, TOLERANCE, tie_margin
from codec.onnx.engine import GraphSession
from codec.onnx.graphs import Graphs


@torch.no_grad()
def check_rated_graphs(codec: Codec, graphs: Graphs, rates: tuple[int, ...]) -> float:
    """Encode and decode noise block by block at each rate; codes are equal up to near-ties.

    Args:
        codec: The model in PyTorch.
        graphs: See `trace_rated_graphs`.
        rates: Largest number of levels at each rate, as given there.

    Returns:
        Largest difference of a sample, relative to the largest sample.

    Raises:
        ModelError: Codes of a frame differ before its first near-tie, or audio by more than `TOLERANCE`.
    """
    audio = torch.randn(1, 1, sum(BLOCKS) * codec.hop_length, generator=torch.Generator().manual_seed(0))
    audio *= torch.logspace(-3, -0.5, audio.shape[-1])  # from quiet to loud
    result = _in_blocks(GraphSession(graphs.encoder), audio, codec.hop_length)
    decoder = GraphSession(graphs.decoder)
    deviation = 0.0
    for index, levels in enumerate(rates):
        codes = codec.encode_frames(audio, levels)
        if tie_margin(codec, audio, codes, codes_of_rate(result, rates, index)) > NEAR_TIE:
            raise ModelError("codes of the page's encoder differ from those of PyTorch")
        expected = codec.decode_frames(codes)
        difference = (_in_blocks(decoder, codes, 1) - expected).abs().max() / expected.abs().max().clamp_min(1e-6)
        deviation = max(deviation, float(difference))
    if not deviation <= TOLERANCE:
        raise ModelError(f"audio of the page's decoder differs by {deviation:.1e} of its peak, not at most {TOLERANCE}")
    return deviation


def codes_of_rate(result: Tensor, rates: tuple[int, ...], index: int) -> Tensor:
    """Codes `[1, k, F]` of one rate, from what the encoder of `trace_rated_graphs` returns."""
    level = torch.arange(rates[index])[:, None]
    return torch.where(level < result[:, max(rates) + index, None], result[:, : rates[index]], 0)


def _in_blocks(session: GraphSession, given: Tensor, frame: int) -> Tensor:
    cache: Cache = {}
    blocks = torch.split(given, [count * frame for count in BLOCKS], dim=-1)
    return torch.cat([session(block, cache) for block in blocks], dim=-1)
