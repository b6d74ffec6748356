"""Cutting and joining codes: which frames remain, that cuts that meet become the whole again, and what is refused."""

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from bitstream_cases import CountingFile, chunk_ends, make_bitstream, make_coder
from messages import one_line
from models import HOP, PARTS, noise, tiny_codec

from codec.bitstream import ENTROPY_CODED, Bitstream
from codec.errors import BitstreamError, ConfigError
from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.model.synthesis import NOISE_FRAMES

CODER = make_coder()
FRAME = 320 / 16_000
kinds = pytest.mark.parametrize("coder", [None, CODER], ids=["packed", "entropy-coded"])


@kinds
@pytest.mark.parametrize("num_channels", [1, 2])
def test_cuts_that_meet_where_a_frame_begins_are_joined_to_the_whole(coder, num_channels):
    """Byte for byte, wherever the whole is cut, and however often."""
    whole = make_bitstream(30, num_channels=num_channels, coder=coder)
    for frames in ([10], [1], [29], [4], [3, 4, 20], list(range(1, 29))):
        edges = [0, *(FRAME * frame for frame in frames), whole.duration_s]
        cuts = [whole.cut(start, stop - start) for start, stop in itertools.pairwise(edges)]
        assert all(cut.header.payload_kind == whole.header.payload_kind for cut in cuts)
        read_again = [Bitstream.from_bytes(cut.to_bytes(), coder=coder) for cut in cuts]
        assert Bitstream.join(read_again).to_bytes() == whole.to_bytes(), frames


def test_a_cut_holds_the_part_and_the_delay():
    """A hop is 320 samples and the delay 80: 3.5 frames from 5.25 on lie in frames 5 to 8 and end before 9.0."""
    whole = make_bitstream(30)
    cut = whole.cut(5.25 * FRAME, 3.5 * FRAME)
    assert cut.header.num_samples == 3.75 * 320  # from the start of frame 5
    np.testing.assert_array_equal(cut.codes, whole.codes[:, :, 5:9])
    np.testing.assert_array_equal(whole.cut(5 * FRAME, 4 * FRAME).codes, whole.codes[:, :, 5:10])
    assert whole.cut(0).to_bytes() == whole.to_bytes()
    assert whole.cut(0, 1000).header == whole.header
    assert whole.cut(29 * FRAME - 1 / 16_000).codes.shape[2] == 2


def test_what_is_lost_stays_lost_in_a_cut():
    whole = make_bitstream(30)
    damaged = Bitstream(whole.header, whole.codes, ((4, 8), (20, 24)))
    assert damaged.cut(6 * FRAME, 10 * FRAME).lost == ((0, 2),)
    assert damaged.cut(8 * FRAME, 10 * FRAME).lost == ()
    assert damaged.cut(6 * FRAME).lost == ((0, 2), (14, 18))
    with pytest.raises(BitstreamError, match="lost"):
        damaged.cut(6 * FRAME).to_bytes()
    with pytest.raises(BitstreamError, match="lost"):
        Bitstream.join([whole, damaged])


@kinds
def test_a_file_is_cut_by_its_index(coder):
    """Only the chunks of the part are read; damage elsewhere does not matter, and damage within is refused."""
    whole = make_bitstream(4000, coder=coder)
    data = whole.to_bytes()
    ends = chunk_ends(data)
    file = CountingFile(data)
    cut = Bitstream.from_file(file, coder=coder, start=3001 * FRAME, duration=10 * FRAME)
    assert cut.to_bytes() == whole.cut(3001 * FRAME, 10 * FRAME).to_bytes()
    assert file.num_read < 2 * 78 + 12 + 4 * 1000 + 16 + (ends[753] - ends[748]) + 200
    for chunk, damaged in ((700, False), (750, True), (753, False)):
        bad = bytearray(data)
        bad[ends[chunk] - 1] ^= 1
        given = {"coder": coder, "start": 3001 * FRAME, "duration": 10 * FRAME}
        if not damaged:
            np.testing.assert_array_equal(Bitstream.from_file(io.BytesIO(bad), **given).codes, cut.codes)
            continue
        with pytest.raises(BitstreamError, match=one_line("1 of 1000 chunks", "lost")):
            Bitstream.from_file(io.BytesIO(bad), **given)
        salvaged = Bitstream.from_file(io.BytesIO(bad), salvage=True, **given)
        assert salvaged.lost == ((0, 3),)  # 3000 .. 3003, and the cut begins with 3001
        np.testing.assert_array_equal(salvaged.codes[:, :, 3:], cut.codes[:, :, 3:])


def test_recordings_follow_each_other_at_the_next_frame():
    """The first of 1000 samples takes 4 frames of 320, and the one that only its delay needs is left out."""
    first = compress(tiny_codec(), noise(1, 1, 1_005))
    second = compress(tiny_codec(), noise(1, 1, 333, seed=1))
    joined = Bitstream.join([first, second, first])
    kept = [first.codes[:, :, :51], second.codes[:, :, :17], first.codes]
    np.testing.assert_array_equal(joined.codes, np.concatenate(kept, axis=2))
    assert joined.header.num_samples == (51 + 17) * HOP + 1_005
    assert Bitstream.join([first]).to_bytes() == first.to_bytes()


@pytest.mark.parametrize("rate", [8_000, 11_025, 44_100, 22_254])
def test_rates_whose_samples_are_not_where_frames_begin(rate):
    """11,025 Hz: a frame has 220.5 samples. A cut keeps its length to a sample, and joining fits."""
    whole = make_bitstream(100, sample_rate=rate)
    for start, stop in ((0.1, 0.33), (0.02, 1.9), (0.333, 0.334)):
        cut = whole.cut(start, stop - start)
        begin = int(start / FRAME + 1e-9) * FRAME
        assert abs(cut.header.num_samples - (round(stop * rate) - begin * rate)) < 1
        joined = Bitstream.join([cut, whole, cut])
        assert Bitstream.from_bytes(joined.to_bytes()).header == joined.header


def test_what_can_not_be_cut_or_joined():
    whole = make_bitstream(30)
    for start, duration, fact in ((-1, None, "start"), (0.6, None, "ends at"), (0, 0, "duration")):
        with pytest.raises(ConfigError, match=one_line(fact)):
            whole.cut(start, duration)
    with pytest.raises(BitstreamError, match="no recordings"):
        Bitstream.join([])
    other_model = replace(whole.header, model_id=bytes(32))
    for header, facts in (
        (other_model, (2, "model", 32 * "0"[:12])),
        (make_bitstream(30, num_channels=2).header, (2, "num_channels", 2, 1)),
        (make_bitstream(30, num_quantizers=3).header, (2, "num_quantizers", 3, 2)),
        (make_bitstream(30, sample_rate=8_000).header, (2, "sample_rate", 8_000, 16_000)),
        (make_bitstream(30, delay=100).header, (2, "delay", 100, 80)),
    ):
        codes = np.zeros((header.num_channels, header.num_quantizers, header.num_frames), int)
        with pytest.raises(BitstreamError, match=one_line(*facts[:2])):
            Bitstream.join([whole, Bitstream(header, codes)])


# ---- What a cut and a join sound like


@pytest.mark.parametrize("name", PARTS)
def test_a_cut_decodes_like_its_part_once_the_decoder_has_started(name):
    """To the rounding of other blocks, if it begins a multiple of the noise's period from the start."""
    codec = tiny_codec(name)
    whole = compress(codec, noise(1, 1, 9_000).clamp(-1, 1), beam=1)
    begin = NOISE_FRAMES * HOP
    cut = decompress(codec, whole.cut(begin / 16_000, 0.2))
    expected = decompress(codec, whole)[..., begin : begin + 3_200]
    starting = codec.decoder.context_frames * HOP
    torch.testing.assert_close(cut[..., starting:], expected[..., starting:], rtol=0, atol=1e-5)
    assert not torch.allclose(cut[..., :HOP], expected[..., :HOP], rtol=0, atol=1e-5)


def test_a_join_decodes_like_its_parts():
    """The first until its delay begins, the second once the decoder has seen nothing else."""
    codec = tiny_codec()
    first, second = (compress(codec, noise(1, 1, 200 * HOP, seed=seed).clamp(-1, 1), beam=1) for seed in (1, 2))
    joined = decompress(codec, Bitstream.join([first, second]))
    ends = 200 * HOP
    assert joined.shape[-1] == 2 * ends
    before, starting = ends - codec.delay, codec.decoder.context_frames * HOP
    expected = decompress(codec, first), decompress(codec, second)
    torch.testing.assert_close(joined[..., :before], expected[0][..., :before], rtol=0, atol=1e-5)
    torch.testing.assert_close(joined[..., ends + starting :], expected[1][..., starting:], rtol=0, atol=1e-5)


def test_joined_codes_are_packed_like_the_first():
    packed, coded = make_bitstream(10, num_quantizers=3, codebook_size=32), make_bitstream(10, coder=CODER)
    assert Bitstream.join([packed, coded]).to_bytes()[5] == 0
    joined = Bitstream.join([coded, packed])
    assert joined.header.payload_kind == ENTROPY_CODED
    assert Bitstream.from_bytes(joined.to_bytes(), coder=CODER).codes.shape == (1, 3, 20)
