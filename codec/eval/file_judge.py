"""Evaluate a codec on one audio file: encode it to a `.codec` file in memory, decode that, measure, count the bytes.

in.wav --load_audio--> audio --gain--> scaled --compress--> Bitstream --to_bytes--> bytes --decompress--> decoded
(scaled, decoded) --measure, measure_bands--> a row
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.audio.file import load_audio
from codec.bitstream import Bitstream
from codec.config import FILE_BEAM
from codec.eval.metrics.bands import measure_bands
from codec.eval.metrics.clip import Original
from codec.eval.metrics.metrics import measure
from codec.inference.compression import compress, decompress, entropy_coder
from codec.model.codec import Codec


class FileResult(NamedTuple):
    """Result for one audio file."""

    rows: list[dict[str, Any]]
    """One per gain and number of levels, in this order; see `codec.eval.evaluate.Evaluation`."""
    seconds: float
    """Length of the file."""
    counts: npt.NDArray[np.int64]
    """Uses of every codeword `[K, N]`, encoded with all levels, summed over the gains."""
    num_equal: npt.NDArray[np.int64] | None
    """How many of these codes are equal to those of the reference, `[K]`; None without a reference."""


@dataclass(frozen=True)
class FileJudge:
    """Evaluates one file per call; can be sent to another process.

    Attributes:
        codec: On any device, in eval mode.
        num_quantizers: Numbers of levels to evaluate. Each is encoded separately: a search over all levels chooses
            other codes for the first levels than a search over these alone.
        metrics: Names in `codec.eval.metrics.metrics.METRICS`.
        gains_db: Gains at which the clip is encoded and measured (dB).
        beam: Candidates of the search in the quantizer; None: as for files.
        reference: The same model in another mode, to count equal codes; None: no comparison.
    """

    codec: Codec
    num_quantizers: tuple[int, ...]
    metrics: tuple[str, ...]
    gains_db: tuple[float, ...]
    beam: int | None
    reference: Codec | None

    @torch.no_grad()
    def __call__(self, path: Path) -> FileResult:
        """Encode, decode and measure a file.

        Raises:
            AudioError: It can't be read.
            ConfigError: A metric is unknown or its package is not installed, or the model has fewer levels.
        """
        audio = load_audio(path, self.codec.sample_rate)
        seconds = audio.shape[-1] / self.codec.sample_rate
        quantizer = self.codec.quantizer
        counts = torch.zeros(quantizer.num_quantizers, quantizer.codebook_size, dtype=torch.int64)
        num_equal = torch.zeros(quantizer.num_quantizers, dtype=torch.int64)
        rows = []
        for gain_db in self.gains_db:
            scaled = audio * 10 ** (gain_db / 20)
            whole = _compress(self.codec, scaled, None, self.beam)
            codes = torch.from_numpy(whole.codes)
            counts += count_codes(codes, quantizer.codebook_size)
            if self.reference is not None:
                reference_codes = _compress(self.reference, scaled, None, self.beam).codes
                num_equal += (torch.from_numpy(reference_codes) == codes).sum(dim=(0, 2))
            original = Original(scaled[0], self.codec.sample_rate)
            for bitstream in self._files(whole, scaled):
                row = {"path": str(path), "gain_db": gain_db, "seconds": seconds}
                rows.append(row | self._judge(bitstream, original))
        return FileResult(rows, seconds, counts.numpy(), None if self.reference is None else num_equal.numpy())

    def _files(self, whole: Bitstream, audio: Tensor) -> Iterator[Bitstream]:
        """A file for each number of levels; that of all levels exists already."""
        for levels in self.num_quantizers:
            is_whole = levels == whole.header.num_quantizers
            yield whole if is_whole else _compress(self.codec, audio, levels, self.beam)

    def _judge(self, bitstream: Bitstream, original: Original) -> dict[str, Any]:
        data = bitstream.to_bytes()
        decoded = decompress(self.codec, Bitstream.from_bytes(data, coder=entropy_coder(self.codec)))[0]
        return {
            "num_quantizers": bitstream.header.num_quantizers,
            "num_bytes": len(data),
            "bitrate": 8 * len(data) * original.sample_rate / original.shape[-1],
            "nominal_bitrate": bitstream.bitrate,
            **measure(decoded, original, self.metrics).values,
            "bands": measure_bands(decoded, original)._asdict(),
        }


def count_codes(codes: Tensor, codebook_size: int) -> Tensor:
    """Uses of every codeword `[K, N]` in codes `[B, K, F]`."""
    return torch.stack([torch.bincount(level.flatten(), minlength=codebook_size) for level in codes.unbind(1)])


def _compress(codec: Codec, audio: Tensor, num_quantizers: int | None, beam: int | None) -> Bitstream:
    """The file that codec-encode writes for audio `[1, C, T]`."""
    return compress(codec, audio, num_quantizers=num_quantizers, beam=FILE_BEAM if beam is None else beam)
