"""Speed of a codec on the CPU: whole signals part by part, and a live stream block by block.

Speed is seconds of audio per second of computing: 60 is sixty times real time. Values that are compared come from the
same rounds, see `codec.bench.timing`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.bench.products import matrix_products
from codec.bench.timing import Spread, Task, clock, interleave, ratios, spread
from codec.eval.inspection.operations import Operations
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.model.codec import Codec

WHOLE = ("encode", "decode", "round trip")
"""Parts that every mode has."""
NUM_WARM_UP_BLOCKS = 20
PRODUCT_SIZE = 256
"""Rows and columns of the matrix product after each block of a stream."""


class PartSpeed(NamedTuple):
    """Speed of one part of a codec on whole signals."""

    num_threads: int
    mode: str
    part: str
    times_real_time: Spread


class PeakShare(NamedTuple):
    """Speed of one part relative to the machine's peak, which a square matrix product shows in the same rounds."""

    num_threads: int
    mode: str
    part: str
    gflop_per_s: Spread
    product: str
    """Data type of the matrix product."""
    product_gflop_per_s: Spread
    share: Spread
    """0 .. 1."""


class StreamSpeed(NamedTuple):
    """Time to encode and decode one block of a live stream.

    A fixed matrix product runs after each block. If its 99th percentile is as far from its median as that of the
    blocks, other work on the machine is the cause.
    """

    num_threads: int
    mode: str
    block_ms: float
    num_blocks: int
    median_ms: float
    p99_ms: float
    product_median_ms: float
    product_p99_ms: float


class Offline(NamedTuple):
    """Result of `measure_offline`."""

    speeds: list[PartSpeed]
    shares: list[PeakShare]


def noise(sample_rate: int, seconds: float) -> Tensor:
    """Random audio `[1, 1, T]`, always the same; a codec takes as long for noise as for speech."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(1, 1, max(1, round(seconds * sample_rate)), generator=generator)


@torch.inference_mode()
def measure_offline(
    codecs: Mapping[str, Codec], operations: Operations, *, seconds: float, num_rounds: int, product_size: int
) -> Offline:
    """Measure the speed of every part in every mode.

    Args:
        codecs: The same model in several modes, by name, in eval mode.
        operations: Of the model.
        seconds: Audio per run.
        num_rounds: Measured rounds.
        product_size: Rows and columns of the matrix product that shows the machine's peak, large enough to reach it.
    """
    threads = torch.get_num_threads()
    products = matrix_products(product_size)
    tasks: dict[tuple[str, str], Task] = {("product", name): task for name, task in products.items()}
    for mode, codec in codecs.items():
        tasks |= {(mode, part): task for part, task in part_tasks(codec, noise(codec.sample_rate, seconds)).items()}
    times = interleave(tasks, num_rounds=num_rounds)
    for mode in codecs:
        times[mode, "round trip"] = total(times[mode, "encode"], times[mode, "decode"])
    speeds = [
        PartSpeed(threads, mode, part, spread([seconds / took for took in values]))
        for (mode, part), values in times.items()
        if mode in codecs
    ]
    shares = []
    for mode, part in times:
        if mode in codecs and part in ("encoder", "search", "decoder"):
            work = getattr(operations, part) * seconds
            for name in products:
                peak = (2 * product_size**3, times["product", name])
                shares.append(_share(mode, part, (work, times[mode, part]), name, peak))
    return Offline(speeds, shares)


def total(*times: Sequence[float]) -> list[float]:
    """Sum of the times of each round."""
    return [sum(each) for each in zip(*times, strict=True)]


def part_tasks(codec: Codec, audio: Tensor) -> dict[str, Task]:
    """Tasks that encode and decode `audio` `[B, 1, T]`, and tasks of single parts if the mode runs them."""
    codes = codec.encode(audio)
    tasks: dict[str, Task] = {}
    if _runs_its_parts(codec, "encode_frames"):
        padded = codec.pad(audio)
        latents = codec.encoder(padded)
        tasks["encoder"] = lambda: codec.encoder(padded)
        tasks["search"] = lambda: codec.quantizer.encode(latents)
    if _runs_its_parts(codec, "decode_frames"):
        quantized = codec.quantizer.decode(codes)
        tasks["lookup"] = lambda: codec.quantizer.decode(codes)
        tasks["decoder"] = lambda: codec.decoder(quantized)
    tasks["encode"] = lambda: codec.encode(audio)
    tasks["decode"] = lambda: codec.decode(codes, audio.shape[-1])
    return tasks


def _runs_its_parts(codec: Codec, method: str) -> bool:
    """Whether a method is `Codec`'s own; a mode that replaces it does not run encoder and decoder by themselves."""
    return method not in vars(codec) and getattr(type(codec), method) is getattr(Codec, method)


def _share(
    mode: str, part: str, ours: tuple[float, Sequence[float]], product: str, peak: tuple[float, Sequence[float]]
) -> PeakShare:
    """Compare a part with a matrix product, each given by its FLOP and its times (s)."""
    speeds, peaks = ([flop / 1e9 / took for took in times] for flop, times in (ours, peak))
    threads = torch.get_num_threads()
    return PeakShare(threads, mode, part, spread(speeds), product, spread(peaks), ratios(speeds, peaks))


@torch.inference_mode()
def measure_stream(codec: Codec, mode: str, *, block_ms: float, num_blocks: int, budget_s: float) -> StreamSpeed:
    """Encode and decode a live stream block by block, with a matrix product of about 1 ms after each.

    Args:
        codec: In eval mode.
        mode: Its name in the result.
        block_ms: Audio per block. Nothing is decoded after a block in which no frame ends.
        num_blocks: Measured blocks, after `NUM_WARM_UP_BLOCKS` others.
        budget_s: Time limit (s): a slow codec gets fewer blocks, but at least one.
    """
    encoder, decoder = StreamEncoder(codec), StreamDecoder(codec)
    samples = max(1, round(block_ms * codec.sample_rate / 1000))
    audio = noise(codec.sample_rate, samples * (num_blocks + NUM_WARM_UP_BLOCKS) / codec.sample_rate)
    product = _repeated_product()

    def push(block: Tensor) -> None:
        decoder.push(encoder.push(block))

    times: list[tuple[float, float]] = []
    for block in torch.split(audio, samples, dim=-1):
        times.append((clock(partial(push, block)), clock(product)))
        if len(times) > NUM_WARM_UP_BLOCKS and sum(map(sum, times[NUM_WARM_UP_BLOCKS:])) > budget_s:
            break
    ours, beside = 1000 * np.array(times[NUM_WARM_UP_BLOCKS:]).T
    facts = (torch.get_num_threads(), mode, 1000 * samples / codec.sample_rate, len(ours))
    return StreamSpeed(*facts, *_median_and_p99(ours), *_median_and_p99(beside))


def _median_and_p99(milliseconds: np.ndarray[tuple[int], np.dtype[np.float64]]) -> tuple[float, float]:
    return float(np.median(milliseconds)), float(np.percentile(milliseconds, 99))


def _repeated_product() -> Task:
    """A small matrix product, repeated until it takes about 1 ms."""
    once = matrix_products(PRODUCT_SIZE)["float32"]
    took = min(clock(once) for _ in range(20))
    repeats = max(1, round(1e-3 / took))

    def product() -> None:
        for _ in range(repeats):
            once()

    return product
