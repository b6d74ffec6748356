"""How fast a codec is on this processor: whole signals part by part, and a live stream block by block.

Speed is seconds of audio per second (60 is sixty times real time), larger is faster. All that is compared runs in the
same rounds, see `codec.bench.timing`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codec.bench.operations import Operations, matrix_products
from codec.bench.timing import Spread, Task, clock, interleave, ratios, spread
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.model.codec import Codec

WHOLE = ("encode", "decode", "round trip")
"""What every mode can be measured by."""
NUM_WARM_UP_BLOCKS = 20
PRODUCT_SIZE = 256
"""Of the matrix product beside each block of a stream."""


class PartSpeed(NamedTuple):
    """Speed of a part of a codec on whole signals."""

    num_threads: int
    mode: str
    part: str
    times_real_time: Spread


class PeakShare(NamedTuple):
    """How near a part comes to the peak of the machine, measured in the same rounds by a square matrix product."""

    num_threads: int
    mode: str
    part: str
    gflop_per_s: Spread
    product: str
    """Kind of numbers of the matrix product."""
    product_gflop_per_s: Spread
    share: Spread


class StreamSpeed(NamedTuple):
    """Time to code one block of a live stream: push into the encoder, push its codes into the decoder.

    Beside each block runs a fixed matrix product: where its slowest are as far from its median as those of the stream,
    it was the machine.
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
    """Random audio `[1, 1, T]`; what a codec does takes as long for noise as for speech."""
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn(1, 1, max(1, round(seconds * sample_rate)), generator=generator)


@torch.inference_mode()
def measure_offline(
    codecs: Mapping[str, Codec], operations: Operations, *, seconds: float, num_rounds: int, product_size: int
) -> Offline:
    """Speed of every part of every mode on one signal.

    Args:
        codecs: The same model in several modes, by name, in eval mode.
        operations: Of the model.
        seconds: Audio per run.
        num_rounds: Measured rounds.
        product_size: Of the square matrix product that shows the machine's peak; large enough to reach it.
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
    """Sums of the times of each round."""
    return [sum(each) for each in zip(*times, strict=True)]


def part_tasks(codec: Codec, audio: Tensor) -> dict[str, Task]:
    """Tasks that encode and decode `audio` `[B, 1, T]`, and each part by itself where the mode runs the parts."""
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
    """Whether a method is that of every codec, and not one that a mode has put in its place."""
    return method not in vars(codec) and getattr(type(codec), method) is getattr(Codec, method)


def _share(
    mode: str, part: str, ours: tuple[float, Sequence[float]], product: str, peak: tuple[float, Sequence[float]]
) -> PeakShare:
    """Put a part beside a matrix product; each is its FLOP and its times (s)."""
    speeds, peaks = ([flop / 1e9 / took for took in times] for flop, times in (ours, peak))
    threads = torch.get_num_threads()
    return PeakShare(threads, mode, part, spread(speeds), product, spread(peaks), ratios(speeds, peaks))


@torch.inference_mode()
def measure_stream(codec: Codec, mode: str, *, block_ms: float, num_blocks: int, budget_s: float) -> StreamSpeed:
    """Code a live stream block by block, with a fixed matrix product of about 1 ms after each.

    Args:
        codec: In eval mode.
        mode: Its name in the result.
        block_ms: Audio per block. A block in which no frame ends is encoded, and nothing is decoded.
        num_blocks: Measured blocks; some more run before them.
        budget_s: Fewer blocks, but one at least, if they take longer than that.
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
    """A matrix product, as often as it takes about 1 ms."""
    once = matrix_products(PRODUCT_SIZE)["float32"]
    took = min(clock(once) for _ in range(20))
    repeats = max(1, round(1e-3 / took))

    def product() -> None:
        for _ in range(repeats):
            once()

    return product
