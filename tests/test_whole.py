"""Codecs that take recordings as a whole: files, batches, damage and what is too long."""

import dataclasses

import numpy as np
import pytest
import soundfile as sf
import torch
from foreign_codec import ForeignCodec
from messages import one_line
from models import noise

import codec.inference.whole
from codec.bitstream import Bitstream
from codec.errors import AudioError, BitstreamError, ConfigError
from codec.inference.batching import Recording, compress_batch
from codec.inference.compression import BLOCK_S, compress, compress_file, compress_source, read_bitstream
from codec.inference.decompression import decompress, decompress_file
from codec.inference.modes import speed_up

LONG = round(2.5 * BLOCK_S * 8000) + 3  # three blocks


def test_audio_of_several_blocks_is_coded_as_a_whole():
    model, audio = ForeignCodec(), noise(1, 2, LONG)
    bitstream = compress(model, audio, num_quantizers=2)
    assert model.calls == [(2, 1, LONG)]
    assert np.array_equal(bitstream.codes, model.encode(audio[0, :, None]).numpy())
    decoded = decompress(model, Bitstream.from_bytes(bitstream.to_bytes()))
    assert torch.equal(decoded[0, :, None], model.decode(torch.from_numpy(bitstream.codes), LONG))


@pytest.mark.parametrize("num_samples", [1, 7, 80, LONG])
def test_a_file_keeps_its_rate_channels_and_length(num_samples, tmp_path):
    model = ForeignCodec()
    sf.write(tmp_path / "in.wav", noise(num_samples, 2).numpy(), 11_025)
    header = compress_file(model, tmp_path / "in.wav", tmp_path / "in.codec")
    assert (header.sample_rate, header.num_channels, header.num_samples) == (11_025, 2, num_samples)
    assert (header.model_id, header.hop_length, header.codebook_size) == (model.identity, 10, 16)
    codes = compress_source(model, tmp_path / "in.wav").codes
    assert np.array_equal(read_bitstream(tmp_path / "in.codec", model).codes, codes)
    decompress_file(model, tmp_path / "in.codec", tmp_path / "out.wav")
    info = sf.info(tmp_path / "out.wav")
    assert (info.samplerate, info.channels, info.frames) == (11_025, 2, num_samples)


def test_a_batch_gives_what_each_recording_gives():
    model = ForeignCodec()
    audios = [noise(1, 95), noise(2, 200, seed=1), noise(1, 93, seed=2)]
    bitstreams = compress_batch(model, [Recording(audio, 8000, audio.shape[1]) for audio in audios])
    assert model.calls == [(len(audio), 1, audio.shape[1]) for audio in audios]
    for audio, bitstream in zip(audios, bitstreams, strict=True):
        assert np.array_equal(bitstream.codes, compress(model, audio[None]).codes)


def test_lost_frames_are_silent():
    model = ForeignCodec()
    bitstream = compress(model, noise(1, 1, 100) + 0.5)
    codes = bitstream.codes.copy()
    codes[:, :, 2:4] = 0
    damaged = dataclasses.replace(bitstream, codes=codes, lost=((2, 4),))
    whole, decoded = decompress(model, bitstream), decompress(model, damaged)
    assert (decoded[..., 20:40] == 0).all()
    for part in (slice(0, 20), slice(40, 100)):
        assert torch.equal(decoded[..., part], whole[..., part])


def test_lost_frames_of_a_model_with_a_tail():
    """Its frames cover a sample more than the audio, so the audio of a frame starts a sample earlier."""
    model = ForeignCodec()
    model.delay = 1
    pieces = [(torch.full((1, 1, 2), 15), False), (torch.zeros(1, 1, 1, dtype=torch.int64), True)]
    decoded = codec.inference.whole.decode_whole(model, pieces, 29)
    assert (decoded[..., :19] == 1).all() and (decoded[..., 19:] == 0).all()


def test_a_part_is_a_slice_of_the_whole(tmp_path):
    model = ForeignCodec()
    bitstream = compress(model, noise(1, 2, LONG))
    part = decompress(model, bitstream, start=12.5, duration=0.101)
    assert torch.equal(part, decompress(model, bitstream)[..., 100_000:100_808])
    sf.write(tmp_path / "in.wav", noise(LONG, 1).numpy(), 8000)
    compress_file(model, tmp_path / "in.wav", tmp_path / "in.codec")
    decompress_file(model, tmp_path / "in.codec", tmp_path / "whole.wav", num_quantizers=1)
    decompress_file(model, tmp_path / "in.codec", tmp_path / "part.wav", start=12.5, duration=0.101)
    whole, part = sf.read(tmp_path / "whole.wav")[0], sf.read(tmp_path / "part.wav")[0]
    assert np.array_equal(part, whole[100_000:100_808])


def test_what_is_too_long_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(codec.inference.whole, "MAX_WHOLE_S", 20.0)
    model = ForeignCodec()
    long_enough = compress(model, noise(1, 2, 80_000))
    with pytest.raises(AudioError, match=one_line("20 s", "all channels together", "cut it")):
        compress(model, noise(1, 2, 80_001))
    sf.write(tmp_path / "in.wav", noise(80_001, 2).numpy(), 8000)
    with pytest.raises(AudioError, match=one_line("20 s")):
        compress_file(model, tmp_path / "in.wav", tmp_path / "in.codec")
    assert not (tmp_path / "in.codec").exists()
    monkeypatch.setattr(codec.inference.whole, "MAX_WHOLE_S", 19.9)
    with pytest.raises(BitstreamError, match=one_line("19.9 s", "as a whole")):
        decompress(model, long_enough)


def test_it_has_no_fast_mode():
    model = ForeignCodec()
    assert speed_up(model, "float32") is model
    for mode in ("bf16", "onnx"):
        with pytest.raises(ConfigError, match=one_line("float32", "mode")):
            speed_up(model, mode)
