"""What codec-inspect prints: the facts of a file, of a model, and of the use of its codebooks, as aligned text."""

import textwrap
from collections.abc import Mapping
from typing import Any

from codec.bitstream import PACKED
from codec.bitstream.header import HEADER_BYTES, VERSION
from codec.eval.inspection.code_file import CodeFile
from codec.eval.inspection.codebooks import CodebookUse
from codec.eval.inspection.model import ModelFacts
from codec.model.quantizer.quantizer import CodebookHealth
from codec.table import Row, aligned

PARTS = {"encoder": "encoder", "search": "quantizer, search", "lookup": "quantizer, look-up", "decoder": "decoder"}
"""Names of the parts whose operations are counted."""
WIDTH = 110


def format_file(facts: CodeFile, model: str) -> str:
    """The facts of a file, one a line, then a row per level.

    Args:
        facts: Of a file.
        model: What is known of the model that made it, in words.
    """
    header, health = facts.header, facts.health
    payload = "packed" if header.payload_kind == PACKED else "entropy-coded"
    frame_ms = 1000 * header.hop_length / header.model_sample_rate
    chunk_s = header.frames_per_chunk * frame_ms / 1000
    num_chunks, num_intact = header.num_chunks, len(facts.chunk_bytes)
    state = "all intact" if num_intact == num_chunks else f"{num_intact} intact, {num_chunks - num_intact} lost"
    text = _listed(
        str(facts.path),
        {
            "format": f"version {VERSION}, {payload}",
            "model": f"{header.model_id.hex()[:12]} ({model})",
            "audio": f"{header.duration_s:.2f} s, {header.num_samples} samples at {header.sample_rate} Hz, "
            f"{_counted(header.num_channels, 'channel')}",
            "frames": f"{header.num_frames} of {frame_ms:.4g} ms: hop {header.hop_length}, delay {header.delay} "
            f"samples at {header.model_sample_rate} Hz",
            "codes": f"{_counted(header.num_quantizers, 'level')} of {header.codebook_size}",
            "chunks": f"{num_chunks} of {chunk_s:.4g} s, {state}{_sizes(facts.chunk_bytes)}",
            "index": "intact" if facts.has_index else "damaged or missing",
            "bytes": f"{facts.num_bytes}: {_describe_bytes(facts)}",
            "bitrate": f"{facts.bitrate / 1000:.2f} kbit/s, nominal {header.bitrate / 1000:.4g}",
            "damage": facts.damage,
        },
    )
    return text if health is None else f"{text}\n\n{_indented(aligned(_level_rows(health)))}"


def _sizes(chunk_bytes: list[int]) -> str:
    low, high = min(chunk_bytes, default=0), max(chunk_bytes, default=0)
    return "" if not high else f", {low} bytes each" if low == high else f", {low} to {high} bytes each"


def _describe_bytes(facts: CodeFile) -> str:
    parts = [f"header {HEADER_BYTES}", f"codes {sum(facts.chunk_bytes) - facts.overhead_bytes}"]
    parts += [f"chunk overhead {facts.overhead_bytes}", f"index {facts.index_bytes}"]
    return ", ".join(parts + ([f"damaged or foreign {facts.other_bytes}"] if facts.other_bytes else []))


def format_model(facts: ModelFacts) -> str:
    """The facts of a model, one a line, then tables of its parts, of its configuration and of its bitrates."""
    rate, field = facts.sample_rate, facts.receptive_field
    waits = f"hop {facts.hop_length} + delay {facts.delay}, of which lookahead {facts.lookahead}"
    decoder_ms = 1000 * field.decoder_frames * facts.hop_length / rate
    text = _listed(
        facts.name,
        {
            "folder": str(facts.folder),
            "identity": facts.identity.hex(),
            "sample rate": f"{rate} Hz",
            "frame rate": f"{facts.frame_rate:.6g} Hz, hop {_duration(facts.hop_length, rate)}",
            "latency": f"{_duration(facts.latency, rate)}: {waits}",
            "receptive field": f"{_duration(field.total_samples, rate)}: encoder "
            f"{_duration(field.encoder_samples, rate)}, decoder {_counted(field.decoder_frames, 'frame')} "
            f"({decoder_ms:.4g} ms)",
            "choice of levels": f"by the last {_duration(field.allocation_samples, rate)}"
            if field.allocation_samples
            else "",
            "files": ", ".join(f"{name} {_size(num)}" for name, num in facts.file_bytes.items()),
            "licence": facts.licence,
        },
    )
    tables = aligned(_part_rows(facts)), _configuration(facts.config), aligned(_rate_rows(facts))
    return "\n\n".join([text, *map(_indented, tables)])


def _part_rows(facts: ModelFacts) -> list[Row]:
    """Parameters and operations of each part; the quantizer has two kinds of operations."""
    parameters, operations = facts.parameters, facts.operations
    counts = [parameters.encoder, parameters.codebooks, None, parameters.decoder, sum(parameters)]
    costs = [*operations, sum(operations)]
    rows: list[Row] = [["part", "parameters", "MFLOP a second of audio"]]
    for name, count, cost in zip([*PARTS.values(), "total"], counts, costs, strict=True):
        rows.append([name, "" if count is None else f"{count:,}", f"{cost / 1e6:.1f}"])
    return rows


def _configuration(config: Mapping[str, Any]) -> str:
    """The values of each section of the configuration; those that are not set are left out."""
    sections = {name: values for name, values in config.items() if isinstance(values, dict)}
    width = max(map(len, sections)) + 2
    lines = []
    for name, values in sections.items():
        text = " ".join(f"{key}={_value(value)}" for key, value in values.items() if value not in (None, []))
        lines += textwrap.wrap(f"{name:<{width}}{text}", WIDTH, subsequent_indent=" " * width, break_on_hyphens=False)
    return "\n".join(lines)


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _rate_rows(facts: ModelFacts) -> list[Row]:
    has_tables = any(rate.in_files is not None for rate in facts.rates)
    rows: list[Row] = [["levels", "nominal kbit/s", *(["kbit/s in files"] if has_tables else [])]]
    for rate in facts.rates:
        in_files = [] if rate.in_files is None else [f"{rate.in_files / 1000:.2f}"]
        rows.append([str(rate.num_quantizers), f"{rate.nominal / 1000:.4g}", *in_files])
    return rows


def format_use(use: CodebookUse, facts: ModelFacts) -> str:
    """A row per level of how it uses its codebook, and what entropy coding could save."""
    num_frames = int(use.counts[0].sum())
    head = f"{_counted(use.num_files, 'file')}, {use.seconds:.1f} s of audio, {num_frames} frames, all levels"
    rows = _level_rows(use.health)
    dead = (use.counts == 0).sum(dim=1).tolist()
    rows = [[*row, text] for row, text in zip(rows, ["never used", *map(str, dead)], strict=True)]
    ideal = float(use.health.entropy.sum()) * facts.frame_rate / 1000
    last = f"entropy of all levels, each by itself: {ideal:.2f} of {facts.rates[-1].nominal / 1000:.4g} kbit/s"
    return _indented("\n".join([head, "", aligned(rows), "", last]))


def _level_rows(health: CodebookHealth) -> list[Row]:
    rows: list[Row] = [["level", "usage", "perplexity", "entropy (bit)"]]
    for level, (entropy, perplexity, usage) in enumerate(zip(*health, strict=True), start=1):
        rows.append([str(level), f"{usage:.1%}", f"{perplexity:.1f}", f"{entropy:.2f}"])
    return rows


def _listed(title: str, facts: Mapping[str, str]) -> str:
    """A title, and below it a line for each fact that is not empty."""
    width = max(map(len, facts))
    return "\n".join([title, *(f"  {name:<{width}}  {text}" for name, text in facts.items() if text)])


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _duration(num_samples: int, sample_rate: int) -> str:
    return f"{_counted(num_samples, 'sample')} ({1000 * num_samples / sample_rate:.4g} ms)"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.2f} MB" if num_bytes >= 100_000 else f"{num_bytes / 1000:.1f} kB"
