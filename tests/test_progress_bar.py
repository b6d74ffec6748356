"""Progress bars are shown as the command says, and as each bar says where the command leaves it to them."""

import io

import pytest
from tqdm import tqdm

from codec.progress import DownloadBar, HiddenBar, displayed, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def shown(hidden, stream):
    for _ in progress_bar(range(2), hidden=hidden, file=stream, desc="counting"):
        pass
    return "counting" in stream.getvalue()


@pytest.mark.parametrize(
    ("display", "hidden", "on_terminal", "in_file"),
    [
        ("auto", False, True, True),
        ("auto", None, True, False),
        ("auto", True, False, False),
        ("on", False, True, True),
        ("on", None, True, True),
        ("on", True, False, False),
        ("off", False, False, False),
        ("off", None, False, False),
        ("off", True, False, False),
    ],
)
def test_who_decides(display, hidden, on_terminal, in_file):
    with displayed(display):
        assert (shown(hidden, Terminal()), shown(hidden, io.StringIO())) == (on_terminal, in_file)
    assert shown(False, io.StringIO())  # as before


def test_the_variables_of_tqdm_hold_where_nothing_is_said(monkeypatch):
    """TQDM_DISABLE makes `disable` true where a bar does not give it: so nothing is given where nothing is said."""
    given = []
    monkeypatch.setattr("codec.progress.tqdm", lambda *_, **how: given.append(how) or tqdm(disable=True))
    for display in ("auto", "on"):
        with displayed(display):
            progress_bar(total=2)
    assert given == [{"total": 2}] * 2


def test_bars_of_other_libraries_are_shown_as_the_command_says():
    """They are made by the library, with arguments of its own."""
    for display, shown in (("auto", True), ("on", True), ("off", False)):
        stream = io.StringIO()
        with displayed(display):
            DownloadBar(total=2, name="some.library", desc="downloading", file=stream).close()
            HiddenBar(total=2, name="some.library", desc="hidden", file=stream).close()
        assert ("downloading" in stream.getvalue()) == shown and "hidden" not in stream.getvalue()
