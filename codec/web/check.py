"""Compare the graphs of a page, as ONNX Runtime runs them here, with PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor

from codec.errors import ModelError
from codec.model.codec import Codec
from codec.model.layers import Cache
from codec.onnx.check import BLOCKS, NEAR_TIE, TOLERANCE, difference, tie_margin
from codec.onnx.engine import GraphSession
from codec.onnx.graphs import Graphs


@torch.no_grad()
def check_rated_graphs(codec: Codec, graphs: Graphs, rates: Sequence[int]) -> float:
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
    audio *= torch.logspace(-0.5, -3, audio.shape[-1])  # fading: at a variable bitrate frames have fewer levels
    batch = codes_of_rates(_in_blocks(GraphSession(graphs.encoder), audio, codec.hop_length), rates)
    decoded = _in_blocks(GraphSession(graphs.decoder), batch, 1)
    deviation = 0.0
    for index, levels in enumerate(rates):
        codes = batch[index : index + 1, :levels].clamp_min(0)
        if tie_margin(codec, audio, codec.encode_frames(audio, levels), codes) > NEAR_TIE:
            raise ModelError("codes of the page's encoder differ from those of PyTorch")
        deviation = max(deviation, difference(codec.decode_frames(codes), decoded[index : index + 1]))
    if deviation > TOLERANCE:
        raise ModelError(f"audio of the page's decoder differs by {deviation:.1e} of its peak, not at most {TOLERANCE}")
    return deviation


def codes_of_rates(result: Tensor, rates: Sequence[int]) -> Tensor:
    """Codes `[R, K, F]` of every rate, -1 where a frame has no such level.

    Args:
        result: Of the encoder of `trace_rated_graphs`, `[1, K + R, F]`.
        rates: As given there.
    """
    num_levels = max(rates)
    levels = torch.arange(num_levels)[:, None]
    return torch.where(levels < result[0, num_levels:, None], result[:, :num_levels], -1)


def _in_blocks(session: GraphSession, given: Tensor, frame: int) -> Tensor:
    cache: Cache = {}
    blocks = torch.split(given, [count * frame for count in BLOCKS], dim=-1)
    return torch.cat([session(block, cache) for block in blocks], dim=-1)
