"""Peak memory by file length: a new process encodes and decodes a file of each length, and reports its peak.

    python -m codec.bench.memory MODEL IN.wav FOLDER       prints one line of JSON: what `_code_file` returns

Each length needs its own process, because a process does not give all of its memory back.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from codec.audio.file import new_audio_file
from codec.bench.speed import noise
from codec.bench.timing import clock
from codec.errors import ModelError
from codec.inference.compression import compress_file
from codec.inference.decompression import decompress_file
from codec.inference.pretrained import load_codec, save_codec
from codec.model.codec import Codec

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
BLOCK_S = 10.0
"""Noise in memory while a file is written (s)."""


class FileMemory(NamedTuple):
    """Memory and speed of encoding and decoding a file, with one thread."""

    file_s: float
    loaded_bytes: int
    """Memory before the file is read: Python, torch and the model."""
    peak_bytes: int
    """Peak from then on."""
    encode_times_real_time: float
    decode_times_real_time: float


def measure_memory(
    codec: Codec, file_s: Sequence[float], *, on_file: Callable[[], object] = lambda: None
) -> list[FileMemory]:
    """Encode and decode mono files of these lengths (s), each in a new process.

    Args:
        codec: In eval mode; the processes load it from a temporary folder.
        file_s: Lengths of the files (s), in the order of the result.
        on_file: Called after each file.

    Raises:
        ModelError: A process failed; the message ends with the last line that it wrote.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_codec(codec, folder / "model")
        for seconds in file_s:
            source = folder / "in.wav"
            _write_noise(source, codec.sample_rate, seconds)
            rows.append(FileMemory(seconds, *_run(folder, source, seconds)))
            on_file()
    return rows


def _write_noise(path: Path, sample_rate: int, seconds: float) -> None:
    """Write noise of any length; the same ten seconds repeat."""
    block = noise(sample_rate, BLOCK_S)[0].numpy()
    remaining = max(1, round(seconds * sample_rate))
    with new_audio_file(path, sample_rate, num_channels=1, overwrite=True) as writer:
        while remaining > 0:
            writer.write(block[:, :remaining])
            remaining -= block.shape[1]


def _run(folder: Path, source: Path, seconds: float) -> tuple[int, int, float, float]:
    """Run the new process; the fields of `FileMemory` after the first."""
    root = str(Path(__file__).parents[2])  # this package may not be installed
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", "codec.bench.memory", str(folder / "model"), str(source), str(folder)]
    result = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise ModelError(f"a process that codes a file of {seconds:g} s failed: {reason}")
    loaded, peak, encode_s, decode_s = json.loads(result.stdout)
    return loaded, peak, seconds / encode_s, seconds / decode_s


def _code_file(model: str, source: Path, folder: Path) -> tuple[int, int, float, float]:
    """Encode and decode a file: memory before and at the peak (bytes), time of encoding and of decoding (s)."""
    torch.set_num_threads(1)
    codec = load_codec(model)
    forget_peak()
    loaded = peak_memory()
    coded, decoded = folder / "out.codec", folder / "out.wav"
    encode_s = clock(lambda: compress_file(codec, source, coded, overwrite=True))
    decode_s = clock(lambda: decompress_file(codec, coded, decoded, overwrite=True))
    return loaded, max(loaded, peak_memory()), encode_s, decode_s  # the kernel's counters are approximate


def forget_peak() -> None:
    """Reset the peak memory of this process to the current memory, if the system can: loading briefly takes more."""
    with contextlib.suppress(OSError):
        RESET.write_text("5", encoding="ascii")


def peak_memory() -> int:
    """Peak memory of this process since it started or last called `forget_peak` (bytes).

    Linux has it in /proc. getrusage is of no use there: a new process inherits the peak of its parent.
    """
    if STATUS.exists():
        fields = dict(line.split(":", 1) for line in STATUS.read_text(encoding="ascii").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource  # Windows has none

    # macOS counts bytes, others kilobytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_code_file(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))) + "\n")
