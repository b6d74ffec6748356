"""Errors that a caller can cause, all one line long, and the message for a missing optional package.

CodecError
├── ConfigError      a recipe, an override or an argument is wrong
├── AudioError       an audio file or array can't be read, written or used
├── BitstreamError   a .codec, .npy, .npz or .jsonl file of codes is damaged or does not fit
└── ModelError       a model can't be found, loaded or trained
"""

import importlib
from types import ModuleType


class CodecError(Exception):
    """Base of every error that the command line reports as one line (exit code 2)."""


class ConfigError(CodecError, ValueError):
    """A recipe, an override or an argument is wrong."""


class AudioError(CodecError, ValueError):
    """An audio file or array can't be read, written or used."""


class BitstreamError(CodecError, ValueError):
    """A file of codes is damaged, of a later version, or made by another model."""


class ModelError(CodecError, RuntimeError):
    """A model can't be found, loaded or trained."""


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
