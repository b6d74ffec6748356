"""The .codec format: known bytes, round trips, and old files that must always decode."""

import json
import struct
import subprocess
import sys
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from bitstream_cases import HEADER_BYTES, MODEL_ID, make_bitstream, make_header
from messages import one_line

from codec.bitstream import Bitstream, EntropyCoder
from codec.bitstream.payload import pack_codes, unpack_codes
from codec.errors import BitstreamError

GOLDEN = Path(__file__).parent / "golden"


def test_packed_bits_written_by_hand():
    codes = np.array([[[1, 3, 5], [2, 4, 6]]])  # frames (1, 2), (3, 4), (5, 6)
    assert pack_codes(codes, 3) == bytes([0b00101001, 0b11001011, 0b10000000])
    two_channels = np.array([[[1], [2]], [[3], [0]]])  # channel by channel, then quantizer by quantizer
    assert pack_codes(two_channels, 2) == bytes([0b01101100])


def test_whole_file_equals_one_made_by_an_independent_writer():
    bitstream = make_bitstream(10, num_channels=2, sample_rate=44100)
    header = bitstream.header
    data = struct.pack("<4sBB32sII", b"CODC", 1, 0, MODEL_ID, 16000, 44100)
    data += struct.pack("<HHIIIIQ", 2, 2, 5, 320, 80, 4, header.num_samples)
    data += struct.pack("<I", zlib.crc32(data))
    sizes = []
    for number, frames in enumerate([range(4), range(4, 8), range(8, 10)]):
        order = [(c, k, f) for f in frames for c in range(2) for k in range(2)]
        bits = "".join(format(bitstream.codes[at], "03b") for at in order)
        bits += "0" * (-len(bits) % 8)
        payload = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
        about = struct.pack("<I", number)[:3] + struct.pack("<I", len(payload))[:3]
        chunk = b"\xc0\xde" + about + struct.pack("<I", zlib.crc32(about + payload)) + payload
        data, sizes = data + chunk, [*sizes, len(chunk)]
    offset = struct.pack("<Q", len(data))
    index = struct.pack("<4I", 3, *sizes)
    data += b"INDX" + index + struct.pack("<I", zlib.crc32(index))
    data += offset + struct.pack("<I", zlib.crc32(offset)) + b"CEND"
    assert bitstream.to_bytes() == data


@pytest.mark.parametrize("name", ["v1", "v1_entropy"])
def test_golden_files_of_version_1_decode_for_ever(name):
    expected = json.loads((GOLDEN / f"{name}.json").read_text())
    data = (GOLDEN / f"{name}.codec").read_bytes()
    coder = EntropyCoder(**expected["tables"]) if "tables" in expected else None
    bitstream = Bitstream.from_bytes(data, coder=coder)
    assert asdict(bitstream.header) | {"model_id": bitstream.header.model_id.hex()} == expected["header"]
    np.testing.assert_array_equal(bitstream.codes, expected["codes"])
    assert bitstream.to_bytes() == data


@pytest.mark.parametrize("num_channels", [1, 2, 3])
@pytest.mark.parametrize("num_frames", [1, 3, 4, 5, 8, 13])
@pytest.mark.parametrize("bits", range(1, 17))
def test_round_trip(bits, num_frames, num_channels):
    for codebook_size in {2**bits, 2 ** (bits - 1) + 1}:
        original = make_bitstream(num_frames, num_channels=num_channels, codebook_size=codebook_size)
        original.codes[0, 0, 0] = codebook_size - 1
        data = original.to_bytes()
        found = Bitstream.from_bytes(data)
        assert (found.header, found.lost, found.num_bytes) == (original.header, (), len(data))
        assert found.codes.dtype == np.int64
        np.testing.assert_array_equal(found.codes, original.codes)
        assert len(data) == original.header.num_bytes == original.num_bytes


def test_the_largest_codebook():
    codes = np.array([[[0, 2**31 - 1, 2**30]]])
    np.testing.assert_array_equal(unpack_codes(pack_codes(codes, 31), (1, 1, 3), 31), codes)


def test_overhead_is_12_bytes_a_chunk_besides_header_and_index():
    header = make_header(41)
    payload = sum(header.chunk_payload_bytes(number) for number in range(header.num_chunks))
    rest = len(make_bitstream(41).to_bytes()) - payload - HEADER_BYTES - (12 + 4 * header.num_chunks) - 16
    assert rest == 12 * header.num_chunks


def test_bitrates():
    bitstream = make_bitstream(500, codebook_size=1024, num_quantizers=8, frames_per_chunk=0)
    assert bitstream.bitrate == 4000
    assert bitstream.file_bitrate == 8 * len(bitstream.to_bytes()) / bitstream.duration_s > 4000


def test_keep_quantizers_equals_truncated_codes():
    original = make_bitstream(10, num_quantizers=4)
    kept = Bitstream.from_bytes(original.to_bytes()).keep_quantizers(3)
    direct = Bitstream(replace(original.header, num_quantizers=3), original.codes[:, :3])
    assert kept.to_bytes() == direct.to_bytes()
    assert kept.num_bytes == len(kept.to_bytes())
    for wrong in (0, 5):
        with pytest.raises(BitstreamError, match=one_line("1..4")):
            original.keep_quantizers(wrong)


@pytest.mark.parametrize(
    ("codes", "facts"),
    [
        (np.full((1, 2, 10), 5), (5, "0..4")),
        (np.full((1, 2, 10), -1), (-1, "0..4")),
        (np.full((1, 2, 10), 2**64 - 1, np.uint64), ("0..4",)),
        (np.zeros((1, 2, 10)), ("float64",)),
        (np.zeros((1, 2, 10), bool), ("bool",)),
        (np.zeros((2, 2, 10), int), ("[1, 2, frames]",)),
        (np.zeros((2, 10), int), ("[2, 10]",)),
        (np.zeros((1, 2, 9), int), (9, "frames", "num_samples")),
        (np.zeros((1, 2, 0), int), (0, "frames", "num_samples")),
    ],
)
def test_wrong_codes_are_refused(codes, facts):
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        Bitstream(make_header(10), codes)


def test_no_torch_is_needed():
    code = "import sys, codec.bitstream; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
