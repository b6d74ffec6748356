"""Audio and audio files to bitstreams and back: exact lengths, damage, and nothing left behind by a failure."""

import re
import warnings

import numpy as np
import pytest
import soundfile as sf
import torch
from bitstream_cases import chunk_ends
from messages import one_line
from models import HOP, assert_beam_codes_equal, noise, tiny_codec, tiny_tables

from codec.audio.file import load_audio, read_info, save_audio
from codec.audio.resampling import resample
from codec.bitstream import ENTROPY_CODED, Bitstream
from codec.bitstream.payload import PackedPayloads
from codec.config import FILE_BEAM
from codec.errors import AudioError, BitstreamError, ConfigError, WriteError
from codec.inference.compression import (
    FileBlocks,
    compress,
    compress_file,
    describe_codes,
    entropy_coder,
    read_bitstream,
)
from codec.inference.decompression import decompress, decompress_codes, decompress_file
from codec.model.digest import model_identity

LOUDEST = 1 - 2**-15
"""Step of 16-bit samples."""


@pytest.fixture
def codec():
    return tiny_codec()


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of a quarter of a second, so that short signals have several."""
    monkeypatch.setattr("codec.inference.compression.BLOCK_S", 0.25)


def codes_of(bitstream):
    """Codes `[C, K, F]`: channels are items of a batch."""
    return torch.from_numpy(bitstream.codes)


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


def loud(num_channels, num_samples, seed=0):
    return noise(1, num_channels, num_samples, seed=seed).clamp(-1, 1)


# ---- Audio in memory


@pytest.mark.parametrize("num_channels", [1, 2])
def test_audio_through_a_bitstream(codec, num_channels):
    audio = loud(num_channels, 10_003)
    bitstream = Bitstream.from_bytes(compress(codec, audio).to_bytes())
    header = bitstream.header
    assert header.model_id == model_identity(codec)
    assert (header.sample_rate, header.model_sample_rate, header.num_samples) == (16_000, 16_000, 10_003)
    assert bitstream.codes.shape == (num_channels, 4, codec.num_frames(10_003))
    channels = audio.transpose(0, 1)
    codes = codec.encode(channels, beam=FILE_BEAM)
    assert_beam_codes_equal(codec, codes_of(bitstream), codes, codec.pad(channels))
    decoded = decompress(codec, bitstream)
    assert decoded.shape == audio.shape
    expected = codec.decode(codes_of(bitstream), 10_003).transpose(0, 1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=1e-5)


def test_fewer_levels_are_the_first_ones(codec):
    """This holds for the greedy search."""
    audio = loud(1, 5_000)
    both = compress(codec, audio, beam=1), compress(codec, audio, num_quantizers=2, beam=1)
    np.testing.assert_array_equal(both[1].codes, both[0].codes[:, :2])
    np.testing.assert_array_equal(both[0].keep_quantizers(2).codes, both[1].codes)
    assert torch.equal(decompress(codec, both[0].keep_quantizers(2)), decompress(codec, both[1]))


def test_every_length_comes_back(codec):
    for num_samples in range(1, 3 * HOP + 2):
        bitstream = Bitstream.from_bytes(compress(codec, loud(1, num_samples)).to_bytes())
        assert decompress(codec, bitstream).shape == (1, 1, num_samples)


@pytest.mark.parametrize(
    ("audio", "facts"),
    [
        (torch.zeros(100), ("[1, C, T]", "[100]")),
        (torch.zeros(2, 1, 100), ("[1, C, T]", "[2, 1, 100]")),
        (torch.zeros(1, 0, 100), ("[1, C, T]", "[1, 0, 100]")),
        (torch.zeros(1, 1, 0), ("no samples",)),
        (torch.zeros(1, 1, 100, dtype=torch.int16), ("float32", "int16")),
        (torch.full((1, 1, 100), torch.nan), ("NaN",)),
    ],
)
def test_wrong_audio_is_refused(codec, audio, facts):
    with pytest.raises(AudioError, match=one_line(*facts)):
        compress(codec, audio)


@pytest.mark.parametrize("num_quantizers", [0, 5])
def test_a_number_of_levels_that_the_model_lacks_is_refused(codec, tmp_path, num_quantizers):
    with pytest.raises(ConfigError, match=one_line("num_quantizers", num_quantizers, 1, 4)):
        compress(codec, loud(1, 100), num_quantizers=num_quantizers)
    save_audio(tmp_path / "a.wav", loud(1, 100), 16_000)
    with pytest.raises(ConfigError, match=one_line("num_quantizers", num_quantizers, 1, 4)):
        compress_file(codec, tmp_path / "a.wav", tmp_path / "a.codec", num_quantizers=num_quantizers)
    assert files_in(tmp_path) == ["a.wav"]


# ---- Files


@pytest.mark.parametrize(("peak", "warned"), [(1.0, False), (1.5, True), (4.0, True), (4.5, False)])
def test_a_peak_above_full_scale_is_named(tmp_path, peak, warned):
    """Once a file, in the middle of it too; what the encoder refuses needs no warning."""
    samples = np.zeros(9_000, np.float32)
    samples[4_500] = -peak
    sf.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        list(FileBlocks(tmp_path / "a.wav", 16_000))
    texts = [str(each.message) for each in found]
    assert len(texts) == warned
    assert all(re.search(one_line(tmp_path / "a.wav", f"{peak:.4g}"), text) for text in texts)


@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("sample_rate", [8_000, 16_000, 44_100, 48_000])
def test_a_file_is_its_audio_at_the_rate_of_the_model(codec, tmp_path, sample_rate, num_channels):
    source, middle, target = (tmp_path / name for name in ("in.wav", "in.codec", "out.wav"))
    num_samples = sample_rate + 1
    save_audio(source, loud(num_channels, num_samples), sample_rate)
    header = compress_file(codec, source, middle)
    bitstream = Bitstream.from_bytes(middle.read_bytes())
    assert bitstream.header == header
    assert (header.sample_rate, header.num_samples, header.num_channels) == (sample_rate, num_samples, num_channels)

    audio = load_audio(source, 16_000)
    whole = codes_of(compress(codec, audio))
    assert_beam_codes_equal(codec, codes_of(bitstream), whole, codec.pad(audio.transpose(0, 1)))

    reader = decompress_file(codec, middle, target)
    assert reader.lost == ()
    assert reader.header == header
    assert read_info(target) == (sample_rate, num_channels, num_samples)
    expected = resample(decompress(codec, bitstream), 16_000, sample_rate)[..., :num_samples]
    torch.testing.assert_close(load_audio(target), expected.clamp(-1, LOUDEST), rtol=0, atol=1e-5 + 0.51 / 32768)

    decompress_codes(codec, bitstream, tmp_path / "again.wav")
    torch.testing.assert_close(load_audio(tmp_path / "again.wav"), load_audio(target), rtol=0, atol=1.1 / 32768)
    assert files_in(tmp_path) == ["again.wav", "in.codec", "in.wav", "out.wav"]


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 48_000, 11_025])
def test_every_length_of_a_file_comes_back(codec, tmp_path, sample_rate):
    for num_samples in (1, 2, 3, 5, 57, 1_001):
        save_audio(tmp_path / "in.wav", loud(1, num_samples), sample_rate, overwrite=True)
        compress_file(codec, tmp_path / "in.wav", tmp_path / "in.codec", overwrite=True)
        decompress_file(codec, tmp_path / "in.codec", tmp_path / "out.wav", overwrite=True)
        assert read_info(tmp_path / "out.wav") == (sample_rate, 1, num_samples)


def test_nothing_is_overwritten_unless_asked(codec, tmp_path):
    source, middle, target = (tmp_path / name for name in ("in.wav", "in.codec", "out.wav"))
    save_audio(source, loud(1, 500), 16_000)
    for path in (middle, target):
        path.write_bytes(b"mine")
    with pytest.raises(WriteError, match=one_line(middle, "already there")):
        compress_file(codec, source, middle)
    assert middle.read_bytes() == b"mine"
    compress_file(codec, source, middle, overwrite=True)
    with pytest.raises(WriteError, match=one_line(target, "already there")):
        decompress_file(codec, middle, target)
    assert target.read_bytes() == b"mine"
    decompress_file(codec, middle, target, overwrite=True)
    assert read_info(target).num_samples == 500
    assert files_in(tmp_path) == ["in.codec", "in.wav", "out.wav"]


def test_a_failure_leaves_nothing_behind(codec, tmp_path):
    audio = loud(1, 20_000)[0, 0].numpy()
    audio[-1] = np.nan
    sf.write(tmp_path / "bad.wav", audio, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="NaN"):
        compress_file(codec, tmp_path / "bad.wav", tmp_path / "bad.codec")
    with pytest.raises(AudioError):
        compress_file(codec, tmp_path / "none.wav", tmp_path / "none.codec")
    with pytest.raises(BitstreamError, match=one_line("read", tmp_path / "none.codec")):
        decompress_file(codec, tmp_path / "none.codec", tmp_path / "none.wav")
    with pytest.raises(BitstreamError, match=one_line("not", ".codec")):
        decompress_file(codec, tmp_path / "bad.wav", tmp_path / "out.wav")
    assert files_in(tmp_path) == ["bad.wav"]


def test_a_target_that_cannot_be_written_is_one_error(codec, tmp_path):
    save_audio(tmp_path / "a.wav", loud(1, 100), 16_000)
    with pytest.raises(WriteError, match=one_line("write", tmp_path / "a.wav")):
        compress_file(codec, tmp_path / "a.wav", tmp_path / "a.wav" / "a.codec")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError, match=one_line(tmp_path / "folder", "folder")):
        compress_file(codec, tmp_path / "a.wav", tmp_path / "folder", overwrite=True)
    assert files_in(tmp_path) == ["a.wav", "folder"]


def test_codes_of_another_model_are_refused(codec, tmp_path):
    other = tiny_codec(seed=1)
    bitstream = compress(other, loud(1, 500))
    (tmp_path / "a.codec").write_bytes(bitstream.to_bytes())
    theirs, ours = (model_identity(model).hex()[:12] for model in (other, codec))
    for decode in (
        lambda: decompress(codec, bitstream),
        lambda: decompress_codes(codec, bitstream, tmp_path / "a.wav"),
        lambda: decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", salvage=True),
    ):
        with pytest.raises(BitstreamError, match=one_line("model", theirs, ours)):
            decode()
    assert files_in(tmp_path) == ["a.codec"]


def test_the_header_of_codes_from_elsewhere(codec):
    header = describe_codes(codec, 2, num_channels=3, num_samples=100)
    assert (header.sample_rate, header.num_quantizers, header.num_channels) == (16_000, 2, 3)
    assert header.num_frames == codec.num_frames(100)
    assert describe_codes(codec, 2, sample_rate=44_100).sample_rate == 44_100


# ---- Entropy coding


@pytest.fixture
def with_tables():
    codec = tiny_codec()
    codec.entropy = tiny_tables(codec, loud(1, 10_003))
    return codec


def test_a_model_with_tables_codes_its_files_with_them(codec, with_tables, tmp_path):
    """The same codes and audio from fewer bytes, for `compress` and `compress_file` alike."""
    source, middle, packed = (tmp_path / name for name in ("in.wav", "in.codec", "packed.codec"))
    save_audio(source, loud(2, 10_003), 16_000)
    header = compress_file(with_tables, source, middle)
    compress_file(codec, source, packed)
    assert header.payload_kind == ENTROPY_CODED
    assert middle.stat().st_size < packed.stat().st_size
    bitstream = read_bitstream(middle, with_tables)
    np.testing.assert_array_equal(bitstream.codes, read_bitstream(packed).codes)
    data = middle.read_bytes()
    assert len(data) == bitstream.num_bytes
    assert bitstream.to_bytes() == compress(with_tables, load_audio(source)).to_bytes() == data
    decompress_file(with_tables, middle, tmp_path / "out.wav")
    decompress_file(codec, packed, tmp_path / "expected.wav")
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "expected.wav").read_bytes()


def test_an_entropy_coded_file_needs_the_very_model_that_made_it(codec, with_tables, tmp_path):
    path = tmp_path / "a.codec"
    path.write_bytes(compress(with_tables, loud(1, 500)).to_bytes())
    other = tiny_codec()
    other.entropy = tiny_tables(other, loud(1, 100))
    theirs = model_identity(with_tables).hex()[:12]
    for model in (codec, other):
        ours = model_identity(model).hex()[:12]
        with pytest.raises(BitstreamError, match=one_line("model", theirs, ours)):
            decompress_file(model, path, tmp_path / "a.wav", salvage=True)
        with pytest.raises(BitstreamError, match=one_line("model", theirs, ours)):
            read_bitstream(path, model, salvage=True)
    with pytest.raises(BitstreamError, match=one_line("tables", "model", theirs)):
        read_bitstream(path)
    assert files_in(tmp_path) == ["a.codec"]


def test_tables_are_made_ready_once(codec, with_tables):
    assert entropy_coder(codec) is None
    assert entropy_coder(with_tables) is entropy_coder(with_tables)
    first = entropy_coder(with_tables)
    with_tables.entropy = tiny_tables(codec, loud(1, 100))
    assert entropy_coder(with_tables) is not first


def test_a_damaged_entropy_coded_file_loses_one_chunk(with_tables, tmp_path, monkeypatch):
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.1)
    data = bytearray(compress(with_tables, loud(1, 8_000)).to_bytes())
    data[chunk_ends(data)[1] - 1] ^= 1
    (tmp_path / "a.codec").write_bytes(data)
    with pytest.raises(BitstreamError, match=one_line("1 of 6 chunks", "0.10-0.20 s", "lost")):
        read_bitstream(tmp_path / "a.codec", with_tables)
    found = read_bitstream(tmp_path / "a.codec", with_tables, salvage=True)
    assert found.lost == ((80, 160),)
    assert decompress_file(with_tables, tmp_path / "a.codec", tmp_path / "a.wav", salvage=True).lost == found.lost


# ---- Damage


def test_each_chunk_is_decoded_once(codec, tmp_path, monkeypatch):
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.1)
    (tmp_path / "a.codec").write_bytes(compress(codec, loud(1, 8_000)).to_bytes())
    decoded, decode = [], PackedPayloads.decode
    monkeypatch.setattr(PackedPayloads, "decode", lambda *given: decoded.append(given[2]) or decode(*given))
    decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav")
    read_bitstream(tmp_path / "a.codec")
    assert decoded == 2 * [80, 80, 80, 80, 80, 2]


def test_the_network_stops_at_the_damage_and_all_that_is_lost_is_named(codec, tmp_path, monkeypatch):
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.1)
    data = bytearray(compress(codec, loud(1, 8_000)).to_bytes())
    for chunk in (0, 3):
        data[chunk_ends(data)[chunk] + 30] ^= 1
    (tmp_path / "a.codec").write_bytes(data)
    (tmp_path / "a.wav").write_text("theirs")
    blocks, decode_frames = [], codec.decode_frames
    codec.decode_frames = lambda codes, cache: blocks.append(codes) or decode_frames(codes, cache)
    with pytest.raises(BitstreamError, match=one_line("2 of 6 chunks", "0.10-0.20 s", "0.40-0.50 s")) as error:
        decompress_file(codec, tmp_path / "a.codec", tmp_path / "a.wav", overwrite=True)
    assert error.value.remedy == {"salvage": True}
    assert len(blocks) == 1
    assert files_in(tmp_path) == ["a.codec", "a.wav"] and (tmp_path / "a.wav").read_text() == "theirs"


def test_salvage_is_silent_where_the_file_is_damaged_and_exact_elsewhere(codec, tmp_path, monkeypatch):
    """Four chunks, the second damaged. The context of the model is a few frames long."""
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.45)
    save_audio(tmp_path / "in.wav", loud(2, 25_001), 16_000)
    header = compress_file(codec, tmp_path / "in.wav", tmp_path / "in.codec")
    assert (header.num_chunks, header.frames_per_chunk) == (4, 360)
    intact = Bitstream.from_bytes((tmp_path / "in.codec").read_bytes())
    data = bytearray((tmp_path / "in.codec").read_bytes())
    data[chunk_ends(data)[0] + 30] ^= 1
    (tmp_path / "in.codec").write_bytes(data)

    with pytest.raises(BitstreamError, match=one_line("1 of 4 chunks")):
        decompress_file(codec, tmp_path / "in.codec", tmp_path / "out.wav")
    assert not (tmp_path / "out.wav").exists()
    reader = decompress_file(codec, tmp_path / "in.codec", tmp_path / "out.wav", salvage=True)
    assert reader.lost == ((360, 720),)

    decompress_codes(codec, intact, tmp_path / "expected.wav")
    found, expected = load_audio(tmp_path / "out.wav"), load_audio(tmp_path / "expected.wav")
    assert found.shape == expected.shape == (1, 2, 25_001)
    start, stop = (frame * HOP - codec.delay for frame in (360, 720))
    assert torch.equal(found[..., :start], expected[..., :start])
    assert not found[..., start:stop].any()
    assert found[..., stop : stop + HOP].any()
    assert torch.equal(found[..., stop + 10 * HOP :], expected[..., stop + 10 * HOP :])

    damaged = Bitstream.from_bytes(bytes(data), salvage=True)
    in_memory = decompress(codec, damaged)
    torch.testing.assert_close(in_memory.clamp(-1, LOUDEST), found, rtol=0, atol=1e-5 + 0.51 / 32768)


def test_a_file_cut_off_keeps_its_length(codec, tmp_path, monkeypatch):
    monkeypatch.setattr("codec.bitstream.header.CHUNK_S", 0.1)
    data = compress(codec, loud(1, 10_000)).to_bytes()
    ends = chunk_ends(data)
    (tmp_path / "cut.codec").write_bytes(data[: ends[2] + 5])
    reader = decompress_file(codec, tmp_path / "cut.codec", tmp_path / "cut.wav", salvage=True)
    assert reader.lost == ((240, codec.num_frames(10_000)),)
    audio = load_audio(tmp_path / "cut.wav")
    assert audio.shape == (1, 1, 10_000)
    assert audio[..., : 200 * HOP].any()
    assert not audio[..., 240 * HOP - codec.delay :].any()


def test_the_bytes_of_a_bitstream_are_the_file(codec, tmp_path):
    save_audio(tmp_path / "in.wav", loud(1, 3_000), 16_000)
    compress_file(codec, tmp_path / "in.wav", tmp_path / "in.codec")
    bitstream = compress(codec, load_audio(tmp_path / "in.wav"))
    assert bitstream.to_bytes() == (tmp_path / "in.codec").read_bytes()
