"""Corpus runs in this process: each recording once, whatever interrupts; ledgers, outputs and what is refused."""

import errno
import json
import os

import numpy as np
import pytest
from messages import one_line

pa = pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from corpus_cases import (  # noqa: E402 - it can't be imported without pyarrow
    LENGTHS,
    SETTINGS,
    make_codec,
    make_shards,
    sources_of,
    write_folder,
)

from codec.corpus import outputs, shards  # noqa: E402
from codec.corpus.ledger import BAD_FILE, Ledger, corpus_facts, locked, read_facts  # noqa: E402
from codec.corpus.outputs import CodeFiles, file_paths  # noqa: E402
from codec.corpus.run import LocalEngine, tokenise  # noqa: E402
from codec.corpus.sources import OutageError  # noqa: E402
from codec.corpus.tokenizer import Tokenizer, plan_tasks  # noqa: E402
from codec.errors import CodecError, ConfigError, DiskFullError, WriteError  # noqa: E402
from codec.inference.compression import describe_codes  # noqa: E402


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = write_folder(tmp_path_factory.mktemp("corpus"))
    (folder / "junk.wav").write_bytes(b"junk")
    return sources_of(folder)


class OneByOne(LocalEngine):
    """A task for each recording; its worker dies on some of them, and the first of its results come twice."""

    def __init__(self, *deadly):
        super().__init__()
        self.deadly = deadly
        self.tried = []

    def __call__(self, tasks, codec, settings):
        tokenizer = Tokenizer(codec, settings)
        for row in pa.concat_tables(tasks).to_pylist():
            self.tried.append(row["name"])
            if row["name"] not in self.deadly:
                table = tokenizer(pa.Table.from_pylist([row], schema=tasks[0].schema))
                yield table
                if len(self.tried) == 1:
                    yield table


def run(folder, sources, codec, engine=None, *, resume=False, seconds=0.0):
    """Reports of a run whose every task makes a shard."""
    ledger = Ledger(folder, corpus_facts(sources), resume=resume)
    output = make_shards(folder, codec, seconds=seconds)
    return list(tokenise(sources, engine or OneByOne(), codec, SETTINGS, output, ledger))


def stored(folder):
    return [name for path in shards.shard_paths(folder) for name in shards.read_paths(path)]


@pytest.fixture
def out(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_every_recording_is_there_once(out, sources, codec):
    reports = run(out, sources, codec)
    assert sorted(stored(out)) == sorted(LENGTHS)
    assert (sum(report.num_good for report in reports), sum(report.num_bad for report in reports)) == (len(LENGTHS), 1)
    seconds = sum(length / (22_050 if "stereo" in name else 16_000) for name, length in LENGTHS.items())
    assert sum(report.seconds for report in reports) == pytest.approx(seconds)
    (line,) = [json.loads(line) for line in (out / BAD_FILE).read_text().split("\n") if line]
    assert line["path"] == "junk.wav" and "not audio" in line["reason"]


@pytest.mark.parametrize("num_tasks", range(len(LENGTHS) + 2))
def test_a_run_goes_on_after_an_interruption_at_any_task(out, sources, codec, num_tasks):
    reports = tokenise(
        sources,
        engine := OneByOne(),
        codec,
        SETTINGS,
        make_shards(out, codec),
        Ledger(out, corpus_facts(sources), resume=False),
    )
    for _ in range(num_tasks + 1):
        next(reports)
    reports.close()  # as Ctrl-C and SIGTERM do: what is encoded is written
    before, first = stored(out), list(engine.tried)
    run(out, sources, codec, engine, resume=True)
    assert sorted(stored(out)) == sorted(LENGTHS)
    assert len(before) + ("junk.wav" in first[:num_tasks]) >= num_tasks - 1  # the first result came twice
    assert set(engine.tried[len(first) :]).isdisjoint(before)


def test_what_a_killed_process_left_is_encoded_again(out, sources, codec):
    run(out, sources, codec)
    lost = shards.shard_paths(out)[-1]
    lost.rename(out / ".0123456789abcdef.partial")
    with (out / BAD_FILE).open("a") as file:
        file.write("\n" + "[" * 100_000 + '\n{"path": "a/one.w')
    run(out, sources, codec, resume=True)
    assert sorted(stored(out)) == sorted(LENGTHS)


def test_a_recording_that_kills_its_worker_is_bad_and_the_others_are_not(out, sources, codec):
    run(out, sources, codec, engine := OneByOne("b/one.wav"))
    assert sorted(stored(out)) == sorted(LENGTHS.keys() - {"b/one.wav"})
    assert engine.tried.count("b/one.wav") == 2
    ledger = Ledger(out, corpus_facts(sources), resume=True)
    assert "died" in ledger.bad()["b/one.wav"]
    assert run(out, sources, codec, resume=True)[1:] == []


@pytest.mark.parametrize("seconds", [0.1, 1e9])
def test_shards_hold_as_much_audio_as_asked(out, sources, codec, seconds):
    run(out, sources, codec, seconds=seconds)
    sizes = [sum(row.bitstream.duration_s for row in shards.read_shard(path)) for path in shards.shard_paths(out)]
    assert all(size >= seconds for size in sizes[:-1]) and (len(sizes) == 1) == (seconds > 1)


def test_a_shard_is_written_after_some_minutes_at_the_latest(out, sources, codec, monkeypatch):
    monkeypatch.setattr(outputs, "COMMIT_S", 0.0)
    run(out, sources, codec, seconds=1e9)
    assert len(shards.shard_paths(out)) == len(LENGTHS)


def test_a_full_disk_ends_the_run_which_can_go_on(out, sources, codec, monkeypatch):
    fsync, calls = os.fsync, []

    def full(number):
        calls.append(number)
        if 2 <= len(calls) <= 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(number)

    monkeypatch.setattr("codec.files.os.fsync", full)
    with pytest.raises(DiskFullError, match=one_line("tokens-00000.parquet", "No space left")):
        run(out, sources, codec)
    assert stored(out) == []
    run(out, sources, codec, resume=True)
    assert sorted(stored(out)) == sorted(LENGTHS)


def test_a_folder_that_cant_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=one_line(tmp_path / "file")), locked(tmp_path / "file" / "out"):
        pass


def test_an_outage_ends_the_run_and_nothing_is_bad(out, sources, codec, monkeypatch):
    def fail(source):
        raise OutageError("can't read s3://x: no answer")

    monkeypatch.setattr("codec.corpus.tokenizer.audio_file", fail)
    with pytest.raises(CodecError, match=one_line("no answer", "--resume")):
        run(out, sources, codec)
    assert not (out / BAD_FILE).exists()


def test_two_runs_dont_share_a_folder(out):
    with locked(out), pytest.raises(ConfigError, match=one_line("another run", out)), locked(out):
        pass
    with locked(out):
        pass


def test_another_corpus_model_or_setting_is_refused(out, sources):
    facts = corpus_facts(sources) | {"model": "aa", "beam": 4}
    Ledger(out, facts, resume=True)
    with pytest.raises(ConfigError, match=one_line("already", "resume=True")):
        Ledger(out, facts, resume=False)
    for changed in (corpus_facts(sources[1:]), {"model": "bb"}, {"beam": 1}):
        with pytest.raises(ConfigError, match=one_line(out, "another", "-o")):
            Ledger(out, facts | changed, resume=True)
    Ledger(out, facts | corpus_facts(sources[::-1]), resume=True)
    (out / "corpus.json").write_text("{")
    with pytest.raises(ConfigError, match=one_line("corpus.json is damaged")):
        read_facts(out)


@pytest.mark.parametrize("suffix", [".codec", ".npz"])
def test_files_of_codes(tmp_path, sources, codec, suffix):
    names = [source.name for source in sources]
    model = describe_codes(codec, 4)
    tables = [Tokenizer(codec, SETTINGS)(task) for task in plan_tasks(sources, 1)]
    good = pa.concat_tables(tables).filter(pa.compute.is_null(pa.concat_tables(tables)["error"]))
    output = CodeFiles(tmp_path, suffix, codec, model, names)
    output.add(good.select(shards.SCHEMA.names))
    assert output.names() == set(LENGTHS) and (tmp_path / f"a/one{suffix}").is_file()
    expected = {row.path: row.bitstream for row in shards.table_rows(good.select(shards.SCHEMA.names), model)}
    for row in output.rows():
        np.testing.assert_array_equal(row.bitstream.codes, expected[row.path].codes)


def test_names_of_files(tmp_path):
    paths = file_paths(tmp_path, ["a/x.wav", "a/x.flac", "y.b.wav"], ".codec")
    assert [path.relative_to(tmp_path).as_posix() for path in paths.values()] == [
        "a/x.wav.codec",
        "a/x.flac.codec",
        "y.b.codec",
    ]
    for name in ("../x.wav", "/x.wav", "a/../../x.wav", "a\0.wav"):
        with pytest.raises(ConfigError, match="leads out of"):
            file_paths(tmp_path, [name], ".codec")
