"""Fingerprint of a model: what it makes of a fixed signal, stored with a release and compared whenever it is loaded.

Weights can be right and what runs them wrong: a convolution that pads otherwise, another GELU, matrix products in TF32,
a file read with its bytes swapped. Each changes what the three parts of a model give, far beyond rounding:

    signal --encoder--> latents           compared by 16 sums a frame
           --quantizer--> codes           compared by the share of frames that differ, level by level
    stored codes --decoder--> audio       compared by 16 sums a frame

A sum is of all numbers of a frame with random signs: 16 of them are as far apart as the frames are, by their size, and
one frame that is off can't hide among the others.

**What rounding may do.** Another processor, number of threads or device changes float32 results by some 1e-6 of their
size. Measured on latents: 1e-6 between float32 and float64, 7e-6 where every weight is 1e-6 off, but 5e-5 for the
approximate GELU, 1e-3 for TF32. `MAX_DEVIATION` lies between. Decoded audio has the same rounding larger: the high
harmonics of the rectified low band are 60 dB below it and are brought to the level of their band, rounding with them.
Measured: 1e-4 of the size of the frame that is most off, both times; hence `MAX_AUDIO_DEVIATION`.

A code may flip, at a near-tie of codewords, and then all later levels of its frame; the more levels, the smaller the
residual that the same error acts on. With every weight 1e-4 off, one frame in 26 flipped at the twelfth level. So each
level may differ in two frames and in a share that grows with its number; damage that hides in this share does not hide
in the sums.

The test signal and the signs are part of the format: they never change.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.config import from_dict
from codec.dsp.precision import full_precision
from codec.errors import BitstreamError, ConfigError, ModelError
from codec.files import replace_text
from codec.model.codec import Codec

FINGERPRINT_FILE = "fingerprint.json"
SIGNAL_SECONDS = 0.5
NUM_SUMS = 16
"""Of a frame."""
MAX_DEVIATION = 2e-5
"""Of the sums of a frame, by their size."""
MAX_AUDIO_DEVIATION = 5e-4
"""As above, of decoded audio."""
QUIET = 0.25
"""A frame whose sums are smaller than this share of the average is measured by this share."""
FREE_FRAMES = 2
"""Frames of any level whose codes may differ."""
FLIPS_PER_LEVEL = 0.005
"""Share of frames that may differ besides, times the number of the level (1, 2, ...)."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """What a model makes of the test signal; F frames, K levels."""

    torch_version: str
    """That made it."""
    latents: tuple[tuple[float, ...], ...]
    """Signed sums of the encoder's output, `[F, NUM_SUMS]`."""
    codes: tuple[tuple[int, ...], ...]
    """`[K, F]`."""
    audio: tuple[tuple[float, ...], ...]
    """Signed sums of what the decoder makes of `codes`, `[F, NUM_SUMS]`."""


class Deviation(NamedTuple):
    """How far two fingerprints of models of one architecture lie apart."""

    latents: float
    """Of the sums of the frame that is most off, by their size."""
    codes: tuple[float, ...]
    """Share of frames that differ, of each level."""
    audio: float
    """As for latents; both decoded the same codes."""


def take_fingerprint(codec: Codec, codes: Tensor | None = None) -> Fingerprint:
    """Encode the test signal and decode codes, on the model's device.

    Args:
        codec: In eval mode and float32.
        codes: Codes int64 `[1, K, F]` to decode; those of the test signal by default.
    """
    audio = make_signal(codec.sample_rate)[None, None].to(codec.device)
    with torch.no_grad(), full_precision(audio.device):
        latents = codec.encoder(codec.pad(audio))
        found = codec.quantizer.encode(latents)
        decoded = codec.decode_frames(found if codes is None else codes.to(audio.device))
    return Fingerprint(
        torch_version=str(torch.__version__),
        latents=_signed_sums(latents[0].T),
        codes=tuple(tuple(level) for level in found[0].tolist()),
        audio=_signed_sums(decoded.view(-1, codec.hop_length)),
    )


def measure_deviation(codec: Codec, expected: Fingerprint) -> Deviation:
    """Compare what a model makes of the test signal, and of the codes of a fingerprint, with the fingerprint.

    Raises:
        ModelError: The fingerprint is of a model of other levels or frames.
        BitstreamError: It has codes that the model does not know.
    """
    num_frames = codec.num_frames(round(SIGNAL_SECONDS * codec.sample_rate))
    lengths = {len(rows) for rows in (expected.latents, *expected.codes, expected.audio)}
    widths = {len(sums) for sums in (*expected.latents, *expected.audio)}
    if lengths != {num_frames} or widths != {NUM_SUMS} or len(expected.codes) != codec.quantizer.num_quantizers:
        raise ModelError(f"it is not of {codec.quantizer.num_quantizers} levels and {num_frames} frames throughout")
    codes = torch.tensor(expected.codes)[None]
    codec.check_codes(codes)
    found = take_fingerprint(codec, codes)
    flipped = (torch.tensor(found.codes) != codes[0]).double().mean(dim=-1)
    return Deviation(
        _relative(found.latents, expected.latents), tuple(flipped.tolist()), _relative(found.audio, expected.audio)
    )


def save_fingerprint(fingerprint: Fingerprint, folder: Path) -> None:
    """Write `fingerprint.json` into the folder of a model.

    Raises:
        ModelError: The model gives NaN or Inf.
        WriteError: The folder can't be written.
    """
    try:
        text = json.dumps(dataclasses.asdict(fingerprint), allow_nan=False)
    except ValueError as error:
        raise ModelError(f"the model of {folder} gives NaN or Inf on the test signal: train it anew") from error
    replace_text(folder / FINGERPRINT_FILE, text + "\n")


def check_fingerprint(codec: Codec, folder: Path) -> None:
    """Compare a model with the fingerprint in the folder that it was loaded from; without one there is nothing to do.

    Args:
        codec: As loaded: in eval mode, in float32, on the device where it is going to run.
        folder: May hold `fingerprint.json`.

    Raises:
        ModelError: The model does not do here what it did where it was released, or the file is damaged.
    """
    path = folder / FINGERPRINT_FILE
    if not path.exists():
        return
    try:
        expected = from_dict(Fingerprint, json.loads(path.read_text(encoding="utf-8")), source=str(path))
        deviation = measure_deviation(codec, expected)
    except (OSError, ValueError, BitstreamError, ConfigError, ModelError) as error:
        raise ModelError(f"{path} does not fit its model, get both anew: {' '.join(str(error).split())}") from error
    fault = _first_fault(deviation, len(expected.audio))
    if fault is None:
        return
    here = str(torch.__version__)
    remedy = (
        "its files are damaged or the device computes wrongly: get them anew, or load it on another device"
        if here == expected.torch_version
        else f"install torch=={expected.torch_version.partition('+')[0]}"
    )
    raise ModelError(
        f"the model {folder} gives other results than at its release (torch {expected.torch_version}; "
        f"now {here}, {codec.device}): {fault}: {remedy}"
    )


def _first_fault(deviation: Deviation, num_frames: int) -> str | None:
    """What is beyond the tolerances, of the first part that is."""
    limit = f"of their size, rounding is below {MAX_DEVIATION:.0e}"
    if not deviation.latents <= MAX_DEVIATION:  # so written, NaN is a fault
        return f"latents differ by {deviation.latents:.1e} {limit}"
    for level, share in enumerate(deviation.codes, start=1):
        allowed = min(FREE_FRAMES / num_frames + FLIPS_PER_LEVEL * level, 1.0)
        if share > allowed:
            return f"{share:.0%} of the codes of level {level} differ, near-ties are below {allowed:.0%}"
    if not deviation.audio <= MAX_AUDIO_DEVIATION:
        limit = f"of their size, rounding is below {MAX_AUDIO_DEVIATION:.0e}"
        return f"decoded samples differ by {deviation.audio:.1e} {limit}"
    return None


def make_signal(sample_rate: int) -> Tensor:
    """The test signal float32 `[T]`: half a second of two syllables, voiced with a rising pitch, then hissing.

    Rounded to 16 bits, so that the last digit of a sine does not matter: it is the same everywhere.
    """
    time = np.arange(round(SIGNAL_SECONDS * sample_rate), dtype=np.float64) / sample_rate
    phase = 2 * np.pi * (110 * time + 180 * time**2)  # 110 to 290 Hz
    harmonics = 0.9 * np.sin(phase) / (1 - 1.8 * np.cos(phase) + 0.81)  # sum of 0.9^k sin(k phase), k >= 1
    voicing = np.sin(2 * np.pi * 2 * time) ** 2
    noise = _random_words(len(time)) / 2**31 - 1
    signal = 0.2 * voicing * harmonics + 0.1 * (1 - voicing) * noise + 0.002 * noise
    return torch.from_numpy((np.rint(signal * 2**15) / 2**15).astype(np.float32))


def _signed_sums(frames: Tensor) -> tuple[tuple[float, ...], ...]:
    """Sums `[F, NUM_SUMS]` of each row of `[F, n]` with fixed random signs, by the root of n: like an element."""
    num_elements = frames.shape[1]
    words = _random_words(num_elements * NUM_SUMS).reshape(num_elements, NUM_SUMS)
    signs = np.where(words < 2**31, -1.0, 1.0) / math.sqrt(num_elements)
    sums = frames.cpu().double().numpy() @ signs
    return tuple(tuple(float(f"{number:.8g}") for number in row) for row in sums)


def _random_words(count: int) -> npt.NDArray[np.uint32]:
    """Numbers in 0 .. 2^32 - 1 whose high bits look random: powers of 747796405 modulo 2^32, in integers."""
    return np.cumprod(np.full(count, 747796405, np.uint32), dtype=np.uint32)


def _relative(found: tuple[tuple[float, ...], ...], expected: tuple[tuple[float, ...], ...]) -> float:
    """Root mean square of the difference of a frame's sums by that of the sums, of the frame where it is largest."""
    difference = np.square(np.subtract(found, expected)).mean(axis=1)
    sizes = np.square(expected).mean(axis=1)
    return float(np.sqrt((difference / np.maximum(sizes, QUIET**2 * sizes.mean())).max()))
