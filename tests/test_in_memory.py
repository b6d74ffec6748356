"""Audio kept in memory gives the same batches as reading the files; exactly so for 16 bits at the model's rate."""

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from tiny_runs import RATE, buzz, history, start, tiny_recipe, write_clips

import codec.train.data.in_memory as in_memory_module
from codec.audio.file import save_audio
from codec.audio.manifest import list_items
from codec.errors import AudioError, ConfigError
from codec.train.data.files import with_seconds
from codec.train.data.in_memory import AudioInMemory
from codec.train.data.segments import Batch, Segments
from codec.train.data.source import AudioSource

CPU = torch.device("cpu")
SEGMENT = 1600


def write(folder, subtype="PCM_16", rate=RATE, peaks=(0.3, 0.9, 0.5), suffix="wav", **options):
    folder.mkdir(exist_ok=True)
    for number, (peak, seconds) in enumerate(zip(peaks, (0.9, 0.3, 0.08), strict=True)):
        audio = buzz(seconds, 110 + 40 * number, rate)
        sf.write(folder / f"{number}.{suffix}", audio * (peak / np.abs(audio).max()), rate, subtype, **options)
    return folder


def sources(folder, **changes):
    facts = {"sample_rate": RATE, "segment_samples": SEGMENT, "gain_db": (-12.0, 3.0), "seed": (0, 0)} | changes
    segments = Segments(with_seconds(list_items(folder, ".", split="train")), **facts)
    return AudioSource(segments, num_workers=0, seed=0), AudioInMemory(segments, device=CPU, seed=0)


def pairs(folder, steps=20, **changes):
    files, memory = sources(folder, **changes)
    options = {"first_step": 3, "last_step": 3 + steps, "batch_size": 6}
    found = list(zip(files.batches(**options), memory.batches(**options), strict=True))
    assert len(found) == steps
    return found


def assert_same(batch, other):
    for part, expected in zip(batch, other, strict=True):
        assert part.dtype == expected.dtype and torch.equal(part, expected)


def test_files_of_16_bits_give_equal_batches(tmp_path):
    for batch, expected in pairs(write(tmp_path / "clips")):
        assert_same(batch, expected)


def test_float_files_differ_by_a_rounding_step_of_their_peak(tmp_path):
    folder = write(tmp_path / "clips", "FLOAT", peaks=(0.3, 3.7, 1.0))  # float files may hold more than full scale
    largest = 0.0
    for batch, expected in pairs(folder, gain_db=(0.0, 0.0)):
        assert torch.equal(batch.lengths, expected.lengths)
        largest = max(largest, float((batch.audio - expected.audio).abs().max()))
    assert 0 < largest <= 3.7 * 0.51 / 32768  # half a step of the loudest file


@pytest.mark.parametrize("rate", [8_000, 24_000, 48_000])
def test_another_rate_moves_a_segment_by_half_a_sample_at_most(tmp_path, rate):
    (tmp_path / "clips").mkdir()
    time = np.arange(rate) / rate
    sf.write(tmp_path / "clips/tone.wav", 0.5 * np.sin(2 * np.pi * 100 * time), rate, "FLOAT")
    inside = slice(300, -300)  # the resampler sees other edges
    for batch, expected in pairs(tmp_path / "clips", gain_db=(0.0, 0.0)):
        assert torch.equal(batch.lengths, expected.lengths) and torch.equal(batch.number, expected.number)
        difference = (batch.audio - expected.audio)[..., inside].abs().max()
        assert difference <= 0.5 * 2 * np.pi * 100 * 0.51 / RATE + 1e-3


def test_opus_differs_by_where_its_decoder_starts(tmp_path):
    folder = write(tmp_path / "clips", "OPUS", suffix="ogg", format="OGG")
    for batch, expected in pairs(folder, gain_db=(0.0, 0.0)):
        assert (batch.audio - expected.audio).abs().max() < 5e-3


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches(tmp_path, world_size):
    files, memory = sources(write(tmp_path / "clips"))
    for rank in range(world_size):
        options = {"batch_size": 6, "rank": rank, "world_size": world_size}
        for batch, expected in zip(
            files.batches(first_step=1, last_step=4, **options),
            memory.batches(first_step=1, last_step=4, **options),
            strict=True,
        ):
            assert_same(batch, expected)
        for batch, expected in zip(
            files.initial_batches(2, **options), memory.initial_batches(2, **options), strict=True
        ):
            assert_same(batch, expected)


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    _, memory = sources(write(tmp_path / "clips"))
    with pytest.raises(ConfigError, match=one_line("batch_size", 6, "processes", 4)):
        memory.batches(first_step=0, last_step=1, batch_size=6, world_size=4)


def test_a_run_from_memory_is_the_run_from_files(tmp_path):
    clips = write(tmp_path / "clips")
    for name, in_memory in (("files", False), ("memory", True)):
        start(tiny_recipe(clips, data__in_memory=in_memory, train__steps=4), tmp_path / name).fit()
    assert history(tmp_path / "files") == history(tmp_path / "memory")


def test_audio_larger_than_the_memory_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(in_memory_module, "free_bytes", lambda: 1000.0)
    monkeypatch.setattr(in_memory_module, "load_audio", lambda *_: pytest.fail("was read"))
    with pytest.raises(ConfigError, match=one_line("data.in_memory", "0 MiB", "main memory", "0 MiB")):
        sources(write(tmp_path / "clips"))


def test_damaged_files_are_named_at_once(tmp_path):
    clips = write_clips(tmp_path / "clips")
    for name in ("a.wav", "nan.wav"):
        sf.write(clips / name, np.full(3000, np.nan), RATE, "FLOAT")
    with pytest.raises(AudioError, match=one_line(2, clips / "a.wav", "NaN", clips / "nan.wav", "NaN")):
        sources(clips)


def test_an_mp3_shorter_than_its_header_says_is_named(tmp_path):
    path = tmp_path / "a.mp3"
    save_audio(path, torch.from_numpy(buzz(2.0, 200)), RATE)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(AudioError, match=one_line(path, "samples", 32_000, ".flac")):
        sources(tmp_path)


def test_audio_is_on_the_device_and_item_numbers_on_the_host(tmp_path):
    _, memory = sources(write(tmp_path / "clips"))
    batch = next(memory.batches(first_step=0, last_step=1, batch_size=6))
    assert isinstance(batch, Batch) and batch.audio.device == memory.samples.device
    assert batch.number.device == CPU  # they seed random choices, which are made on the host
    assert memory.samples.dtype == torch.int16
