"""Writing and reading a .codec file chunk by chunk."""

import io

import numpy as np
import pytest
from bitstream_cases import (
    HEADER_BYTES,
    CountingFile,
    chunk_ends,
    make_bitstream,
    make_coder,
    make_header,
    peak_bytes,
)
from messages import one_line

from codec.bitstream import Bitstream, BitstreamReader, BitstreamWriter
from codec.errors import BitstreamError

CODER = make_coder()
kinds = pytest.mark.parametrize("coder", [None, CODER], ids=["packed", "entropy-coded"])


@kinds
@pytest.mark.parametrize("block", [1, 3, 4, 7, 8, 100])
def test_any_block_size_writes_the_same_bytes(block, coder):
    original = make_bitstream(21, num_channels=2, coder=coder)
    file = io.BytesIO()
    writer = BitstreamWriter(file, original.header, coder)
    levels = original.header.num_quantizers
    buffer = np.empty((2, levels, block), np.int64)  # one buffer for all blocks
    for start in range(0, 21, block):
        part = original.codes[:, :, start : start + block]
        buffer[:, :, : part.shape[2]] = part
        writer.write(buffer[:, :, : part.shape[2]])
    writer.write(np.zeros((2, levels, 0), int))
    writer.close(original.header.num_samples)
    assert file.getvalue() == original.to_bytes()
    assert writer.header == original.header


def test_writer_refuses_a_wrong_length_wrong_codes_and_a_pipe():
    writer = BitstreamWriter(io.BytesIO(), make_header())
    with pytest.raises(BitstreamError, match=one_line(5, "0..4")):
        writer.write(np.full((1, 2, 3), 5))
    writer.write(np.zeros((1, 2, 3), int))
    for num_samples in (0, 1, 10**6):
        with pytest.raises(BitstreamError, match=one_line(3, "frames", "num_samples", num_samples)):
            writer.close(num_samples)
    pipe = io.BytesIO()
    pipe.seekable = lambda: False
    with pytest.raises(BitstreamError, match="pipe"):
        BitstreamWriter(pipe, make_header())


@kinds
def test_a_file_that_was_never_closed_is_salvaged(coder):
    original = make_bitstream(21, coder=coder)
    file = io.BytesIO()
    writer = BitstreamWriter(file, original.header, coder)
    writer.write(original.codes)
    with pytest.raises(BitstreamError, match="never closed"):
        Bitstream.from_bytes(file.getvalue(), coder=coder)
    found = Bitstream.from_bytes(file.getvalue(), salvage=True, coder=coder)
    assert (found.header.num_frames, found.lost) == (20, ())
    np.testing.assert_array_equal(found.codes, original.codes[:, :, :20])


@kinds
def test_a_file_whose_end_was_not_written_keeps_its_length(coder):
    """Closing writes num_samples before the last chunk, because an entropy-coded payload does not show its frames."""
    original = make_bitstream(21, coder=coder)
    file = io.BytesIO()
    writer = BitstreamWriter(file, original.header, coder)
    writer.write(original.codes)
    written = []
    file.write = lambda data: written.append(bytes(file.getbuffer())) or io.BytesIO.write(file, data)
    writer.close(original.header.num_samples)
    for data in [*written[1:], file.getvalue()]:
        found = Bitstream.from_bytes(data, salvage=True, coder=coder)
        assert found.header == original.header
        lost = found.lost
        assert lost in ((), ((20, 21),))
        np.testing.assert_array_equal(
            found.codes[:, :, : 20 if lost else 21], original.codes[:, :, : 20 if lost else 21]
        )


def test_reader_and_writer_work_in_constant_memory(tmp_path):
    header = make_header(60_000, num_quantizers=12, codebook_size=1024, frames_per_chunk=200)
    block = np.random.default_rng(0).integers(0, 1024, (1, 12, 500))
    path = tmp_path / "long.codec"

    def write():
        with path.open("wb") as file:
            writer = BitstreamWriter(file, header)
            for _ in range(120):
                writer.write(block)
            writer.close(header.num_samples)

    def read():
        with path.open("rb") as file:
            reader = BitstreamReader(file)
            num_frames = 0
            for first, codes in reader.intact():
                assert first == num_frames
                num_frames += codes.shape[2]
            assert num_frames == header.num_frames

    assert peak_bytes(write) < 500_000
    assert path.stat().st_size == header.num_bytes > 900_000
    assert peak_bytes(read) < 500_000


@kinds
@pytest.mark.parametrize("damaged_index", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
def test_seek(damaged_index, shifted, coder):
    original = make_bitstream(30, coder=coder)
    data = bytearray(original.to_bytes())
    if damaged_index:
        data[-30] ^= 1
    if shifted:  # additional bytes: the offsets of the index are wrong
        data[HEADER_BYTES:HEADER_BYTES] = b"abc"
    reader = BitstreamReader(io.BytesIO(bytes(data)), coder)
    for frame in (29, 0, 13, 4, 7, 3):
        reader.seek(frame)
        first, codes = next(iter(reader))
        assert first == frame // 4 * 4
        np.testing.assert_array_equal(codes, original.codes[:, :, first : first + 4])
        assert reader.lost == ()
    for outside in (-1, 30):
        with pytest.raises(BitstreamError, match=one_line("0..29")):
            reader.seek(outside)


def test_seek_finds_a_chunk_though_one_before_it_is_cut_out():
    original = make_bitstream(30)
    data, ends = original.to_bytes(), chunk_ends(original.to_bytes())
    reader = BitstreamReader(io.BytesIO(data[: ends[0]] + data[ends[1] :]))
    reader.seek(8)
    assert next(iter(reader))[0] == 8


def test_seek_uses_the_index():
    file = CountingFile(make_bitstream(4000).to_bytes())
    reader = BitstreamReader(file)
    reader.seek(3000)
    before = file.num_read
    reader.seek(2000)
    next(iter(reader))
    assert file.num_read - before < 100


def test_seek_to_a_damaged_chunk_goes_on_with_the_next():
    original = make_bitstream(30)
    data = bytearray(original.to_bytes())
    data[chunk_ends(original.to_bytes())[2] + 13] ^= 1
    reader = BitstreamReader(io.BytesIO(bytes(data)))
    reader.seek(13)
    assert next(iter(reader))[0] == 16
    assert reader.lost == ((12, 16),)
    reader.seek(16)
    assert [first for first, _ in reader] == [16, 20, 24, 28]
    assert reader.lost == ()
