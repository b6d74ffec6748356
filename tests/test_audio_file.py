import math
import os
import resource
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from audio_cases import pcm_noise, tone
from messages import one_line

from codec.audio.containers import ogg_checksum
from codec.audio.file import (
    WRITE_FORMATS,
    AudioInfo,
    find_audio_files,
    iterate_blocks,
    load_audio,
    new_audio_file,
    read_info,
    read_segment,
    save_audio,
)
from codec.errors import AudioError, WriteError

RATES = [8_000, 16_000, 22_050, 44_100, 48_000]
CLIPS = Path(__file__).parent.parent / "data" / "clips"


# ---- Round trips


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
@pytest.mark.parametrize(("num_channels", "rate"), [(1, 8_000), (2, 44_100), (5, 48_000)])
def test_pcm_round_trip_is_exact(tmp_path: Path, suffix: str, num_channels: int, rate: int) -> None:
    audio = pcm_noise(num_channels, 3_001)
    save_audio(tmp_path / f"a{suffix}", audio, rate)
    assert read_info(tmp_path / f"a{suffix}") == AudioInfo(rate, num_channels, 3_001)
    loaded = load_audio(tmp_path / f"a{suffix}")
    assert loaded.dtype == torch.float32
    assert torch.equal(loaded, audio)


@pytest.mark.parametrize("rate", RATES)
def test_every_rate_is_kept(tmp_path: Path, rate: int) -> None:
    for suffix in (".wav", ".flac", ".ogg"):
        save_audio(tmp_path / f"a{suffix}", tone(500, rate), rate)
        assert read_info(tmp_path / f"a{suffix}") == AudioInfo(rate, 1, 500)


@pytest.mark.parametrize("suffix", [".ogg", ".opus", ".mp3"])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_lossy_round_trip_is_close(tmp_path: Path, suffix: str, num_channels: int) -> None:
    audio = tone(48_000, 48_000).expand(1, num_channels, -1)
    save_audio(tmp_path / f"a{suffix}", audio, 48_000)
    loaded = load_audio(tmp_path / f"a{suffix}")
    assert loaded.shape == audio.shape
    error = (loaded - audio)[..., 4_800:-4_800]
    assert error.square().mean().sqrt() < 0.02  # 25 dB below the tone: time and level are right


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_one_sample(tmp_path: Path, suffix: str) -> None:
    save_audio(tmp_path / f"a{suffix}", torch.full((1,), 0.25), 16_000)
    assert load_audio(tmp_path / f"a{suffix}").shape == (1, 1, 1)
    assert load_audio(tmp_path / f"a{suffix}", 44_100).shape == (1, 1, 3)


@pytest.mark.parametrize("shape", [(1, 2, 40), (2, 40), (40,)])
def test_save_takes_three_shapes(tmp_path: Path, shape: tuple[int, ...]) -> None:
    audio = pcm_noise(2, 40)[0, : 1 if len(shape) == 1 else 2]
    save_audio(tmp_path / "a.wav", audio.reshape(shape), 16_000)
    assert torch.equal(load_audio(tmp_path / "a.wav")[0], audio)


def test_save_refuses_a_batch(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=one_line("[2, 1, 40]", "[1, C, T]")):
        save_audio(tmp_path / "a.wav", torch.zeros(2, 1, 40), 16_000)


def test_save_clips_instead_of_wrapping(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", torch.tensor([-3.0, -1.0, 1.0, 3.0]), 16_000)
    assert sf.read(tmp_path / "a.wav", dtype="int16")[0].tolist() == [-32768, -32768, 32767, 32767]


def test_lossy_formats_clip_before_they_encode(tmp_path: Path) -> None:
    audio = 3 * tone(4_000, 16_000)
    save_audio(tmp_path / "loud.ogg", audio, 16_000)
    save_audio(tmp_path / "clipped.ogg", audio.clamp(-1, 1), 16_000)
    assert torch.equal(load_audio(tmp_path / "loud.ogg"), load_audio(tmp_path / "clipped.ogg"))


# ---- Blocks and segments


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus"])
@pytest.mark.parametrize("sample_rate", [None, 44_100])
@pytest.mark.parametrize("block_samples", [97, 4_096, 10**6])
def test_blocks_are_the_file(tmp_path: Path, suffix: str, sample_rate: int | None, block_samples: int) -> None:
    save_audio(tmp_path / f"a{suffix}", pcm_noise(2, 9_001), 16_000)
    blocks = list(iterate_blocks(tmp_path / f"a{suffix}", block_samples, sample_rate))
    assert all(block.dtype == np.float32 and block.shape[1] > 0 for block in blocks)
    whole = load_audio(tmp_path / f"a{suffix}", sample_rate)[0].numpy()
    assert np.array_equal(np.concatenate(blocks, axis=1), whole)
    assert whole.shape[1] == (9_001 if sample_rate is None else math.ceil(9_001 * 44_100 / 16_000))


def test_blocks_come_before_the_file_is_read_to_its_end(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", pcm_noise(1, 100_000), 16_000)
    first = next(iterate_blocks(tmp_path / "a.wav", 1_000))
    assert first.shape == (1, 1_000)


def test_a_block_size_below_one_is_refused(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.wav", pcm_noise(1, 10), 16_000)
    with pytest.raises(AudioError, match=one_line("block_samples", 0)):
        next(iterate_blocks(tmp_path / "a.wav", 0))


# A decoder that starts in the middle of an Opus or MP3 stream has another state than one that started at 0.
@pytest.mark.parametrize(("suffix", "tolerance"), [(".wav", 0.0), (".flac", 0.0), (".opus", 2e-3), (".mp3", 2e-3)])
def test_segments_are_slices(tmp_path: Path, suffix: str, tolerance: float) -> None:
    audio = 0.3 * pcm_noise(2, 60_000) + 0.5 * tone(60_000, 48_000)
    save_audio(tmp_path / f"a{suffix}", audio, 48_000)
    whole = load_audio(tmp_path / f"a{suffix}")[0].numpy()
    for start, num_samples in [(0, 1), (0, 60_000), (1, 500), (31_234, 4_097), (59_000, 1_000), (59_999, 1)]:
        segment = read_segment(tmp_path / f"a{suffix}", start, num_samples)
        assert segment.shape == (2, num_samples)
        assert np.abs(segment - whole[:, start : start + num_samples]).max() <= tolerance


@pytest.mark.parametrize(("start", "num_samples"), [(-1, 5), (0, 0), (0, 101), (96, 5), (200, 5)])
def test_segments_outside_the_file_are_refused(tmp_path: Path, start: int, num_samples: int) -> None:
    save_audio(tmp_path / "a.flac", pcm_noise(1, 100), 16_000)
    with pytest.raises(AudioError, match=one_line("samples", start, start + num_samples, 100)):
        read_segment(tmp_path / "a.flac", start, num_samples)


# ---- Files that can't be used: one line that names the file


def read_all(path: Path) -> None:
    for _ in iterate_blocks(path, 1_000):
        pass


@pytest.mark.parametrize("read", [read_info, load_audio, read_all, lambda path: read_segment(path, 0, 1)])
def test_files_that_are_not_audio_are_refused(tmp_path: Path, read) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("not audio at all " * 50)
    (tmp_path / "text.flac").write_text("not audio at all " * 50)
    (tmp_path / "headerless.raw").write_bytes(bytes(100))
    (tmp_path / "folder.wav").mkdir()
    sf.write(tmp_path / "none.wav", np.zeros((0, 1)), 16_000)
    expected = {
        "missing.wav": "No such file",
        "folder.wav": "Is a directory",
        "empty.wav": "0 bytes",
        "text.wav": "ffmpeg",
        "text.flac": "ffmpeg",
        "headerless.raw": "ffmpeg",
        "none.wav": "no samples",
    }
    for name, fact in expected.items():
        with pytest.raises(AudioError, match=one_line(tmp_path / name, fact)):
            read(tmp_path / name)


ENDIAN = {"rifx": ("WAV", "PCM_16", "BIG"), "dns": ("AU", "PCM_16", "LITTLE")}
LOSSY = {"opus": ("OGG", "OPUS", "FILE"), "ogg": ("OGG", "VORBIS", "FILE")}


@pytest.mark.parametrize("suffix", ["wav", "rifx", "rf64", "aiff", "au", "dns", "w64", "caf", "flac", "ogg", "opus"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    container, subtype, endian = (ENDIAN | LOSSY).get(suffix, (suffix.upper(), "PCM_16", "FILE"))
    sf.write(path, pcm_noise(1, 60_000)[0, 0].numpy(), 48_000, format=container, subtype=subtype, endian=endian)
    whole = path.read_bytes()
    assert load_audio(path).shape == (1, 1, 60_000)
    path.write_bytes(whole[: int(share * len(whole))])
    for sample_rate in (None, 16_000):
        with pytest.raises(AudioError, match=one_line(path, "truncated", "ffmpeg")):
            load_audio(path, sample_rate)


def test_flac_cut_between_two_frames_is_truncated(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.flac", pcm_noise(1, 3 * 4_096), 16_000)
    whole = (tmp_path / "a.flac").read_bytes()
    # STREAMINFO: the last 36 bits of bytes 18 to 26 count the samples. Claim one frame more than there is:
    promised = int.from_bytes(whole[18:26], "big") + 4_096
    (tmp_path / "a.flac").write_bytes(whole[:18] + promised.to_bytes(8, "big") + whole[26:])
    with pytest.raises(AudioError, match=one_line(tmp_path / "a.flac", "truncated")):
        load_audio(tmp_path / "a.flac")
    with pytest.raises(AudioError, match=one_line(tmp_path / "a.flac", "truncated")):
        read_segment(tmp_path / "a.flac", 12_000, 4_000)


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".aiff", ".ogg", ".opus"])
@pytest.mark.parametrize("trailing", [b"TAG" + bytes(125), b"x", b"APETAGEX" + bytes(700)])
def test_bytes_after_the_audio_are_ignored(tmp_path: Path, suffix: str, trailing: bytes) -> None:
    path, copy = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    encoding = {".aiff": ("AIFF", "PCM_16"), **WRITE_FORMATS}[suffix]
    sf.write(path, pcm_noise(1, 9_000)[0, 0].numpy(), 16_000, format=encoding[0], subtype=encoding[1])
    copy.write_bytes(path.read_bytes() + trailing)
    assert read_info(copy) == AudioInfo(16_000, 1, 9_000)
    assert torch.equal(load_audio(copy), load_audio(path))
    assert np.array_equal(read_segment(copy, 8_000, 1_000), read_segment(path, 8_000, 1_000))
    assert sum(block.shape[1] for block in iterate_blocks(copy, 777)) == 9_000


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_streams_in_a_row_are_refused(tmp_path: Path, suffix: str) -> None:
    path, chained = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save_audio(path, tone(30_000, 16_000), 16_000)
    save_audio(chained, tone(9_000, 16_000, 200.0), 16_000)
    first, second = path.read_bytes(), chained.read_bytes()
    chained.write_bytes(first + second)
    for read in (read_info, load_audio, lambda path: read_segment(path, 0, 1)):
        with pytest.raises(AudioError, match=one_line(chained, "several Ogg streams", ".wav")):
            read(chained)
    chained.write_bytes(first + first)  # one number for both streams, which the standard forbids
    with pytest.raises(AudioError, match=one_line(chained, "several Ogg streams", ".wav")):
        load_audio(chained)


@pytest.mark.parametrize("suffix", [".ogg", ".opus"])
def test_every_flipped_bit_of_an_ogg_file_is_found(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    save_audio(path, pcm_noise(1, 60_000), 16_000)
    whole = path.read_bytes()
    pages = [8 * place for place in range(len(whole)) if whole[place : place + 4] == b"OggS"]
    assert len(pages) > 3
    flips = np.random.default_rng(0).integers(8 * len(whole), size=200).tolist()
    for bit in [*range(27 * 8), *pages, *flips]:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(AudioError, match=one_line(path)):
            load_audio(path)


def test_the_checksum_of_an_ogg_page_follows_the_standard() -> None:
    def checksum(page: bytes) -> int:
        """RFC 3533, section 6: polynomial 0x04C11DB7, start 0, high bit first."""
        crc = 0
        for byte in page:
            crc ^= byte << 24
            for _ in range(8):
                crc = (crc << 1 ^ (0x04C11DB7 if crc >> 31 else 0)) & 0xFFFFFFFF
        return crc

    for page in (b"", b"\0", b"\x80\1", b"OggS", bytes(range(256))):
        assert ogg_checksum(page) == checksum(page)


@pytest.mark.parametrize(
    ("suffix", "before_size", "unknown"),
    [("au", b".snd\0\0\0\x18", b"\xff" * 4), ("w64", b"data", b"\xff" * 7 + b"\x7f")],
)
def test_au_and_wave64_headers_of_streams_are_legal(
    tmp_path: Path, suffix: str, before_size: bytes, unknown: bytes
) -> None:
    audio = pcm_noise(1, 5_000)
    path = tmp_path / f"a.{suffix}"
    sf.write(path, audio[0, 0].numpy(), 16_000, "PCM_16", format=suffix.upper())
    content = path.read_bytes()
    place = content.index(before_size) + (16 if suffix == "w64" else 8)  # after the name of the chunk or of the format
    path.write_bytes(content[:place] + unknown + content[place + len(unknown) :])
    assert torch.equal(load_audio(path), audio)


@pytest.mark.parametrize("suffix", ["wav", "rf64", "aiff", "w64", "caf"])
def test_a_chunk_of_the_largest_size_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    sf.write(path, pcm_noise(1, 100)[0, 0].numpy(), 16_000, "PCM_16", format=suffix.upper())
    content = path.read_bytes()
    first = {"w64": 56, "caf": 12}.get(suffix, 16)  # the size of the first chunk
    num_bytes = 8 if suffix in ("w64", "caf") else 4
    path.write_bytes(content[:first] + b"\xff" * num_bytes + content[first + num_bytes :])
    with pytest.raises(AudioError, match=one_line(path)):
        load_audio(path)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no file names of arbitrary bytes")
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_file_names_that_are_no_utf_8(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9" + suffix.encode())
    save_audio(path, pcm_noise(1, 500), 16_000)
    assert load_audio(path).shape == (1, 1, 500)
    assert find_audio_files(tmp_path) == [path]


def test_flac_without_a_length_is_read(tmp_path: Path) -> None:
    audio = pcm_noise(2, 9_000)
    save_audio(tmp_path / "a.flac", audio, 16_000)
    whole = (tmp_path / "a.flac").read_bytes()
    no_length = (int.from_bytes(whole[18:26], "big") >> 36 << 36).to_bytes(8, "big")
    (tmp_path / "a.flac").write_bytes(whole[:18] + no_length + whole[26:])
    assert read_info(tmp_path / "a.flac") == AudioInfo(16_000, 2, 9_000)
    assert torch.equal(load_audio(tmp_path / "a.flac"), audio)
    assert np.array_equal(read_segment(tmp_path / "a.flac", 5_000, 100), audio[0, :, 5_000:5_100].numpy())


@pytest.mark.parametrize(
    ("form_size", "data_size"),
    [(0, 0), (36, 0), (0xFFFFFFFF, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFF024, 0x7FFFF000), (0, 0x80000000)],
)
def test_wav_headers_of_streams_are_legal(tmp_path: Path, form_size: int, data_size: int) -> None:
    audio = pcm_noise(2, 5_000)
    save_audio(tmp_path / "a.wav", audio, 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = struct.pack("<I", form_size), struct.pack("<I", data_size)
    (tmp_path / "a.wav").write_bytes(content)
    assert read_info(tmp_path / "a.wav") == AudioInfo(16_000, 2, 5_000)
    assert torch.equal(load_audio(tmp_path / "a.wav"), audio)
    assert np.array_equal(read_segment(tmp_path / "a.wav", 4_000, 99), audio[0, :, 4_000:4_099].numpy())


def test_wav_with_an_empty_data_chunk_before_others_holds_no_samples(tmp_path: Path) -> None:
    sf.write(tmp_path / "a.wav", np.zeros((0, 1)), 16_000)
    content = (tmp_path / "a.wav").read_bytes() + b"LIST" + struct.pack("<I", 4) + b"INFO"
    (tmp_path / "a.wav").write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])
    with pytest.raises(AudioError, match=one_line(tmp_path / "a.wav", "no samples")):
        read_info(tmp_path / "a.wav")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_and_inf_are_refused_with_their_time(tmp_path: Path, bad: float) -> None:
    samples = np.zeros((32_000, 2), np.float32)
    samples[24_000, 1] = bad
    sf.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=one_line("a.wav", "NaN or Inf", "1.500 s")):
        load_audio(tmp_path / "a.wav")
    with pytest.raises(AudioError, match=one_line("1.500 s")):
        read_segment(tmp_path / "a.wav", 23_999, 10)
    with new_audio_file(tmp_path / "b.wav", 16_000, 2) as writer:
        writer.write(samples[:16_000].T)
        with pytest.raises(AudioError, match=one_line("b.wav", "NaN or Inf", "1.500 s")):
            writer.write(samples[16_000:].T)


# ---- Writing: complete or not at all


def test_existing_files_are_kept_unless_overwrite(tmp_path: Path) -> None:
    first, second = pcm_noise(1, 10, seed=1), pcm_noise(1, 20, seed=2)
    save_audio(tmp_path / "a.wav", first, 16_000)
    with pytest.raises(WriteError, match=one_line(tmp_path / "a.wav", "already there")):
        save_audio(tmp_path / "a.wav", second, 16_000)
    assert torch.equal(load_audio(tmp_path / "a.wav"), first)
    save_audio(tmp_path / "a.wav", second, 16_000, overwrite=True)
    assert torch.equal(load_audio(tmp_path / "a.wav"), second)


def test_a_file_that_appears_while_writing_is_kept(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match="already there"),
        new_audio_file(tmp_path / "a.wav", 16_000, 1) as writer,
    ):
        writer.write(pcm_noise(1, 10)[0].numpy())
        (tmp_path / "a.wav").write_text("theirs")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["theirs"]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    save_audio(tmp_path / "old.wav", pcm_noise(1, 10), 16_000)
    before = (tmp_path / "old.wav").read_bytes()
    with (
        pytest.raises(KeyboardInterrupt),
        new_audio_file(tmp_path / "old.wav", 16_000, 1, overwrite=True) as writer,
    ):
        writer.write(pcm_noise(1, 50)[0].numpy())
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == [tmp_path / "old.wav"]
    assert (tmp_path / "old.wav").read_bytes() == before


def test_the_name_appears_only_when_the_file_is_complete(tmp_path: Path) -> None:
    with new_audio_file(tmp_path / "deep" / "er" / "a.flac", 16_000, 1) as writer:
        writer.write(pcm_noise(1, 50)[0].numpy())
        assert not (tmp_path / "deep" / "er" / "a.flac").exists()
    assert list((tmp_path / "deep" / "er").iterdir()) == [tmp_path / "deep" / "er" / "a.flac"]


def test_written_files_have_ordinary_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    save_audio(tmp_path / "a.wav", pcm_noise(1, 10), 16_000)
    assert (tmp_path / "a.wav").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_full_disk_is_one_line(tmp_path: Path, suffix: str) -> None:
    # A limit on the size of files makes write(2) fail as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(WriteError, match=one_line(tmp_path / f"a{suffix}", "disk full")):
            save_audio(tmp_path / f"a{suffix}", pcm_noise(2, 200_000), 48_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert list(tmp_path.iterdir()) == []


def test_samples_lost_by_an_encoder_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = sf.SoundFile.write
    monkeypatch.setattr(sf.SoundFile, "write", lambda file, samples: write(file, samples[:-3]))
    with pytest.raises(WriteError, match=one_line(tmp_path / "a.wav", "97 samples", 100)):
        save_audio(tmp_path / "a.wav", pcm_noise(1, 100), 16_000)
    assert list(tmp_path.iterdir()) == []


def test_writing_what_the_format_does_not_support_is_refused(tmp_path: Path) -> None:
    cases = {"a.xyz": ".wav .flac .ogg .opus .mp3", "a.opus": "44100 Hz", "a.mp3": "5 channels"}
    for name, fact in cases.items():
        with pytest.raises(WriteError, match=one_line(name, fact)):
            save_audio(tmp_path / name, pcm_noise(5, 100), 44_100)
    with pytest.raises(AudioError, match="no samples"):
        save_audio(tmp_path / "a.wav", torch.zeros(1, 1, 0), 16_000)
    with pytest.raises(WriteError, match=one_line("folder.wav", "folder")):
        (tmp_path / "folder.wav").mkdir()
        save_audio(tmp_path / "folder.wav", pcm_noise(1, 5), 16_000, overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=one_line("file/a.wav", "Not a directory")):
        save_audio(tmp_path / "file" / "a.wav", pcm_noise(1, 5), 16_000)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.wav"]


def test_blocks_of_another_shape_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(AudioError, match=r"expected \[2, n\]"),
        new_audio_file(tmp_path / "a.wav", 16_000, 2) as writer,
    ):
        writer.write(np.zeros((3, 10), np.float32))


def test_long_vorbis_writes_do_not_overflow_the_stack(tmp_path: Path) -> None:
    save_audio(tmp_path / "a.ogg", tone(3_000_000, 8_000), 8_000)
    assert read_info(tmp_path / "a.ogg").num_samples == 3_000_000


# ---- Folders


def test_find_audio_files(tmp_path: Path) -> None:
    for name in ["b.wav", "a/z.FLAC", "a/y.opus", "notes.txt", ".hidden.wav", ".git/x.wav", "a/._mac.wav"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.wav").mkdir()
    assert find_audio_files(tmp_path) == [tmp_path / name for name in ["a/y.opus", "a/z.FLAC", "b.wav"]]


def test_find_audio_files_searches_a_hidden_folder_given_by_name(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.wav").touch()
    assert find_audio_files(tmp_path / ".cache") == [tmp_path / ".cache" / "a.wav"]


def test_a_folder_without_audio_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=one_line(tmp_path, ".wav", ".flac")):
        find_audio_files(tmp_path)
    with pytest.raises(AudioError, match=one_line(tmp_path / "missing", "folder")):
        find_audio_files(tmp_path / "missing")


# ---- The clips of this repository


def test_the_clips_agree_with_their_manifest() -> None:
    header, *lines = (CLIPS / "MANIFEST.tsv").read_text().splitlines()
    assert header.split("\t") == ["path", "split", "kind", "speaker", "sample_rate", "seconds"]
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    assert sorted(row["path"] for row in rows) == [path.name for path in find_audio_files(CLIPS)]
    for row in rows:
        audio = load_audio(CLIPS / row["path"])
        assert read_info(CLIPS / row["path"]).sample_rate == int(row["sample_rate"])
        assert audio.shape[-1] / int(row["sample_rate"]) == pytest.approx(float(row["seconds"]), abs=1e-3)
        assert audio.abs().max().item() == pytest.approx(10 ** (-3 / 20), abs=1e-3)
    speakers = {
        split: {row["speaker"] for row in rows if (row["split"], row["kind"]) == (split, "speech")}
        for split in ("train", "valid")
    }
    assert len(speakers["valid"]) == 2
    assert not speakers["train"] & speakers["valid"]
