"""The complete speed measurement of a model: modes, live streams, memory, other codecs and quantizers."""

import contextlib
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from codec.bench.memory import FileMemory, measure_memory
from codec.bench.peers import PeerSpeed, load_peer, measure_peer
from codec.bench.residual_peer import ResidualComparison, Sizes, compare_residual
from codec.bench.speed import PartSpeed, PeakShare, StreamSpeed, measure_offline, measure_stream
from codec.bench.timing import describe_threads, using_threads
from codec.dsp.precision import has_fast_bfloat16
from codec.environment import num_processors, package_version
from codec.errors import CodecError, ConfigError
from codec.eval.inspection.operations import Operations, Parameters, count_operations, count_parameters
from codec.inference.modes import speed_up
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.model.quantizer.residual import ResidualQuantizer
from codec.progress import progress_bar

PACKAGES = ("torch", "onnxruntime", "transformers", "snac", "vector-quantize-pytorch")
CPUINFO = Path("/proc/cpuinfo")


class Plan(NamedTuple):
    """What to measure, and how long."""

    modes: Sequence[str]
    """Names in `codec.inference.modes`."""
    peers: Sequence[str]
    """Names in `codec.bench.peers`."""
    threads: Sequence[int]
    seconds: float
    """Audio of a run on whole signals (s)."""
    block_ms: float
    """Audio of a block of the live stream (ms)."""
    num_rounds: int
    file_s: Sequence[float]
    """Lengths of the files whose memory is measured (s)."""
    num_blocks: int = 500
    product_size: int = 2048
    """Rows and columns of the matrix product that measures the machine's peak."""
    batch_size: int = 16
    """Items of `seconds` each in the comparison of quantizers."""
    budget_s: float = 10.0
    """Time limit for a peer, for a quantizer task and for a stream (s): slow ones get fewer rounds or blocks."""


class Machine(NamedTuple):
    """The machine of a measurement."""

    cpu: str
    cpu_capability: str
    """Vector instructions that torch uses, such as AVX2."""
    fast_bfloat16: bool
    num_processors: int
    platform: str
    python: str
    versions: dict[str, str | None]
    """By package; None if it is not installed."""


class Model(NamedTuple):
    """The measured model."""

    name: str
    identity: str
    sample_rate_hz: int
    hop_length_samples: int
    latency_ms: float
    bitrate_bit_per_s: float
    num_parameters: Parameters
    flop_per_s_of_audio: Operations


class Benchmark(NamedTuple):
    """Result of `run_benchmark`."""

    machine: Machine
    model: Model
    plan: Plan
    unavailable: dict[str, str]
    """Why some modes, peers or comparisons could not be measured."""
    offline: list[PartSpeed]
    peak_shares: list[PeakShare]
    streams: list[StreamSpeed]
    memory: list[FileMemory]
    peers: list[PeerSpeed]
    residual: list[ResidualComparison]


def run_benchmark(codec: Codec, name: str, plan: Plan, *, progress: bool = True) -> Benchmark:
    """Measure the speed of a model on the CPU.

    Args:
        codec: On the CPU, in eval mode.
        name: Of the model, for the result.
        plan: What to measure.
        progress: Show a progress bar.

    Raises:
        ConfigError: None of the modes is available.
    """
    model = _describe_model(codec, name)
    result = Benchmark(describe_machine(), model, plan, {}, [], [], [], [], [], [])
    num_steps = len(plan.file_s) + len(plan.threads) * (2 + 2 * len(plan.modes) + len(plan.peers))
    with progress_bar(total=num_steps, desc="codec-bench", unit="step", hidden=None if progress else True) as bar:
        for threads in plan.threads:
            with using_threads(threads):
                for step in _measure(codec, result):
                    bar.set_postfix_str(f"{step}, {describe_threads(threads)}")
                    bar.update()
        bar.set_postfix_str("memory")
        with _noting(result.unavailable, "memory"):
            result.memory.extend(measure_memory(codec, plan.file_s, on_file=bar.update))
    return result


def _measure(codec: Codec, result: Benchmark) -> Iterator[str]:
    """Add the measurements at the current number of threads to the result; yield the name of each next step."""
    plan, operations = result.plan, result.model.flop_per_s_of_audio
    codecs: dict[str, Codec] = {}
    for mode in plan.modes:
        with _noting(result.unavailable, f"mode {mode}"):
            codecs[mode] = speed_up(codec, mode)
        yield "whole signals"
    if not codecs:
        raise ConfigError(f"no mode is available: {'; '.join(result.unavailable.values())}")
    offline = measure_offline(
        codecs, operations, seconds=plan.seconds, num_rounds=plan.num_rounds, product_size=plan.product_size
    )
    result.offline.extend(offline.speeds)
    result.peak_shares.extend(offline.shares)
    for mode in plan.modes:
        yield f"stream {mode}"
        if mode in codecs:
            with _noting(result.unavailable, f"stream {mode}"):
                stream = measure_stream(
                    codecs[mode], mode, block_ms=plan.block_ms, num_blocks=plan.num_blocks, budget_s=plan.budget_s
                )
                result.streams.append(stream)
    for name in plan.peers:
        yield name
        with _noting(result.unavailable, f"peer {name}"):
            speeds = measure_peer(
                codecs, load_peer(name), seconds=plan.seconds, num_rounds=plan.num_rounds, budget_s=plan.budget_s
            )
            result.peers.extend(speeds)
    yield "quantizer"
    with _noting(result.unavailable, "quantizer beside vector-quantize-pytorch"):
        result.residual.append(_compare_residual(codec, plan))
    yield "done"


@contextlib.contextmanager
def _noting(notes: dict[str, str], what: str) -> Iterator[None]:
    """Record an error as the reason why something is unavailable, and go on."""
    try:
        yield
    except CodecError as error:
        notes[what] = str(error)


def _compare_residual(codec: Codec, plan: Plan) -> ResidualComparison:
    quantizer = codec.quantizer
    if not isinstance(quantizer, ResidualQuantizer):
        raise ConfigError(f"the model's quantizer is a {type(quantizer).__name__}, not a residual quantizer")
    num_quantizers, codebook_size, codebook_dim = quantizer.codebooks.table.shape
    num_frames = max(1, round(plan.seconds * codec.config.frame_rate))
    sizes = Sizes(num_quantizers, codebook_size, codebook_dim, plan.batch_size, num_frames)
    return compare_residual(sizes, num_rounds=plan.num_rounds, budget_s=plan.budget_s)


def _describe_model(codec: Codec, name: str) -> Model:
    config = codec.config
    return Model(
        name,
        model_identity(codec).hex(),
        codec.sample_rate,
        codec.hop_length,
        1000 * codec.latency / codec.sample_rate,
        codec.quantizer.num_quantizers * config.bitrate_per_level,
        count_parameters(codec),
        count_operations(codec),
    )


def describe_machine() -> Machine:
    """Describe processor, system and versions."""
    return Machine(
        _cpu_name(),
        torch.backends.cpu.get_cpu_capability(),
        has_fast_bfloat16(torch.device("cpu")),
        num_processors(),
        platform.platform(),
        platform.python_version(),
        {name: package_version(name) for name in PACKAGES},
    )


def _cpu_name() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
