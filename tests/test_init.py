import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import codec

SOURCE = Path(codec.__file__).read_text(encoding="utf-8")


def test_all_is_sorted_and_complete():
    assert codec.__all__ == sorted(set(codec.__all__))
    assert set(codec.__all__) == set(codec._MODULE_OF)


def test_type_checkers_see_the_same_names_in_the_same_modules():
    (block,) = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    declared = {alias.name: node.module for node in block.body for alias in node.names}
    assert declared == codec._MODULE_OF


@pytest.mark.parametrize("name", codec.__all__)
def test_every_name_resolves(name):
    value = getattr(codec, name)
    assert value is getattr(importlib.import_module(codec._MODULE_OF[name]), name)
    assert inspect.getdoc(value)
    assert codec.__dict__[name] is value  # found at once from now on


def test_no_name_is_that_of_a_module():
    """Importing a module sets its name on the package, so that a function of that name would be hidden by chance."""
    modules = {path.stem for path in Path(codec.__file__).parent.iterdir()}
    assert not modules & set(codec.__all__)


def test_dir_lists_the_names():
    assert set(codec.__all__) <= set(dir(codec))
    assert dir(codec) == sorted(dir(codec))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'codec' has no attribute 'encod'"):
        codec.encod  # noqa: B018
    with pytest.raises(ImportError):
        from codec import encod  # noqa: F401
    assert not hasattr(codec, "__path__x")


@pytest.mark.parametrize(
    "statement", ["import codec; dir(codec); codec.CodecError", "import codec.config", "import codec.bitstream"]
)
def test_import_loads_no_torch(statement):
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(codec.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(result.stdout.split())
    assert "codec" in loaded
    assert not loaded & {"torch", "torchaudio", "soundfile", "soxr", "matplotlib", "lightning_fabric"}
