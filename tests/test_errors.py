import importlib
import inspect
import pickle

import pytest
from messages import one_line

import codec.errors as errors_module
from codec.cli.messages import message
from codec.errors import (
    AudioError,
    BitstreamError,
    CodecError,
    ConfigError,
    DiskFullError,
    ModelError,
    WriteError,
    require,
)


def test_every_error_is_a_codec_error():
    classes = [value for _, value in inspect.getmembers(errors_module, inspect.isclass) if issubclass(value, Exception)]
    named = {CodecError, ConfigError, AudioError, BitstreamError, ModelError, WriteError, DiskFullError}
    assert set(classes) == named
    assert all(issubclass(error, CodecError) for error in classes)
    assert all(error.__name__ in errors_module.__doc__ and error.__doc__ for error in classes)


@pytest.mark.parametrize("error", [ConfigError, AudioError, BitstreamError])
def test_a_wrong_argument_is_a_value_error(error):
    assert issubclass(error, ValueError)
    assert not issubclass(ModelError, ValueError) and issubclass(ModelError, RuntimeError)


@pytest.mark.parametrize(
    ("remedy", "python", "options"),
    [
        ({}, "fact", "fact"),
        ({"overwrite": True}, "fact: give overwrite=True", "fact: give --overwrite"),
        ({"device": "cpu", "jobs": 1}, "fact: give device='cpu' or jobs=1", "fact: give --device cpu or --jobs 1"),
        ({"codec": ...}, "fact: give codec", "fact: give --model"),
        ({"init_from": ...}, "fact: give init_from", "fact: give --init-from"),
    ],
)
def test_a_remedy_is_an_argument_of_the_library_and_an_option_of_a_command(remedy, python, options):
    error = pickle.loads(pickle.dumps(BitstreamError("fact", **remedy)))  # it comes out of other processes
    assert str(error) == python
    assert message(error) == options
    assert message(OSError("disk")) == "disk"


def test_require_returns_the_module():
    assert require("json", "eval") is importlib.import_module("json")
    assert require("importlib.metadata", "eval").version


def test_require_says_how_to_install():
    remedy = ("no_such_package_here", "not installed", "'eval'", "pip install no_such_package_here")
    with pytest.raises(ConfigError, match=one_line(*remedy)):
        require("no_such_package_here", "eval")
    with pytest.raises(ConfigError, match=one_line("no_such_package_here")):
        require("no_such_package_here.inner", "eval")


@pytest.mark.parametrize("content", ["import no_such_dependency", "raise ImportError('broken library')"])
def test_require_hides_no_other_failure(tmp_path, monkeypatch, content):
    """A package that is there but broken must not be reported as missing."""
    (tmp_path / "half_installed.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError) as error:
        require("half_installed", "eval")
    assert not isinstance(error.value, CodecError)
