"""Completion of command lines: a script for bash, which zsh runs too, made from the options of a command (no torch).

tyro makes such scripts as well, but theirs complete no file names and offer pieces of the help as words.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from codec.cli.command_line import HELP, option_word, options_of
from codec.cli.options import (
    BenchOptions,
    CompareOptions,
    DecodeOptions,
    EncodeOptions,
    EvalOptions,
    ExportOptions,
    InspectOptions,
    ReleaseOptions,
    TrainOptions,
)
from codec.config import leaves, shipped
from codec.errors import ConfigError
from codec.recipe import Recipe

OPTIONS: dict[str, type] = {
    "codec-train": TrainOptions,
    "codec-encode": EncodeOptions,
    "codec-decode": DecodeOptions,
    "codec-eval": EvalOptions,
    "codec-inspect": InspectOptions,
    "codec-compare": CompareOptions,
    "codec-bench": BenchOptions,
    "codec-export": ExportOptions,
    "codec-release": ReleaseOptions,
}
RECIPE_KEYS = {"codec-train": "", "codec-release": "data."}
"""By command: how the values of a recipe begin that it takes as options."""
SHELLS = {
    "bash": "",
    # A second compinit would forget the other commands.
    "zsh": "(( $+functions[compdef] )) || { autoload -U compinit && compinit; }\n"
    "autoload -U bashcompinit && bashcompinit\n",
}
"""By the name of a shell, what has to be run before the script."""
SCRIPT = """\
{before}{function}() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} at=$((COMP_CWORD - 1)) words=
    while ((at > 0)) && [[ ${{COMP_WORDS[at]}} != -* ]]; do ((at--)); done
    case "${{COMP_WORDS[at]}} $((COMP_CWORD - at))" in
{cases}
    esac
    [[ $word == -* ]] && words="{options}"
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F {function} {prog}
"""
"""`at` is the place of the option before the word, or 0. Where there are no words to offer, the shell offers files."""


def completion_script(prog: str, shell: str) -> str:
    """Script that completes the options of a command, the values of those that take one of a few words, and files.

    Raises:
        ConfigError: No script for this shell.
    """
    if shell not in SHELLS:
        raise ConfigError(f"no completion for {shell or 'no shell'}: give --completion {' or '.join(SHELLS)}")
    counts, words = _options(prog)
    cases = [
        f'"{option_word(name)} "{"*" if counts[name] > 1 else "1"}) words="{" ".join(values)}" ;;'
        for name, values in words.items()
        if values
    ]
    if prog == "codec-train":
        cases.append(f'*"{prog} 1") words="{" ".join(_recipes())}" ;;')
    return SCRIPT.format(
        before=SHELLS[shell],
        function=f"_{prog.replace('-', '_')}",
        prog=prog,
        cases="\n".join(f"        {case}" for case in cases),
        options=" ".join(sorted({*map(option_word, words), *HELP, "--version", "--completion"})),
    )


def _options(prog: str) -> tuple[Mapping[str, int], Mapping[str, list[str]]]:
    """By the name of every option: how many words it takes, and which, if they are few."""
    counts = options_of(OPTIONS[prog])
    types = leaves(OPTIONS[prog])
    if (start := RECIPE_KEYS.get(prog)) is not None:
        counts |= {name: count for name, count in options_of(Recipe).items() if name.startswith(start)}
        types = itertools.chain(types, leaves(Recipe))
    words: dict[str, list[str]] = {name: [] for name in counts}
    for name, annotation in types:
        if name in words:
            words[name] += [word for word in _choices(annotation) if word not in words[name]]
    return counts, words


def _choices(annotation: Any) -> Iterator[str]:
    """The words of every Literal in an annotation."""
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for inner in get_args(annotation):
            yield from _choices(inner)


def _recipes() -> list[str]:
    folder = shipped("recipes")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.toml"))
