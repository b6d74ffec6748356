"""Judge codecs on one audio file: change it, code it, align the result with the original, measure.

in.wav --load_audio--> audio [C, T] --Condition.apply--> changed --System--> Coded --align--> decoded
(decoded, changed) --measure, measure_bands--> a row
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.audio.file import load_audio
from codec.audio.resampling import resample
from codec.errors import AudioError, one_line
from codec.eval.alignment import align, find_delay
from codec.eval.conditions import AS_IT_IS, Condition
from codec.eval.metrics.bands import measure_bands
from codec.eval.metrics.clip import Original
from codec.eval.metrics.metrics import measure
from codec.eval.page.clip import Decode
from codec.eval.systems.system import Coded, System
from codec.model.quantizer.quantizer import count_codes


class FileResult(NamedTuple):
    """Result for one audio file."""

    rows: list[dict[str, Any]]
    """One per condition and system, in this order; see `codec.eval.evaluate.Evaluation`."""
    counts: dict[str, npt.NDArray[np.int64]]
    """Uses of every codeword `[K, N]`, by codec: of its setting with the most levels, over all conditions."""
    equal: npt.NDArray[np.int64] | None
    """How many codes of the first codec are equal to those of the reference, and how many were compared, `[2, K]`; None
    if none were."""
    original: Tensor | None
    """The recording `[C, T]`, where the judge keeps it."""
    decodes: list[Decode]
    """The decoded recordings as they are, where the judge keeps them."""


@dataclass(frozen=True)
class FileJudge:
    """Judges one file per call; can be sent to another process.

    Attributes:
        systems: Codecs, each at one setting.
        sample_rate: Rate at which everything is compared (Hz).
        metrics: Names in `codec.eval.metrics.metrics.METRICS`.
        conditions: Changes of the recording, each judged by itself.
        reference: Compared code by code with the first codec at the same setting; None: no comparison.
        kept: Files whose original and decoded audio are in the result, for a report.
    """

    systems: tuple[System, ...]
    sample_rate: int
    metrics: tuple[str, ...]
    conditions: tuple[Condition, ...] = (AS_IT_IS,)
    reference: System | None = None
    kept: frozenset[Path] = frozenset()

    @torch.no_grad()
    def __call__(self, path: Path) -> FileResult:
        """Code and measure a file.

        Raises:
            AudioError: It can't be read.
            ConfigError: A metric is unknown or its package is not installed.
        """
        audio = load_audio(path, self.sample_rate)[0]
        counts: dict[str, npt.NDArray[np.int64]] = {}
        equal: Any = None
        rows, decodes = [], []
        for condition in self.conditions:
            changed = condition.apply(audio, path.name)
            coded = [_attempt(system, changed, self.sample_rate) for system in self.systems]
            for codec, uses in _count(self.systems, coded).items():
                counts[codec] = added(counts.get(codec), uses)
            if self.reference is not None:
                settings = [system.setting for system in self.systems]  # the first codec is the model that is judged
                same = coded[settings.index(self.reference.setting)]
                equal = added(equal, _compare(same, _attempt(self.reference, changed, self.sample_rate)))
            target = condition.heard(changed)
            original = Original(target, self.sample_rate)
            for system, result in zip(self.systems, coded, strict=True):
                row, decode = self._judge(system, result, condition, target, original)
                rows.append({"path": str(path), **row})
                if decode is not None and condition == AS_IT_IS and path in self.kept:
                    decodes.append(decode)
        return FileResult(rows, counts, equal, audio if path in self.kept else None, decodes)

    def _judge(
        self, system: System, coded: Coded | str, condition: Condition, target: Tensor, original: Original
    ) -> tuple[dict[str, Any], Decode | None]:
        """The row of one system, and what it decoded; an error in the row, and None, if it failed."""
        num_channels, num_samples = target.shape
        seconds = num_samples / self.sample_rate
        row: dict[str, Any] = {"codec": system.codec, "setting": system.setting, "condition": condition.name}
        row |= {"gain_db": condition.gain_db, "seconds": seconds, "channels": num_channels}
        if isinstance(coded, str):
            return row | {"error": coded}, None
        decoded = resample(coded.audio, system.sample_rate, self.sample_rate)
        delay = find_delay(condition.heard(decoded), target, self.sample_rate)
        decoded = align(decoded, num_samples, delay)
        heard = condition.heard(decoded)
        row |= {
            "num_bytes": coded.num_bytes,
            "bitrate": 8 * coded.num_bytes / seconds,
            "nominal_bitrate": coded.nominal_bitrate,
            "delay_ms": 1000 * delay / self.sample_rate,
            "encode_speed": seconds / max(coded.encode_seconds, 1e-6),
            "decode_speed": seconds / max(coded.decode_seconds, 1e-6),
        }
        try:
            values, notes = measure(heard, original, self.metrics)
            row |= values | {"notes": notes}
            row["bands"] = measure_bands(heard, original)._asdict()
        except AudioError as error:  # NaN
            return row | {"error": str(error)}, None
        return row | {"error": None}, Decode(system.codec, system.setting, decoded, coded.codes, coded.codebook_size)


def _attempt(system: System, audio: Tensor, sample_rate: int) -> Coded | str:
    """Code a recording of `sample_rate` (Hz); the reason in one line if that fails."""
    try:
        coded = system(resample(audio, sample_rate, system.sample_rate))
        if coded.audio.shape[0] != audio.shape[0]:
            return f"{audio.shape[0]} channels became {coded.audio.shape[0]}"
    except Exception as error:  # codecs of others raise what they like: the row says so and the others go on
        return one_line(error)
    return coded


def _count(systems: Sequence[System], coded: Sequence[Coded | str]) -> dict[str, npt.NDArray[np.int64]]:
    """Uses of every codeword `[K, N]` by codec, of its setting with the most levels."""
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for system, result in zip(systems, coded, strict=True):
        if isinstance(result, str) or result.codes is None or result.codebook_size is None:
            continue
        if system.codec not in counts or len(counts[system.codec]) < result.codes.shape[1]:
            counts[system.codec] = count_codes(result.codes, result.codebook_size).numpy()
    return counts


def added(total: Any, part: Any) -> Any:
    """Sum of two arrays; None counts as nothing."""
    return part if total is None else total if part is None else total + part


def _compare(coded: Coded | str, reference: Coded | str) -> Any:
    """How many codes are equal to those of the reference, and how many there are, `[2, K]`; None if either failed."""
    if isinstance(coded, str) or isinstance(reference, str):
        return None
    assert coded.codes is not None and reference.codes is not None  # both are ours
    is_equal = (coded.codes == reference.codes).transpose(0, 1).flatten(1)
    return np.stack([is_equal.sum(dim=1).numpy(), np.full(len(is_equal), is_equal.shape[1])])
