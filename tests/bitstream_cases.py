"""Small recordings, and the means to watch what reading them costs."""

import io
import tracemalloc
from dataclasses import replace

import numpy as np

from codec.bitstream import Bitstream, Header

MODEL_ID = bytes(range(32))
HEADER_BYTES, CHUNK_OVERHEAD = 78, 12


def make_header(num_frames=10, **changes):
    """Return a header whose num_samples makes `num_frames` frames."""
    facts = {
        "model_id": MODEL_ID,
        "model_sample_rate": 16000,
        "sample_rate": 16000,
        "num_channels": 1,
        "num_quantizers": 2,
        "codebook_size": 5,
        "hop_length": 320,
        "delay": 80,
        "frames_per_chunk": 4,
    }
    header = Header(**facts | changes)
    return replace(header, num_samples=header.samples_in(num_frames))


def make_bitstream(num_frames=10, **changes):
    header = make_header(num_frames, **changes)
    shape = (header.num_channels, header.num_quantizers, header.num_frames)
    return Bitstream(header, np.random.default_rng(num_frames).integers(0, header.codebook_size, shape))


def chunk_ends(header):
    sizes = [CHUNK_OVERHEAD + header.chunk_payload_bytes(number) for number in range(header.num_chunks)]
    return [HEADER_BYTES + sum(sizes[: number + 1]) for number in range(len(sizes))]


def assert_exact_outside_lost(found, original):
    """Every frame is either said to be lost (and 0) or exactly what was written."""
    assert found.header == original.header
    expected = original.codes.copy()
    for start, stop in found.lost:
        expected[:, :, start:stop] = 0
    np.testing.assert_array_equal(found.codes, expected)


def peak_bytes(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


class CountingFile(io.BytesIO):
    num_read = 0

    def read(self, size=-1):
        data = super().read(size)
        self.num_read += len(data)
        return data
