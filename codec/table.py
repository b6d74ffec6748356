"""Tables of text: aligned columns for a terminal, Markdown for a page. The first row is the header."""

from collections.abc import Sequence

Row = Sequence[str]


def aligned(rows: Sequence[Row]) -> str:
    """Columns aligned at the right, two spaces apart.

    >>> print(aligned([["level", "usage"], ["1", "98.4%"]]))
    level  usage
        1  98.4%
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def markdown(rows: Sequence[Row]) -> str:
    """A Markdown table; the cells must not hold a `|`.

    >>> print(markdown([["level", "usage"], ["1", "98.4%"]]))
    | level | usage |
    |---|---|
    | 1 | 98.4% |
    """
    header, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([header, "|" + "---|" * len(rows[0]), *body])
