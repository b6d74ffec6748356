"""The work of a corpus run: tables of sources in, tables of codes out. A plain class, which any engine calls.

sources --plan_tasks--> tables of sources --Tokenizer--> tables of rows --> shards
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from codec.corpus.shards import SCHEMA, Row, Table, pa, to_table
from codec.corpus.sources import OutageError, Source, audio_file
from codec.errors import CodecError, one_line
from codec.inference.batching import Recording, Size, compress_batch, load_recording, plan_batches, read_size
from codec.inference.compression import compress_source
from codec.inference.modes import speed_up
from codec.model.audio_codec import AudioCodec

MIN_TASK_SECONDS, MAX_TASK_SECONDS = 20.0, 600.0
"""Audio of a task (s), unless one recording is longer: less would not pay for its scheduling, more would be lost when a
worker dies."""
TASKS_PER_WORKER = 32
"""So many tasks a worker, within these limits: the last to finish is not far behind the others."""
SOURCES = pa.schema(
    [
        ("name", pa.string()),
        ("url", pa.string()),
        ("seconds", pa.float64()),
        ("num_bytes", pa.int64()),
        ("start", pa.int64()),
        ("row", pa.int64()),
    ]
)
RESULTS = SCHEMA.append(pa.field("error", pa.string())).append(pa.field("is_outage", pa.bool_()))
"""Columns of a shard; or, where `error` is not null, a recording that failed, and whether all others would too."""


def plan_tasks(sources: Sequence[Source], num_workers: int) -> list[Table]:
    """Group sources into tasks, those of similar length together, the longest first.

    The longest recordings are never begun last, when the other workers have nothing left to do.

    Args:
        sources: What is left to do.
        num_workers: Workers that share the tasks.

    Returns:
        Tables with the columns `SOURCES`.
    """
    share = sum(source.seconds for source in sources) / (TASKS_PER_WORKER * num_workers)
    limit = min(max(MIN_TASK_SECONDS, share), MAX_TASK_SECONDS)
    tasks: list[list[Source]] = []
    seconds = 0.0
    for source in sorted(sources, key=lambda source: -source.seconds):
        if not tasks or seconds + source.seconds > limit:
            tasks.append([])
            seconds = 0.0
        tasks[-1].append(source)
        seconds += source.seconds
    return [pa.Table.from_pylist([source._asdict() for source in task], schema=SOURCES) for task in tasks]


class Settings(NamedTuple):
    """How a corpus is encoded."""

    num_quantizers: int
    """First levels to use."""
    beam: int
    """Paths that the search keeps."""
    mode: str
    """See `codec.inference.modes`."""
    batch_seconds: float
    """Audio of a batch at most (s), with padding; a longer recording is encoded by itself, block by block."""


class Tokenizer:
    """Encodes tables of sources.

    The codes of a recording are those of `compress_file`, up to near-ties of codewords where it was in a batch.

    Args:
        codec: The model in float32 on the CPU.
        settings: How to use it.
        device: Where it runs.
    """

    def __init__(self, codec: AudioCodec, settings: Settings, device: str = "cpu") -> None:
        self.codec = speed_up(codec.to(device), settings.mode)
        self.settings = settings
        self.capacity = round(settings.batch_seconds * codec.sample_rate)

    def __call__(self, sources: Table) -> Table:
        """Encode a table with the columns `SOURCES` to one with the columns `RESULTS`, in any order.

        A recording that can't be read or encoded is a row with its error.
        """
        rows: list[Row] = []
        errors: list[dict[str, object]] = []
        with contextlib.ExitStack() as stack:
            for name, result in self._encode([Source(**facts) for facts in sources.to_pylist()], stack):
                if isinstance(result, Row):
                    rows.append(result)
                else:
                    outage = isinstance(result, OutageError)
                    errors.append({"path": name, "error": one_line(result), "is_outage": outage})
        good = to_table(rows)
        for field in list(RESULTS)[len(SCHEMA) :]:
            good = good.append_column(field, pa.nulls(len(rows), field.type))
        return pa.concat_tables([good, pa.Table.from_pylist(errors, schema=RESULTS)])

    def _encode(self, sources: Sequence[Source], stack: contextlib.ExitStack) -> Iterator[tuple[str, Row | Exception]]:
        paths: dict[str, Path] = {}
        sizes: dict[str, Size] = {}
        for source in sources:
            try:
                paths[source.name] = stack.enter_context(audio_file(source))
                sizes[source.name] = read_size(paths[source.name], self.codec.sample_rate)
            except (CodecError, OutageError) as error:
                yield source.name, error
        names = list(sizes)
        for batch in plan_batches(list(sizes.values()), self.capacity):
            yield from self._encode_batch({names[at]: paths[names[at]] for at in batch})

    def _encode_batch(self, paths: Mapping[str, Path]) -> Iterator[tuple[str, Row | Exception]]:
        """Encode files in one pass; each by itself if there is one, or if the pass fails: that shows which is bad."""
        if len(paths) == 1:
            yield from ((name, self._encode_alone(name, path)) for name, path in paths.items())
            return
        recordings: dict[str, Recording] = {}
        for name, path in paths.items():
            try:
                recordings[name] = load_recording(path, self.codec.sample_rate)
            except CodecError as error:
                yield name, error
        try:
            num_quantizers, beam = self.settings.num_quantizers, self.settings.beam
            bitstreams = compress_batch(self.codec, list(recordings.values()), num_quantizers=num_quantizers, beam=beam)
        except Exception:  # of one recording, or of the memory for all
            yield from ((name, self._encode_alone(name, paths[name])) for name in recordings)
            return
        yield from ((name, Row(name, bitstream)) for name, bitstream in zip(recordings, bitstreams, strict=True))

    def _encode_alone(self, name: str, path: Path) -> Row | Exception:
        try:
            with torch.inference_mode():
                bitstream = compress_source(
                    self.codec, path, num_quantizers=self.settings.num_quantizers, beam=self.settings.beam
                )
            return Row(name, bitstream)
        except Exception as error:  # whatever it is, it does not stop the others
            return error
