"""The gain that makes a decoded clip as loud as its original, for the listening test."""

import math

from torch import Tensor
from torch.nn import functional

MAX_GAIN_DB = 20.0
"""A decode that is further off is silent or broken, and stays so."""
_BLOCK_S = 0.4  # of ITU-R BS.1770: a shorter clip is extended by zeros
_HEADROOM = 0.5  # torchaudio clips at full scale behind the K filter, which amplifies by 4 dB


def matching_gain_db(decoded: Tensor, original: Tensor, sample_rate: int) -> float:
    """Loudness of the original less that of the decode (dB, ITU-R BS.1770-4: K-weighted, gated), within +-20 dB.

    Channels `[C, T]` count as one after the other. It is 0 if one of the two has no block above -64 LKFS (the gate
    of -70 LKFS, behind the headroom): silence.
    """
    difference = _loudness(original, sample_rate) - _loudness(decoded, sample_rate)
    return max(-MAX_GAIN_DB, min(MAX_GAIN_DB, difference)) if math.isfinite(difference) else 0.0


def _loudness(audio: Tensor, sample_rate: int) -> float:
    from torchaudio.functional import loudness  # late: the import takes a second

    samples = audio.detach().float().cpu().reshape(1, -1) * _HEADROOM
    block = math.ceil(_BLOCK_S * sample_rate)
    return float(loudness(functional.pad(samples, (0, max(0, block - samples.shape[1]))), sample_rate))
