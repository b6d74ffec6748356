"""A speed measurement as text: one aligned table for each question."""

from collections.abc import Iterator, Sequence

from codec.bench.bench import Benchmark
from codec.bench.timing import Spread
from codec.table import Row, aligned

PARTS = ("encoder", "search", "lookup", "decoder", "encode", "decode", "round trip")


def format_benchmark(benchmark: Benchmark) -> str:
    """Format all results: the machine and the model, our speed, memory, other codecs, and what is missing."""
    sections = [_describe_head(benchmark), *_our_tables(benchmark), *_peer_tables(benchmark)]
    if benchmark.unavailable:
        width = max(map(len, benchmark.unavailable))
        lines = [f"  {what:<{width}}  {why}" for what, why in benchmark.unavailable.items()]
        sections.append("\n".join(["Not measured:", *lines]))
    return "\n\n".join(sections)


def _our_tables(benchmark: Benchmark) -> Iterator[str]:
    plan = benchmark.plan
    yield _table(
        f"Whole signals of {plan.seconds:g} s, times real time (half of the rounds lie in the brackets)",
        ["threads", "mode", *PARTS],
        _offline_rows(benchmark),
    )
    yield _table(
        f"Share of this machine's peak (square matrix product of {plan.product_size}, same rounds)",
        ["threads", "mode", "part", "GFLOP/s", "product", "its GFLOP/s", "share"],
        [
            [
                *(str(row.num_threads), row.mode, row.part, _spread(row.gflop_per_s), row.product),
                *(_spread(row.product_gflop_per_s), f"{row.share.median:.0%}"),
            ]
            for row in benchmark.peak_shares
        ],
    )
    yield _table(
        "Live stream, encode and decode one block (ms); beside it a matrix product that shows what the machine does",
        ["threads", "mode", "block", "median", "99 %", "product median", "product 99 %"],
        [
            [
                *(str(row.num_threads), row.mode, f"{row.block_ms:g}", f"{row.median_ms:.2f}", f"{row.p99_ms:.2f}"),
                *(f"{row.product_median_ms:.2f}", f"{row.product_p99_ms:.2f}"),
            ]
            for row in benchmark.streams
        ],
    )
    yield _table(
        "Peak memory of a process that encodes and decodes a mono file, one thread, float32",
        ["file (s)", "loaded (MB)", "peak (MB)", "encode", "decode"],
        [
            [
                *(f"{row.file_s:g}", f"{row.loaded_bytes / 1e6:.0f}", f"{row.peak_bytes / 1e6:.0f}"),
                *(f"{row.encode_times_real_time:.0f}x", f"{row.decode_times_real_time:.0f}x"),
            ]
            for row in benchmark.memory
        ],
    )


def _describe_head(benchmark: Benchmark) -> str:
    machine, model = benchmark.machine, benchmark.model
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items() if version)
    millions = [f"{count / 1e6:.2f} M" for count in model.num_parameters]
    gflop = [f"{name} {value / 1e9:.3f}" for name, value in model.flop_per_s_of_audio._asdict().items()]
    return "\n".join(
        [
            f"{machine.cpu}, {machine.num_processors} processors, {machine.cpu_capability}; {versions}",
            f"{model.name}, model {model.identity[:12]}: {model.sample_rate_hz} Hz, hop {model.hop_length_samples}, "
            f"latency {model.latency_ms:g} ms, {model.bitrate_bit_per_s:g} bit/s",
            "parameters: encoder {}, codebooks {}, decoder {}".format(*millions),
            f"GFLOP per second of audio: {', '.join(gflop)}",
        ]
    )


def _offline_rows(benchmark: Benchmark) -> list[Row]:
    """One row per mode, one column per part."""
    speeds = {(row.num_threads, row.mode, row.part): row.times_real_time for row in benchmark.offline}
    return [
        [str(threads), mode, *(_spread(speeds.get((threads, mode, part))) for part in PARTS)]
        for threads, mode in dict.fromkeys(key[:2] for key in speeds)
    ]


def _peer_tables(benchmark: Benchmark) -> Iterator[str]:
    title = f"Other codecs on {benchmark.plan.seconds:g} s, times real time; ratio: our speed over theirs, pair by pair"
    about = {row.peer: f"  {row.peer}: {row.about}, {row.num_parameters / 1e6:.1f} M" for row in benchmark.peers}
    yield _table(
        "\n".join([title, *about.values()]),
        ["threads", "peer", "part", "theirs", "ours", "mode", "ratio", "rounds"],
        [
            [
                *(str(row.num_threads), row.peer, row.part),
                *(_spread(row.times_real_time), _spread(row.ours_times_real_time), row.mode),
                *(_spread(row.ours_over_theirs), str(row.ours_over_theirs.num_rounds)),
            ]
            for row in benchmark.peers
        ],
    )
    yield _table(
        "\n".join(["Residual quantizer beside vector-quantize-pytorch (ms)", *_describe_residual(benchmark)]),
        ["threads", "task", "ours", "theirs", "theirs / ours", "rounds"],
        [
            [
                *(str(compared.num_threads), row.task, _spread(row.ours_ms), _spread(row.theirs_ms)),
                *(_spread(row.theirs_over_ours), str(row.theirs_over_ours.num_rounds)),
            ]
            for compared in benchmark.residual
            for row in compared.speeds
        ],
    )


def _describe_residual(benchmark: Benchmark) -> list[str]:
    """What was quantized, and how well both agree; empty if nothing was compared."""
    lines = []
    for sizes, equal, difference in dict.fromkeys(row[1:4] for row in benchmark.residual):
        shape = f"{sizes.num_quantizers} x {sizes.codebook_size} codewords of {sizes.codebook_dim}"
        lines.append(
            f"  {shape}, {sizes.batch_size} x {sizes.num_frames} frames; equal codes {100 * equal:.6g} %, "
            f"largest difference of their sums {difference:.1g}"
        )
    return lines


def _table(title: str, header: Row, rows: Sequence[Row]) -> str:
    """A title above a table; without rows the title ends with "none"."""
    return f"{title}\n{aligned([header, *rows])}" if rows else f"{title}: none"


def _spread(value: Spread | None) -> str:
    """Median and quartiles with three digits; a dash if nothing was measured."""
    if value is None:
        return "-"
    digits = 0 if value.median >= 100 else 1 if value.median >= 10 else 2
    return f"{value.median:.{digits}f} [{value.quartile_1:.{digits}f}-{value.quartile_3:.{digits}f}]"
