"""Damaged, forged and hostile .codec files give no wrong code, no error but BitstreamError, and take little memory."""

import re
import struct
import zlib
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from bitstream_cases import (
    CHUNK_OVERHEAD,
    HEADER_BYTES,
    MODEL_ID,
    CountingFile,
    assert_exact_outside_lost,
    chunk_ends,
    make_bitstream,
    make_coder,
    make_header,
    peak_bytes,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import one_line

from codec.bitstream import (
    Bitstream,
    BitstreamReader,
    EntropyCoder,
    Header,
    describe_lost,
    write_codes,
)
from codec.errors import BitstreamError

CODER = make_coder()
kinds = pytest.mark.parametrize("coder", [None, CODER], ids=["packed", "entropy-coded"])


def read_bytes(data, *, salvage=False):
    """Read a file of either payload kind."""
    return Bitstream.from_bytes(data, salvage=salvage, coder=CODER)


@kinds
def test_truncation_at_every_byte(coder):
    original = make_bitstream(10, coder=coder)
    data, ends = original.to_bytes(), chunk_ends(original.to_bytes())
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            read_bytes(data[:length])
        intact = sum(end <= length for end in ends)
        if intact == 0:
            with pytest.raises(BitstreamError):
                read_bytes(data[:length], salvage=True)
            continue
        found = read_bytes(data[:length], salvage=True)
        assert found.lost == (((4 * intact, 10),) if intact < 3 else ())
        assert_exact_outside_lost(found, original)


@kinds
def test_flip_of_every_bit(coder):
    """Every flip is an error, in the index too; with `salvage` at most one chunk is lost, and reported."""
    original = make_bitstream(10, coder=coder)
    data, ends = original.to_bytes(), chunk_ends(original.to_bytes())
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_bytes(bytes(damaged))
        if bit < 8 * HEADER_BYTES:
            with pytest.raises(BitstreamError):
                read_bytes(bytes(damaged), salvage=True)
            continue
        found = read_bytes(bytes(damaged), salvage=True)
        hit = sum(end <= bit // 8 for end in ends)
        assert found.lost == (((4 * hit, min(4 * hit + 4, 10)),) if hit < 3 else ())
        assert_exact_outside_lost(found, original)


@kinds
def test_every_single_byte_deleted_or_inserted(coder):
    original = make_bitstream(10, coder=coder)
    data = original.to_bytes()
    for at in range(HEADER_BYTES, len(data)):
        for damaged in (data[:at] + data[at + 1 :], data[:at] + b"\xc0" + data[at:]):
            if damaged == data[: len(damaged)]:
                continue
            with pytest.raises(BitstreamError):
                read_bytes(damaged)
            found = read_bytes(damaged, salvage=True)
            assert len(found.lost) <= 1
            assert_exact_outside_lost(found, original)


@kinds
def test_chunks_lost_doubled_and_swapped(coder):
    original = make_bitstream(20, coder=coder)
    data, ends = original.to_bytes(), [HEADER_BYTES, *chunk_ends(original.to_bytes())]
    chunks = [data[start:stop] for start, stop in pairwise(ends)]
    orders = {(0, 2, 3, 4): [(4, 8)], (0, 1, 1, 2, 3, 4): [], (0, 2, 1, 3, 4): [(4, 8)], (4,): [(0, 16)]}
    for order, lost in orders.items():
        damaged = data[:HEADER_BYTES] + b"".join(chunks[number] for number in order) + data[ends[-1] :]
        with pytest.raises(BitstreamError):
            read_bytes(damaged)
        found = read_bytes(damaged, salvage=True)
        assert list(found.lost) == lost
        assert_exact_outside_lost(found, original)


@kinds
def test_nothing_hides_behind_the_end(coder):
    data = make_bitstream(20, coder=coder).to_bytes()
    for surplus in (b"a", data[-16:], bytes(1000)):
        with pytest.raises(BitstreamError, match=one_line(f"{len(surplus)} bytes", "no codes are lost")):
            read_bytes(data + surplus)


def test_resync_passes_over_syncs_inside_payloads():
    header = make_header(20, codebook_size=256)
    codes = np.tile(np.array([[[0xC0], [0xDE]]]), (1, 1, 20))  # every payload is all sync words
    original = Bitstream(header, codes)
    damaged = bytearray(original.to_bytes())
    length_at = chunk_ends(original.to_bytes())[0] + 5
    damaged[length_at : length_at + 3] = b"\xff\xff\xff"
    found = read_bytes(bytes(damaged), salvage=True)
    assert found.lost == ((4, 8),)
    assert_exact_outside_lost(found, original)


@pytest.mark.parametrize("num_bytes", range(2**16 - 3, 2**16 + 4))
def test_resync_finds_a_sync_across_two_blocks_of_the_scan(num_bytes):
    original = make_bitstream(20)
    data = original.to_bytes()
    found = read_bytes(data[:HEADER_BYTES] + bytes(num_bytes) + data[HEADER_BYTES:], salvage=True)
    assert found.lost == ()
    assert_exact_outside_lost(found, original)


def test_message_says_in_seconds_what_is_lost():
    original = make_bitstream(1800, frames_per_chunk=200, delay=0)
    data, ends = bytearray(original.to_bytes()), chunk_ends(original.to_bytes())
    data[ends[0] + 20] ^= 1
    data[ends[2] + 20] ^= 1
    with pytest.raises(BitstreamError, match=one_line("2 of 9 chunks", "4.00-8.00 s", "12.00-16.00 s", "salvage")):
        read_bytes(bytes(data))
    lost = read_bytes(bytes(data), salvage=True).lost
    assert lost == ((200, 400), (600, 800))
    many = [(number, number + 1) for number in range(0, 1800, 200)]
    assert re.search(one_line("9 of 9 chunks", "12.00-12.02 s", "5 more"), describe_lost(original.header, many))
    assert re.search(one_line("1 of 9 chunks", "0.00-0.02 s"), describe_lost(original.header, many[:1]))


def test_lost_frames_are_never_written_as_if_they_were_codes(tmp_path):
    original = make_bitstream(10)
    found = read_bytes(original.to_bytes()[: chunk_ends(original.to_bytes())[0]], salvage=True)
    for write in (
        found.to_bytes,
        found.keep_quantizers(1).to_bytes,
        lambda: write_codes(tmp_path / "a.npy", found),
    ):
        with pytest.raises(BitstreamError, match=one_line("2 of 3 chunks")):
            write()


def forged(data, **changes):
    """Return the file with another header and the checksum of that header."""
    return replace(Header.from_bytes(data), **changes).to_bytes() + data[HEADER_BYTES:]


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (lambda data: b"", ("not", ".codec")),
        (lambda data: b"RIFF" + data[4:], ("not", ".codec")),
        (lambda data: data[:4] + b"\x02" + data[5:], ("version 2", 1, "update")),
        (lambda data: data[:50], (50, 78)),
        (lambda data: data[:40] + b"\x55" + data[41:], ("header", "damaged")),
        (lambda data: data + b"garbage", ("7 bytes",)),
        (lambda data: data[:-1], ("index", "damaged")),
        (lambda data: forged(data, num_samples=10**6), ("chunks", "damaged")),
        (lambda data: forged(data, codebook_size=6, num_quantizers=1), ("damaged",)),
    ],
)
def test_the_message_says_why_a_file_is_unusable(damage, facts):
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        read_bytes(damage(make_bitstream(10).to_bytes()))


@pytest.mark.parametrize(("at", "value", "facts"), [(5, 2, ("later version",)), (62, 0, ("frames_per_chunk", 0))])
def test_header_fields_that_pass_the_checksum_are_still_checked(at, value, facts):
    data = bytearray(make_bitstream(10).to_bytes())
    data[at] = value
    data[74:78] = struct.pack("<I", zlib.crc32(data[:74]))
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        read_bytes(bytes(data), salvage=True)


def test_codes_outside_the_codebook_are_damage_though_the_checksum_fits():
    original = make_bitstream(10, codebook_size=8)
    original.codes[...] = 1
    original.codes[0, 0, 5] = 7
    found = read_bytes(forged(original.to_bytes(), codebook_size=7), salvage=True)
    assert found.lost == ((4, 8),)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.booleans(), st.booleans())
def test_random_bytes_raise_only_bitstream_errors(data, salvage, with_header):
    data = make_header(10).to_bytes() + data if with_header else data
    with pytest.raises(BitstreamError):
        read_bytes(data, salvage=salvage)


FUZZED = [make_bitstream(30), make_bitstream(30, coder=CODER)]
edits = st.lists(st.tuples(st.integers(HEADER_BYTES, 400), st.integers(0, 9), st.binary(max_size=9)), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(FUZZED), edits)
def test_random_edits_never_give_wrong_codes(fuzzed, edits):
    data = original = fuzzed.to_bytes()
    for at, removed, inserted in edits:
        data = data[:at] + inserted + data[at + removed :]
    if data != original:
        with pytest.raises(BitstreamError):
            read_bytes(data)
    try:
        found = read_bytes(data, salvage=True)
    except BitstreamError:
        return
    assert_exact_outside_lost(found, fuzzed)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(0, 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**16 - 1),
    st.binary(max_size=64),
)
def test_forged_headers_raise_only_bitstream_errors(kind, num_samples, number, short, body):
    values = (16000, 44100, 1, short, number, 320, number, short, num_samples)
    head = struct.pack("<4sBB32sIIHHIIIIQ", b"CODC", 1, kind, MODEL_ID, *values)
    data = head + struct.pack("<I", zlib.crc32(head)) + body
    with pytest.raises(BitstreamError):
        read_bytes(data, salvage=True)


@pytest.mark.parametrize("salvage", [True, False])
def test_huge_claims_allocate_nothing(salvage):
    data = forged(make_bitstream(10).to_bytes(), num_samples=2**33)

    def read():
        with pytest.raises(BitstreamError):
            read_bytes(data, salvage=salvage)

    assert peak_bytes(read) < 2**20


def test_overlapping_chunks_cost_no_quadratic_time():
    header = make_header(2**19, codebook_size=2, num_quantizers=1, frames_per_chunk=2**19)  # a 64 KiB payload
    start = b"\xc0\xde" + bytes(3) + (2**16).to_bytes(3, "little")
    file = CountingFile(header.to_bytes() + start * 2**14)
    assert list(BitstreamReader(file)) == []
    assert file.num_read < 32 * len(file.getvalue())


def forged_chunk(number, payload):
    """Return a chunk with a valid checksum."""
    about = number.to_bytes(3, "little") + len(payload).to_bytes(3, "little")
    return b"\xc0\xde" + about + struct.pack("<I", zlib.crc32(about + payload)) + payload


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(min_size=2, max_size=8), min_size=1, max_size=3))
def test_forged_payloads_give_codes_in_range_or_are_lost(payloads):
    header = make_header(4 * len(payloads), coder=CODER)
    data = header.to_bytes() + b"".join(forged_chunk(*chunk) for chunk in enumerate(payloads))
    try:
        found = read_bytes(data, salvage=True)
    except BitstreamError:
        return
    assert found.codes.min() >= 0 and found.codes.max() < header.codebook_size


def test_a_small_file_of_entropy_coded_codes_claims_little():
    """A payload holds at most eight codes a byte."""
    header = make_header(2**18, coder=CODER, frames_per_chunk=2**18)
    for num_bytes in (0, 1, 3 * 2**15 - 1):
        file = CountingFile(header.to_bytes() + forged_chunk(0, bytes(num_bytes)))
        reader = BitstreamReader(file, CODER)
        assert peak_bytes(lambda reader=reader: list(reader)) < 2**20
        assert reader.lost == ((0, 2**18),)


def test_overlapping_payloads_that_are_no_codes_cost_no_quadratic_time(monkeypatch):
    """Nested forged chunks with valid checksums and invalid codes: few of them are decoded."""
    tried = []
    decode = EntropyCoder.decode
    monkeypatch.setattr(EntropyCoder, "decode", lambda *given: tried.append(len(given[1])) or decode(*given))
    header = make_header(2**10, coder=CODER, frames_per_chunk=2**10)
    payload = b"\xff" * 2**9
    for _ in range(500):
        payload = forged_chunk(0, payload[: 2**9])[:CHUNK_OVERHEAD] + payload
    assert list(BitstreamReader(CountingFile(header.to_bytes() + payload), CODER)) == []
    assert 0 < sum(tried) <= len(payload) + 2**9
