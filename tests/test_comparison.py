"""Runs beside each other: the rows, the references, and codec-compare."""

import math
from pathlib import Path

import pytest
import tiny_runs
from gaussian_runs import results_of, short_recipe, train
from messages import one_line

from codec import cli
from codec.errors import ConfigError
from codec.study.comparison import compare_runs, format_rows
from codec.train.rundir import record_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two short runs of 16 dimensions and one of a single dimension."""
    folder = tmp_path_factory.mktemp("runs")
    train(short_recipe("gaussian_vq_ema", "--codec.quantizer.decay", "0.98", "--train.epochs", "5"), folder / "a/ema")
    train(short_recipe("bottlenecks/fsq", "--codec.quantizer.steps", "8", "8", "--train.epochs", "2"), folder / "b/fsq")
    words = ["--codec.latent-dim", "1", "--codec.quantizer.codebook-size", "4", "--train.epochs", "1"]
    train(short_recipe("bottlenecks/scalar_ema", *words), folder / "scalar")
    return folder


def run(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        cli.compare_main([str(word) for word in words])
    return stop.value.code, *capsys.readouterr()


def test_rows_are_the_results_and_their_references(runs):
    rows = compare_runs([runs / "scalar", runs / "a/ema", runs / "b/fsq"])
    k_means = "k-means of 2000 vectors (scikit-learn)"
    assert [row.dim for row in rows] == [16, 16, 16, 1, 1, 1]
    assert {row.name for row in rows if row.dim == 16} == {"ema", "fsq", k_means}
    assert {row.name for row in rows if row.dim == 1} == {"scalar", k_means, "Lloyd-Max"}
    for group in (rows[:3], rows[3:]):
        assert [row.distortion for row in group] == sorted(row.distortion for row in group)
        assert all(row.distortion > row.bound for row in group)
    by_name = {(row.name, row.dim): row for row in rows}
    results = results_of(runs / "a/ema")
    ours, theirs = by_name["ema", 16], by_name[k_means, 16]
    assert ours.distortion == results["held_out_distortion"] and ours.seconds == results["seconds"]
    assert theirs.distortion == pytest.approx(ours.distortion, rel=0.05)
    assert theirs.train_distortion < ours.train_distortion  # it fits the set it was given
    assert math.isnan(theirs.seconds) and theirs.bound == ours.bound
    best = by_name["Lloyd-Max", 1]
    assert best.distortion == pytest.approx(0.117482, abs=1e-6)
    assert best.distortion < by_name["scalar", 1].distortion < 1.1 * best.distortion
    assert best.bound == pytest.approx(2**-4)


def test_names_are_as_long_as_they_must_be(runs):
    train(short_recipe("gaussian_vq_ema", "--train.epochs", "1"), runs / "c/ema")
    names = [row.name for row in compare_runs([runs / "a/ema", runs / "c/ema"])]
    assert {"a/ema", "c/ema"} < set(names)


def test_the_table_is_markdown(runs):
    lines = format_rows(compare_runs([runs / "scalar"])).splitlines()
    assert lines[1] == "|" + 10 * "---|"
    assert all(line.count("|") == 11 for line in lines)
    (best,) = [line for line in lines if "Lloyd-Max" in line]
    assert "| 1 | 2 | 0.117482 | 0.062500 | 88.0% |" in best


def test_the_command_prints_the_table_and_draws_the_figure(runs, tmp_path, capsys):
    picture = tmp_path / "deep" / "figure.png"
    code, out, _ = run(capsys, runs / "scalar", "-o", picture)
    assert code == 0
    assert out.splitlines() == format_rows(compare_runs([runs / "scalar"])).splitlines()
    assert picture.read_bytes().startswith(b"\x89PNG")
    code, _, err = run(capsys, runs / "scalar", "-o", picture)
    assert code == 2 and "already there" in err


def error_of(result):
    """The one line of a command that failed."""
    code, out, err = result
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def test_what_is_refused(runs, tmp_path, capsys):
    assert "nothing to do" in error_of(run(capsys))
    assert "a .png file" in error_of(run(capsys, runs / "scalar", "-o", tmp_path / "figure.pdf"))
    assert "no run to resume" not in (missing := error_of(run(capsys, tmp_path / "nowhere")))
    assert "nowhere" in missing
    audio = tiny_runs.tiny_recipe(tmp_path)
    record_run(tmp_path / "audio", audio)
    assert "run on audio" in error_of(run(capsys, tmp_path / "audio"))
    record_run(tmp_path / "begun", short_recipe("gaussian_vq"))
    assert "not finished" in error_of(run(capsys, tmp_path / "begun"))
    Path(tmp_path / "begun/results.json").write_text("{")
    assert "damaged" in error_of(run(capsys, tmp_path / "begun"))


def test_a_damaged_result_is_a_config_error(runs, tmp_path):
    record_run(tmp_path, short_recipe("gaussian_vq"))
    (tmp_path / "results.json").write_text('{"dim": 3}')
    with pytest.raises(ConfigError, match=one_line("results.json", "damaged")):
        compare_runs([tmp_path])
