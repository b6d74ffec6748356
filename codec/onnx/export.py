"""Export a codec as a folder of ONNX files, which run without this package and without PyTorch.

encoder.onnx, decoder.onnx    see `codec.onnx.graphs`
codec.json                    what a program needs to use them: rates, sizes, states
example.py                    wav -> codes -> wav with NumPy and ONNX Runtime only
"""

import json
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codec.errors import WriteError, require
from codec.files import new_folder
from codec.model.codec import Codec
from codec.model.digest import model_identity
from codec.onnx.check import largest_deviation
from codec.onnx.engine import OnnxCodec
from codec.onnx.graphs import OPSET, Graphs, trace_graphs

ENCODER_FILE = "encoder.onnx"
DECODER_FILE = "decoder.onnx"
FACTS_FILE = "codec.json"
EXAMPLE_FILE = "example.py"
FILES = (ENCODER_FILE, DECODER_FILE, EXAMPLE_FILE, FACTS_FILE)
_EXAMPLE = Path(__file__).with_name("example.py")


class Export(NamedTuple):
    """Sizes and accuracy of a written export."""

    encoder_bytes: int
    decoder_bytes: int
    deviation: float
    """Largest difference of a sample from PyTorch, relative to the largest sample."""


def export_codec(codec: Codec, folder: str | Path, *, beam: int = 1, overwrite: bool = False) -> Export:
    """Write a model as ONNX into a folder, after a parity check of both graphs in ONNX Runtime with PyTorch.

    Args:
        codec: On the CPU, in eval mode.
        folder: New, empty, or an older export. A new folder appears complete or not at all.
        beam: Paths kept in the search of the encoder, see `Codec.encode`.
        overwrite: Replace an older export.

    Raises:
        ConfigError: ONNX Runtime is not installed, or `beam` is not in 1 .. 64.
        ModelError: The model can't be written as ONNX, or its graphs give other results.
        WriteError: The folder is there already, or can't be written.
    """
    folder = Path(folder).absolute()
    check_folder(folder, overwrite=overwrite)
    graphs = trace_graphs(codec, beam)
    deviation = largest_deviation(codec, OnnxCodec(codec, graphs), beam=beam)
    with new_folder(folder) as partial:
        (partial / ENCODER_FILE).write_bytes(graphs.encoder.model)
        (partial / DECODER_FILE).write_bytes(graphs.decoder.model)
        facts = _describe(codec, graphs)
        (partial / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        shutil.copyfile(_EXAMPLE, partial / EXAMPLE_FILE)
    return Export(len(graphs.encoder.model), len(graphs.decoder.model), deviation)


def check_folder(folder: Path, *, overwrite: bool, files: Collection[str] = FILES) -> None:
    """Raise WriteError unless an export of `files` may be written: the folder is new, empty, or one to be replaced."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise WriteError(f"{folder} is a file, but a folder of that name is to be written")
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if name not in files and not name.endswith(".partial")]  # of a killed export
    if others:
        raise WriteError(f"{folder} holds {others[0]}, which is no part of an export: choose another folder")
    if names and not overwrite:
        raise WriteError(f"{folder} is already there", overwrite=True)


def model_facts(codec: Codec) -> dict[str, Any]:
    """Constants of a model that a program needs to run its graphs: rate (Hz), lengths (samples), sizes, identity."""
    return {
        "sample_rate": codec.sample_rate,
        "hop_length": codec.hop_length,
        "delay": codec.delay,
        "latency": codec.latency,
        "num_quantizers": codec.quantizer.num_quantizers,
        "codebook_size": codec.quantizer.codebook_size,
        "model_identity": model_identity(codec).hex(),
    }


def _describe(codec: Codec, graphs: Graphs) -> dict[str, Any]:
    encoder, decoder, beam = graphs
    return {
        **model_facts(codec),
        "beam": beam,
        "opset": OPSET,
        "encoder": {"file": ENCODER_FILE, "states": [state._asdict() for state in encoder.states]},
        "decoder": {"file": DECODER_FILE, "states": [state._asdict() for state in decoder.states]},
        "versions": {"torch": torch.__version__, "onnxruntime": require("onnxruntime", "export").__version__},
    }
