"""Write a static page that runs a codec in the browser: from disk, or from any web server.

    index.html page.js page.css licences.txt     the page, as built in web/
    facts.js                                     what it needs to know of the model
    encoder.js decoder.js runtime.js             the network, and ONNX Runtime in WebAssembly
    entropy.js                                   tables of the entropy coder, if the model has them
    demo.js                                      a recording to begin with

A page from disk may not read files, but it may load scripts. So each of the latter holds a file as text: compressed by
gzip, in base64.
"""

import base64
import contextlib
import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from codec.audio.file import load_audio, save_audio
from codec.config import shipped
from codec.errors import ConfigError
from codec.files import new_folder
from codec.model.codec import Codec
from codec.onnx.export import check_folder, model_facts
from codec.onnx.graphs import Graphs, trace_rated_graphs
from codec.web.check import check_rated_graphs
from codec.web.compact import compact
from codec.web.runtime import BUNDLE, find_runtime

BITRATES = (1500, 3000, 6000)
"""Bitrates to listen to (bit/s), where the model has them."""
DEMO = ("speech_en-us.flac", "speech_en-us_f3.flac", "speech_en-gb_m7.flac")
"""Clips that come with the package, one after the other."""
PAGE_FILES = ("index.html", "page.css", "page.js", "licences.txt")
DATA_FILES = ("facts.js", "encoder.js", "decoder.js", "runtime.js", "entropy.js", "demo.js")


class Rate(NamedTuple):
    """A bitrate to listen to."""

    bitrate: float
    """bit/s."""
    levels: int


class Page(NamedTuple):
    """A written page."""

    num_bytes: int
    """Of the whole folder."""
    rates: tuple[Rate, ...]
    deviation: float
    """Largest difference of a sample from PyTorch, relative to the largest sample; measured here, not in a browser."""


def write_page(
    codec: Codec, folder: str | Path, *, name: str, runtime: str | None = None, overwrite: bool = False
) -> Page:
    """Write the page of a model into a folder, after a parity check of its graphs with PyTorch.

    Args:
        codec: On the CPU, in eval mode.
        folder: New, empty, or an older page. A new folder appears complete or not at all.
        name: Of the model, to be shown.
        runtime: Where onnxruntime-web is, see `find_runtime`.
        overwrite: Replace an older page.

    Raises:
        ConfigError: onnx, onnxruntime or onnxruntime-web is not installed, or of another version.
        ModelError: The model can't be written as ONNX, or its graphs give other results.
        WriteError: The folder is there already, or can't be written.
    """
    folder = Path(folder).absolute()
    check_page_folder(folder, overwrite=overwrite)
    wasm = find_runtime(runtime)
    rates = _rates(codec)
    levels = tuple(rate.levels for rate in rates)
    graphs = trace_rated_graphs(codec, levels)
    deviation = check_rated_graphs(codec, graphs, levels)
    contents = {
        "encoder": compact(graphs.encoder.model),
        "decoder": compact(graphs.decoder.model),
        "runtime": wasm,
        "entropy": _entropy(codec),
        "demo": _demo(codec.sample_rate),
    }
    with new_folder(folder) as partial:
        for file in PAGE_FILES:
            (partial / file).write_bytes((BUNDLE / file).read_bytes())
        facts = json.dumps(_facts(codec, graphs, rates, name))
        (partial / "facts.js").write_text(f'codecPage.put("facts", {facts});\n', encoding="utf-8")
        for key, content in contents.items():
            (partial / f"{key}.js").write_text(_script(key, content), encoding="ascii")
        num_bytes = sum(path.stat().st_size for path in partial.iterdir())
    return Page(num_bytes, rates, deviation)


def check_page_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise WriteError unless a page may be written to `folder`: it is new, empty, or a page to be replaced."""
    check_folder(folder, overwrite=overwrite, files=(*PAGE_FILES, *DATA_FILES))


def _rates(codec: Codec) -> tuple[Rate, ...]:
    """The bitrates to listen to, with different numbers of levels; all levels if the model has none of them."""
    found: dict[int, Rate] = {}
    for bitrate in BITRATES:
        with contextlib.suppress(ConfigError):  # below the lowest of this model
            levels = codec.num_quantizers_for(bitrate)
            found.setdefault(levels, Rate(bitrate, levels))
    config = codec.config
    everything = Rate(config.frame_rate * config.bits_per_frame, config.quantizer.num_quantizers)
    return tuple(found.values()) or (everything,)


def _script(key: str, content: bytes) -> str:
    """A script that hands a file to the page."""
    return f'codecPage.put("{key}", "{base64.b64encode(gzip.compress(content, compresslevel=6, mtime=0)).decode()}");\n'


def _demo(sample_rate: int) -> bytes:
    """The clips as one FLAC file at the model's rate."""
    clips = [load_audio(shipped("clips") / clip, sample_rate) for clip in DEMO]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "demo.flac")
        save_audio(path, torch.cat(clips, dim=-1), sample_rate)
        return path.read_bytes()


def _entropy(codec: Codec) -> bytes:
    """The tables of the entropy coder, little-endian, one after the other; their shapes are in the facts."""
    if codec.entropy is None:
        return b""
    return b"".join(tensor.numpy().tobytes() for tensor in codec.entropy.coding_tables().values())


def _facts(codec: Codec, graphs: Graphs, rates: Sequence[Rate], name: str) -> dict[str, Any]:
    tables = {} if codec.entropy is None else codec.entropy.coding_tables()
    return {
        "name": name,
        **model_facts(codec),
        "rates": [rate._asdict() for rate in rates],
        "entropy": {key: list(tensor.shape) for key, tensor in tables.items()} or None,
        "encoder": {"input": graphs.encoder.input, "states": [state._asdict() for state in graphs.encoder.states]},
        "decoder": {"input": graphs.decoder.input, "states": [state._asdict() for state in graphs.decoder.states]},
    }
