"""Peak memory against length: encode and decode a file in a process of its own, and ask how much it held.

    python -m codec.bench.memory MODEL IN.wav FOLDER       prints one line of JSON: what `_code_file` returns

A new process for each length, since memory that was once taken is not all given back.
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
from codec.inference.compression import compress_file, decompress_file
from codec.inference.pretrained import load_codec, save_codec
from codec.model.codec import Codec

STATUS = Path("/proc/self/status")
RESET = Path("/proc/self/clear_refs")
BLOCK_S = 10.0
"""Audio made at a time (s)."""


class FileMemory(NamedTuple):
    """What it took to encode and decode a file of some length, in one thread."""

    file_s: float
    loaded_bytes: int
    """Held by the process before it read the file: Python, torch and the model."""
    peak_bytes: int
    """The most that it held from then on."""
    encode_times_real_time: float
    decode_times_real_time: float


def measure_memory(
    codec: Codec, file_s: Sequence[float], *, on_file: Callable[[], object] = lambda: None
) -> list[FileMemory]:
    """Encode and decode mono files of these lengths (s), each in a new process.

    Args:
        codec: In eval mode; it is saved for the processes in a temporary folder, and so are the files.
        file_s: Lengths of the files, in the order in which they come back.
        on_file: Called after each file.

    Raises:
        ModelError: A process failed; the message is the last line it wrote.
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
    """Write noise of any length, the same ten seconds again and again."""
    block = noise(sample_rate, BLOCK_S)[0].numpy()
    remaining = max(1, round(seconds * sample_rate))
    with new_audio_file(path, sample_rate, num_channels=1, overwrite=True) as writer:
        while remaining > 0:
            writer.write(block[:, :remaining])
            remaining -= block.shape[1]


def _run(folder: Path, source: Path, seconds: float) -> tuple[int, int, float, float]:
    """Memory (bytes) and speeds of a new process; the fields of `FileMemory` after the first."""
    root = str(Path(__file__).parents[2])  # it may not be installed
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    words = [sys.executable, "-m", "codec.bench.memory", str(folder / "model"), str(source), str(folder)]
    result = subprocess.run(words, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        reason = (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1]
        raise ModelError(f"a process that codes a file of {seconds:g} s failed: {reason}")
    loaded, peak, encode_s, decode_s = json.loads(result.stdout)
    return loaded, peak, seconds / encode_s, seconds / decode_s


def _code_file(model: str, source: Path, folder: Path) -> tuple[int, int, float, float]:
    """Memory (bytes) before and at the peak, and how long to encode and to decode (s)."""
    torch.set_num_threads(1)
    codec = load_codec(model)
    forget_peak()
    loaded = peak_memory()
    coded, decoded = folder / "out.codec", folder / "out.wav"
    encode_s = clock(lambda: compress_file(codec, source, coded, overwrite=True))
    decode_s = clock(lambda: decompress_file(codec, coded, decoded, overwrite=True))
    return loaded, max(loaded, peak_memory()), encode_s, decode_s  # the kernel counts in steps


def forget_peak() -> None:
    """Let the peak start at what this process holds now, where the system can; loading takes more for a moment."""
    with contextlib.suppress(OSError):
        RESET.write_text("5", encoding="ascii")


def peak_memory() -> int:
    """The most that this process has held in memory since it started or last forgot it (bytes).

    On Linux not what getrusage says: there a new process inherits the peak of the one that started it.
    """
    if STATUS.exists():
        fields = dict(line.split(":", 1) for line in STATUS.read_text(encoding="ascii").splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    import resource  # Windows has none

    # In kilobytes, but on macOS in bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_code_file(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))) + "\n")
