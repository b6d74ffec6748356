import math

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from tiny_runs import RATE, buzz, write_clips
from torch.utils.data import DataLoader

from codec.audio.file import load_audio
from codec.audio.manifest import Item, list_items
from codec.config import shipped
from codec.errors import AudioError, ConfigError
from codec.recipe import DataConfig
from codec.train.data.batches import Skips, batches
from codec.train.data.files import find_audio, with_seconds
from codec.train.data.segments import Batch, Segments, data_root

SEGMENT = 1600


def segments(folder, **changes):
    facts = {"sample_rate": RATE, "segment_samples": SEGMENT, "gain_db": (-12.0, 3.0), "seed": (0, 0)} | changes
    return Segments(with_seconds(list_items(folder, ".", split="train")), **facts)


def drawn_from(items, number, seed=0):
    """How often each item is drawn: uses of the files that `number` segments read, without reading them."""
    drawn = Segments(items, sample_rate=RATE, segment_samples=SEGMENT, gain_db=(0.0, 0.0), seed=(seed,))
    paths = []
    drawn._read = lambda draw: paths.append(drawn.paths[draw.file]) or np.zeros((1, 10), np.float32)
    for index in range(number):
        drawn[index]
    return [paths.count(item.path) for item in items]


# ---- Segments


def test_a_segment_depends_on_seed_and_index_alone(clips):
    first, second = segments(clips), segments(clips)
    for index in (0, 7, 3, 10**12):
        audio, length, number = first[index]
        again = second[index]
        assert torch.equal(audio, again[0]) and (length, number) == again[1:]
        assert number == index
        assert torch.equal(audio, first[index][0])
        assert not torch.equal(audio, segments(clips, seed=(1, 0))[index][0])
        assert torch.equal(segments(clips, seed=(1, 0))[index][0], first.reseeded(1, 0)[index][0])


def test_segments_are_the_same_in_another_process(clips):
    here = segments(clips)
    for workers in (1, 2):
        for index, item in enumerate(DataLoader(here, batch_size=None, sampler=range(5), num_workers=workers)):
            assert torch.equal(item[0], here[index][0])


def test_segments_of_different_numbers_differ(clips):
    drawn = segments(clips)
    indices = [*range(40), 1000, 2**16, 2**31, 2**32, 2**33 + 1]
    audio = torch.stack([drawn[index].audio for index in indices])
    assert len(torch.unique(audio.flatten(1), dim=0)) == len(indices)


def test_segments_are_excerpts_of_the_files(clips):
    files = [load_audio(path)[0, 0].numpy() for path in sorted(clips.iterdir())]
    drawn = segments(clips, gain_db=(0.0, 0.0))
    starts = set()
    for index in range(30):
        audio, length, _ = drawn[index]
        part = audio[0, :length].numpy()
        places = [
            (number, start)
            for number, file in enumerate(files)
            for start in range(len(file) - length + 1)
            if file[start] == part[0] and np.array_equal(file[start : start + length], part)
        ]
        assert len(places) == 1
        starts |= set(places)
    assert len(starts) > 15


def test_first_and_last_sample_of_a_file_are_reached(tmp_path):
    sf.write(tmp_path / "ramp.wav", np.arange(5) / 8, RATE, "FLOAT")
    drawn = segments(tmp_path, segment_samples=3, gain_db=(0.0, 0.0))
    assert {float(drawn[index][0][0, 0]) * 8 for index in range(60)} == {0, 1, 2}


def test_speakers_are_drawn_by_the_square_root_of_their_seconds():
    items = [
        Item("a0", "a", 90.0),
        Item("a1", "a", 10.0),
        Item("b0", "b", 25.0),
        Item("c0", "c", 1.0),
        Item("c1", "c", 3.0),
    ]
    number = 4000
    counts = drawn_from(items, number)
    shares = {"a": 10.0, "b": 5.0, "c": 2.0}
    expected = [shares[item.speaker] / 17 * item.seconds / {"a": 100, "b": 25, "c": 4}[item.speaker] for item in items]
    for count, probability in zip(counts, expected, strict=True):
        assert abs(count - number * probability) < 4 * math.sqrt(number * probability * (1 - probability))


def test_without_speakers_files_are_drawn_by_their_duration():
    items = [Item("a", "", 90.0), Item("b", "", 10.0)]
    assert abs(drawn_from(items, 4000)[1] - 400) < 4 * math.sqrt(360)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 48_000])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_files_of_any_rate_and_channels_become_mono_at_the_model_rate(tmp_path, rate, num_channels):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    sf.write(tmp_path / "tone.wav", np.stack([tone, 0.5 * tone][:num_channels], axis=1), rate, "FLOAT")
    drawn = segments(tmp_path, gain_db=(0.0, 0.0))
    for index in range(3):
        audio, length, _ = drawn[index]
        assert audio.shape == (1, SEGMENT) and audio.dtype == torch.float32
        assert length == SEGMENT
        spectrum = torch.fft.rfft(audio[0, 200:-200] * torch.hann_window(1200))
        assert abs(int(spectrum.abs().argmax()) - 440 * 1200 / RATE) < 1
        peak = 0.5 if num_channels == 1 else 0.375
        assert audio[0, 200:-200].abs().max() == pytest.approx(peak, rel=0.02)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100])
@pytest.mark.parametrize("segment_samples", [1600, 1601, 1603])
def test_a_segment_of_a_long_file_is_whole_at_any_rate(tmp_path, rate, segment_samples):
    """Its samples at the rate of the file are rounded up."""
    sf.write(tmp_path / "long.wav", np.full(rate, 0.5), rate, "FLOAT")
    audio, length, _ = segments(tmp_path, segment_samples=segment_samples)[0]
    assert length == audio.shape[-1] == segment_samples


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
def test_a_short_file_is_followed_by_zeros(tmp_path, rate):
    sf.write(tmp_path / "short.wav", 0.1 + 0 * buzz(0.05, 200, rate), rate, "FLOAT")
    audio, length, _ = segments(tmp_path)[0]
    assert audio.shape == (1, SEGMENT) and length == 800
    assert not audio[0, 800:].any()
    assert audio[0, 50:750].all()


def test_gain_stays_in_its_range(tmp_path):
    sf.write(tmp_path / "quiet.wav", np.full(4000, 0.01), RATE, "FLOAT")
    drawn = segments(tmp_path)
    gains = np.array([20 * math.log10(float(drawn[index][0].max()) / 0.01) for index in range(200)])
    assert gains.min() >= -12.001 and gains.max() <= 3.001
    assert gains.min() < -11 and gains.max() > 2
    assert abs(gains.mean() + 4.5) < 4 * 15 / math.sqrt(12 * 200)


def test_gain_never_clips(tmp_path):
    for number, peak in enumerate((0.3, 0.999, 1.0, 1.7, 37.1)):  # float files may hold more than full scale
        sf.write(tmp_path / f"{number}.wav", peak * np.sin(np.arange(4000)), RATE, "FLOAT")
    drawn = segments(tmp_path, gain_db=(20.0, 30.0))
    peaks = [float(drawn[index][0].abs().max()) for index in range(50)]
    assert max(peaks) <= 1.0
    assert min(peaks) > 0.999


def test_silence_stays_silence(tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(4000), RATE, "FLOAT")
    assert not segments(tmp_path, gain_db=(20.0, 30.0))[0][0].any()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_with_nan_is_named(tmp_path, value, num_workers):
    sf.write(tmp_path / "bad.wav", np.full(4000, value), RATE, "FLOAT")
    loader = batches(segments(tmp_path), first_step=0, last_step=1, batch_size=2, num_workers=num_workers)
    with pytest.raises(AudioError, match=one_line(tmp_path / "bad.wav")):
        next(loader)


# ---- Lists of files


def test_durations_are_read_where_the_manifest_has_none(clips, tmp_path):
    rows = ["path", *map(str, sorted(clips.iterdir()))]
    (tmp_path / "MANIFEST.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    items = with_seconds(list_items(tmp_path, "MANIFEST.tsv", split="train"))
    drawn = Segments(items, sample_rate=RATE, segment_samples=SEGMENT, gain_db=(0.0, 0.0), seed=(0,))
    seconds = np.array([0.3, 0.2, 0.09, 0.08, 0.07, 0.06])
    assert np.diff(drawn.cumulative, prepend=0) == pytest.approx(seconds / seconds.sum())


def bad_lists(folder, num_files):
    """A manifest of good and bad files of two splits; returns the data section of a recipe and the bad files."""
    sf.write(folder / "good.wav", buzz(0.2, 200), RATE)
    bad = [folder / f"bad_{number:02}.wav" for number in range(num_files)]
    for path in bad[1:]:
        path.write_bytes(b"")  # the first one is missing
    rows = ["path\tsplit\tseconds", "good.wav\ttrain\t0.2", "good.wav\tvalid\t"]
    rows += [f"{path.name}\t{('train', 'valid')[number % 2]}\t0.2" for number, path in enumerate(bad)]
    (folder / "m.tsv").write_text("\n".join(rows) + "\n")
    return DataConfig(root=folder, train="m.tsv", valid="m.tsv"), bad


def test_bad_files_of_both_lists_are_named_at_once(tmp_path):
    config, bad = bad_lists(tmp_path, 4)
    names = [bad[0], "No such file", bad[2], "0 bytes", bad[1], bad[3]]
    with pytest.raises(AudioError, match=one_line(4, *names)):
        find_audio(config)


def test_of_many_bad_files_ten_are_named_and_the_others_counted(tmp_path):
    config, bad = bad_lists(tmp_path, 25)
    with pytest.raises(AudioError, match=one_line(25, *bad[:20:2], "15 others")) as caught:
        find_audio(config)
    assert str(caught.value).count(".wav") == 10


def test_one_bad_file_keeps_its_remedy(tmp_path):
    config, bad = bad_lists(tmp_path, 2)
    bad[0].write_bytes((tmp_path / "good.wav").read_bytes())
    with pytest.raises(AudioError, match=one_line(bad[1], "0 bytes", "get it again")):
        find_audio(config)


def test_files_of_both_lists_have_their_seconds(tmp_path):
    config, _ = bad_lists(tmp_path, 0)
    assert find_audio(config) == ([Item(tmp_path / "good.wav", "", 0.2)], [Item(tmp_path / "good.wav", "", 0.2)])
    assert find_audio(DataConfig(root=tmp_path, train="m.tsv")).valid == []


def test_the_data_root_expands_shipped_folders_and_the_home_folder():
    assert data_root(DataConfig(root="shipped:clips")) == shipped("clips")
    assert data_root(DataConfig(root="~/x")).is_absolute()
    assert str(data_root(DataConfig())) == "."


# ---- Batches


def collected(drawn, first_step, last_step, **options):
    found = list(batches(drawn, first_step=first_step, last_step=last_step, batch_size=6, **options))
    assert len(found) == last_step - first_step
    return found


def assert_same(batch, other):
    for part, expected in zip(batch, other, strict=True):
        assert torch.equal(part, expected)


def test_batches_hold_consecutive_items(clips):
    drawn = segments(clips)
    for step, batch in enumerate(collected(drawn, 0, 3)):
        assert batch.audio.shape == (6, 1, SEGMENT)
        assert batch.number.tolist() == list(range(6 * step, 6 * step + 6))
        for row, number in enumerate(batch.number.tolist()):
            audio, length, _ = drawn[number]
            assert torch.equal(batch.audio[row], audio) and batch.lengths[row] == length


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_ranks_share_the_batch_of_one_process(clips, world_size):
    drawn = segments(clips)
    ranks = [collected(drawn, 1, 4, rank=rank, world_size=world_size) for rank in range(world_size)]
    for whole, *parts in zip(collected(drawn, 1, 4), *ranks, strict=True):
        assert {len(part.audio) for part in parts} == {6 // world_size}
        assert_same(whole, Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True))))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_that_starts_later_sees_the_same_batches(clips, num_workers):
    drawn = segments(clips)
    whole = collected(drawn, 0, 5)
    tail = collected(drawn, 3, 5, num_workers=num_workers)
    for batch, expected in zip(tail, whole[3:], strict=True):
        assert_same(batch, expected)


def test_a_batch_that_cannot_be_shared_is_refused(clips):
    with pytest.raises(ConfigError, match=one_line("batch_size", 6, "processes", 4)):
        batches(segments(clips), first_step=0, last_step=1, batch_size=6, world_size=4)


# ---- Files that go bad


def spoiled(folder, seconds, num_bad):
    """Segments of files, the first ones of which were lost after they were listed."""
    write_clips(folder, seconds)
    drawn = segments(folder)
    for path in drawn.paths[:num_bad]:
        path.unlink()
    return drawn


@pytest.mark.filterwarnings("ignore:skipped in training")
def test_a_draw_of_a_lost_file_is_replaced_by_another_of_the_same_number(tmp_path):
    drawn = spoiled(tmp_path / "clips", [0.1, 0.4, 0.4], 1)
    skips = Skips()
    found = collected(drawn, 0, 5, skips=skips)
    lost = [number for number in range(30) if drawn.draw(number).file == 0]
    assert 0 < len(lost) <= skips.num_skipped <= 10 and skips.num_drawn == 30
    for batch in found:
        for audio, number in zip(batch.audio, batch.number.tolist(), strict=True):
            if number not in lost:
                assert torch.equal(audio, drawn[number].audio)
    replaced = [
        audio for batch in found for audio, n in zip(batch.audio, batch.number.tolist(), strict=True) if n in lost
    ]
    assert len(torch.unique(torch.stack(replaced).flatten(1), dim=0)) == len(lost)
    for first, options in ((3, {"num_workers": 2}), (0, {}), (2, {})):  # other processes, a run that is resumed
        for batch, expected in zip(collected(drawn, first, 5, **options), found[first:], strict=True):
            assert_same(batch, expected)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_lost_file_is_named_once(tmp_path, num_workers):
    drawn = spoiled(tmp_path / "clips", [0.1, 0.4, 0.4], 1)
    skips = Skips()
    with pytest.warns(UserWarning, match=one_line("skipped", drawn.paths[0])) as caught:
        collected(drawn, 0, 5, skips=skips, num_workers=num_workers)
    assert len(caught) == 1 and skips.num_skipped > 1


@pytest.mark.filterwarnings("ignore:skipped in training")
def test_many_lost_files_end_the_run(tmp_path):
    drawn = spoiled(tmp_path / "clips", [0.4, 0.4, 0.4, 0.4], 2)
    with pytest.raises(AudioError, match=one_line(11, "draws", 2)) as caught:
        collected(drawn, 0, 99)
    assert all(str(path) in str(caught.value) for path in drawn.paths[:2])


@pytest.mark.filterwarnings("ignore:skipped in training")
@pytest.mark.parametrize(("num_drawn", "allowed"), [(1, 10), (1000, 10), (5000, 50)])
def test_ten_draws_or_one_percent_may_be_skipped(num_drawn, allowed):
    skips, error = Skips(), AudioError("a.wav is empty")
    skips.add(num_drawn, [("a.wav", error)] * allowed)
    with pytest.raises(AudioError, match=one_line(allowed + 1, num_drawn, "a.wav")):
        skips.add(0, [("a.wav", error)])
