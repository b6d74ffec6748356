import csv
import math

import pytest
import torch

from codec.eval.evaluate import Evaluation
from codec.eval.report import format_bd_rates, format_evaluation, to_csv
from codec.model.quantizer.quantizer import codebook_health

EDGES_HZ = [0.0, 250.0, 500.0, 4000.0]
NO_BANDS = {"snr": [], "energy": [], "power_error": []}


def mean(setting, *, energy=(0.0, 0.0, 0.0), num_failed=0, scores=None, **changes):
    return {
        "codec": "tiny",
        "setting": setting,
        "condition": "as it is",
        "num_files": 5,
        "num_failed": num_failed,
        "bitrate": 7250.0,
        "metrics": {
            name: {"mean": value, "low": low, "high": high, "num": num}
            for name, (value, low, high, num) in (scores or {"mel": (1.23456, 1.2, 1.3, 5)}).items()
        },
        "bands": {"snr": [10.0, 5.25, math.nan], "energy": list(energy), "power_error": [1.0, 2.0, math.nan]},
    } | changes


def evaluation(*means, rows=()):
    health = {"tiny": codebook_health(torch.ones(1, 2))}
    return Evaluation(list(rows), list(means), health, 1.0, None, tuple(means[0]["metrics"]), EDGES_HZ, {})


def formatted(*means, width=120):
    return format_evaluation(evaluation(*means), width)


def test_means_and_bands_are_aligned_tables():
    scores = {"mel": (1.23456, 1.2, 1.3, 5), "stoi": (0.5, math.nan, math.nan, 1)}
    failed = {"mel": (0.4, 0.3, 0.6, 3), "stoi": (math.nan, math.nan, math.nan, 0)}
    first = mean("1 level", scores=scores)
    second = mean("16 levels", scores=failed, energy=(-3.5, 0.0, 1.0), num_failed=2)
    assert formatted(first, second).splitlines() == [
        "codec    setting  kbit/s         mel  stoi",
        " tiny    1 level    7.25  1.23 ±0.05   0.5",
        " tiny  16 levels    7.25   0.4 ±0.15   nan",
        "tiny, 1 level: files without a finite value, left out of the mean: 4 of stoi",
        "tiny, 16 levels: failed on 2 of 5 files",
        "tiny, 16 levels: files without a finite value, left out of the mean: 3 of stoi",
        "",
        "Energy by band, decoded over original (dB), bands in Hz",
        "codec    setting  0-250  250-500  500-4000",
        " tiny    1 level    0.0      0.0       0.0",
        " tiny  16 levels   -3.5      0.0       1.0",
        "",
        "SNR by band (dB), bands in Hz",
        "codec    setting  0-250  250-500  500-4000",
        " tiny    1 level   10.0      5.2         -",
        " tiny  16 levels   10.0      5.2         -",
        "",
        "Power error by band (dB), bands in Hz",
        "codec    setting  0-250  250-500  500-4000",
        " tiny    1 level    1.0      2.0         -",
        " tiny  16 levels    1.0      2.0         -",
        "",
        "tiny, 16 levels is too quiet: 0-250 Hz by 3.5 dB",
    ]


def test_a_wide_table_is_broken_between_columns():
    scores = dict.fromkeys(("a", "b", "c"), (1.0, 0.9, 1.1, 5))
    lines = formatted(mean("1 level", scores=scores), width=40).splitlines()
    assert lines[:6] == [
        "codec  setting  kbit/s       a       b",
        " tiny  1 level    7.25  1 ±0.1  1 ±0.1",
        "",
        "codec  setting       c",
        " tiny  1 level  1 ±0.1",
        "",
    ]
    assert len(formatted(mean("1 level", scores=scores), width=1).split("\n\n")[0].splitlines()) == 2


@pytest.mark.parametrize(
    ("energy", "notes"),
    [
        ((-3.0, 3.0, math.nan), []),
        ((-3.1, -10.0, 3.2), ["too quiet: 0-500 Hz by 3.1 to 10.0 dB", "too loud: 500-4000 Hz by 3.2 dB"]),
        ((-4.0, 0.0, -5.0), ["too quiet: 0-250 Hz by 4.0 dB, 500-4000 Hz by 5.0 dB"]),
    ],
)
def test_an_energy_that_is_far_off_is_told_in_words(energy, notes):
    lines = formatted(mean("1 level", energy=energy)).splitlines()
    assert [line for line in lines if " is too " in line] == [f"tiny, 1 level is {note}" for note in notes]


def test_every_condition_has_its_tables():
    quiet = {"condition": "-20 dB"}
    lines = formatted(
        mean("1 level"), mean("2 levels"), mean("1 level", **quiet), mean("2 levels", **quiet)
    ).splitlines()
    headings = [line for line in lines if line.startswith(("Condition", "codec", "Energy"))]
    one = ["codec   setting  kbit/s         mel", "Energy by band, decoded over original (dB), bands in Hz"]
    bands = ["codec   setting  0-250  250-500  500-4000"] * 3
    assert headings == ["Condition: as it is", *one, *bands, "Condition: -20 dB", *one, *bands]
    assert formatted(mean("1 level", **quiet)).startswith("Condition: -20 dB\n")


def test_a_system_that_failed_on_every_file_has_a_row():
    nothing = {"mel": (math.nan, math.nan, math.nan, 0)}
    text = formatted(mean("x", scores=nothing, bitrate=math.nan, num_failed=5, bands=NO_BANDS))
    assert text.splitlines()[1].split() == ["tiny", "x", "nan", "nan"]
    assert "tiny, x: failed on 5 of 5 files" in text


def test_bd_rates_as_a_table():
    rate = {"codec": "tiny", "reference": "opus", "metric": "mel", "num_files": 9}
    known = rate | {"percent": -41.26, "low": -50.0, "high": -33.04, "note": ""}
    unsure = rate | {"percent": 5.0, "low": math.nan, "high": math.nan, "note": ""}
    missing = rate | {"percent": math.nan, "low": math.nan, "high": math.nan, "note": "one setting"}
    assert format_bd_rates([known, unsure, missing]).splitlines() == [
        "Bits at equal quality, relative to opus (BD-rate, recordings as they are)",
        "codec  metric  BD-rate     95 % interval  files",
        " tiny     mel  -41.3 %  -50.0 to -33.0 %      9",
        " tiny     mel   +5.0 %                 -      9",
        " tiny     mel        -       one setting      9",
    ]


def test_rows_as_csv():
    bands = {"energy": [0.5, math.nan, 1.0], "snr": [1.0, 2.0, 3.0], "power_error": [4.0, 5.0, 6.0]}
    good = {"path": "a, b.wav", "codec": "tiny", "mel": 1.5, "notes": {"stoi": "silent"}, "bands": bands, "error": None}
    failed = {"path": "c.wav", "codec": "tiny", "error": 'no "luck"'}
    text = to_csv(evaluation(mean("x"), rows=[failed, good]))
    first, second = csv.DictReader(text.splitlines())
    assert first["path"] == "c.wav" and first["error"] == 'no "luck"' and first["mel"] == ""
    assert (second["path"], second["mel"], second["notes"], second["error"]) == ("a, b.wav", "1.5", "stoi: silent", "")
    assert (second["energy_0-250"], second["energy_250-500"], second["snr_500-4000"]) == ("0.5", "", "3.0")
    assert list(second) == [
        *("path", "codec", "mel", "error", "notes"),
        *(f"{field}_{band}" for field in ("energy", "snr", "power_error") for band in ("0-250", "250-500", "500-4000")),
    ]
