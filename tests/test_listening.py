"""Answers of a listening test: means, intervals, exclusion and counts against closed forms, and every bad input."""

import json
import math

import numpy as np
import pytest
from messages import one_line
from scipy import stats

from codec.errors import ConfigError
from codec.eval.listening import binomial_p, format_summary, read_answers, summarise, wilson


def rating(score, codec=None, role="system"):
    system = {"codec": codec, "setting": "6 kbit/s"} if codec else {}
    return {"role": role, "score": score, **system}


def mushra(clip, reference=100, **scores):
    """A trial with the hidden reference and a score for each codec."""
    return {
        "kind": "mushra",
        "clip": clip,
        "ratings": [rating(reference, role="reference"), *(rating(score, codec) for codec, score in scores.items())],
    }


def abx(x, answer, codec="ours"):
    return {"kind": "abx", "clip": "a.wav", "codec": codec, "setting": "6 kbit/s", "x": x, "answer": answer}


def answers(listener, trials, **changes):
    facts = {"format": "codec-listening", "version": 1, "listener": listener, "seed": 7, "started": "2026-01-01"}
    return facts | {"trials": trials} | changes


@pytest.fixture
def read(tmp_path):
    """Write files of answers, and read them."""

    def write_and_read(*files):
        paths = [tmp_path / f"{number}.json" for number in range(len(files))]
        for path, content in zip(paths, files, strict=True):
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_answers(paths)

    return write_and_read


def test_means_are_those_of_all_scores_and_the_best_is_first(read):
    ann = answers("Ann", [mushra("a.wav", ours=80, opus=40), mushra("b.wav", ours=60, opus=50)])
    bob = answers("Bob", [mushra("a.wav", ours=70, opus=30)])
    summary = summarise(read(ann, bob))
    assert [mean.name for mean in summary.mushra] == ["(reference)", "ours 6 kbit/s", "opus 6 kbit/s"]
    assert [mean.mean for mean in summary.mushra] == [100, 70, 40]
    assert [mean.num_scores for mean in summary.mushra] == [3, 3, 3]
    assert summary.listeners == ["Ann", "Bob"] and not summary.abx


def test_interval_is_that_of_the_mean_over_listeners(read):
    """With one clip the bootstrap is that over listeners: its width is 2 * 1.96 standard errors."""
    scores = np.random.default_rng(1).integers(30, 70, size=40)
    files = [answers(f"L{number}", [mushra("a.wav", ours=int(score))]) for number, score in enumerate(scores)]
    ours = summarise(read(*files)).mushra[1]
    width = 2 * 1.96 * scores.std() / math.sqrt(len(scores))
    assert ours.high - ours.low == pytest.approx(width, rel=0.06)
    assert ours.low < scores.mean() < ours.high


def test_interval_counts_clips_as_well_as_listeners(read):
    """Listeners agree and clips differ: twenty listeners must not make the interval of two clips narrow."""
    files = [answers(f"L{n}", [mushra("a.wav", ours=20), mushra("b.wav", ours=80)]) for n in range(20)]
    ours = summarise(read(*files)).mushra[1]
    assert (ours.low, ours.mean, ours.high) == (20, 50, 80)


def test_one_listener_and_one_clip_have_no_interval(read):
    summary = summarise(read(answers("Ann", [mushra("a.wav", ours=20)])))
    assert math.isnan(summary.mushra[1].low)
    assert "ours 6 kbit/s   20.0          -" in format_summary(summary)


@pytest.mark.parametrize(("num_missed", "is_excluded"), [(3, False), (4, True)])  # of 20: 15 % are allowed
def test_a_listener_who_misses_the_hidden_reference_too_often_is_left_out(read, num_missed, is_excluded):
    trials = [mushra(f"{n}.wav", reference=89.5 if n < num_missed else 90, ours=0) for n in range(20)]
    summary = summarise(
        read(answers("Ann", [mushra("a.wav", ours=60)]), answers("Bob", [*trials, abx("decode", "decode")]))
    )
    assert summary.excluded == ({"Bob": 0.2} if is_excluded else {})
    assert summary.mushra[1].num_scores == (1 if is_excluded else 21)
    assert ("Bob (20%" in format_summary(summary)) == is_excluded
    assert summary.abx[0].num_trials == 1  # a comparison counts


def test_counts_of_abx(read):
    trials = [
        abx("original", "original"),
        abx("decode", "decode"),
        abx("decode", "original"),
        abx("decode", "original", "opus"),
    ]
    summary = summarise(read(answers("Ann", trials), answers("Bob", trials[:1])))
    ours, opus = summary.abx
    assert (ours.name, ours.num_correct, ours.num_trials) == ("ours 6 kbit/s", 3, 4)
    assert (opus.num_correct, opus.num_trials, opus.p_value) == (0, 1, 1.0)
    assert ours.p_value == 5 / 16 and (ours.low, ours.high) == wilson(3, 4)
    assert "0.312" in format_summary(summary)


@pytest.mark.parametrize(("num_correct", "num_trials"), [(0, 1), (1, 1), (12, 16), (16, 16), (290, 500)])
def test_p_value_and_interval_equal_those_of_scipy(num_correct, num_trials):
    test = stats.binomtest(num_correct, num_trials, alternative="greater")
    assert binomial_p(num_correct, num_trials) == pytest.approx(test.pvalue, rel=1e-12)
    interval = stats.binomtest(num_correct, num_trials).proportion_ci(method="wilson")
    assert wilson(num_correct, num_trials) == pytest.approx(tuple(interval), abs=1e-7)


def test_a_file_given_twice_is_refused(read):
    ann = answers("Ann", [mushra("a.wav", ours=60)])
    with pytest.raises(ConfigError, match=one_line("1.json", "0.json", "once")):
        read(ann, ann)
    assert summarise(read(ann, answers("Ann", [], started="2026-01-02"))).listeners == ["Ann"]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("", "JSON"),
        ("[" * 100_000, "deep"),
        ("\udcff".encode("utf-8", "surrogatepass").decode("latin-1"), "JSON"),
        ("[1]", "the file"),
        ({}, "format"),
        (answers("Ann", [], version=2), "version"),
        (answers("", []), "listener"),
        (answers("Ann\x1b[2J", []), "listener"),
        (answers("Ann", [], seed="7"), "seed"),
        (answers("Ann", [{"kind": "guess"}]), "trials.0"),
        (answers("Ann", [mushra("a.wav", ours=101)]), "trials.0.mushra.ratings.1.score"),
        (answers("Ann", [mushra("a.wav", ours=math.nan)]), "trials.0.mushra.ratings.1.score"),
        (answers("Ann", [mushra("a.wav", ours=None)]), "trials.0.mushra.ratings.1.score"),
        (answers("Ann", [{"kind": "mushra", "clip": "a.wav", "ratings": []}]), "trials.0.mushra.ratings"),
        (answers("Ann", [{"kind": "mushra", "clip": "a.wav", "ratings": [rating(50)]}]), "trials.0.mushra.ratings.0"),
        (answers("Ann", [abx("decode", "neither")]), "trials.0.abx.answer"),
        (answers("Ann", [abx("decode", "decode", codec="a\nb")]), "trials.0.abx.codec"),
        (json.dumps(answers("x" * 600_000, [])), "bytes"),
    ],
)
def test_what_is_no_file_of_answers_is_refused_in_one_line(read, content, fact):
    with pytest.raises(ConfigError, match=one_line("0.json", fact, "give files")):
        read(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=one_line("none.json", "No such file")):
        read_answers([tmp_path / "none.json"])
