import io
import json
import math
import wave

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from codec.train.tracking import HistoryTracker, TensorboardTracker, spectrogram_figure


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "audio": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def points(accumulator, name):
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def tone(num_samples=8000):
    return 0.5 * torch.sin(torch.arange(num_samples) * 2 * math.pi * 1000 / 16_000)


# ---- Tensorboard


def test_tensorboard_has_scalars_audio_and_image(tmp_path):
    tracker = TensorboardTracker(tmp_path)
    tracker.scalars({"loss/total": 0.5, "loss/mel": 2.0}, 3)
    tracker.scalars({"loss/total": 0.25}, 4)
    tracker.audio("sample_0/decoded", 2.5 * tone(), 16_000, 4)
    tracker.figure("sample_0", spectrogram_figure(tone(), 0.1 * tone(), 16_000), 4)
    tracker.close()
    recorded = events(tmp_path)
    assert points(recorded, "loss/total") == [(3, 0.5), (4, 0.25)]
    assert points(recorded, "loss/mel") == [(3, 2.0)]
    (audio,) = recorded.Audio("sample_0/decoded")
    assert audio.step == 4
    with wave.open(io.BytesIO(audio.encoded_audio_string)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getnframes()) == (16_000, 1, 8000)
        samples = np.frombuffer(file.readframes(8000), np.int16)
    assert samples.max() == 32767  # clamped, not wrapped around
    assert np.abs(samples / 32767 - (2.5 * tone()).clamp(-1, 1).numpy()).max() < 1e-3
    (image,) = recorded.Images("sample_0")
    assert image.step == 4 and image.encoded_image_string.startswith(b"\x89PNG")
    assert (image.width, image.height) == (1000, 600)


def test_a_resumed_run_replaces_later_steps_in_tensorboard(tmp_path, monkeypatch):
    # Files are read in the order of their names: second, then this counter, whose 10 would come before its 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    for last_step, value in ((0, 1.0), (3, 2.0), (0, 3.0)):
        tracker = TensorboardTracker(tmp_path, last_step)
        for step in range(last_step + 1, last_step + 6):
            tracker.scalars({"loss": value}, step)
        tracker.close()
        if value == 2.0:
            expected = [(step, 1.0 if step <= 3 else 2.0) for step in range(1, 9)]
            assert points(events(tmp_path), "loss") == expected
    assert points(events(tmp_path), "loss") == [(step, 3.0) for step in range(1, 6)]  # it never saved, and began anew


# ---- History


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_history_is_a_line_of_json_a_report(tmp_path):
    tracker = HistoryTracker(tmp_path / "history.jsonl")
    tracker.scalars({"loss": 0.1, "rate": 1e-5}, 1)
    assert lines(tmp_path / "history.jsonl") == [{"step": 1, "loss": 0.1, "rate": 1e-5}]  # without close
    tracker.scalars({"loss": math.nan, "norm": math.inf, "low": -math.inf}, 2)
    tracker.audio("a", tone(), 16_000, 2)
    tracker.figure("f", Figure(), 2)
    tracker.close()
    assert lines(tmp_path / "history.jsonl")[1:] == [{"step": 2, "loss": None, "norm": None, "low": None}]


@pytest.mark.parametrize("torn", ["", '{"step": 9, "lo', "\x00\x00", "[1]", "{}", '{"step": null}'])
def test_a_resumed_run_goes_on_after_its_last_step(tmp_path, torn):
    path = tmp_path / "history.jsonl"
    tracker = HistoryTracker(path)
    for step in (1, 2, 2, 3, 4):
        tracker.scalars({"loss": 0.5}, step)
    tracker.close()
    with path.open("a", encoding="utf-8") as file:
        file.write(torn)
    tracker = HistoryTracker(path, last_step=2)
    assert [line["step"] for line in lines(path)] == [1, 2, 2]
    tracker.scalars({"loss": 0.25}, 3)
    tracker.close()
    assert [(line["step"], line["loss"]) for line in lines(path)] == [(1, 0.5), (2, 0.5), (2, 0.5), (3, 0.25)]
    HistoryTracker(path).close()
    assert lines(path) == []


def test_a_crash_while_history_is_cut_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "history.jsonl"
    tracker = HistoryTracker(path)
    tracker.scalars({"loss": 0.5}, 1)
    tracker.close()

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        HistoryTracker(path, last_step=1)
    assert lines(path) == [{"step": 1, "loss": 0.5}]


# ---- Pictures


def test_spectrogram_figure_shows_both_on_one_scale():
    figure = spectrogram_figure(tone(), 0.01 * tone(), 16_000)
    original, decoded = figure.axes
    assert (original.get_title(), decoded.get_title()) == ("original", "decoded")
    pictures = [axis.get_images()[0] for axis in (original, decoded)]
    assert pictures[0].get_clim() == pictures[1].get_clim()
    levels = [np.asarray(picture.get_array())[::-1] for picture in pictures]  # rows from 0 Hz up
    for level in levels:
        assert abs(int(level.mean(axis=1).argmax()) - 32) <= 1  # 1000 Hz of 16 kHz / 512
    assert levels[0].max() - levels[1].max() == pytest.approx(40, abs=0.5)  # dB


@pytest.mark.parametrize("num_samples", [600, 8000])
def test_silence_can_be_drawn(num_samples):
    figure = spectrogram_figure(torch.zeros(num_samples), torch.zeros(num_samples), 16_000)
    for axis in figure.axes:
        assert np.isfinite(np.asarray(axis.get_images()[0].get_array())).all()
