"""Fingerprint of a model: its results on a fixed test signal, stored at release and compared whenever it is loaded.

With it stands the identity of the model, which finds a file that is damaged or of another model before anything runs.
The weights can be right and still give wrong results: a convolution pads differently, GELU is approximated, matrix
products run in TF32, a file is read with swapped bytes. Each changes the results of the three parts of a model far more
than rounding does:

    signal --encoder--> latents           compared by 16 sums a frame
           --quantizer--> codes           compared by the share of frames that differ, level by level
    stored codes --decoder--> audio       compared by 16 sums a frame

Each sum adds all numbers of a frame with fixed random signs. Relative to their size, 16 such sums differ about as much
as the frames themselves. Frames are compared one by one, so a single wrong frame is found.

**Rounding.** Another processor, number of threads or device changes float32 results by about 1e-6 of their size.
Measured relative deviations of latents: 1e-6 between float32 and float64, 7e-6 if every weight is changed by 1e-6, but
5e-5 for the approximate GELU and 1e-3 for TF32. `MAX_DEVIATION` lies between. Rounding is larger in decoded audio: the
high harmonics of the rectified low band are 60 dB below it, and are amplified to the power of their band together with
their rounding. Measured in both cases: 1e-4 of the size of the frame that deviates most, hence `MAX_AUDIO_DEVIATION`.

At a near-tie of codewords a code may flip, and then all later levels of its frame change. Later levels flip more often,
because the same error acts on a smaller residual. With every weight changed by 1e-4, one frame in 26 flipped at the
twelfth level. So each level may differ in two frames and in a share that grows with its number. Damage that stays below
this share is visible in the sums.

The test signal and the signs are part of the format and never change.
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
from codec.errors import BitstreamError, ModelError, one_line
from codec.files import replace_text
from codec.inference.hub import how_to_renew
from codec.jsonfile import read_json
from codec.model.codec import Codec
from codec.model.digest import model_identity

FINGERPRINT_FILE = "fingerprint.json"
SIGNAL_SECONDS = 0.5
NUM_SUMS = 16
"""Sums of a frame."""
MAX_DEVIATION = 2e-5
"""Largest deviation of the sums of a frame of latents, relative to their size."""
MAX_AUDIO_DEVIATION = 5e-4
"""The same for decoded audio."""
QUIET = 0.25
"""Deviations in a quiet frame are relative to at least this share of the average size of all frames."""
FREE_FRAMES = 2
"""Frames whose codes may differ, at each level."""
FLIPS_PER_LEVEL = 0.005
"""Share of frames that may differ in addition, times the number of the level (1, 2, ...)."""


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """Results of a model on the test signal; F frames, K levels."""

    torch_version: str
    """PyTorch at the time."""
    latents: tuple[tuple[float, ...], ...]
    """Signed sums of the encoder's output, `[F, NUM_SUMS]`."""
    codes: tuple[tuple[int, ...], ...]
    """`[K, F]`."""
    audio: tuple[tuple[float, ...], ...]
    """Signed sums of the audio decoded from `codes`, `[F, NUM_SUMS]`."""
    identity: str | None = None
    """Identity of the model in hexadecimal, see `codec.model.digest`; None in the first releases."""


class Deviation(NamedTuple):
    """Difference of the fingerprints of two models of one architecture."""

    latents: float
    """Relative deviation of the sums of the frame that deviates most."""
    codes: tuple[float, ...]
    """Share of frames that differ, of each level."""
    audio: float
    """As for latents; both models decoded the same codes."""


def take_fingerprint(codec: Codec, codes: Tensor | None = None) -> Fingerprint:
    """Encode the test signal and decode codes on the model's device.

    Args:
        codec: In eval mode and float32.
        codes: int64 `[1, K, F]`, to be decoded; those of the test signal by default.
    """
    audio = fingerprint_signal(codec.sample_rate)[None, None].to(codec.device)
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
    """Compare the results of a model with a fingerprint.

    Raises:
        ModelError: The fingerprint has another number of levels or frames.
        BitstreamError: Its codes are out of range.
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


def sign_model(codec: Codec, folder: Path) -> None:
    """Write `fingerprint.json` with the identity of the model, by which it is checked whenever it is loaded.

    Args:
        codec: As loaded from the folder: in eval mode and float32.
        folder: Folder of the model.

    Raises:
        ModelError: The model gives NaN or Inf.
        WriteError: The folder can't be written.
    """
    fingerprint = dataclasses.replace(take_fingerprint(codec), identity=model_identity(codec).hex())
    save_fingerprint(fingerprint, folder)


def check_identity(codec: Codec, folder: Path) -> None:
    """Compare the tensors of a model with the identity in its folder, if there is one.

    Args:
        codec: As loaded.
        folder: Folder of the model; may hold `fingerprint.json`.

    Raises:
        ModelError: Its weights or tables are not those that were released, or the file is damaged.
    """
    expected = _read_fingerprint(folder)
    if expected is None or expected.identity is None:
        return
    found = model_identity(codec).hex()
    if found != expected.identity:
        raise ModelError(
            f"{folder} is model {found[:12]}, but {expected.identity[:12]} was released: a file of it is damaged or of "
            f"another model{how_to_renew(folder) or ': get them all anew'}"
        )


def check_fingerprint(codec: Codec, folder: Path) -> None:
    """Compare a model with the fingerprint in its folder, if there is one.

    Args:
        codec: As loaded: in eval mode, in float32, on the device where it is going to run.
        folder: Folder of the model; may hold `fingerprint.json`.

    Raises:
        ModelError: The model gives other results here than at its release, or the file is damaged.
    """
    expected = _read_fingerprint(folder)
    if expected is None:
        return
    try:
        deviation = measure_deviation(codec, expected)
    except (BitstreamError, ModelError) as error:
        raise _misfit(folder, error) from error
    fault = _first_fault(deviation, len(expected.audio))
    if fault is None:
        return
    here, there = str(torch.__version__), " ".join(expected.torch_version.split())[:80]
    remedy = (
        "its files are damaged or the device computes wrongly: get them anew, or load it on another device"
        if here == there
        else f"install torch=={there.partition('+')[0]}"
    )
    raise ModelError(
        f"the model {folder} gives other results than at its release (torch {there}; "
        f"now {here}, {codec.device}): {fault}: {remedy}"
    )


def _read_fingerprint(folder: Path) -> Fingerprint | None:
    """The fingerprint in the folder of a model; None if there is none.

    Raises:
        ModelError: The file is damaged.
    """
    path = folder / FINGERPRINT_FILE
    if not path.exists():
        return None
    try:
        return from_dict(Fingerprint, read_json(path), source=str(path))
    except (OSError, ValueError) as error:  # ConfigError is a ValueError
        raise _misfit(folder, error) from error


def _misfit(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"{folder / FINGERPRINT_FILE} does not fit its model, get both anew: {one_line(error)}")


def _first_fault(deviation: Deviation, num_frames: int) -> str | None:
    """Describe the first part of a model that exceeds its tolerance; None if there is none."""
    limit = f"of their size, rounding is below {MAX_DEVIATION:.0e}"
    if not deviation.latents <= MAX_DEVIATION:  # not `>`: NaN must fail
        return f"latents differ by {deviation.latents:.1e} {limit}"
    for level, share in enumerate(deviation.codes, start=1):
        allowed = min(FREE_FRAMES / num_frames + FLIPS_PER_LEVEL * level, 1.0)
        if share > allowed:
            return f"{share:.0%} of the codes of level {level} differ, near-ties are below {allowed:.0%}"
    if not deviation.audio <= MAX_AUDIO_DEVIATION:
        limit = f"of their size, rounding is below {MAX_AUDIO_DEVIATION:.0e}"
        return f"decoded samples differ by {deviation.audio:.1e} {limit}"
    return None


def fingerprint_signal(sample_rate: int) -> Tensor:
    """Make the test signal, float32 `[T]`: half a second of two syllables, voiced sound of rising pitch between noise.

    It is rounded to 16 bits, so that it is the same on every machine although the last digits of a sine are not.
    """
    time = np.arange(round(SIGNAL_SECONDS * sample_rate), dtype=np.float64) / sample_rate
    phase = 2 * np.pi * (110 * time + 180 * time**2)  # 110 to 290 Hz
    harmonics = 0.9 * np.sin(phase) / (1 - 1.8 * np.cos(phase) + 0.81)  # sum of 0.9^k sin(k phase), k >= 1
    voicing = np.sin(2 * np.pi * 2 * time) ** 2
    noise = _random_words(len(time)) / 2**31 - 1
    signal = 0.2 * voicing * harmonics + 0.1 * (1 - voicing) * noise + 0.002 * noise
    return torch.from_numpy((np.rint(signal * 2**15) / 2**15).astype(np.float32))


def _signed_sums(frames: Tensor) -> tuple[tuple[float, ...], ...]:
    """Sum each row of `[F, n]` with fixed random signs, divided by sqrt(n): `[F, NUM_SUMS]`, as large as an element."""
    num_elements = frames.shape[1]
    words = _random_words(num_elements * NUM_SUMS).reshape(num_elements, NUM_SUMS)
    signs = np.where(words < 2**31, -1.0, 1.0) / math.sqrt(num_elements)
    sums = frames.cpu().double().numpy() @ signs
    return tuple(tuple(float(f"{number:.8g}") for number in row) for row in sums)


def _random_words(count: int) -> npt.NDArray[np.uint32]:
    """Numbers in 0 .. 2^32 - 1 whose high bits look random: powers of 747796405 modulo 2^32."""
    return np.cumprod(np.full(count, 747796405, np.uint32), dtype=np.uint32)


def _relative(found: tuple[tuple[float, ...], ...], expected: tuple[tuple[float, ...], ...]) -> float:
    """Rms of the difference of a frame's sums by the rms of the expected sums, for the frame where it is largest."""
    with np.errstate(all="ignore"):  # sums of a damaged file may overflow: the result is NaN or Inf then
        difference = np.square(np.subtract(found, expected)).mean(axis=1)
        sizes = np.square(expected).mean(axis=1)
        return float(np.sqrt((difference / np.maximum(sizes, QUIET**2 * sizes.mean())).max()))
