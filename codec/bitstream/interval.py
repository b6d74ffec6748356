"""Parts of a recording: from seconds to samples, and to the whole frames that hold them."""

import math
from dataclasses import replace

from codec.bitstream.header import Frames, Header, ceil_div
from codec.errors import ConfigError

Samples = tuple[int, int]  # first sample, one past the last

ROUNDING = 1e-6
"""Frames that a time may lie before a frame to count as its start: 4.02 s, in floating point, lie before frame 201."""


def find_samples(start: float, duration: float | None, *, num_samples: int, sample_rate: int) -> Samples:
    """Samples round(start * sample_rate) .. round((start + duration) * sample_rate) - 1, as far as there are any.

    So parts that follow each other in time share no sample and leave none out.

    Args:
        start: Time of the first sample (s).
        duration: In seconds; to the end if None or longer than what is left.
        num_samples: Of the recording.
        sample_rate: Of the recording (Hz).

    Raises:
        ConfigError: `start` is negative, NaN, or not before the end; `duration` is NaN, not above 0, or so short that
            no sample lies in it.
    """
    if not 0 <= start < math.inf:
        raise ConfigError(f"start is {start:g} s, but must be a time of 0 s or later")
    if duration is not None and not duration > 0:
        raise ConfigError(f"duration is {duration:g} s, but must be above 0 s")
    first = round(start * sample_rate)
    if first >= num_samples:
        raise ConfigError(f"start is {start:g} s, but the recording ends at {num_samples / sample_rate:g} s")
    end = math.inf if duration is None else (start + duration) * sample_rate
    stop = num_samples if end >= num_samples else round(end)
    if stop <= first:
        raise ConfigError(f"duration is {duration:g} s, in which lies no sample at {sample_rate} Hz")
    return first, stop


def cut_header(header: Header, start: float, duration: float | None) -> tuple[Header, Frames]:
    """Header and frames of a recording that is cut to whole frames.

    It begins with the frame that `start` lies in, at most a frame early, and ends with the last sample of the part.
    Where a frame begins between two samples of the original rate, the samples of the cut lie between those of the whole
    recording.

    Args:
        header: Of the whole recording.
        start: As for `find_samples`, at the original rate.
        duration: As for `find_samples`.

    Raises:
        ConfigError: As for `find_samples`.
    """
    rate, model_rate, hop_length = header.sample_rate, header.model_sample_rate, header.hop_length
    _, stop = find_samples(start, duration, num_samples=header.num_samples, sample_rate=rate)
    frame_of_last = (stop - 1) * model_rate // rate // hop_length
    frame = min(math.floor(start * model_rate / hop_length + ROUNDING), frame_of_last)
    num_samples = ceil_div(stop * model_rate - frame * hop_length * rate, model_rate)
    num_samples = min(num_samples, header.samples_in(header.num_frames - frame))
    cut = replace(header, num_samples=num_samples)
    return cut, (frame, frame + cut.num_frames)
