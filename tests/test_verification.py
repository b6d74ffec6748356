"""Verifying a corpus: what is intact passes, and each kind of fault is found and named."""

from dataclasses import replace

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from corpus_cases import LENGTHS, SETTINGS, make_codec, make_shards, sources_of, write_folder  # noqa: E402

from codec.bitstream import Bitstream  # noqa: E402
from codec.corpus import shards, verification  # noqa: E402
from codec.corpus.shards import Row, to_table  # noqa: E402
from codec.corpus.tokenizer import Tokenizer, plan_tasks  # noqa: E402
from codec.inference.compression import describe_codes  # noqa: E402


@pytest.fixture(scope="module")
def codec():
    return make_codec()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return sources_of(write_folder(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="module")
def rows(codec, sources):
    tables = [Tokenizer(codec, SETTINGS)(task).select(shards.SCHEMA.names) for task in plan_tasks(sources, 1)]
    return list(shards.table_rows(pa.concat_tables(tables), describe_codes(codec, 4)))


def verified(folder, codec, sources, rows, bad=(), form="parquet"):
    """What is found in shards of the rows."""
    output = make_shards(folder, codec, form)
    output.add(to_table(rows))
    output.close()
    return list(verification.verify(output, sources, bad, codec, SETTINGS))[-1]


@pytest.mark.parametrize("form", ["parquet", "wds"])
def test_what_was_encoded_is_right(tmp_path, codec, sources, rows, form):
    found = verified(tmp_path, codec, sources, rows, form=form)
    assert found.problems == []
    assert (found.num_rows, found.num_compared) == (len(LENGTHS), len(LENGTHS))
    assert found.seconds == pytest.approx(sum(row.bitstream.duration_s for row in rows))


def test_missing_unknown_and_repeated_recordings(tmp_path, codec, sources, rows):
    found = verified(tmp_path, codec, sources[1:], [*rows[:-1], rows[0]], bad=())
    missing = {source.name for source in sources[1:]} - {row.path for row in rows[:-1]}
    expected = [f"{rows[0].path} is there twice", *(f"{name} is missing" for name in missing)]
    assert found.problems == [*expected, f"{sources[0].name} is not in the corpus"]
    assert verified(tmp_path / "b", codec, sources, rows[:-1], bad={rows[-1].path}).problems == []


def test_codes_of_other_audio(tmp_path, codec, sources, rows):
    changed = [Row(name, replace(bitstream, codes=bitstream.codes[..., ::-1])) for name, bitstream in rows]
    problems = verified(tmp_path, codec, sources, [changed[0], *rows[1:]]).problems
    assert len(problems) == 1 and problems[0].startswith(f"{rows[0].path} has other codes")


def test_one_wrong_frame_is_no_near_tie(tmp_path, codec, sources, rows):
    codes = rows[0].bitstream.codes.copy()
    codes[0, 0, 7] = (codes[0, 0, 7] + 5) % 16
    changed = Row(rows[0].path, Bitstream(rows[0].bitstream.header, codes))
    (problem,) = verified(tmp_path, codec, sources, [changed, *rows[1:]]).problems
    assert problem.startswith(f"{rows[0].path} has other codes")


def test_codes_of_another_length(tmp_path, codec, sources, rows):
    (short,) = [row for row in rows if row.path == "b/one.wav"]
    others = [row for row in rows if row.path not in ("b/one.wav", "a/one.wav")]
    problems = verified(tmp_path, codec, sources, [*others, Row("a/one.wav", short.bitstream), short]).problems
    assert len(problems) == 1 and "a/one.wav has codes" in problems[0]


def test_a_damaged_shard(tmp_path, codec, sources, rows):
    output = make_shards(tmp_path, codec, seconds=0.0)
    for row in rows:
        output.add(to_table([row]))
    path = shards.shard_paths(tmp_path)[1]
    path.write_bytes(path.read_bytes()[:-20])
    problems = list(verification.verify(output, sources, (), codec, SETTINGS))[-1].problems
    assert len(problems) == 2 and path.name in problems[0] and problems[1] == f"{rows[1].path} is missing"


def test_audio_that_is_gone(tmp_path, codec, sources, rows):
    places = [source._replace(url="/gone.wav") for source in sources]
    problems = verified(tmp_path, codec, places, rows).problems
    assert len(problems) == len(rows) and all("can't be encoded again" in problem for problem in problems)


def test_the_sample_is_of_short_recordings_first(tmp_path, codec, sources, rows, monkeypatch):
    monkeypatch.setattr(verification, "SAMPLE", 2)
    monkeypatch.setattr(verification, "LONG_S", 0.1)
    compared = []
    monkeypatch.setattr(verification, "compare", lambda codec, source, *_: compared.append(source.name) or "")
    assert verified(tmp_path, codec, sources, rows).num_compared == 2
    assert "b/one.wav" in compared
    np.testing.assert_equal(len(set(compared)), 2)


def test_more_near_ties_than_chance_makes_are_a_fault(tmp_path, codec, sources, rows, monkeypatch):
    monkeypatch.setattr(verification, "tie_margin", lambda *_, **__: 0.0)
    test_codes_of_other_audio(tmp_path, codec, sources, rows)
