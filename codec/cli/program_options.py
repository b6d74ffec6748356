"""Options that every command has: what it prints for programs (no torch)."""

from pydantic.dataclasses import dataclass

from codec.config import STRICT
from codec.progress import Display


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProgramOptions:
    """What every command shares."""

    json: bool = False
    """Print one JSON object a line for each file, or one for the result, instead of text."""
    progress: Display = "auto"
    """Progress bars: off shows none, on also those that auto shows on a terminal only."""
