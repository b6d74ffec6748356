"""Small recordings, and the means to watch what reading them costs."""

import io
import tracemalloc
from dataclasses import replace

import numpy as np

from codec.bitstream import ENTROPY_CODED, Bitstream, EntropyCoder, Header
from codec.bitstream.rans import TOTAL

MODEL_ID = bytes(range(32))
HEADER_BYTES, CHUNK_OVERHEAD = 78, 12


def make_header(num_frames=10, *, coder=None, **changes):
    """Return a header whose num_samples makes `num_frames` frames; with a coder, of codes that it codes."""
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
    if coder is not None:
        facts |= {"num_quantizers": coder.num_quantizers, "codebook_size": coder.codebook_size}
        facts["payload_kind"] = ENTROPY_CODED
    header = Header(**facts | changes)
    return replace(header, num_samples=header.samples_in(num_frames))


def make_bitstream(num_frames=10, *, coder=None, **changes):
    """Return random codes; with a coder most of them are low, as its tables expect, and they will be entropy-coded."""
    header = make_header(num_frames, coder=coder, **changes)
    shape = (header.num_channels, header.num_quantizers, header.num_frames)
    codes = np.random.default_rng(num_frames).integers(0, header.codebook_size, (1 if coder is None else 8, *shape))
    return Bitstream(header, codes.min(axis=0), coder=coder)


def make_tables(num_quantizers=3, codebook_size=32, num_previous=3, num_below=2, *, seed=0, decay=0.7):
    """Return random tables by name: in every context a code is about `decay` times as frequent as the one before it."""
    rng = np.random.default_rng(seed)
    pairs = num_previous * num_below
    num_rows = max(1, num_quantizers * pairs // 2)  # some pairs share a row
    weights = rng.uniform(0.5, 1.5, (num_rows, codebook_size)) * decay ** np.arange(codebook_size)
    share = weights / weights.sum(axis=1, keepdims=True)
    frequencies = 1 + np.floor(share * (TOTAL - codebook_size)).astype(np.int64)
    frequencies[:, 0] += TOTAL - frequencies.sum(axis=1)
    classes = (num_quantizers, codebook_size + 1)
    return {
        "frequencies": frequencies,
        "previous": rng.integers(0, num_previous, classes),
        "below": rng.integers(0, num_below, classes),
        "rows": rng.integers(0, num_rows, (num_quantizers, num_previous, num_below)),
    }


def make_coder(*sizes, **facts):
    return EntropyCoder(**make_tables(*sizes, **facts))


def chunk_ends(data):
    """Return where each chunk of an intact file ends."""
    ends = [HEADER_BYTES]
    while data[ends[-1] :][:2] == b"\xc0\xde":
        ends.append(ends[-1] + CHUNK_OVERHEAD + int.from_bytes(data[ends[-1] + 5 : ends[-1] + 8], "little"))
    return ends[1:]


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
