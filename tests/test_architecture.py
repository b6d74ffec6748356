"""Rules of the source tree: which module may import which, size of files and functions, who may print."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import codec

ROOT = Path(codec.__file__).parent
MAX_LINES = 350

# What a room may import of ours, besides itself. A new room needs its line here.
BASE = {"codec.errors"}
INFERENCE = {
    "codec.errors": set(),
    "codec.files": BASE,
    "codec.jsonfile": set(),
    "codec.progress": set(),
    "codec.config": {*BASE, "codec.ranges"},
    "codec.ranges": set(),
    "codec.dsp": BASE,
    "codec.bitstream": {*BASE, "codec.files"},
    "codec.audio": {*BASE, "codec.files", "codec.jsonfile", "codec.progress"},
    "codec.model": {*BASE, "codec.config", "codec.dsp"},
    "codec.model.quantizer": {*BASE, "codec.dsp", "codec.model.layers"},
    "codec.onnx": {*BASE, "codec.dsp", "codec.files", "codec.model"},
    "codec.inference": {
        *BASE,
        "codec.audio",
        "codec.bitstream",
        "codec.config",
        "codec.dsp",
        "codec.files",
        "codec.jsonfile",
        "codec.model",
        "codec.onnx",
        "codec.progress",
    },
}
# What inference never loads. Evaluation knows no training; the rooms behind it stand on both.
BEHIND = {
    "codec.eval",
    "codec.bench",
    "codec.corpus",
    "codec.web",
    "codec.train",
    "codec.release",
    "codec.study",
    "codec.experiment",
}
EVAL = {*INFERENCE, "codec.adapters", "codec.dsp.mel", "codec.environment", "codec.table"}
TRAIN = {*EVAL, "codec.eval", "codec.recipe"}
ALLOWED = INFERENCE | {
    "codec.environment": set(),
    "codec.table": set(),
    "codec.recipe": {*BASE, "codec.config", "codec.ranges"},
    "codec.dsp.mel": {*BASE, "codec.dsp"},  # by torchaudio
    "codec.onnx.example": set(),  # leaves the package, with what codec-export writes
    "codec.adapters": {
        *(*BASE, "codec.config", "codec.dsp", "codec.files", "codec.jsonfile", "codec.model"),
        *("codec.inference.hub", "codec.inference.pretrained"),
    },
    "codec.web": {*BASE, "codec.audio", "codec.config", "codec.files", "codec.model", "codec.onnx"},
    "codec.eval": EVAL,
    "codec.bench": {*EVAL, "codec.eval"},
    "codec.train": TRAIN,
    "codec.train.data": {
        *(*BASE, "codec.audio", "codec.config", "codec.progress", "codec.recipe", "codec.train.engine"),
    },
    "codec.train.losses": {
        *(*BASE, "codec.config", "codec.dsp", "codec.dsp.mel", "codec.model", "codec.recipe"),
        *("codec.train.data", "codec.train.optimizer"),
    },
    "codec.release": {*TRAIN, "codec.bench", "codec.train"},
    "codec.study": {*TRAIN, "codec.train"},
    "codec.experiment": {*TRAIN, "codec.train", "codec.study"},
    "codec.corpus": {*INFERENCE, "codec.table"},
    "codec.cli": {
        *TRAIN,
        "codec.web",
        "codec.bench",
        "codec.corpus",
        "codec.train",
        "codec.release",
        "codec.study",
        "codec.experiment",
    },
}

# A library, and the only parts that may import it; any part may import what is not named here.
KNOWN_BY = {
    "torch": {
        *("codec.audio.file", "codec.audio.resampling", "codec.dsp", "codec.model", "codec.onnx", "codec.inference"),
        *(*BEHIND, "codec.adapters", "codec.environment", "codec.cli"),
    },
    "numpy": {
        *("codec.audio", "codec.bitstream", "codec.dsp", "codec.model.synthesis", "codec.inference", "codec.onnx"),
        *BEHIND,
    },
    "einops": {"codec.model", "codec.train", "codec.study"},
    "soundfile": {"codec.audio", "codec.eval.systems.soundfile_codecs"},  # the second judges its lossy formats
    "soxr": {"codec.audio.resampling"},
    "pydantic": {
        *("codec.config", "codec.ranges", "codec.recipe", "codec.cli.options", "codec.cli.program_options"),
        "codec.eval.listening",
    },
    "tqdm": {"codec.progress"},
    "tyro": {"codec.cli.command_line", "codec.cli.options"},
    "safetensors": {
        "codec.adapters.folder",
        "codec.inference.pretrained",
        "codec.train.checkpoint",
        "codec.release",
    },
    "torchaudio": {"codec.audio.named", "codec.dsp.mel", "codec.eval"},
    "lightning_fabric": {
        "codec.experiment",
        "codec.train.engine",
        "codec.train.learner",
        "codec.train.losses.adversarial",
        "codec.train.start",
        "codec.train.trainer",
    },
    "tensorboard": {"codec.train.tracking"},
    "matplotlib": BEHIND,
    "sklearn": {"codec.study"},
    "jinja2": {"codec.eval.page"},
    "wandb": {"codec.train.tracking"},
    "ray": set(),  # codec.corpus asks `require` for it, and for pyarrow
    "pyarrow": set(),
    "fsspec": {"codec.corpus"},
    "huggingface_hub": set(),  # codec.inference.hub and codec.release.publish ask `require` for it
    "onnxruntime": {"codec.onnx.example"},  # the others ask `require` for it
    "pickle": set(),
}


def modules():
    """Every module by its dotted name, with its syntax tree."""
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(modules())


def imported(node):
    """Dotted names that an import statement, anywhere in the tree, may load."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "imports are absolute"
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def imports(tree):
    return [name for node in ast.walk(tree) for name in imported(node)]


def within(name, part):
    return name == part or name.startswith(f"{part}.")


def part_of(name):
    """The longest prefix of a module's name that has a line in the table."""
    return max((part for part in ALLOWED if within(name, part)), key=len, default=None)


OURS = [name for name in MODULES if name != "codec"]


@pytest.mark.parametrize("name", OURS)
def test_a_module_imports_only_what_is_below_it(name):
    part = part_of(name)
    assert part, f"{name} has no line in the table of imports"
    for other in imports(MODULES[name]):
        if other in MODULES:
            assert any(within(other, allowed) for allowed in {part, *ALLOWED[part]}), f"{name} imports {other}"


def test_the_table_names_nothing_upwards():
    order = graphlib.TopologicalSorter(
        {part: {part_of(other) for other in others} - {part} for part, others in INFERENCE.items()}
    )
    assert set(order.static_order()) == set(INFERENCE)  # raises CycleError
    for part, others in INFERENCE.items():
        assert not any(within(other, side) for other in others for side in (*BEHIND, "codec.dsp.mel", "codec.cli")), (
            part
        )


def test_no_module_imports_itself_in_a_circle():
    graph = {
        name: {other for other in imports(tree) if other in MODULES and other != name} for name, tree in MODULES.items()
    }
    del graph["codec"]  # its names are looked up on first use
    list(graphlib.TopologicalSorter(graph).static_order())


def test_nobody_imports_the_command_line():
    for name, tree in MODULES.items():
        if not within(name, "codec.cli"):
            assert not any(within(other, "codec.cli") for other in imports(tree)), name


@pytest.mark.parametrize("library", KNOWN_BY)
def test_a_library_is_known_by_few(library):
    for name, tree in MODULES.items():
        if any(within(other, library) for other in imports(tree)):
            assert any(within(name, part) for part in KNOWN_BY[library]), f"{name} imports {library}"


def test_the_inference_side_loads_nothing_of_training():
    statement = "import " + ", ".join(sorted(name for name in OURS if part_of(name) in INFERENCE))
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT.parent)}, capture_output=True, text=True, check=True
    )
    loaded = set(result.stdout.split())
    assert "torch" in loaded and "codec.inference.compression" in loaded
    unwanted = {"torchaudio", "lightning_fabric", "tensorboard", "matplotlib", "sklearn", "ray", "onnx", "onnxruntime"}
    unwanted.add("huggingface_hub")
    assert not loaded & unwanted
    assert not any(within(name, side) for name in loaded for side in (*BEHIND, "codec.dsp.mel", "codec.cli"))


def test_a_codec_works_without_the_compiler_of_pytorch():
    code = """
import sys, torch
from codec.inference.pretrained import load_codec
codec = load_codec("speech_16khz")
with torch.inference_mode():
    print(codec.decode(codec.encode(torch.zeros(1, 1, 3200)), 3200).shape[-1], *sys.modules)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(ROOT.parent)}, capture_output=True, text=True, check=True
    )
    num_samples, *loaded = result.stdout.split()
    assert num_samples == "3200" and "torch" in loaded
    assert not {"torch._dynamo", "sympy"} & set(loaded)  # more than a second of every command


# The docstring of codec.cli says why for all its modules.
@pytest.mark.parametrize("name", [name for name in OURS if not within(name, "codec.cli")])
def test_an_import_within_a_function_says_why(name):
    path = Path(sys.modules[name].__file__) if name in sys.modules else ROOT.parent / (name.replace(".", "/") + ".py")
    path = path if path.exists() else path.with_suffix("") / "__init__.py"
    lines = path.read_text(encoding="utf-8").splitlines()
    functions = [node for node in ast.walk(MODULES[name]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                explained = "#" in lines[node.lineno - 1] or " late" in (ast.get_docstring(function) or "")
                assert explained, f"{name}, line {node.lineno}: a comment must say why"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_holds_one_concept(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES
    assert ast.get_docstring(ast.parse(text)), "a module says what it is"
    names = {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}
    assert not names & {"utils", "util", "helpers", "common", "misc", "tools", "base"}


def test_no_function_is_long():
    for name, tree in MODULES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = node.end_lineno - body[0].lineno + 1 if body else 0
                assert length <= 40, f"{name}.{node.name} has {length} lines"


def test_only_commands_print():
    for name, tree in MODULES.items():
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        programs = ("codec.cli", "codec.onnx.example")
        assert "print" not in calls or part_of(name) in programs, name
