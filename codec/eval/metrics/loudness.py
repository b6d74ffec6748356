"""The difference of loudness, by the gated loudness of ITU-R BS.1770 in torchaudio."""

import math

from torch import Tensor

from codec.eval.metrics.clip import Clip, NoValue

BLOCK_S = 0.4
RMS_DB = -40.0
"""Level (mean square) that both are scaled to. torchaudio's filters clip samples beyond full scale, which no speech of
that level reaches, and the absolute gate of -70 LUFS is still 30 dB below."""
GATE_LUFS = -70.0


def loudness_difference(decoded: Clip, original: Clip) -> float:
    """Measure the loudness of the decoded minus that of the original audio (LU); 0 is right, negative is too quiet.

    ITU-R BS.1770-4 by torchaudio: K-weighting, then the mean power of the blocks of 0.4 s above the gates. Both are
    first scaled by the one factor that gives the original a mean square of -40 dB. So the result does not depend on the
    level of the recording, which the absolute gate of -70 LUFS would make it do.

    Returns:
        Difference; decoded audio with no block above the gate counts as -70 LUFS.

    Raises:
        NoValue: The clip is shorter than a block, or the original has nothing above the gate.
    """
    if len(original.samples) < round(BLOCK_S * original.sample_rate):
        raise NoValue("shorter than 0.4 s")
    if original.is_silent:
        raise NoValue("the original is silent")
    gain = math.sqrt(10 ** (RMS_DB / 10) / float(original.samples.square().mean()))
    reference = original.once(_loudness, gain)
    if reference == GATE_LUFS:
        raise NoValue("the original has no audible sound")
    return decoded.once(_loudness, gain) - reference


def _loudness(clip: Clip, gain: float) -> float:
    """Loudness after a gain, at least that of the gate (LUFS)."""
    from torchaudio.functional import loudness  # late: the import takes a second

    value: Tensor = loudness(gain * clip.samples[None], clip.sample_rate)
    return max(float(value.nan_to_num(GATE_LUFS)), GATE_LUFS)
