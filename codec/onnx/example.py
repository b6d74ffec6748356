"""Encode a wav file with encoder.onnx and decode it with decoder.onnx, which lie beside this program.

    python example.py in.wav out.wav              the whole file at once
    python example.py in.wav out.wav --block 20   as a live stream, in blocks of 20 ms

It needs numpy and onnxruntime. It shows how to use the graphs from any language; codec.json holds the facts to know.
The audio is float32 [1, 1, samples] in [-1, 1], in whole hops. The codes are int64 [1, levels, frames].
"""

import argparse
import json
import math
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

FOLDER = Path(__file__).parent
FACTS = json.loads((FOLDER / "codec.json").read_text(encoding="utf-8"))
RATE, HOP, DELAY = FACTS["sample_rate"], FACTS["hop_length"], FACTS["delay"]


class Stream:
    """Encoder or decoder for a stream of blocks: it keeps the states of the layers from block to block."""

    def __init__(self, half: dict[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # enough for a live stream
        path = FOLDER / half["file"]
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name
        # All states are zero at the start of a signal. The batch size is 1 here.
        self.states = {state["name"]: np.zeros([1, *state["shape"]], np.float32) for state in half["states"]}

    def push(self, block: NDArray[Any]) -> NDArray[Any]:
        """Process the next block. The first output is the result, the others are the states for the block after it."""
        result, *states = self.session.run(None, {self.input: block, **self.states})
        self.states = dict(zip(self.states, states, strict=True))
        return np.asarray(result)


def read_wav(path: str) -> NDArray[np.float32]:
    """Read a mono file as float32 samples in [-1, 1]."""
    with wave.open(path, "rb") as file:
        found = (file.getnchannels(), file.getsampwidth(), file.getframerate())
        if found != (1, 2, RATE):
            raise ValueError(
                f"must be mono, 16 bit, {RATE} Hz, not {found[0]} channels, {8 * found[1]} bit, {found[2]} Hz"
            )
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    if not len(samples):
        raise ValueError("has no samples")
    return (samples / 32768).astype(np.float32)


def write_wav(path: str, samples: NDArray[Any]) -> None:
    """Write samples as 16-bit mono."""
    with wave.open(path, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2").tobytes())


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description="Encode and decode a wav file.")
    parser.add_argument("source", metavar="in.wav")
    parser.add_argument("target", metavar="out.wav")
    parser.add_argument("--block", type=float, metavar="MS", help="length of a block (ms), rounded up to whole frames")
    options = parser.parse_args()
    if options.block is not None and not 0 < options.block < math.inf:
        parser.error(f"--block must be a positive number of milliseconds, not {options.block}")
    if Path(options.target).exists():
        parser.error(f"{options.target} is already there: give another name")
    try:
        audio = read_wav(options.source)
    except (OSError, EOFError, ValueError, wave.Error) as error:
        parser.error(f"{options.source}: {error}")

    # The decoder's output is DELAY samples late: append as many zeros, and more to fill the last hop.
    num_frames = -(-(len(audio) + DELAY) // HOP)
    padded = np.pad(audio, (0, num_frames * HOP - len(audio)))[None, None]
    frames = num_frames if options.block is None else math.ceil(options.block / 1000 * RATE / HOP)
    encoder, decoder = Stream(FACTS["encoder"]), Stream(FACTS["decoder"])
    decoded, start = [], time.perf_counter()
    for first in range(0, padded.shape[-1], frames * HOP):
        codes = encoder.push(padded[:, :, first : first + frames * HOP])
        decoded.append(decoder.push(codes))  # codes[:, :4], the first levels only, can be decoded too
    seconds = time.perf_counter() - start

    write_wav(options.target, np.concatenate(decoded, axis=-1)[0, 0, DELAY : DELAY + len(audio)])
    duration = len(audio) / RATE
    speed = f"{duration / seconds:.0f}x real time"
    print(f"{options.target}  {duration:.2f} s  {num_frames} frames of {codes.shape[1]} codes, {speed}")


if __name__ == "__main__":
    main()
