import math
from pathlib import Path

import pytest
from messages import one_line

from codec.errors import ConfigError
from codec.eval.curve_figure import curve_figure
from codec.eval.evaluate import Evaluation
from codec.eval.published import read_published


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8"):
        path = tmp_path / "table.tsv"
        path.write_text(text, encoding=encoding)
        return path

    return write


def test_a_table_becomes_means_without_intervals(table):
    means = read_published(table("codec\tbitrate\tpesq_wb\tstoi\nA b\t3200\t2.5\t\n\nA b\t6000\t3\t0.9\n", "utf-8-sig"))
    assert [(mean["codec"], mean["setting"], mean["bitrate"]) for mean in means] == [
        ("A b", "3.2 kbit/s", 3200),
        ("A b", "6 kbit/s", 6000),
    ]
    assert means[1]["metrics"]["stoi"]["mean"] == 0.9 and math.isnan(means[0]["metrics"]["stoi"]["mean"])
    assert math.isnan(means[0]["metrics"]["pesq_wb"]["low"])


def test_they_are_drawn_beside_an_evaluation(table):
    values = {"mean": 2.0, "low": 1.9, "high": 2.1, "num": 7}
    ours = {"codec": "ours", "condition": "as it is", "num_files": 7, "bitrate": 3000.0}
    ours["metrics"] = {"pesq_wb": values, "mel": values}
    evaluation = Evaluation([], [ours], {}, 1.0, None, ("pesq_wb", "mel"), [], {})
    figure = curve_figure(evaluation, read_published(table("codec\tbitrate\tpesq_wb\nA\t3200\t2.5\nA\t6000\t3\n")))
    lines = {line.get_label(): line.get_xydata().tolist() for line in figure.axes[0].get_lines()}
    assert lines == {"ours": [[3, 2]], "A": [[3.2, 2.5], [6, 3]]}
    assert [len(line.get_xydata()) for line in figure.axes[1].get_lines()] == [1, 0]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("", ("codec, bitrate",)),
        ("codec\tbitrate\nA\t1\n", ("codec, bitrate",)),
        ("codec\tbitrate\tbeauty\nA\t1\t2\n", ("codec, bitrate",)),
        ("codec\tbitrate\tstoi\nA\t1\n", ("line 2", 2, 3)),
        ("codec\tbitrate\tstoi\nA\t1\tx\n", ("line 2", "'x'")),
    ],
)
def test_what_is_no_such_table_is_refused(table, text, facts):
    path = table(text)
    with pytest.raises(ConfigError, match=one_line(path, *facts)):
        read_published(path)


def test_a_missing_or_binary_file_is_refused(table, tmp_path):
    with pytest.raises(ConfigError, match=one_line(tmp_path / "gone.tsv")):
        read_published(Path(tmp_path, "gone.tsv"))
    (tmp_path / "binary.tsv").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match=one_line(tmp_path / "binary.tsv")):
        read_published(tmp_path / "binary.tsv")
