"""The cost of a model on any machine, in parameters and operations."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codec.model.codec import Codec


class Parameters(NamedTuple):
    """Number of learned values of each part of a model."""

    encoder: int
    codebooks: int
    """Codewords, and the projections into code space and back."""
    decoder: int


class Operations(NamedTuple):
    """FLOP per second of audio; a multiply-accumulate of a matrix product or convolution counts as two."""

    encoder: float
    search: float
    """Projection into code space, and the search of all levels."""
    lookup: float
    """Projection out of code space; looking up a codeword costs nothing."""
    decoder: float


def count_parameters(codec: Codec) -> Parameters:
    """Count the learned values of each part: with EMA codebooks, which are buffers, but not their statistics."""
    quantizer = codec.quantizer
    codebooks = getattr(quantizer, "codebooks", None)
    num_codewords = 0 if codebooks is None else codebooks.table.numel()
    projections = num_parameters(quantizer.project_in) + num_parameters(quantizer.project_out)
    return Parameters(num_parameters(codec.encoder), num_codewords + projections, num_parameters(codec.decoder))


def num_parameters(module: nn.Module) -> int:
    """Number of parameters of a module."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_operations(codec: Codec, *, num_seconds: int = 2) -> Operations:
    """Run each part on silence and count its operations per second of audio.

    Args:
        codec: In eval mode.
        num_seconds: Length of the audio, rounded up to whole frames.
    """
    num_frames = -(-num_seconds * codec.sample_rate // codec.hop_length)
    duration = num_frames * codec.hop_length / codec.sample_rate
    audio = torch.zeros(1, 1, num_frames * codec.hop_length, device=codec.device)
    latents = codec.encoder(audio)
    codes = codec.quantizer.encode(latents)
    quantized = codec.quantizer.decode(codes)
    parts = (
        lambda: codec.encoder(audio),
        lambda: codec.quantizer.encode(latents),
        lambda: codec.quantizer.decode(codes),
        lambda: codec.decoder(quantized),
    )
    return Operations(*(count_flop(part) / duration for part in parts))


def count_flop(task: Callable[[], object]) -> int:
    """FLOP of the matrix products and convolutions of a task, counted by torch.

    Element-wise operations, sums and Fourier transforms are not counted. Does not work in inference mode.
    """
    with FlopCounterMode(display=False) as counter:
        task()
    return int(counter.get_total_flops())
