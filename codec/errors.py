"""Errors that a caller can cause, each with a message of one line, and the import of optional packages.

CodecError
├── ConfigError      a recipe, an override or an argument is wrong
├── AudioError       an audio file or array can't be read or used
├── BitstreamError   a .codec, .npy, .npz or .jsonl file of codes is damaged or does not fit
├── ModelError       a model can't be found, loaded or trained
└── WriteError       a file or folder can't be written
    └── DiskFullError
"""

import importlib
from types import ModuleType
from typing import Any


class CodecError(Exception):
    """Base of every error that the command line reports as one line (exit code 2).

    Args:
        fact: What is wrong, and a remedy unless `remedy` holds it.
        remedy: Arguments of the library that help, any of them, with their values; an ellipsis where the caller knows
            the value. The text names them as Python does, `overwrite=True`; the commands name their options.
    """

    def __init__(self, fact: str, **remedy: Any) -> None:
        super().__init__(fact)
        self.fact = fact
        self.remedy = remedy

    def __str__(self) -> str:
        given = [name if value is ... else f"{name}={value!r}" for name, value in self.remedy.items()]
        return f"{self.fact}: give {' or '.join(given)}" if given else self.fact


class ConfigError(CodecError, ValueError):
    """A recipe, an override or an argument is wrong."""


class AudioError(CodecError, ValueError):
    """An audio file or array can't be read or used."""


class BitstreamError(CodecError, ValueError):
    """A file of codes is damaged, of a later version, or made by another model."""


class ModelError(CodecError, RuntimeError):
    """A model can't be found, loaded or trained."""


class WriteError(CodecError):
    """A file or folder can't be written: it is there already, or the disk is full."""


class DiskFullError(WriteError):
    """The disk is full: no other file can be written there either."""


def one_line(error: Exception) -> str:
    """The text of an error of a library in one line; the name of its class if it has no text."""
    return " ".join(str(error).split()) or type(error).__name__


def require(package: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        ConfigError: The package is not installed; the message holds the command that installs it.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.split(".")[0]:
            raise
        raise ConfigError(f"{package} is not installed (extra '{extra}'): run  pip install {package}") from error
