import math

import pytest
from messages import one_line

from codec.errors import ConfigError
from codec.eval.bd_table import bd_rates
from codec.eval.evaluate import Evaluation

RATES = (1000.0, 2000.0, 4000.0)


def rows(codec, factor, *, files=("a", "b", "c"), condition="as it is", **changes):
    """Rows of a codec with three settings, whose bits are `factor` times those of another at equal quality."""
    return [
        {
            "path": path,
            "codec": codec,
            "setting": f"{number}",
            "condition": condition,
            "seconds": 2.0 + len(path),
            "num_bytes": factor * rate * (2.0 + len(path)) / 8,
            "pesq_wb": 1.0 + number,
            "mel": 1.0 - 0.1 * number,
            "loudness": 0.1,
            "error": None,
        }
        | changes
        for path in files
        for number, rate in enumerate(RATES)
    ]


def compared(rows, reference="opus", metrics=("pesq_wb", "mel", "loudness")):
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    means = [{"codec": codec} for codec in codecs]
    return bd_rates(Evaluation(rows, means, {}, 1.0, None, metrics, [], {}), reference)


def test_every_other_codec_and_every_metric_with_a_better_end():
    found = compared([*rows("ours", 0.5), *rows("opus", 1.0), *rows("mp3", 2.0)])
    assert [(rate["codec"], rate["metric"], rate["reference"], rate["num_files"]) for rate in found] == [
        *(("ours", "pesq_wb", "opus", 3), ("ours", "mel", "opus", 3)),
        *(("mp3", "pesq_wb", "opus", 3), ("mp3", "mel", "opus", 3)),
    ]
    assert [rate["percent"] for rate in found] == pytest.approx([-50, -50, 100, 100])


def test_only_recordings_as_they_are_count():
    quiet = rows("ours", 9.0, condition="-20 dB")
    (found, _) = compared([*rows("ours", 0.5), *quiet, *rows("opus", 1.0)])
    assert found["percent"] == pytest.approx(-50)


def test_only_files_with_values_of_both_count():
    """One file failed, one has no value, one was not coded by the other."""
    ours = rows("ours", 0.5, files=("a", "b", "c", "d"))
    ours[0] = {name: ours[0][name] for name in ("path", "codec", "setting", "condition")} | {"error": "crashed"}
    theirs = rows("opus", 1.0, files=("a", "b", "c"))
    theirs[5]["pesq_wb"] = math.nan
    wide, mel = compared([*ours, *theirs])
    assert (wide["num_files"], mel["num_files"]) == (1, 2) and wide["percent"] == pytest.approx(-50)
    assert math.isnan(wide["low"]) and mel["low"] == pytest.approx(-50)


def test_no_common_file_is_said():
    found, _ = compared([*rows("ours", 0.5, files=("a",)), *rows("opus", 1.0, files=("b",))])
    assert found["num_files"] == 0 and math.isnan(found["percent"]) and "no file" in found["note"]


def test_an_unknown_reference_is_refused():
    with pytest.raises(ConfigError, match=one_line("'lyra'", "ours, opus")):
        compared([*rows("ours", 0.5), *rows("opus", 1.0)], "lyra")
