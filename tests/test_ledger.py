import json
import math

import numpy as np
import pytest
from messages import one_line

from codec.errors import ConfigError
from codec.eval.file_judge import FileResult
from codec.eval.ledger import LEDGER_FILE, Ledger

ASKED = {"systems": [["tiny", "1 level"]], "metrics": ["mel"]}


@pytest.fixture
def clips(tmp_path):
    paths = [tmp_path / name for name in ("a.wav", "b.wav")]
    for path in paths:
        path.write_bytes(b"12345")
    return paths


def result(path, value=1.5):
    counts = {"tiny": np.array([[0, 3, 0, 1], [2, 0, 0, 2]])}
    return FileResult([{"path": str(path), "mel": value, "error": None}], counts, np.array([[4, 3], [5, 5]]), None, [])


def write(folder, clips):
    ledger = Ledger(folder, ASKED, resume=True)
    for path in clips:
        ledger.add(path, result(path))


def test_results_come_back_as_they_were(tmp_path, clips):
    ledger = Ledger(tmp_path, ASKED, resume=True)
    ledger.add(clips[0], result(clips[0], math.inf))
    ledger.add(clips[1], result(clips[1])._replace(equal=None))
    done = Ledger(tmp_path, ASKED, resume=True).done
    assert list(done) == clips
    assert done[clips[0]].rows == [{"path": str(clips[0]), "mel": math.inf, "error": None}]
    assert done[clips[0]].counts["tiny"].tolist() == [[0, 3, 0, 1], [2, 0, 0, 2]]
    assert done[clips[0]].counts["tiny"].dtype == np.int64
    assert done[clips[0]].equal.tolist() == [[4, 3], [5, 5]] and done[clips[1]].equal is None


@pytest.mark.parametrize("lost", [1, 10, 40])
def test_a_line_that_was_cut_off_is_forgotten(tmp_path, clips, lost):
    """And what is written behind it is not."""
    write(tmp_path, clips)
    path = tmp_path / LEDGER_FILE
    path.write_bytes(path.read_bytes()[:-lost])
    ledger = Ledger(tmp_path, ASKED, resume=True)
    assert list(ledger.done) == clips[:1]
    ledger.add(clips[1], result(clips[1]))
    assert list(Ledger(tmp_path, ASKED, resume=True).done) == clips


def test_a_file_that_has_changed_is_judged_again(tmp_path, clips):
    write(tmp_path, clips)
    clips[0].write_bytes(b"longer now")
    assert list(Ledger(tmp_path, ASKED, resume=True).done) == clips[1:]
    clips[1].unlink()
    assert not Ledger(tmp_path, ASKED, resume=True).done


def test_another_question_is_refused(tmp_path, clips):
    write(tmp_path, clips)
    with pytest.raises(ConfigError, match=one_line(tmp_path, "another metrics", "overwrite=True")):
        Ledger(tmp_path, ASKED | {"metrics": ["snr"]}, resume=True)


def test_beginning_anew_forgets_what_was_there(tmp_path, clips):
    write(tmp_path, clips)
    Ledger(tmp_path, ASKED | {"metrics": ["snr"]}, resume=False)
    lines = [json.loads(line) for line in (tmp_path / LEDGER_FILE).read_text().split("\n") if line]
    assert lines == [ASKED | {"metrics": ["snr"]}]


def test_damaged_lines_are_not_taken_for_results(tmp_path):
    (tmp_path / LEDGER_FILE).write_text(
        json.dumps(ASKED) + "\n" + "[1, 2]\n\x00garbage\n" + "[" * 100_000 + '\n{"path": 3}\n{"path": "a", "size": 5}'
    )
    assert not Ledger(tmp_path, ASKED, resume=True).done
