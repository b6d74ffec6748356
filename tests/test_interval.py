"""From seconds to samples and to whole frames: exact, without gaps, and refused where there is nothing."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import make_header
from messages import one_line

from codec.bitstream.interval import cut_header, find_samples
from codec.errors import ConfigError


def header_of(num_samples, **changes):
    return replace(make_header(**changes), num_samples=num_samples)


SIZE = {"num_samples": 72_000, "sample_rate": 16_000}


@pytest.mark.parametrize(
    ("start", "duration", "samples"),
    [
        (0, None, (0, 72_000)),
        (1.5, 2, (24_000, 56_000)),
        (4, 0.5, (64_000, 72_000)),
        (4, 100, (64_000, 72_000)),
        (4, math.inf, (64_000, 72_000)),
        (0, 4.50001, (0, 72_000)),
        (4.49994, None, (71_999, 72_000)),  # 71,999.04
        (1 / 3, 1 / 16_000, (5_333, 5_334)),
        (0, 1e300, (0, 72_000)),
    ],
)
def test_samples_of_a_part(start, duration, samples):
    assert find_samples(start, duration, **SIZE) == samples


def test_parts_that_follow_each_other_leave_nothing_out():
    """Also where the borders lie between samples."""
    for rate, step in ((44_100, 0.1), (11_025, 0.0333), (8_000, 1 / 7)):
        edges = [step * number for number in range(50)]
        parts = [
            find_samples(start, stop - start, num_samples=rate, sample_rate=rate)
            for start, stop in itertools.pairwise(edges)
            if start * rate < rate - 1
        ]
        assert parts[0][0] == 0 and len(parts) > 5
        assert all(one[1] == other[0] for one, other in itertools.pairwise(parts))


@pytest.mark.parametrize(
    ("start", "duration", "facts"),
    [
        (-1, None, ("start", "-1 s", "0 s")),
        (math.nan, None, ("start", "nan s")),
        (math.inf, None, ("start", "inf s")),
        (4.5, None, ("start", "4.5 s", "ends at 4.5 s")),
        (4.49998, None, ("start", "4.49998 s", "ends at 4.5 s")),  # nearer to the sample after the last
        (100, 1, ("start", "100 s", "ends at 4.5 s")),
        (1, 0, ("duration", "0 s")),
        (1, -2, ("duration", "-2 s")),
        (1, math.nan, ("duration", "nan s")),
        (1, 1e-9, ("duration", "1e-09 s", "no sample", "16000 Hz")),
    ],
)
def test_where_there_is_nothing_it_is_refused(start, duration, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        find_samples(start, duration, **SIZE)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 22_254, 15_999])
@pytest.mark.parametrize(("hop_length", "delay"), [(320, 400), (320, 0), (20, 27), (1, 0)])
def test_a_cut_is_the_fewest_frames_that_hold_the_part(rate, hop_length, delay):
    """The end of the cut is that of the part, to a sample; frames outside are not needed."""
    whole = header_of(2 * rate + 7, sample_rate=rate, hop_length=hop_length, delay=delay)
    random = np.random.default_rng(0)
    parts = [(first, first + 1) for first in (0, 1, rate, 2 * rate + 6)]
    parts += [sorted(random.choice(2 * rate + 7, 2, replace=False).tolist()) for _ in range(20)]
    for first, stop in parts:
        header, (begin, end) = cut_header(whole, first / rate, (stop - first) / rate)
        assert begin * hop_length <= first * 16_000 / rate < (begin + 1) * hop_length + 1
        assert header.num_frames == end - begin and 0 <= begin < end <= whole.num_frames
        length = stop - begin * hop_length * rate / 16_000
        assert length - 1 < header.num_samples < length + 1
        needed = math.ceil((stop * 16_000 / rate + delay) / hop_length)
        assert abs(end - needed) <= (0 if rate % 8_000 == 0 else 1 + 16_000 // rate // hop_length)


def test_all_of_it_is_the_same_header():
    for rate in (8_000, 16_000, 44_100, 15_999):
        for num_samples in (1, 2, 3, 321, 5_000):
            header = header_of(num_samples, sample_rate=rate, hop_length=320, delay=400)
            assert cut_header(header, 0.0, None) == (header, (0, header.num_frames))


def test_a_time_where_a_frame_begins_is_in_that_frame():
    """Though 4.02 s times 50 frames a second is below 201 in floating point."""
    whole = header_of(16_000 * 40)
    assert 4.02 * 16_000 / 320 < 201
    for hundredths in range(0, 3_990, 2):
        assert cut_header(whole, hundredths / 100, 0.01)[1][0] == hundredths // 2


def test_a_cut_of_the_last_sample_has_the_frame_that_it_lies_in():
    """It lies before the time that rounds to it, 0.1 s, where a frame begins: sample 1102 of 1103 at 11,025 Hz."""
    whole = header_of(1103, sample_rate=11_025, delay=319)
    header, frames = cut_header(whole, 0.1, None)
    assert frames == (4, 6) and whole.num_frames == 6
    assert header.num_samples == 221 and header.num_frames == 2
