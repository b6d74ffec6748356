"""Reads the worst files in a process of its own; prints what each cost as JSON: `python hostile_files.py FOLDER`."""

import io
import json
import re
import struct
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bitstream_cases import make_header
from models import tiny_codec
from safetensors.torch import load_file, save_file

from codec.audio.manifest import list_items
from codec.bitstream import Bitstream, read_codes
from codec.inference.fingerprint import save_fingerprint, take_fingerprint
from codec.inference.pretrained import load_codec, save_codec
from codec.inference.streaming import StreamEncoder
from codec.recipe import load_recipe
from codec.train.checkpoint import read_index
from codec.train.rundir import read_run
from codec.train.tracking import HistoryTracker

MODEL = replace(make_header(num_quantizers=4), num_samples=0)
NESTED = "[" * 100_000
DIGITS = "9" * 5000


def npy_header(shape, dtype="<i2"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zip_bomb(path, member, header, num_megabytes):
    """Write an .npz, a thousand times smaller than what it unpacks to."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        if member != "codes.npy":
            archive.writestr("codes.npy", npy_header("(1, 2, 3)") + bytes(12))
        with archive.open(member, "w", force_zip64=True) as file:
            file.write(header)
            for _ in range(num_megabytes):
                file.write(bytes(2**20))


def packed_bomb(path, kind):
    file = io.BytesIO()
    np.save(file, np.zeros((1, 2, 2**26), np.int8))
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("codes.npy", file.getvalue())


def plain(folder):
    """Yield a name and a call for every form of plain codes."""

    def reader(name, data):
        path = folder / name
        path.write_bytes(data)
        return lambda: read_codes(path, MODEL)

    zip_bomb(folder / "bomb.npz", "codes.npy", npy_header(f"(1, 2, {160 * 2**18})"), 160)
    yield "npz that unpacks to 160 MB", lambda: read_codes(folder / "bomb.npz", MODEL)
    zip_bomb(folder / "field.npz", "sample_rate.npy", npy_header("()", f"<U{40 * 2**18}"), 40)
    yield "npz with a field of 40 MB", lambda: read_codes(folder / "field.npz", MODEL)
    packed_bomb(folder / "bzip2.npz", zipfile.ZIP_BZIP2)
    yield "npz packed by bzip2", lambda: read_codes(folder / "bzip2.npz", MODEL)
    for number, shape in enumerate(
        ("(99999, 99999, 99999)", f"({DIGITS},)", "(-1, 2, 3)", "(1, 2, 3", "(" * 3000, "(1j, 2)")
    ):
        yield f"npy of shape {shape[:30]}", reader(f"{number}.npy", npy_header(shape) + bytes(100))
    yield "npy of text", reader("b.npy", npy_header("(1, 2, 3)", "<U1000000000") + bytes(100))
    yield "jsonl without an end of line", reader("a.jsonl", b'{"codes": [[' + b"1," * 2**25)
    yield "jsonl of empty objects", reader("b.jsonl", b'{"codes": [' + b"{}," * 2**22 + b"{}]}")
    yield "jsonl of large codes", reader("c.jsonl", b'{"codes": [[' + b"1023," * (2**22 - 1) + b"4]]}")
    yield "nested jsonl", reader("d.jsonl", NESTED.encode())
    yield (
        "jsonl with nested metadata",
        reader("e.jsonl", b'{"codes": [[1]], "hop_length": ' + b"[" * 900 + b"]" * 900 + b"}"),
    )
    yield "jsonl with a long integer", reader("f.jsonl", b'{"codes": [[1]], "num_samples": ' + DIGITS.encode() + b"}")
    yield "jsonl with a large integer", reader("g.jsonl", b'{"codes": [[1]], "num_samples": ' + b"9" * 4000 + b"}")
    forged = make_header(num_frames=2**31, num_quantizers=4, frames_per_chunk=2**16)
    yield "a header that claims days", lambda: Bitstream.from_bytes(forged.to_bytes() + bytes(2**21), salvage=True)


CONFIGS = {
    "blocks": {"encoder": {"num_blocks": 2**31}},
    "many blocks": {"decoder": {"num_blocks": 128, "channels": 2**12}},
    "width": {"encoder": {"channels": 2**16}},
    "kernel": {"encoder": {"kernel_size": 2**16, "channels": 2**15}},
    "latents": {"latent_dim": 2**16},
    "codebook": {"latent_dim": 2**15, "quantizer": {"num_quantizers": 64, "codebook_size": 2**16}},
    "map": {"latent_dim": 2**13, "quantizer": {"num_quantizers": 64, "update": "simvq", "dead_threshold": 0}},
    "hop": {"encoder": {"hop_length": 2**16}},
    "longest hop": {"encoder": {"hop_length": 3072}, "sample_rate": 2**16, "bands": {"cutoff": 2048.0 / 3}},
    "bands": {"bands": {"cutoff": 1600, "num_bands": 10**9}},
    "cutoff": {"encoder": {"hop_length": 3072}, "sample_rate": 3072 * 8, "bands": {"cutoff": 12_000}},
    "rate": {"sample_rate": 2**62},
    "lookahead": {"lookahead": 2**62},
    "stages": {"encoder": {"kind": "conv", "strides": [1] * 10**5, "channels": [1] * 10**5, "num_blocks": [9] * 10**5}},
    "strides": {"encoder": {"kind": "conv", "strides": [2**16] * 4, "channels": [1] * 4, "num_blocks": [0] * 4}},
    "steps": {"quantizer": {"kind": "fsq", "steps": [2**16] * 10**5}},
}


def models(folder):
    """Yield a name and a call for every hostile file of a model folder."""

    def loader(name, data, **files):
        model = folder / name
        save_codec(tiny_codec(), model)
        for file, content in ({"config.json": data} | files).items():
            if content is not None:
                (model / file.replace("_", ".")).write_bytes(content.encode() if isinstance(content, str) else content)
        return lambda: load_codec(model)

    for name, change in CONFIGS.items():
        yield f"config with {name}", loader(name, json.dumps(change))
    faults = {"nested": NESTED, "digits": f'{{"latent_dim": {DIGITS}}}', "large": "[" + "[]," * 2**22 + "[]]"}
    faults |= {"keys": json.dumps({f"a{number}": 0 for number in range(80_000)}), "key": json.dumps({"a" * 10**6: 0})}
    faults |= {"kind": '{"encoder": {"kind": ' + "[" * 900 + "]" * 900 + "}}"}
    for name, text in faults.items():
        yield f"config: {name}", loader(f"text {name}", text)
    for name, text in faults.items() | {"elements": '{"latents": [[' + "[]," * 340_000 + "0]]}"}.items():
        yield f"fingerprint: {name}", loader(f"fingerprint {name}", None, fingerprint_json=text)
    wrong = loader("code", None)
    save_fingerprint(take_fingerprint(tiny_codec()), folder / "code")
    path = folder / "code/fingerprint.json"
    path.write_text(re.sub(r'"codes": \[\[\d+', f'"codes": [[{2**63 - 1}', path.read_text()))
    yield "fingerprint: code", wrong
    tables = {name: torch.zeros(2, 2) for name in ("frequencies", "previous", "below", "rows", "bits_per_frame")}
    yield "entropy tables", loader("tables", None)
    save_file(tables, folder / "tables/entropy.safetensors")
    odd = loader("odd", None)
    weights = folder / "odd/model.safetensors"
    save_file({key: value.to(torch.complex64) for key, value in load_file(weights).items()}, weights)
    yield "complex weights", odd
    empty = loader("empty", None)
    save_file({"a": torch.zeros(2**40, 0)}, folder / "empty/model.safetensors")
    yield "weights without elements", empty


def runs(folder):
    """Yield a name and a call for the files of a run, and for recipes."""
    texts = {"nested": NESTED, "digits": f'{{"step": {DIGITS}}}', "large": "[" + "[]," * 2**22 + "[]]", "latin": "\xff"}
    for name, text in texts.items():
        run = folder / name
        (run / "checkpoints").mkdir(parents=True)
        for file in ("recipe.json", "checkpoints/index.json", "history.jsonl"):
            (run / file).write_bytes(text.encode("latin-1"))
        yield f"run: {name}", lambda run=run: read_run(run)
        yield f"index: {name}", lambda run=run: load_codec(run)
        yield f"rebuilt index: {name}", lambda run=run: read_index(run)
        yield f"history: {name}", lambda run=run: HistoryTracker(run / "history.jsonl", 5).close()
    toml = {"nested": "a=" + "[" * 900, "inline": "a=" + "{a=" * 300, "digits": "seed=" + DIGITS, "long": "#" * 2**20}
    toml |= {
        "dotted": "a." * 2**15 + "a=1",
        "base": 'base="' + "a" * 900 + '"',
        "nul": 'base="\\u0000"',
        "seed": "train=[]",
    }
    for name, text in toml.items():
        path = folder / f"{name}.toml"
        path.write_text(text)
        yield f"recipe: {name}", lambda path=path: load_recipe(str(path))


def manifests(folder):
    """Yield a name and a call for hostile manifests of every form."""
    texts = {
        "line.tsv": b"path\n" + b"a" * 2**26,
        "nul.tsv": b"path\n" + bytes(2**26),
        "column.tsv": b"\t" * 2**26,
        "binary.tsv": b"path\n" + bytes(range(256)) * 2**16,
        "quote.csv": b'file_name\n"' + b"a,\n" * 2**20,
        "line.csv": b"file_name\n" + b"a," * 2**25,
        "nested.json": NESTED[:60_000].encode(),
        "line.json": b'{"audio_filepath": "' + b"a" * 2**26,
        "digits.json": f'{{"audio_filepath": "a", "duration": {DIGITS}}}'.encode(),
        "elements.json": b'{"audio_filepath": [' + b"[]," * 20_000 + b"[]]}",
        "line.scp": b"a " * 2**25,
        "nul.scp": b"a " + bytes(2**26),
        "command.scp": b"a sleep 60 |\n",
    }
    for name, data in texts.items():
        (folder / name).write_bytes(data)
        yield f"manifest: {name}", lambda name=name: list_items(folder, Path(name), split="train")
    (folder / "wav.scp").write_text("a a.wav\n")
    (folder / "utt2spk").write_bytes(b"a " * 2**25)
    yield "manifest: speakers", lambda: list_items(folder, Path("wav.scp"), split="train")


def streams(folder):
    """Yield a name and a call for states of a stream."""
    codec = tiny_codec()
    encoder = StreamEncoder(codec)
    encoder.push(torch.zeros(1, 1, 107))
    changes = {
        "NaN": {"encoder.blocks.0.depthwise": torch.full((1, 16, 2), torch.nan)},
        "Inf": {"rest": torch.full((1, 1, 7), torch.inf)},
        "sparse": {"rest": torch.zeros(1, 1, 7).to_sparse()},
        "meta": {"rest": torch.zeros(1, 1, 7, device="meta")},
        "batch": {"batch_size": torch.tensor(2**62)},
        "empty": {"rest": torch.zeros(2**60, 1, 0), "batch_size": torch.tensor(2**60)},
    }
    for name, change in changes.items():
        yield f"stream: {name}", lambda change=change: StreamEncoder.restore(codec, encoder.state() | change)


def memory(field):
    """A size of this process (MB)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def cost_of(call):
    """What happens, in how many seconds, and by how much memory (MB) it exceeds what was used before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
    before, start = memory("VmRSS"), time.perf_counter()
    try:
        call()
        result, text = "read", ""
    except Exception as error:
        result, text = "/".join(kind.__name__ for kind in type(error).__mro__), str(error)
    return {"result": result, "text": text, "seconds": time.perf_counter() - start, "mb": memory("VmHWM") - before}


if __name__ == "__main__":
    found = {}
    for make in (plain, models, runs, manifests, streams):
        folder = Path(sys.argv[1]) / make.__name__
        folder.mkdir()
        for name, call in make(folder):
            found[name] = call
    print(json.dumps({name: cost_of(call) for name, call in found.items()}))
