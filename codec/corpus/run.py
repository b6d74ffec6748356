"""A corpus run: tasks to an engine, results to an output, failures to the ledger.

Only this process writes, and only complete files. Whatever dies at whatever moment, a recording is in the output once
or not at all.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from codec.corpus.ledger import Ledger
from codec.corpus.outputs import Output, audio_seconds
from codec.corpus.shards import SCHEMA, Table, pa
from codec.corpus.sources import Source
from codec.corpus.tokenizer import Settings, Tokenizer, plan_tasks
from codec.errors import CodecError
from codec.model.audio_codec import AudioCodec


class Engine(Protocol):
    """Runs tasks on workers."""

    num_workers: int

    def __call__(self, tasks: Sequence[Table], codec: AudioCodec, settings: Settings) -> Iterator[Table]:
        """Yield the results of tasks in any order, without those of a task whose worker died each time.

        Args:
            tasks: Tables of sources, to be begun in this order.
            codec: The model, in float32 on the CPU.
            settings: How to use it.
        """

    def close(self) -> None:
        """End the workers."""


class LocalEngine:
    """Encodes in this process.

    Args:
        device: Where the model runs.
    """

    num_workers = 1

    def __init__(self, device: str = "cpu") -> None:
        self._device = device

    def __call__(self, tasks: Sequence[Table], codec: AudioCodec, settings: Settings) -> Iterator[Table]:
        """Yield the results of tasks in their order."""
        yield from map(Tokenizer(codec, settings, self._device), tasks)

    def close(self) -> None:
        """There are no workers."""


class Progress(NamedTuple):
    """What has come in since the last report."""

    num_good: int
    """Recordings that were encoded."""
    num_bad: int
    """Recordings that failed."""
    seconds: float
    """Audio that was encoded (s)."""


def tokenise(
    sources: Sequence[Source], engine: Engine, codec: AudioCodec, settings: Settings, output: Output, ledger: Ledger
) -> Iterator[Progress]:
    """Encode the sources that are neither in the output nor known to be bad.

    A recording that kills its worker again and again, alone in its task too, is recorded as bad. When the iteration is
    interrupted, what is encoded is still written. The first report is of what was done before.

    Raises:
        WriteError: The output can't be written.
        CodecError: The sources can't be read, for a reason that is not theirs.
    """
    done, bad = output.names(), ledger.bad()
    yield Progress(len(done), len(bad), 0.0)
    left = {source.name: source for source in sources if source.name not in done and source.name not in bad}
    try:
        for tasks in _rounds(left, engine.num_workers):
            for table in engine(tasks, codec, settings):
                yield _take(table, left, output, ledger)
    except BaseException:
        with contextlib.suppress(CodecError):  # the first error counts
            output.close()
        raise
    output.close()
    ledger.add_bad(
        (name, "its worker died each time, for lack of memory perhaps: give it more, or cut it") for name in left
    )
    if left:
        yield Progress(0, len(left), 0.0)


def _rounds(left: dict[str, Source], num_workers: int) -> Iterator[list[Table]]:
    """All tasks; then a task for each recording that did not come back."""
    if left:
        yield plan_tasks(list(left.values()), num_workers)
    if left:
        yield [task for source in left.values() for task in plan_tasks([source], 1)]


def _take(table: Table, left: dict[str, Source], output: Output, ledger: Ledger) -> Progress:
    """Pass on the results of a task that are not known yet, and remove them from `left`."""
    names, errors = table["path"].to_pylist(), table["error"].to_pylist()
    outage = next((error for error, fatal in zip(errors, table["is_outage"].to_pylist(), strict=True) if fatal), None)
    if outage is not None:
        raise CodecError(f"{outage}; when that works again, give --resume")
    is_new = [left.pop(name, None) is not None for name in names]
    bad = [(name, error) for name, error, new in zip(names, errors, is_new, strict=True) if new and error is not None]
    is_good = [new and error is None for new, error in zip(is_new, errors, strict=True)]
    good = (table if all(is_good) else table.filter(pa.array(is_good))).select(SCHEMA.names)
    ledger.add_bad(bad)
    output.add(good)
    return Progress(good.num_rows, len(bad), audio_seconds(good))
