"""Command lines: words become options, or values of a recipe, which pydantic validates (no torch).

tyro prints the help and does nothing else: it shows a mistake in a box of several lines, and nothing public gives the
reason alone.
"""

import dataclasses
import difflib
import itertools
import os
import re
import sys
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import tyro
from tyro.conf import Positional

from codec.config import from_dict, leaves, section_kinds, to_dict, unknown_key
from codec.errors import ConfigError
from codec.recipe import Recipe

OPTION = re.compile(r"--?[A-Za-z]|--$")
"""A word that begins an option, or ends them all; -3 is a value."""
SHORT = {"-o": "--output"}
HELP = ("-h", "--help")
POSITIONAL: Any = Positional
T = TypeVar("T")
Changes = Mapping[str, Sequence[str]]
"""Words by the dotted key of a recipe whose value they replace."""
Presets = Mapping[str, Mapping[str, Any]]
"""By the name of a flag: values that it sets for other options that are not given."""


def parse(options: type[T], argv: Sequence[str], prog: str, presets: Presets | None = None) -> T:
    """Read a command line into `options`, a dataclass; print the help and exit if the words ask for it.

    Each field is an option; one may be `Positional` and takes the words that belong to no option.

    Raises:
        ConfigError: An option is unknown, missing or has a wrong value.
    """
    return _parse(options, argv, prog, {}, presets or {})[0]


def parse_with_recipe(options: type[T], argv: Sequence[str], prog: str) -> tuple[T, Changes]:
    """Read a command line with the options of a dataclass and dotted keys of a recipe, in any order.

    Raises:
        ConfigError: As for `parse`; an unknown dotted key names the nearest.
    """
    return _parse(options, argv, prog, options_of(Recipe), {})


def override(recipe: Recipe, changes: Changes) -> Recipe:
    """Replace values of a recipe; a section that changes its kind begins with the defaults of the new kind.

    Raises:
        ConfigError: A key of another kind of its section, or a wrong value.
    """
    values = to_dict(recipe)
    for key in sorted(changes, key=lambda key: not key.endswith(".kind")):  # the kind of a section decides on its keys
        *sections, name = key.split(".")
        config: type = Recipe
        section = values
        for part in sections:
            kinds, section = section_kinds(_types(config)[part]), section[part]
            config = next((kind for kind in kinds if getattr(kind, "kind", None) == section.get("kind")), kinds[0])
        if name not in _types(config):
            raise ConfigError(unknown_key(key, Recipe))
        value = _value(_types(config)[name], changes[key], key)
        if name == "kind" and value != section["kind"]:
            section.clear()
        section[name] = value
    return from_dict(Recipe, values)


def print_help(options: Any, prog: str, **how: Any) -> None:
    """Print the docstrings of `options`, a dataclass, and of its fields; exit."""
    config = (tyro.conf.FlagCreatePairsOff, tyro.conf.AvoidSubcommands)
    tyro.cli(options, args=HELP[:1], prog=prog, config=config, **how)


def _parse(
    options: type[T], argv: Sequence[str], prog: str, keys: Mapping[str, int], presets: Presets
) -> tuple[T, Changes]:
    if set(HELP) & set(itertools.takewhile(lambda word: word != "--", argv)):
        print_help(options, prog)
    own = options_of(options)
    given, free = _split(argv, {**keys, **own}, prog)
    built = _build(options, {name: given.pop(name) for name in own.keys() & given.keys()}, free, prog, presets)
    return built, given


def _split(argv: Sequence[str], known: Mapping[str, int], prog: str) -> tuple[dict[str, list[str]], list[str]]:
    """Split words into those of each option and those of none; `known` has the most words that an option takes."""
    given: dict[str, list[str]] = {}
    free: list[str] = []
    words = list(argv)
    while words:
        option, equals, value = words.pop(0).partition("=")
        if option == "--":
            return given, free + words
        if not OPTION.match(option):
            free.append(option + equals + value)
            continue
        name = SHORT.get(option, option).removeprefix("--").replace("-", "_")
        positive = re.sub(r"(^|\.)no_(?=\w+$)", r"\1", name)  # --no-flag
        if name not in known and known.get(positive) == 0:
            given[positive] = ["false"]
            continue
        if name not in known:
            raise ConfigError(_unknown(option, name, known, prog))
        taken = itertools.islice(itertools.takewhile(lambda word: not OPTION.match(word), words), known[name])
        given[name] = [value] if equals else list(taken)
        words = words if equals else words[len(given[name]) :]
    return given, free


def _build(options: type[T], given: Changes, free: Sequence[str], prog: str, presets: Presets) -> T:
    """Validate the words of options; the free ones are the value of the positional field."""
    if "" in itertools.chain(free, *given.values()):  # as a path it would be the current folder
        raise ConfigError("one of the words is empty: is a variable of the shell not set?")
    types = _types(options)
    values = {name: _value(types[name], words, name) for name, words in given.items()}
    for name, annotation in types.items():
        count = _most_words(annotation)
        if _is_positional(annotation) and (free or count > 1):
            values[name], free = _value(annotation, free[:count], name), free[count:]
    if free:
        raise ConfigError(f"no option takes {free[0]!r}: see {prog} --help")
    for field in dataclasses.fields(options):  # type: ignore[arg-type]
        if field.name not in values and field.default is dataclasses.MISSING:
            raise ConfigError(f"{option_word(field.name)} is missing: see {prog} --help")
    built = from_dict(options, values)
    for flag, preset in presets.items():
        built = from_dict(options, {**preset, **values}) if getattr(built, flag) else built
    return built


def _value(annotation: Any, words: Sequence[str], name: str) -> Any:
    """The words of an option as pydantic takes them: a list for a tuple, True for a flag, or None."""
    if list(words) == ["None"] and NoneType in get_args(_plain(annotation)):
        return None
    words = [os.path.expanduser(word) for word in words]  # noqa: PTH111 - the shell leaves --out=~/x as it is
    count = _most_words(annotation)
    if count > 1:
        return list(words)
    if len(words) > 1 or (count == 1 and not words):
        raise ConfigError(f"{option_word(name)} needs {'one value, not ' + ' '.join(words) if words else 'a value'}")
    return words[0] if words else True


def _most_words(annotation: Any) -> int:
    """Most words that a value takes: none for a flag, any number for a tuple."""
    annotation = _plain(annotation)
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return sys.maxsize if ... in inner else len(inner)
    if origin in (Union, UnionType):
        return max(map(_most_words, inner))
    return 0 if annotation is bool else 1


def options_of(config: type) -> dict[str, int]:
    """Most words that each option takes, by name; the maximum where kinds of a section differ."""
    most: dict[str, int] = {}
    for key, annotation in leaves(config):
        if not _is_positional(annotation):
            most[key] = max(most.get(key, 0), _most_words(annotation))
    return most


def _types(config: type) -> dict[str, Any]:
    return {field.name: field.type for field in dataclasses.fields(config)}


def _plain(annotation: Any) -> Any:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _is_positional(annotation: Any) -> bool:
    return POSITIONAL in getattr(annotation, "__metadata__", ())


def option_word(name: str) -> str:
    """How an option is written: num_quantizers is --num-quantizers."""
    return "--" + name.replace("_", "-")


def _unknown(option: str, name: str, known: Mapping[str, int], prog: str) -> str:
    """Message for an unknown option, naming the nearest."""
    if "." in name and any("." in key for key in known):
        return unknown_key(name, Recipe)
    nearest = difflib.get_close_matches(name, [other for other in known if "." not in other], 1, 0.6)
    return f"no option {option}: " + (f"did you mean {option_word(nearest[0])}?" if nearest else f"see {prog} --help")
