"""How a model uses its codebooks on audio: uses of every codeword, and the vectors that the codewords stand for."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from codec.audio.file import load_audio
from codec.audio.headers import joined
from codec.config import FILE_BEAM
from codec.dsp.precision import full_precision
from codec.errors import AudioError
from codec.inference.batching import read_size
from codec.model.codec import Codec
from codec.model.quantizer.quantizer import CodebookHealth, codebook_health, count_codes
from codec.progress import progress_bar

MAX_VECTORS = 5000
"""Frames whose vectors are kept for a picture, evenly spaced over all files."""


class CodebookUse(NamedTuple):
    """Use of the codebooks of a model on some files."""

    counts: Tensor
    """Uses of every codeword, int64 `[K, N]`, over all frames of all channels."""
    codewords: npt.NDArray[np.float32]
    """`[K, N, d']`."""
    vectors: list[npt.NDArray[np.float32]]
    """What each level saw in some of the frames, K times `[M, d']`."""
    num_files: int
    seconds: float
    """Total length of the files."""
    unread: dict[Path, AudioError]
    """Files that could not be read or encoded, with the reason; nothing else covers them."""

    @property
    def health(self) -> CodebookHealth:
        """Entropy (bit), perplexity and usage of every level."""
        return codebook_health(self.counts)


@torch.no_grad()
def measure_codebook_use(
    codec: Codec, paths: Sequence[Path], *, beam: int = FILE_BEAM, progress: bool = True
) -> CodebookUse:
    """Encode files with all levels, each channel by itself, and count the codes.

    Args:
        codec: In eval mode.
        paths: Audio files of any rate.
        beam: Paths kept in the search, see `Codec.encode`.
        progress: Show a progress bar.

    Raises:
        AudioError: No file can be read and encoded.
    """
    quantizer = codec.quantizer
    counts = torch.zeros(quantizer.num_quantizers, quantizer.codebook_size, dtype=torch.int64)
    step = _step(codec, paths)
    kept: list[tuple[Tensor, Tensor]] = []
    unread: dict[Path, AudioError] = {}
    seconds = 0.0
    for path in progress_bar(paths, desc="encoding", unit="file", hidden=not progress, leave=False, delay=2):
        try:
            audio, codes = _encode(codec, path, beam)
        except AudioError as error:
            unread[path] = error
            continue
        with full_precision(audio.device):
            latents = codec.encoder(codec.pad(audio))
        counts += count_codes(codes, quantizer.codebook_size).cpu()
        kept.append((_every(step, latents), _every(step, codes)))
        seconds += audio.shape[-1] / codec.sample_rate
    if not kept:
        raise joined(list(unread.values()))
    latents, codes = (torch.cat(columns, dim=1)[None] for columns in zip(*kept, strict=True))
    vectors = [vectors.cpu().numpy() for vectors in quantizer.inputs_of_levels(latents, codes)]
    codewords = quantizer.codewords().cpu().numpy()
    return CodebookUse(counts, codewords, vectors, len(kept), seconds, unread)


def _encode(codec: Codec, path: Path, beam: int) -> tuple[Tensor, Tensor]:
    """Audio `[C, 1, T]` of a file and its codes `[C, K, F]`; an AudioError names the file."""
    audio = load_audio(path, codec.sample_rate).transpose(0, 1).to(codec.device)
    try:
        return audio, codec.encode(audio, beam=beam)
    except AudioError as error:  # a peak that no encoder takes
        raise AudioError(f"{path}: {error}") from error


def _step(codec: Codec, paths: Sequence[Path]) -> int:
    """Distance of the frames that are kept, so that at most about `MAX_VECTORS` are."""
    num_frames = 0
    for path in paths:
        try:
            num_channels, num_samples = read_size(path, codec.sample_rate)
        except AudioError:  # reported when it is read
            continue
        num_frames += num_channels * codec.num_frames(num_samples)
    return max(1, -(-num_frames // MAX_VECTORS))


def _every(step: int, values: Tensor) -> Tensor:
    """Every so many frames of `[B, n, F]`, as `[n, f]`."""
    return values.transpose(0, 1).flatten(1)[:, ::step]
