"""A part of a recording is a slice of the whole, bit for bit; of a file only the chunks that it needs are read."""

import io
import math

import numpy as np
import pytest
import soundfile as sf
import torch
from bitstream_cases import CountingFile, chunk_ends
from messages import one_line
from models import HOP, PARTS, noise, tiny_codec, tiny_tables

from codec.audio.file import read_info, save_audio
from codec.bitstream import Bitstream, BitstreamWriter
from codec.config import IdentityDecoderConfig, IdentityEncoderConfig
from codec.errors import BitstreamError, ConfigError
from codec.inference.compression import compress, compress_file, describe_codes, entropy_coder
from codec.inference.decompression import decompress, decompress_codes, decompress_file
from codec.inference.modes import speed_up

STEP = 1.01 / 32768
"""Of 16-bit samples: the resampler's last bit may move a sample across a border between two."""
SPANS = [(0, 0.05), (0, None), (0.5, 0.25), (0.999, 0.002), (1.0, 0.25), (1.25, 0.5), (1.3, None), (1.5, 9)]
"""Seconds of a recording of 25,003 samples: 1.56 s. Blocks of 0.25 s begin at some of them."""


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of a quarter of a second, chunks of 0.1 s: short signals have several, and a chunk may be shorter."""
    monkeypatch.setattr("codec.inference.compression.BLOCK_S", 0.25)
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.1)


@pytest.fixture
def codec():
    return tiny_codec()


def recording(codec, num_channels=1, num_samples=25_003):
    return compress(codec, noise(1, num_channels, num_samples).clamp(-1, 1), beam=1)


def slice_of(whole, rate, start, duration):
    stop = None if duration is None else round((start + duration) * rate)
    return whole[..., round(start * rate) : stop]


def samples_of(path):
    return sf.read(path, always_2d=True)[0].T


# ---- In memory


@pytest.mark.parametrize("name", [*PARTS, "identity", "onnx", "bf16_decoder"])
def test_a_part_is_the_slice_of_the_whole(name):
    """To the bit, whatever the decoder: it computes the same blocks, as soon as it has seen the frames before them."""
    if name == "identity":
        codec = tiny_codec(latent_dim=12, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig())
    else:
        codec = tiny_codec(name) if name in PARTS else speed_up(tiny_codec(), name)
    bitstream = recording(codec, num_channels=2)
    whole = decompress(codec, bitstream)
    for start, duration in SPANS:
        part = decompress(codec, bitstream, start=start, duration=duration)
        expected = slice_of(whole, 16_000, start, duration)
        assert part.shape == expected.shape and torch.equal(part, expected), (start, duration)


@pytest.mark.parametrize("name", PARTS)
def test_the_decoder_starts_early_enough(name):
    """Where a block begins just as many frames early as the decoder looks back, and one frame more or less."""
    codec = tiny_codec(name)
    bitstream = recording(codec, num_samples=12_003)
    whole = decompress(codec, bitstream)
    for more in (-1, 0, 1):
        first = (200 + codec.decoder.context_frames + more) * HOP - codec.delay
        part = decompress(codec, bitstream, start=first / 16_000, duration=0.01)
        assert torch.equal(part, whole[..., first : first + 160]), more


def test_the_network_runs_on_no_more_than_the_part_needs(codec):
    """Blocks are 200 frames; the decoder looks back 4 and is 25 samples late."""
    bitstream = recording(codec)
    blocks, decode_frames = [], codec.decode_frames
    codec.decode_frames = lambda codes, cache: blocks.append(codes.shape[2]) or decode_frames(codes, cache)
    for start, duration, count in ((0.5, 0.2, 2), (0.51, 0.2, 1), (0.5, 0.25, 3), (1.51, None, 1), (0, 0.01, 1)):
        blocks.clear()
        decompress(codec, bitstream, start=start, duration=duration)
        assert len(blocks) == count, (start, duration)


def test_where_there_is_nothing_it_is_refused(codec, tmp_path):
    bitstream = recording(codec)
    (tmp_path / "a.codec").write_bytes(bitstream.to_bytes())
    for start, duration, fact in (
        (-0.1, None, "start"),
        (math.nan, None, "start"),
        (1.6, None, "ends at 1.56269 s"),
        (1, 0.0, "duration"),
        (1, math.nan, "duration"),
        (1, 1e-6, "no sample"),
    ):
        for decode in (
            lambda **span: decompress(codec, bitstream, **span),
            lambda **span: decompress_codes(codec, bitstream, tmp_path / "a.wav", **span),
            lambda **span: decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", **span),
        ):
            with pytest.raises(ConfigError, match=one_line(fact)):
                decode(start=start, duration=duration)
    assert [path.name for path in tmp_path.iterdir()] == ["a.codec"]


# ---- Files


@pytest.mark.parametrize(
    ("sample_rate", "num_channels", "steps"),
    [(16_000, 2, 0), (44_100, 1, 0), (48_000, 2, 0), (8_000, 1, 1), (22_254, 1, 1)],
)
def test_a_part_of_a_file_is_the_slice_of_the_whole_file(codec, tmp_path, sample_rate, num_channels, steps):
    """At the original rate: to the bit, but for one step where soxr filters by the Fourier transform."""
    source, middle, target = (tmp_path / name for name in ("in.wav", "in.codec", "out.wav"))
    save_audio(source, noise(1, num_channels, round(1.56 * sample_rate)).clamp(-1, 1), sample_rate)
    compress_file(codec, source, middle, beam=1)
    bitstream = Bitstream.from_bytes(middle.read_bytes())
    decompress_file(codec, middle, target)
    whole = samples_of(target)
    decompress_codes(codec, bitstream, target, overwrite=True)
    whole_of_codes = samples_of(target)
    for start, duration in SPANS:
        decompress_file(codec, middle, target, start=start, duration=duration, overwrite=True)
        expected = slice_of(whole, sample_rate, start, duration)
        assert read_info(target) == (sample_rate, num_channels, expected.shape[1])
        assert np.abs(samples_of(target) - expected).max() <= steps * STEP
        decompress_codes(codec, bitstream, target, start=start, duration=duration, overwrite=True)
        expected = slice_of(whole_of_codes, sample_rate, start, duration)
        assert np.abs(samples_of(target) - expected).max() <= steps * STEP


def test_a_chunk_may_be_longer_than_a_block(codec, tmp_path, monkeypatch):
    """Its blocks before the part are not decoded."""
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 1.1)
    (tmp_path / "a.codec").write_bytes(recording(codec).to_bytes())
    decompress_file(codec, tmp_path / "a.codec", tmp_path / "whole.wav")
    blocks, decode_frames = [], codec.decode_frames
    codec.decode_frames = lambda codes, cache: blocks.append(codes.shape[2]) or decode_frames(codes, cache)
    for start, duration, expected in ((0.3, 0.1, [200]), (0.9, 0.3, [200, 80, 200]), (1.2, None, [200, 172])):
        blocks.clear()
        decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", start=start, duration=duration, overwrite=True)
        assert blocks == expected
        whole = slice_of(samples_of(tmp_path / "whole.wav"), 16_000, start, duration)
        np.testing.assert_array_equal(samples_of(tmp_path / "a.wav"), whole)


def test_a_part_of_fewer_levels(codec, tmp_path):
    bitstream = recording(codec)
    (tmp_path / "a.codec").write_bytes(bitstream.to_bytes())
    (tmp_path / "low.codec").write_bytes(bitstream.keep_quantizers(2).to_bytes())
    decompress_file(codec, tmp_path / "low.codec", tmp_path / "low.wav")
    decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", num_quantizers=2, start=0.7, duration=0.3)
    expected = samples_of(tmp_path / "low.wav")[:, 11_200:16_000]
    np.testing.assert_array_equal(samples_of(tmp_path / "a.wav"), expected)
    with pytest.raises(BitstreamError, match=one_line("num_quantizers", 5, "1..4")):
        decompress_file(codec, tmp_path / "a.codec", tmp_path / "b.wav", num_quantizers=5)


@pytest.mark.parametrize("with_tables", [False, True], ids=["packed", "entropy-coded"])
def test_only_the_chunks_of_the_part_are_read(codec, tmp_path, monkeypatch, with_tables):
    """Of 100 chunks: header, index, and the four that hold 0.3 s and the frames before them, the first one twice."""
    if with_tables:
        codec.entropy = tiny_tables(codec, noise(1, 1, 10_003))
    header = describe_codes(codec, 4, num_samples=160_000 - codec.delay)
    codes = np.random.default_rng(0).integers(0, 16, (1, 4, header.num_frames))
    data = Bitstream(header, codes, coder=entropy_coder(codec)).to_bytes()
    ends = chunk_ends(data)
    assert len(ends) == 100
    opened = []

    def open_counting(path, mode):
        opened.append(CountingFile(data))
        return opened[-1]

    (tmp_path / "a.codec").touch()
    monkeypatch.setattr("pathlib.Path.open", open_counting)
    from codec.inference import decompression

    blocks = []
    monkeypatch.setattr(decompression, "new_audio_file", lambda *given, **facts: _Collector(blocks))
    decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", start=5.05, duration=0.2)
    (file,) = opened
    needed = ends[52] - ends[49]  # chunks of 0.1 s: 5.0 .. 5.3 s, which the delay reaches
    tail = 12 + 4 * 100 + 16
    assert sum(block.shape[1] for block in blocks) == 3_200
    first = ends[50] - ends[49]
    assert file.num_read <= 2 * 78 + tail + needed + first + 3 * 12


class _Collector:
    """Stands for a new audio file."""

    def __init__(self, blocks):
        self.blocks = blocks

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def write(self, block):
        self.blocks.append(block)


# ---- Damage


@pytest.fixture
def damaged(codec, tmp_path):
    """Sixteen chunks of 80 frames, 0.1 s; those from 0.4 s, 0.8 s and 0.9 s are damaged."""
    data = bytearray(recording(codec).to_bytes())
    ends = chunk_ends(data)
    for chunk in (4, 8, 9):
        data[ends[chunk] - 5] ^= 1
    path = tmp_path / "a.codec"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("start", "duration", "lost"),
    [
        (0.0, 0.3, ()),
        (0.52, 0.2, ()),
        (0.35, 0.3, ((320, 400),)),
        (0.502, 0.1, ((320, 400),)),  # before the part, but the decoder looks back at it
        (0.42, 0.05, None),  # nothing is left of it
        (0.3, 0.7, ((320, 400), (640, 800))),
        (0.75, 0.1, ((640, 720),)),  # the chunk after it is damaged too, and does not matter
    ],
)
def test_damage_counts_where_the_part_needs_it(codec, damaged, tmp_path, start, duration, lost):
    target = tmp_path / "part.wav"
    span = {"start": start, "duration": duration}
    if lost == ():
        assert decompress_file(codec, damaged, target, **span).lost == ()
        return
    with pytest.raises(BitstreamError, match=one_line("damaged", "lost")) as error:
        decompress_file(codec, damaged, target, **span)
    assert error.value.remedy == {"salvage": True} and not target.exists()
    if lost is None:
        with pytest.raises(BitstreamError, match="no chunk is intact"):
            decompress_file(codec, damaged, target, **span, salvage=True)
        return
    decompress_file(codec, damaged, tmp_path / "whole.wav", salvage=True)
    assert decompress_file(codec, damaged, target, **span, salvage=True).lost == lost
    expected = slice_of(samples_of(tmp_path / "whole.wav"), 16_000, start, duration)
    np.testing.assert_array_equal(samples_of(target), expected)


def test_without_index_a_part_must_be_salvaged(codec, tmp_path):
    bitstream = recording(codec)
    data = bitstream.to_bytes()
    source, target = tmp_path / "a.codec", tmp_path / "a.wav"
    whole = decompress(codec, bitstream)
    file = io.BytesIO()
    BitstreamWriter(file, bitstream.header).write(bitstream.codes)
    for number, (bad, fact) in enumerate(
        [(data[:-20], "index"), (data + b"more", "index"), (file.getvalue(), "never closed")]
    ):
        source.write_bytes(bad)
        with pytest.raises(BitstreamError, match=one_line(fact)) as error:
            decompress_file(codec, source, target, start=0.5, duration=0.25, overwrite=True)
        assert error.value.remedy == {"salvage": True}
        assert decompress_file(codec, source, target, start=0.5, duration=0.25, salvage=True, overwrite=True).lost == ()
        expected = whole[0, :, 8_000:12_000].clamp(-1, 1 - 2**-15).numpy()
        assert np.abs(samples_of(target) - expected).max() < 1e-5 + 0.51 / 32768, number


def test_lost_frames_in_memory(codec):
    bitstream = recording(codec)
    lost = ((100, 180), (400, 480))
    codes = bitstream.codes.copy()
    for first, stop in lost:
        codes[..., first:stop] = 0
    damaged = Bitstream(bitstream.header, codes, lost)
    whole = decompress(codec, damaged)
    begin = 100 * HOP - codec.delay
    assert not whole[..., begin : begin + 80 * HOP].any()
    for start, duration in (*SPANS, (0.15, 0.02), (0.225, 0.1)):
        part = decompress(codec, damaged, start=start, duration=duration)
        assert torch.equal(part, slice_of(whole, 16_000, start, duration))
