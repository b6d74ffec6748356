import os
import re
import signal
import threading
import time

import pytest
import torch
from messages import one_line
from models import tiny_codec
from tiny_runs import write_clips

import codec.eval.file_judge as file_judge
import codec.eval.processes as processes
from codec.errors import AudioError, ConfigError
from codec.eval.conditions import Condition
from codec.eval.evaluate import evaluate
from codec.eval.file_judge import FileJudge
from codec.eval.systems.ours import OurCodec
from codec.model.digest import with_identity


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return sorted(write_clips(tmp_path_factory.mktemp("clips")).iterdir())


def judge(codec=None, levels=(1, 4), **changes):
    codec = codec or with_identity(tiny_codec())
    systems = tuple(OurCodec("tiny", codec, count) for count in levels)
    return FileJudge(systems, 16_000, **{"metrics": ("mel",)} | changes)


def without_clock(row):
    return {name: value for name, value in row.items() if name not in ("encode_speed", "decode_speed")}


def test_two_processes_give_what_one_gives(clips):
    """In the order of the files, whose first is the longest. One thread each: see conftest.py."""
    ours = judge(
        metrics=("mel", "si_sdr", "snr"),
        conditions=(Condition(), Condition(gain_db=-20)),
        reference=OurCodec("other", with_identity(tiny_codec()), 4),
        kept=frozenset(clips[1:2]),
    )
    kept = [{}, {}]
    one, two = (
        evaluate(ours, clips, jobs=jobs, on_result=kept[jobs - 1].__setitem__, progress=False) for jobs in (1, 2)
    )
    assert list(map(without_clock, one.rows)) == list(map(without_clock, two.rows))
    assert list(map(without_clock, one.means)) == list(map(without_clock, two.means))
    assert one.seconds == two.seconds
    assert [row["path"] for row in two.rows[::4]] == [str(path) for path in clips]
    for ours_, theirs in zip(one.health["tiny"], two.health["tiny"], strict=True):
        assert torch.equal(ours_, theirs)
    assert torch.equal(one.agreement, two.agreement) and one.agreement.tolist() == [1, 1, 1, 1]
    for path in clips:
        first, second = (results[path] for results in kept)
        assert (first.original is None) == (second.original is None) == (path != clips[1])
        for mine, yours in zip(first.decodes, second.decodes, strict=True):
            assert torch.equal(mine.audio, yours.audio) and torch.equal(mine.codes, yours.codes)


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_can_not_be_read_costs_only_itself(clips, tmp_path, jobs):
    paths = [clips[0], tmp_path / "gone.wav", *clips[1:3]]
    first, gone, *others = processes.judge_files(judge(), paths, jobs)
    assert isinstance(gone, AudioError) and re.search(one_line(tmp_path / "gone.wav"), str(gone))
    assert [result.rows[0]["path"] for result in (first, *others)] == [str(clips[0]), *map(str, clips[1:3])]


def test_an_error_that_names_no_file_gets_its_name(clips, monkeypatch):
    monkeypatch.setattr(file_judge, "load_audio", lambda *_: (_ for _ in ()).throw(AudioError("too loud")))
    (error,) = processes.judge_files(judge(), clips[:1], 1)
    assert str(error) == f"{clips[0]}: too loud"


@pytest.mark.parametrize(
    ("jobs", "num_files", "processors", "expected"),
    [(0, 6, 3, 3), (8, 2, 3, 2), (0, 6, 1, None), (4, 1, 3, None), (1, 6, 3, None)],
)
def test_no_more_processes_than_files(clips, monkeypatch, jobs, num_files, processors, expected):
    started = []

    class Pool:
        def __init__(self, jobs, *_):
            started.append(jobs)

        def map(self, call, paths):
            return map(str, paths)

        def shutdown(self, **_):
            pass

    monkeypatch.setattr(processes, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(processes, "num_processors", lambda: processors)
    assert len(list(processes.judge_files(judge(metrics=()), clips[:num_files], jobs))) == num_files
    assert started == ([] if expected is None else [expected])


def test_models_that_cannot_be_sent_are_refused(clips):
    with pytest.raises(ConfigError, match=one_line("jobs", -2)):
        list(processes.judge_files(judge(), clips, -2))
    elsewhere = judge(codec=tiny_codec().to("meta"))
    with pytest.raises(ConfigError, match=one_line("CPU", "meta")):
        list(processes.judge_files(elsewhere, clips, 2))


class Killer:
    """A codec whose process is killed."""

    codec, setting, sample_rate = "killer", "x", 16_000

    def __call__(self, audio):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_one_line(clips):
    ours = FileJudge((Killer(),), 16_000, ())
    with pytest.raises(ConfigError, match=one_line("killed", "jobs=1")):
        list(processes.judge_files(ours, clips[:2], 2))


class Sleeper:
    """A codec that takes a minute."""

    codec, setting, sample_rate = "sleeper", "x", 16_000

    def __call__(self, audio):
        time.sleep(60)


def test_an_interruption_does_not_wait_for_the_file_at_hand(clips):
    ours = FileJudge((Sleeper(),), 16_000, ())
    results = processes.judge_files(ours, clips[:2], 2)
    threading.Timer(4, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert time.monotonic() - began < 30


def test_progress_is_over_files(clips, monkeypatch):
    seen = []
    monkeypatch.setattr("codec.eval.evaluate.progress_bar", lambda files, **how: seen.append(how["total"]) or files)
    evaluate(judge(metrics=()), clips, progress=False)
    assert seen == [len(clips)]
