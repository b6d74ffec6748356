"""Receptive field of a model, measured: which samples a frame depends on, and which frames a decoded sample.

The input before some place is made NaN, and the output is looked at: NaN spreads to everything that depends on it,
however weakly, and to nothing else. The latest such place that leaves the output clean is where its receptive field
begins; a search by halves finds it. All layers are causal, so the field ends with the frame itself.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from codec.model.codec import Codec


class ReceptiveField(NamedTuple):
    """How far back the parts of a model look, the present frame included."""

    encoder_samples: int
    """Samples of audio that the latents of a frame depend on."""
    allocation_samples: int
    """Samples that the number of levels of a frame depends on; 0 if every frame has all levels."""
    decoder_frames: int
    """Frames of codes that the audio of a frame depends on."""
    hop_length: int

    @property
    def total_samples(self) -> int:
        """Samples of audio that decoded audio of one frame depends on by way of its latents."""
        return self.encoder_samples + (self.decoder_frames - 1) * self.hop_length


@torch.no_grad()
def measure_receptive_field(codec: Codec) -> ReceptiveField:
    """Measure how far back the encoder and the decoder look.

    Args:
        codec: In eval mode and float32.
    """
    hop = codec.hop_length
    encoder = _reach(codec.encoder, 1, hop, codec.device)
    decoder = _reach(codec.decoder, codec.config.latent_dim, 1, codec.device)
    allocation = 0 if codec.allocation is None else (codec.allocation.memory + 1) * hop
    return ReceptiveField(encoder, allocation, decoder, hop)


def _reach(part: Callable[[Tensor], Tensor], num_channels: int, frame_length: int, device: torch.device) -> int:
    """How many inputs, up to the end of a frame, its output depends on.

    Args:
        part: Maps `[1, num_channels, n * frame_length]` to `[1, ..., m * n]`, for any number of frames n.
        num_channels: Of the input.
        frame_length: Inputs of a frame.
        device: Of the part.
    """
    num_frames = 16
    while _depends(part, num_channels, frame_length, num_frames, 1, device):  # on the very first input
        num_frames *= 2
    first, last = 1, num_frames * frame_length  # a clean place, and one that is not
    while last - first > 1:
        middle = (first + last) // 2
        if _depends(part, num_channels, frame_length, num_frames, middle, device):
            last = middle
        else:
            first = middle
    return num_frames * frame_length - first


def _depends(
    part: Callable[[Tensor], Tensor],
    num_channels: int,
    frame_length: int,
    num_frames: int,
    num_bad: int,
    device: torch.device,
) -> bool:
    """Whether the output of the last frame depends on any of the first `num_bad` inputs."""
    inputs = torch.zeros(1, num_channels, num_frames * frame_length, device=device)
    inputs[..., :num_bad] = math.nan
    output = part(inputs)
    return bool(output[..., -output.shape[-1] // num_frames :].isnan().any())
