"""Answers of a listening test: the files that `listening.html` saves, checked and summarised with 95 % intervals.

Two tests. In MUSHRA (ITU-R BS.1534-3) a listener gives each system, a hidden reference and a low anchor a score from 0
to 100. In ABX the listener says which of two sounds a third one equals.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from codec.errors import ConfigError, one_line
from codec.eval.bootstrap import Interval, percentile_bounds, times_drawn
from codec.jsonfile import read_json
from codec.table import Row, aligned

REFERENCE_SCORE = 90
REFERENCE_SHARE = 0.15
"""A listener who gives the hidden reference less than this score in more than this share of the trials is left out:
ITU-R BS.1534-3, section 4.1.2."""
_Z = 1.959964  # of a normal distribution, 97.5 %


def _printable(text: str) -> str:
    if not text.isprintable():  # a terminal would obey control characters
        raise ValueError("it holds control characters")
    return text


Name = Annotated[str, Field(max_length=1000), AfterValidator(_printable)]


class _Part(BaseModel):
    """A part of a file of answers; entries that are not named here are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Rating(_Part):
    """The score of one sound."""

    role: Literal["system", "reference", "anchor"]
    codec: Name = ""
    """Empty for reference and anchor."""
    setting: Name = ""
    score: Annotated[float, Field(ge=0, le=100)]

    @model_validator(mode="after")
    def _names_its_system(self) -> Self:
        if (self.role == "system") != bool(self.codec):
            raise ValueError("a system has the name of a codec, the others have none")
        return self


class MushraTrial(_Part):
    """The scores of the sounds of one clip."""

    kind: Literal["mushra"]
    clip: Name
    ratings: Annotated[list[Rating], Field(min_length=1, max_length=100)]


class AbxTrial(_Part):
    """One comparison of a system with the original."""

    kind: Literal["abx"]
    clip: Name
    codec: Name
    setting: Name
    x: Literal["original", "decode"]
    """What X was."""
    answer: Literal["original", "decode"]
    """What the listener took it for."""


class Answers(_Part):
    """A file of one listener."""

    format: Literal["codec-listening"]
    version: Literal[1]
    listener: Annotated[Name, Field(min_length=1)]
    started: Name
    """When the test began; with the listener it tells one file from another."""
    seed: int
    trials: list[Annotated[MushraTrial | AbxTrial, Field(discriminator="kind")]]


class MushraMean(NamedTuple):
    """Mean score of a system, the reference or the anchor, over the listeners that are kept and the clips."""

    name: str
    mean: float
    low: float
    """95 % bootstrap interval; nan if there is one listener and one clip."""
    high: float
    num_scores: int


class AbxCount(NamedTuple):
    """Answers to a system, those of all listeners together."""

    name: str
    num_correct: int
    num_trials: int
    p_value: float
    """Chance of as many correct answers or more by guessing (binomial)."""
    low: float
    """95 % interval of the share of correct answers (Wilson, 1927)."""
    high: float


class Summary(NamedTuple):
    """Result of `summarise`."""

    listeners: list[str]
    """All, in the order of the files."""
    excluded: dict[str, float]
    """Listeners whose ratings are left out, with the share of trials in which they missed the hidden reference."""
    mushra: list[MushraMean]
    """Best first; empty without ratings."""
    abx: list[AbxCount]


def read_answers(paths: Sequence[Path]) -> list[Answers]:
    """Read files of answers.

    Raises:
        ConfigError: A file can't be read, is none that the listening test saves, or was given twice.
    """
    answers: dict[tuple[str, str, int], Path] = {}
    found = []
    for path in paths:
        found.append(_read(path))
        session = (found[-1].listener, found[-1].started, found[-1].seed)
        if session in answers:
            raise ConfigError(f"{path} holds the same answers as {answers[session]}: give each once")
        answers[session] = path
    return found


def summarise(answers: Sequence[Answers]) -> Summary:
    """Means and counts per system.

    Listeners who often miss the hidden reference are left out of the means (`REFERENCE_SCORE`), but not of the counts,
    where a guess does no harm.
    """
    listeners = list(dict.fromkeys(one.listener for one in answers))
    missed = {name: _missed_share([one for one in answers if one.listener == name]) for name in listeners}
    excluded = {listener: share for listener, share in missed.items() if share > REFERENCE_SHARE}
    kept = [one for one in answers if one.listener not in excluded]
    return Summary(listeners, excluded, _mushra_means(kept), _abx_counts(answers))


def format_summary(summary: Summary) -> str:
    """The summary as text for a terminal."""
    sections = [f"Listeners ({len(summary.listeners)}): {', '.join(summary.listeners)}"]
    if summary.excluded:
        names = ", ".join(f"{name} ({share:.0%} of trials)" for name, share in summary.excluded.items())
        sections.append(f"Left out of the scores, hidden reference below {REFERENCE_SCORE}: {names}")
    if summary.mushra:
        rows: list[Row] = [["MUSHRA", "score", "95 % from", "to", "scores"]]
        for name, mean, low, high, num_scores in summary.mushra:
            rows.append([name, f"{mean:.1f}", *map(_bound, (low, high)), str(num_scores)])
        sections.append(aligned(rows))
    if summary.abx:
        rows = [["ABX", "correct", "of", "share", "95 % from", "to", "p by guessing"]]
        for name, num_correct, num_trials, p_value, low, high in summary.abx:
            shares = (f"{share:.0%}" for share in (num_correct / num_trials, low, high))
            rows.append([name, str(num_correct), str(num_trials), *shares, f"{p_value:.3g}"])
        sections.append(aligned(rows))
    return "\n\n".join(sections)


def binomial_p(num_correct: int, num_trials: int) -> float:
    """Chance of `num_correct` or more of `num_trials` by guessing between two.

    >>> binomial_p(5, 5)
    0.03125
    """
    num_ways = sum(math.comb(num_trials, number) for number in range(num_correct, num_trials + 1))
    return num_ways / int(2**num_trials)


def wilson(num_correct: int, num_trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, "Probable inference, the law of succession, and statistical inference", 1927).

    >>> [round(bound, 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    share, square = num_correct / num_trials, _Z**2 / num_trials
    centre = share + square / 2
    spread = math.sqrt(square * (share * (1 - share) + square / 4))
    return max(0.0, (centre - spread) / (1 + square)), min(1.0, (centre + spread) / (1 + square))


def _read(path: Path) -> Answers:
    remedy = "give files that the listening test saved"
    try:
        return Answers.model_validate(read_json(path))
    except ValidationError as error:
        first: Any = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ConfigError(f"{path} holds no answers ({place}: {first['msg']}); {remedy}") from error
    except OSError as error:
        raise ConfigError(f"can't read {path} ({error.strerror}); {remedy}") from error
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON file of answers ({one_line(error)}); {remedy}") from error


def _ratings(answers: Sequence[Answers]) -> list[tuple[str, str, Rating]]:
    """Listener, clip and rating of every sound."""
    return [
        (one.listener, trial.clip, rating)
        for one in answers
        for trial in one.trials
        if isinstance(trial, MushraTrial)
        for rating in trial.ratings
    ]


def _missed_share(answers: Sequence[Answers]) -> float:
    """Share of the hidden references in the answers of one listener that are scored too low; 0 without ratings."""
    scores = [rating.score for *_, rating in _ratings(answers) if rating.role == "reference"]
    return sum(score < REFERENCE_SCORE for score in scores) / len(scores) if scores else 0.0


def _mushra_means(answers: Sequence[Answers]) -> list[MushraMean]:
    groups: dict[str, list[tuple[str, str, float]]] = {}
    for listener, clip, rating in _ratings(answers):
        name = f"{rating.codec} {rating.setting}".strip() if rating.role == "system" else f"({rating.role})"
        groups.setdefault(name, []).append((listener, clip, rating.score))
    means = [MushraMean(name, *_mean_with_interval(scores), len(scores)) for name, scores in groups.items()]
    return sorted(means, key=lambda mean: -mean.mean)


def _mean_with_interval(scores: Sequence[tuple[str, str, float]]) -> Interval:
    """Mean of scores of (listener, clip), with its 95 % bootstrap interval.

    Listeners and clips are drawn independently with replacement; a score counts as often as its listener was drawn
    times as often as its clip (Owen, "The pigeonhole bootstrap", 2007). So the interval speaks of other listeners and
    other clips, not of these only.
    """
    values = np.array([score for *_, score in scores])
    _, listeners = np.unique([listener for listener, *_ in scores], return_inverse=True)
    _, clips = np.unique([clip for _, clip, _ in scores], return_inverse=True)
    num_listeners, num_clips = int(listeners.max()) + 1, int(clips.max()) + 1
    weights = times_drawn(num_listeners, seed=0)[:, listeners] * times_drawn(num_clips, seed=1)[:, clips]
    with np.errstate(invalid="ignore"):  # the listeners that were drawn may have missed all the clips that were drawn
        estimates = weights @ values / weights.sum(axis=1)
    return Interval(float(values.mean()), *percentile_bounds(estimates, max(num_listeners, num_clips)))


def _abx_counts(answers: Sequence[Answers]) -> list[AbxCount]:
    trials = [trial for one in answers for trial in one.trials if isinstance(trial, AbxTrial)]
    correct: dict[str, list[bool]] = {}
    for trial in trials:
        correct.setdefault(f"{trial.codec} {trial.setting}", []).append(trial.answer == trial.x)
    counts = [(name, sum(each), len(each)) for name, each in correct.items()]
    return [AbxCount(*count, binomial_p(*count[1:]), *wilson(*count[1:])) for count in counts]


def _bound(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else "-"
