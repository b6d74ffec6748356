"""Strict JSON: plain values, lines of ASCII, names that are not UTF-8, numbers that JSON does not have."""

import base64
import doctest
import json
import math
import os
from pathlib import Path
from typing import NamedTuple

import pytest

import codec.jsonfile
from codec.jsonfile import json_line, plain


class Point(NamedTuple):
    x: float
    path: Path


def strictly(line):
    """Parse a line as strict readers do: no NaN, no lone surrogate, UTF-8 (here ASCII), one line."""
    assert line.isascii() and "\n" not in line

    def refuse(constant):
        raise AssertionError(constant)

    values = json.loads(line, parse_constant=refuse)
    json.dumps(values, ensure_ascii=False).encode("utf-8")  # fails on a lone surrogate
    return values


def test_the_examples_of_the_docstrings():
    assert doctest.testmod(codec.jsonfile) == (0, 1)


def test_plain_has_no_nan_and_no_infinity():
    value = {"a": [1.5, math.nan, {"b": -math.inf}], "c": "nan", "d": 3, "e": True, "f": None}
    assert plain(value) == {"a": [1.5, None, {"b": None}], "c": "nan", "d": 3, "e": True, "f": None}


def test_plain_keeps_the_names_of_fields():
    assert plain((Point(math.inf, Path("a/b")), 2)) == [{"x": None, "path": "a/b"}, 2]
    assert plain({Path("a"): Point(1.0, Path("c"))}) == {"a": {"x": 1.0, "path": "c"}}


def test_a_line_is_strict():
    values = {"path": Path("é\n.wav"), "rate": math.nan, "points": [Point(-math.inf, Path("x"))], "text": '"\\ 𝄞'}
    assert strictly(json_line(values)) == {
        "path": "é\n.wav",
        "rate": None,
        "points": [{"x": None, "path": "x"}],
        "text": '"\\ 𝄞',
    }


@pytest.mark.parametrize("name", [b"caf\xe9.wav", b"\xff\xfe", b"\xc3\xa9 and \xe9"])
def test_a_name_that_is_not_utf_8_comes_back_from_its_bytes(name):
    path = Path(os.fsdecode(name))
    values = strictly(json_line({"path": path, "inner": {"paths": [str(path)]}, "error": f"can't read {path}"}))
    assert base64.b64decode(values["path_base64"]) == name
    assert values["path"] == name.decode("utf-8", "replace") and "\ufffd" in values["path"]
    assert values["inner"] == {"paths": [values["path"]]} and values["error"] == f"can't read {values['path']}"
    assert list(values)[:2] == ["path", "path_base64"]


def test_a_name_that_is_utf_8_has_no_second_field():
    assert strictly(json_line({"path": Path("é")})) == {"path": "é"}
    ascii_locale = os.fsencode("é").decode("ascii", "surrogateescape")  # as Python reads it there
    assert strictly(json_line({"path": ascii_locale})) == {"path": "é"}


def test_a_surrogate_that_stands_for_no_byte():
    values = strictly(json_line({"\ud800": "\ud800"}))
    assert set(values.values()) == {"\ufffd\ufffd\ufffd", base64.b64encode(b"\xed\xa0\x80").decode()}
