"""The work of a corpus run, without an engine: the codes of each recording are those of the file by itself."""

import numpy as np
import pytest
import soundfile as sf
import torch
from models import assert_codes_equal

pa = pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from corpus_cases import (  # noqa: E402 - it can't be imported without pyarrow
    LENGTHS,
    SETTINGS,
    make_codec,
    sources_of,
    write_folder,
    write_parquet,
    write_tar,
)

from codec.corpus.shards import SCHEMA, table_rows  # noqa: E402
from codec.corpus.sources import OutageError, Source  # noqa: E402
from codec.corpus.tokenizer import RESULTS, Tokenizer, plan_tasks  # noqa: E402
from codec.inference.batching import load_recording  # noqa: E402
from codec.inference.compression import compress_source, describe_codes  # noqa: E402


@pytest.fixture(scope="module")
def codec():
    return make_codec()


def run(codec, sources, settings=SETTINGS):
    """Bitstreams and errors by name."""
    tokenizer = Tokenizer(codec, settings)
    results = pa.concat_tables([tokenizer(task) for task in plan_tasks(sources, 1)])
    assert results.schema == RESULTS
    good = results.filter(pa.compute.is_null(results["error"])).select(SCHEMA.names)
    bad = results.filter(pa.compute.is_valid(results["error"])).to_pylist()
    model = describe_codes(codec, settings.num_quantizers)
    return {row.path: row.bitstream for row in table_rows(good, model)}, {row["path"]: row for row in bad}


def assert_same_as_file(codec, found, path):
    alone = compress_source(codec, path, num_quantizers=4, beam=1)
    assert (found.header.num_samples, found.header.sample_rate) == (alone.header.num_samples, alone.header.sample_rate)
    audio = codec.pad(load_recording(path, codec.sample_rate).audio[:, None])
    both = [torch.from_numpy(np.ascontiguousarray(each.codes)) for each in (found, alone)]
    with torch.inference_mode():
        assert_codes_equal(codec, *both, codec.encoder(audio))


@pytest.mark.parametrize("write", [write_tar, write_parquet])
def test_codes_are_those_of_the_file_by_itself(tmp_path, codec, write):
    folder = write_folder(tmp_path / "in")
    for given in (folder, write(tmp_path / "container")):
        if not given.is_dir():
            given = given.rename(given.with_suffix(".tar" if write is write_tar else ".parquet"))
        found, bad = run(codec, sources_of(given))
        assert not bad and sorted(found) == sorted(LENGTHS)
        for name, bitstream in found.items():
            assert_same_as_file(codec, bitstream, folder / name)


def test_levels_and_beam_have_their_effect(tmp_path, codec):
    sources = sources_of(write_folder(tmp_path / "in", {"a.wav": 3000}))
    two, _ = run(codec, sources, SETTINGS._replace(num_quantizers=2))
    beam, _ = run(codec, sources, SETTINGS._replace(beam=4))
    alone = compress_source(codec, tmp_path / "in/a.wav", num_quantizers=4, beam=4)
    assert two["a.wav"].codes.shape[1] == 2
    np.testing.assert_array_equal(beam["a.wav"].codes, alone.codes)


def test_a_bad_recording_does_not_stop_the_others(tmp_path, codec):
    folder = write_folder(tmp_path / "in", LENGTHS | {"cut.wav": 3000, "late.flac": 3000})
    (folder / "junk.wav").write_bytes(b"junk")
    (folder / "empty.wav").write_bytes(b"")
    (folder / "cut.wav").write_bytes((folder / "cut.wav").read_bytes()[:3000])
    flac = (folder / "late.flac").read_bytes()  # its header is right: only decoding finds the damage
    (folder / "late.flac").write_bytes(flac[:3000] + bytes(50) + flac[3050:])
    found, bad = run(codec, sources_of(folder))
    assert sorted(found) == sorted(LENGTHS)
    facts = {"junk.wav": "not audio", "empty.wav": "empty", "cut.wav": "truncated", "late.flac": "damaged"}
    assert sorted(bad) == sorted(facts)
    for name, fact in facts.items():
        assert fact in bad[name]["error"] and "\n" not in bad[name]["error"] and not bad[name]["is_outage"]


def test_audio_that_the_encoder_refuses_is_bad_and_its_batch_is_not(tmp_path, codec):
    folder = write_folder(tmp_path / "in", {"a.wav": 3000, "b.wav": 3001})
    sf.write(folder / "loud.wav", np.full(3000, 9.0), 16_000, "FLOAT")
    found, bad = run(codec, sources_of(folder))
    assert sorted(found) == ["a.wav", "b.wav"] and list(bad) == ["loud.wav"]
    assert "peak" in bad["loud.wav"]["error"]


def test_an_outage_is_told_from_a_bad_recording(tmp_path, codec, monkeypatch):
    def fail(source):
        raise OutageError("the disk is gone")

    monkeypatch.setattr("codec.corpus.tokenizer.audio_file", fail)
    _, bad = run(codec, sources_of(write_folder(tmp_path / "in", {"a.wav": 90})))
    assert bad["a.wav"]["is_outage"] and bad["a.wav"]["error"] == "the disk is gone"


def make_sources(*seconds):
    return [Source(f"{number}", "x", each) for number, each in enumerate(seconds)]


def test_tasks_hold_each_source_once_the_longest_first():
    sources = make_sources(*[5.0, 9000.0, 7.0, 3.0, 40.0] * 20)
    tasks = plan_tasks(sources, 2)
    planned = [Source(**facts) for task in tasks for facts in task.to_pylist()]
    assert sorted(planned) == sorted(sources)
    assert [source.seconds for source in planned] == sorted((source.seconds for source in sources), reverse=True)
    totals = [sum(task["seconds"].to_pylist()) for task in tasks]
    assert all(total <= 600 or task.num_rows == 1 for total, task in zip(totals, tasks, strict=True))


@pytest.mark.parametrize(
    ("count", "seconds", "num_tasks"), [(10, 2.0, 1), (640, 20.0, 64), (100_000, 6.0, 1000), (3, 900.0, 3)]
)
def test_number_of_tasks(count, seconds, num_tasks):
    """Twenty seconds a task at least, ten minutes at most; between, 32 tasks a worker."""
    assert len(plan_tasks(make_sources(*[seconds] * count), 2)) == num_tasks
