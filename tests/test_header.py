"""The header of a .codec file: its formulas and its limits."""

import math
from dataclasses import replace

import pytest
from bitstream_cases import make_header

from codec.errors import BitstreamError


def test_derived_values_are_those_of_the_formulas():
    header = make_header(num_quantizers=8, codebook_size=1000, sample_rate=44100, num_channels=2)
    header = replace(header, num_samples=44101)
    assert header.model_samples == 16001  # 16000.36, rounded up
    assert header.num_frames == math.ceil((16001 + 80) / 320)
    assert header.num_chunks == math.ceil(header.num_frames / 4)
    assert header.bits_per_code == 10
    assert header.bitrate == pytest.approx(50 * 2 * 8 * math.log2(1000))
    assert header.duration_s == 44101 / 44100


@pytest.mark.parametrize(("codebook_size", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (1024, 10), (2**16, 16)])
def test_bits_per_code(codebook_size, bits):
    assert make_header(codebook_size=codebook_size).bits_per_code == bits


def test_long_recordings_are_counted_exactly():
    num_samples = 2**53 + 1  # a float would round
    header = make_header(frames_per_chunk=2**20, num_quantizers=1, sample_rate=16000, hop_length=2**22)
    assert replace(header, num_samples=num_samples).model_samples == num_samples


@pytest.mark.parametrize("num_frames", [1, 2, 9, 1000])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_samples_in_is_the_most_that_the_frames_hold(num_frames, sample_rate):
    header = make_header(num_frames, sample_rate=sample_rate)
    assert header.num_frames == num_frames
    assert replace(header, num_samples=header.num_samples + 1).num_frames == num_frames + 1


def test_default_chunks_are_four_seconds_and_always_fit():
    assert make_header(frames_per_chunk=0).frames_per_chunk == 200
    wide = make_header(frames_per_chunk=0, num_channels=8, num_quantizers=4096, codebook_size=2**16)
    assert wide.chunk_payload_bytes(0) <= 2**20


@pytest.mark.parametrize(
    "change",
    [
        {"model_id": b"short"},
        {"model_sample_rate": 0},
        {"sample_rate": 2**24 + 1},
        {"num_channels": 0},
        {"num_quantizers": 2**16},
        {"codebook_size": 0},
        {"hop_length": 0},
        {"delay": -1},
        {"frames_per_chunk": -1},
        {"frames_per_chunk": 2**24},  # its payload is too large
        {"num_samples": -1},
        {"num_samples": 1.5},
        {"num_samples": True},
        {"num_samples": 2**62, "hop_length": 1},  # too many chunks
        {"num_channels": 2**16 - 1, "num_quantizers": 2**16 - 1, "frames_per_chunk": 0},
    ],
)
def test_impossible_headers_are_refused(change):
    with pytest.raises(BitstreamError) as info:
        replace(make_header(), **change)
    assert "\n" not in str(info.value)


NARROW = {"num_channels": 1, "num_quantizers": 1, "codebook_size": 2, "hop_length": 2**24, "frames_per_chunk": 2**23}


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("model_sample_rate", 1, 2**24),
        ("sample_rate", 1, 2**24),
        ("num_channels", 1, 2**16 - 1),
        ("num_quantizers", 1, 2**16 - 1),
        ("codebook_size", 1, 2**31),
        ("hop_length", 1, 2**24),
        ("delay", 0, 2**32 - 1),
        ("num_samples", 0, 2**62),
    ],
)
def test_the_limits_of_the_format(name, low, high):
    header = replace(make_header(), **NARROW, num_samples=1)
    if name != "num_samples":
        header = replace(header, frames_per_chunk=1)  # wide codes fit into a chunk
    for value in (low, high):
        assert getattr(replace(header, **{name: value}), name) == value
    for value in (low - 1, high + 1):
        with pytest.raises(BitstreamError, match=name):
            replace(header, **{name: value})


def test_payload_kinds_of_the_future_are_refused():
    with pytest.raises(BitstreamError, match="later version"):
        replace(make_header(), payload_kind=2)
