"""Error messages of the commands: the remedy is an option, not an argument of Python."""

from codec.errors import CodecError

OPTIONS = {"codec": "--model", "run_dir": "--out"}
"""Options whose name differs from the argument of the library."""


def message(error: CodecError | OSError) -> str:
    """The text of an error, with options in place of arguments: `overwrite=True` becomes `--overwrite`."""
    if not isinstance(error, CodecError) or not error.remedy:
        return str(error)
    options = [_option(name, value) for name, value in error.remedy.items()]
    return f"{error.fact}: give {' or '.join(options)}"


def _option(name: str, value: object) -> str:
    option = OPTIONS.get(name, "--" + name.replace("_", "-"))
    return option if value is True or value is ... else f"{option} {value}"
