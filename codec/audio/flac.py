"""FLAC in memory, for pages that carry their audio."""

import io

import numpy as np
import soundfile as sf

from codec.audio.file import to_pcm16
from codec.audio.resampling import Block
from codec.errors import AudioError

MAX_CHANNELS = 8


def flac_bytes(audio: Block, sample_rate: int) -> bytes:
    """Encode audio as a FLAC file of 16 bits, rounded and clipped as `codec.audio.file.save_audio` does.

    Args:
        audio: Samples `[C, T]`, nominally in [-1, 1], 1 <= C <= 8.
        sample_rate: In Hz.

    Raises:
        AudioError: Another shape, more channels, no samples, NaN or Inf, or a rate that FLAC does not take.
    """
    if audio.ndim != 2 or not audio.size or len(audio) > MAX_CHANNELS or not np.isfinite(audio).all():
        raise AudioError(
            f"can't write {list(audio.shape)} samples as FLAC: give finite [C, T], C at most {MAX_CHANNELS}"
        )
    buffer = io.BytesIO()
    try:
        sf.write(buffer, to_pcm16(audio).T, sample_rate, "PCM_16", format="FLAC")
    except sf.LibsndfileError as error:
        raise AudioError(f"can't write audio of {sample_rate} Hz as FLAC: {error.error_string}") from error
    return buffer.getvalue()
