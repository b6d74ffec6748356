import doctest

import pytest

import codec.table
from codec.table import aligned, markdown

ROWS = [["name", "bit"], ["k-means", "10"], ["", "2"]]


def test_columns_end_at_the_same_place():
    assert aligned(ROWS).split("\n") == ["   name  bit", "k-means   10", "           2"]


def test_markdown_has_a_rule_below_the_header():
    assert markdown(ROWS).split("\n") == ["| name | bit |", "|---|---|", "| k-means | 10 |", "|  | 2 |"]


@pytest.mark.parametrize("table", [aligned, markdown])
def test_a_header_alone_is_a_table(table):
    assert table([["a", "b"]]).split("\n")[0] in ("a  b", "| a | b |")


def test_a_row_that_is_too_short_is_an_error():
    with pytest.raises(ValueError, match="shorter"):
        aligned([["a", "b"], ["1"]])


def test_the_examples_in_the_documentation():
    assert doctest.testmod(codec.table) == (0, 2)
