"""What a model costs whatever machine it runs on: parameters, operations and latency; and what this machine can do."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from codec.bench.timing import Task
from codec.dsp.precision import has_fast_bfloat16
from codec.model.codec import Codec


class Parameters(NamedTuple):
    """Numbers of a model that training sets."""

    encoder: int
    codebooks: int
    """Codewords, and what projects latents into their space and back."""
    decoder: int


class Operations(NamedTuple):
    """FLOP per second of audio, two for each multiply-accumulate of a matrix product or a convolution."""

    encoder: float
    search: float
    """Projection into code space and the search of all levels."""
    lookup: float
    """Projection out of code space; to look a codeword up costs none."""
    decoder: float


def count_parameters(codec: Codec) -> Parameters:
    """Count the numbers of each part; EMA codebooks are buffers, and statistics of training do not count."""
    quantizer = codec.quantizer
    codebooks = getattr(quantizer, "codebooks", None)
    num_codewords = 0 if codebooks is None else codebooks.table.numel()
    projections = num_parameters(quantizer.project_in) + num_parameters(quantizer.project_out)
    return Parameters(num_parameters(codec.encoder), num_codewords + projections, num_parameters(codec.decoder))


def num_parameters(module: nn.Module) -> int:
    """Numbers of a module that training sets."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_operations(codec: Codec, *, num_seconds: int = 2) -> Operations:
    """Count what each part does for `num_seconds` of audio, by running it, and divide by the time.

    Args:
        codec: In eval mode.
        num_seconds: Audio to count on. Frames are whole: a rate with a fraction of a frame is rounded up.
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
    """FLOP of the matrix products and convolutions of a task, counted by torch; not under inference mode.

    Nothing else is counted: element-wise operations, sums and Fourier transforms are left out.
    """
    with FlopCounterMode(display=False) as counter:
        task()
    return int(counter.get_total_flops())


def matrix_products(size: int) -> dict[str, Task]:
    """Square matrix products that show the peak of this machine: in float32, and in bfloat16 where it is fast.

    Each is 2 x size^3 FLOP.
    """
    dtypes = [torch.float32, torch.bfloat16] if has_fast_bfloat16(torch.device("cpu")) else [torch.float32]
    return {str(dtype).removeprefix("torch."): _product(size, dtype) for dtype in dtypes}


def _product(size: int, dtype: torch.dtype) -> Task:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(size, size, generator=generator).to(dtype) for _ in range(2))
    result = torch.empty(size, size, dtype=dtype)
    return lambda: torch.mm(first, second, out=result)
