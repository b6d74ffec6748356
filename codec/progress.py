"""Progress bars: all are made here, and a command says for all of them whether they are shown."""

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Literal, TypeAlias

from tqdm import tqdm

Bar: TypeAlias = "tqdm[Any]"
Display = Literal["auto", "on", "off"]
"""on: also where standard error is no terminal. off: none. auto: as each bar says."""

_display: ContextVar[Display] = ContextVar("display", default="auto")


@contextlib.contextmanager
def displayed(display: Display) -> Iterator[None]:
    """Show or hide the bars that are made in this context."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


def hides_all() -> bool:
    """Whether no bar is to be shown; for libraries that make bars of their own."""
    return _display.get() == "off"


def progress_bar(iterable: Iterable[Any] | None = None, *, hidden: bool | None = False, **how: Any) -> Bar:
    """Make a bar.

    Args:
        iterable: What it counts, if the bar is iterated over.
        hidden: True: never shown. None: auto is on a terminal only. False: auto is everywhere, also in a log file.
        how: Other arguments of tqdm. Its environment variables, such as TQDM_DISABLE, hold where these say nothing.
    """
    display = _display.get()
    if hidden or display == "off":
        how["disable"] = True
    elif hidden is None and display == "auto":
        how["disable"] = None
    return tqdm(iterable, **how)


class DownloadBar(tqdm):  # type: ignore[misc]
    """The bar of another library that takes a class of tqdm, shown as the command says.

    It takes `name`, by which `huggingface_hub` groups its bars.
    """

    def __init__(self, *args: Any, name: str | None = None, **how: Any) -> None:
        super().__init__(*args, **how | ({"disable": True} if hides_all() else {}))


class HiddenBar(DownloadBar):
    """The same, never shown: small files take no time."""

    def __init__(self, *args: Any, name: str | None = None, **how: Any) -> None:
        super().__init__(*args, **how | {"disable": True})
