"""Figure of a speed measurement: round trips and other codecs, blocks of a live stream, memory over file length."""

from typing import TYPE_CHECKING

from codec.bench.bench import Benchmark
from codec.bench.timing import Spread, describe_threads
from codec.eval.plotting import BLACK, BLUE, GREY, ORANGE, SKY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALE = "#F5D491"
OURS, THEIRS = (BLUE, SKY), (ORANGE, PALE)
"""Colours for the first number of threads, and for all others."""
ROUND_TRIP = "round trip"


def speed_figure(benchmark: Benchmark) -> "Figure":
    """Draw a measurement in three panels; the figure has no window, `figure.savefig(path)` writes it."""
    from matplotlib.figure import Figure  # slow to import, and few runs draw

    figure = Figure(figsize=(12, 6), layout="constrained")
    panels = figure.subplot_mosaic([["speed", "stream"], ["speed", "memory"]], width_ratios=[1.2, 1])
    _draw_speed(panels["speed"], benchmark)
    _draw_stream(panels["stream"], benchmark)
    _draw_memory(panels["memory"], benchmark)
    figure.suptitle(f"{benchmark.model.name} on {benchmark.machine.cpu}")
    return figure


def _draw_speed(axis: "Axes", benchmark: Benchmark) -> None:
    """Draw round trips: a group of bars per mode and peer, a bar per number of threads."""
    from matplotlib.ticker import StrMethodFormatter  # slow to import, and few runs draw

    ours = {(row.mode, row.num_threads): row.times_real_time for row in benchmark.offline if row.part == ROUND_TRIP}
    theirs = {(row.peer, row.num_threads): row.times_real_time for row in benchmark.peers if row.part == ROUND_TRIP}
    labels: list[str] = []
    for speeds, colours, prefix in ((ours, OURS, "this codec, "), (theirs, THEIRS, "")):
        for name in dict.fromkeys(name for name, _ in speeds):
            group = {threads: speed for (other, threads), speed in speeds.items() if other == name}
            _draw_bars(axis, len(labels), group, colours)
            labels.append(prefix + name)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xscale("log")
    medians = [speed.median for speed in (*ours.values(), *theirs.values())]
    axis.set_xlim(min(medians) / 2, 8 * max(medians))  # room for the text beside the bars
    axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axis.set_xlabel("times real time, encode and decode (log)")
    axis.set_title(f"Whole signals of {benchmark.plan.seconds:g} s")


def _draw_bars(axis: "Axes", position: int, group: dict[int, Spread], colours: tuple[str, str]) -> None:
    """Draw the speeds of one codec by number of threads, centred at a place on the vertical axis."""
    height = 0.8 / len(group)
    for index, (threads, speed) in enumerate(group.items()):
        y = position + (index - (len(group) - 1) / 2) * height
        quartiles = [[speed.median - speed.quartile_1], [speed.quartile_3 - speed.median]]
        axis.barh(y, speed.median, 0.92 * height, color=colours[min(index, 1)], xerr=quartiles, ecolor=BLACK)
        text = f"{speed.median:.3g} x, {describe_threads(threads)}"
        axis.annotate(text, (speed.quartile_3, y), (5, 0), textcoords="offset points", va="center", fontsize=9)


def _draw_stream(axis: "Axes", benchmark: Benchmark) -> None:
    """Draw median and 99th percentile of the time of a block, and of the matrix product that ran after each."""
    labels = []
    for position, row in enumerate(benchmark.streams):
        shown = (
            (position - 0.13, BLUE, "block", row.median_ms, row.p99_ms),
            (position + 0.13, GREY, "matrix product after each block", row.product_median_ms, row.product_p99_ms),
        )
        for y, colour, label, median, p99 in shown:
            axis.plot([median, p99], [y, y], color=colour, linewidth=2.5)
            axis.plot(median, y, "o", color=colour, label=label if position == 0 else None)
            axis.plot(p99, y, "|", color=colour, markersize=9, markeredgewidth=2.5)
        labels.append(f"{row.mode}, {describe_threads(row.num_threads)}")
    axis.axvline(benchmark.plan.block_ms, color=BLACK, linestyle=":", label="duration of a block")
    axis.set_yticks(range(len(labels)), labels)
    axis.set_ylim(len(labels) - 0.5, -0.5)
    longest = max((row.p99_ms for row in benchmark.streams), default=0.0)
    axis.set_xlim(0, 1.6 * max(longest, benchmark.plan.block_ms))  # room for the legend
    axis.set_xlabel("time (ms): median (dot) to 99th percentile (bar)")
    axis.set_title(f"Live stream, a block of {benchmark.plan.block_ms:g} ms")
    axis.legend(fontsize=9)


def _draw_memory(axis: "Axes", benchmark: Benchmark) -> None:
    seconds = [row.file_s for row in benchmark.memory]
    peaks = [row.peak_bytes / 1e6 for row in benchmark.memory]
    axis.plot(seconds, peaks, "o-", color=BLUE, label="peak")
    loaded = [row.loaded_bytes / 1e6 for row in benchmark.memory]
    axis.plot(seconds, loaded, "s--", color=GREY, label="before the file: Python, torch, model")
    axis.set_xscale("log")
    axis.set_xticks(seconds, [f"{value:g}" for value in seconds])
    axis.minorticks_off()
    axis.set_ylim(0, 1.2 * max(peaks))
    axis.set_xlabel("length of the file (s, log)")
    axis.set_ylabel("memory (MB)")
    axis.set_title("Encode and decode a file, one thread")
    axis.legend(loc="lower right", fontsize=9)
