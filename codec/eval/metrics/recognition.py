"""Errors of a speech recogniser: what it hears in the decoded audio against what it hears in the original."""

import functools
from typing import Any

from codec.errors import require
from codec.eval.metrics.clip import SPEECH_RATE, Clip, NoValue

PEAK = 0.5
"""Audio is scaled to this peak: the recogniser hears other phonemes at another level."""


def phoneme_error(decoded: Clip, original: Clip) -> float:
    """Measure the phoneme error rate against the transcript of the original (%); lower is better, 0 is equal.

    Phonemes that must be inserted, deleted or replaced to turn the transcript of the decoded audio into that of the
    original, over the number of phonemes of the latter; it can exceed 100. No human wrote the transcripts, so the rate
    tells what the codec changes, not how well the speech was understood. The recogniser is the phoneme network (CTC,
    no language model, 4.7 MB) in the package hama (Apache-2.0). The package does not say what it was trained on; it
    knows the phonemes of English, and hears other languages through them.

    Raises:
        NoValue: No phoneme is heard in the original.
        ConfigError: hama is not installed.
    """
    reference = original.once(transcribe)
    if not reference:
        raise NoValue("no phoneme is heard in the original")
    from torchaudio.functional import edit_distance  # late: the import takes a second

    return 100 * float(edit_distance(decoded.once(transcribe), reference)) / len(reference)


def transcribe(clip: Clip) -> tuple[str, ...]:
    """Transcribe a clip as phonemes (IPA), its peak raised or lowered to 0.5; silence has none.

    Raises:
        ConfigError: hama is not installed.
    """
    recogniser = _load_recogniser()
    if clip.is_silent:
        return ()
    samples = clip.at(SPEECH_RATE).samples
    scaled = samples * (PEAK / float(samples.abs().amax()))
    return tuple(recogniser.transcribe_waveform(scaled.float().numpy(), SPEECH_RATE).phonemes)


@functools.cache
def _load_recogniser() -> Any:
    """Load the network once a process."""
    return require("hama", "asr").ASRModel()
