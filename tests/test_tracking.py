import errno
import io
import json
import math
import os
import struct
import subprocess
import sys
import wave
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from audio_cases import tone
from matplotlib.figure import Figure
from messages import one_line
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from codec.errors import ConfigError, WriteError
from codec.train.tracking import HistoryTracker, TensorboardTracker, WandbTracker

TONE = tone(8000, 16_000, hz=1000)[0, 0]


def events(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "audio": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def points(accumulator, name):
    return [(event.step, event.value) for event in accumulator.Scalars(name)]


def pcm(file):
    """Samples of a WAV file of 16 bit and one channel, and its rate."""
    with wave.open(file) as opened:
        assert (opened.getnchannels(), opened.getsampwidth()) == (1, 2)
        return np.frombuffer(opened.readframes(opened.getnframes()), np.int16), opened.getframerate()


# ---- Tensorboard


def test_tensorboard_has_scalars_audio_and_image(tmp_path):
    tracker = TensorboardTracker(tmp_path)
    tracker.scalars({"loss/total": 0.5, "loss/mel": 2.0}, 3)
    tracker.scalars({"loss/total": 0.25}, 4)
    tracker.audio("sample_0/decoded", 2.5 * TONE, 16_000, 4)
    tracker.figure("sample_0", Figure(figsize=(10, 6)), 4)
    tracker.close()
    recorded = events(tmp_path)
    assert points(recorded, "loss/total") == [(3, 0.5), (4, 0.25)]
    assert points(recorded, "loss/mel") == [(3, 2.0)]
    (audio,) = recorded.Audio("sample_0/decoded")
    assert audio.step == 4
    samples, sample_rate = pcm(io.BytesIO(audio.encoded_audio_string))
    assert (sample_rate, len(samples)) == (16_000, 8000)
    assert samples.max() == 32767  # clamped, not wrapped around
    assert np.abs(samples / 32767 - (2.5 * TONE).clamp(-1, 1).numpy()).max() < 1e-3
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
    tracker.audio("a", TONE, 16_000, 2)
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


# ---- Weights & Biases


@pytest.fixture
def wandb(monkeypatch, tmp_path_factory):
    """The package offline, for a user without an account, in a fresh state for every test."""
    package = pytest.importorskip("wandb")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody is there
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal
    yield package
    package.teardown()  # ends its process


def wandb_records(folder):
    """Records of the only run in a folder of wandb, as it wrote them: protobuf messages in a log of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    data = path.read_bytes()
    assert data[:4] == b":W&B"
    position, message, records = 7, b"", []
    while position + 7 <= len(data):
        if (left := -position % 32_768) and left < 7:  # a header is never cut by the end of a block
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        message += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or its last part
            records.append(Record.FromString(message))
            message = b""
    return records


def only(records, kind):
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def wandb_history(records):
    """What was logged, line by line, without what wandb adds; a part of a value has the name NAME/PART."""
    rows = [
        {"/".join(item.nested_key) or item.key: item.value_json for item in row.item}
        for row in only(records, "history")
    ]
    return [{name: json.loads(value) for name, value in row.items() if name[0] != "_"} for row in rows]


def offline_runs(run_dir):
    return sorted((run_dir / "wandb").glob("offline-run-*"))


def finish(wandb, *trackers):
    for tracker in trackers:
        tracker.close()
    wandb.teardown()  # waits for the process that writes; the next run is as in a new process


def start(run_dir, name="run"):
    return WandbTracker(run_dir, name=name, config={"seed": 3, "model": {"size": 8}})


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_history_on_a_full_disk_is_one_line(tmp_path):
    tracker = HistoryTracker(tmp_path / "history.jsonl")
    tracker.file.close()
    tracker.file = Path("/dev/full").open("a")  # noqa: SIM115
    with pytest.raises(WriteError, match=one_line(tmp_path / "history.jsonl", "No space left on device")):
        tracker.scalars({"loss": 1.0}, 1)
    tracker.close()


def test_tensorboard_on_a_full_disk_is_one_line(tmp_path, monkeypatch):
    tracker = TensorboardTracker(tmp_path)

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tracker.writer, "add_scalar", fail)
    with pytest.raises(WriteError, match=one_line(tmp_path, "No space left on device")):
        tracker.scalars({"loss": 1.0}, 1)
    tracker.close()


def test_wandb_has_scalars_audio_and_image(tmp_path, wandb, monkeypatch):
    monkeypatch.delattr(matplotlib, "pyplot", raising=False)  # a run does not import it
    tracker = start(tmp_path, "first try")
    tracker.scalars({"loss/total": 0.5, "loss/mel": 2.0}, 3)
    tracker.scalars({"loss/total": math.nan, "norm": math.inf}, 4)
    tracker.audio("sample_0/decoded", 2.5 * TONE, 16_000, 4)
    tracker.figure("sample_0", Figure(figsize=(10, 6)), 4)
    finish(wandb, tracker)
    (folder,) = offline_runs(tmp_path)
    records = wandb_records(folder)
    first, second, audio, image = wandb_history(records)
    assert first == {"step": 3, "loss/total": 0.5, "loss/mel": 2.0}
    assert second == {"step": 4, "loss/total": pytest.approx(math.nan, nan_ok=True), "norm": math.inf}
    assert audio["step"] == image["step"] == 4
    samples, sample_rate = pcm(str(folder / "files" / audio["sample_0/decoded/path"]))
    assert (sample_rate, len(samples)) == (16_000, 8000)
    assert samples.max() == 32767  # clamped, not wrapped around
    assert np.abs(samples / 32767 - (2.5 * TONE).clamp(-1, 1).numpy()).max() < 1e-3
    assert (folder / "files" / image["sample_0/path"]).read_bytes().startswith(b"\x89PNG")
    assert (image["sample_0/width"], image["sample_0/height"]) == (1000, 600)


def test_wandb_gets_the_recipe_and_nothing_about_the_machine(tmp_path, wandb, monkeypatch):
    facts = ["-c", "user.name=x", "-c", "user.email=x@x", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", *facts, "commit", "-q", "--allow-empty", "-m", "x"], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SAVE_CODE", "true")
    tracker = start(tmp_path, "first try")
    print("console")
    tracker.scalars({"loss": 1.0}, 1)
    finish(wandb, tracker)
    (folder,) = offline_runs(tmp_path)
    records = wandb_records(folder)
    run = only(records, "run")[0]
    assert (run.project, run.display_name) == ("codec", "first try")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert config["seed"] == 3 and config["model"] == {"size": 8}
    assert ("*", "step") in [(metric.glob_name, metric.step_metric) for metric in only(records, "metric")]
    kinds = {record.WhichOneof("record_type") for record in records}
    assert not kinds & {"stats", "output", "output_raw"}
    assert not any(environment.HasField("git") for environment in only(records, "environment"))
    assert not tracker.run.settings.save_code  # of a script, which a test is not
    assert wandb.run is None  # nothing global


def test_a_resumed_run_continues_its_wandb_run(tmp_path, wandb):
    for steps in ((1, 2, 3), (2, 3)):
        tracker = start(tmp_path)
        for step in steps:
            tracker.scalars({"loss": step / 4}, step)
        finish(wandb, tracker)
    logged = [wandb_records(folder) for folder in offline_runs(tmp_path)]
    assert {only(records, "run")[0].run_id for records in logged} == {(tmp_path / "wandb_id").read_text().strip()}
    assert [[row["step"] for row in wandb_history(records)] for records in logged] == [[1, 2, 3], [2, 3]]


def test_two_runs_of_one_process_are_two_wandb_runs(tmp_path, wandb):
    folders = [tmp_path / "a", tmp_path / "b"]
    trackers = []
    for folder in folders:
        folder.mkdir()
        trackers.append(start(folder))
    for tracker, value in zip(trackers, (0.5, 0.25), strict=True):
        tracker.scalars({"loss": value}, 1)
    finish(wandb, *trackers)
    logged = [wandb_records(*offline_runs(folder)) for folder in folders]
    assert [wandb_history(records) for records in logged] == [[{"step": 1, "loss": value}] for value in (0.5, 0.25)]
    assert len({(folder / "wandb_id").read_text() for folder in folders}) == 2


def test_wandb_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=one_line("wandb", "not installed", "pip install wandb")):
        start(tmp_path)


@pytest.mark.parametrize(("mode", "facts"), [("online", ["No API key"]), ("ofline", ["validation error", "'offline'"])])
def test_wandb_that_cannot_start_is_one_line(tmp_path, wandb, monkeypatch, mode, facts):
    monkeypatch.setenv("WANDB_MODE", mode)
    with pytest.raises(ConfigError, match=one_line("wandb", *facts, "wandb login", "WANDB_MODE=offline")):
        start(tmp_path)
    assert not (tmp_path / "wandb_id").exists()


def test_a_server_that_cannot_be_reached_is_one_line(tmp_path, wandb, monkeypatch):
    def unreachable(**_):
        raise wandb.errors.CommError("context deadline exceeded\nwhile retrying: connection refused.")

    monkeypatch.setattr(wandb, "init", unreachable)
    reason = "context deadline exceeded while retrying: connection refused"
    with pytest.raises(ConfigError, match=one_line("wandb", reason, "wandb login")):
        start(tmp_path)
