import json
import random

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from models import assert_same_state, state_of, tiny_codec
from tiny_runs import tiny_recipe, write_clips

import codec.train.validation as validation_module
from codec.errors import ConfigError
from codec.eval.evaluate import evaluate
from codec.eval.file_judge import FileJudge
from codec.eval.metrics.bands import describe_bands
from codec.eval.systems.ours import OurCodec
from codec.train.validation import Validator


class Recorder:
    """A tracker that keeps everything."""

    def __init__(self):
        self.values, self.sounds, self.figures = {}, {}, {}

    def scalars(self, values, step):
        self.values[step] = self.values.get(step, {}) | values

    def audio(self, name, audio, sample_rate, step):
        self.sounds[name] = audio, sample_rate, step

    def figure(self, name, figure, step):
        self.figures[name] = figure, step

    def close(self):
        pass


@pytest.fixture
def only_mel(monkeypatch):
    monkeypatch.setattr(validation_module, "available_metrics", lambda: ("mel", "snr"))


def expect(codec, paths, levels, metrics):
    systems = tuple(OurCodec("tiny", codec, count, beam=1) for count in levels)
    return evaluate(FileJudge(systems, codec.sample_rate, tuple(metrics)), paths, progress=False)


def validator(clips, **changes):
    return Validator.of_recipe(tiny_recipe(clips, data__valid=".", **changes))


@pytest.mark.parametrize(
    ("num_files", "max_files", "chosen"),
    [
        (10, None, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 10, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 99, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (10, 5, [0, 2, 4, 6, 8]),
        (10, 4, [0, 2, 5, 7]),
        (10, 7, [0, 1, 2, 4, 5, 7, 8]),  # not the first seven
        (10, 1, [0]),
    ],
)
def test_files_to_validate_are_spread_evenly(tmp_path, num_files, max_files, chosen):
    rows = ["path\tsplit", *(f"{number}.wav\tvalid" for number in range(num_files)), "x.wav\ttrain"]
    (tmp_path / "MANIFEST.tsv").write_text("\n".join(rows) + "\n")
    recipe = tiny_recipe(tmp_path, data__valid="MANIFEST.tsv", validation__max_files=max_files)
    assert [int(path.stem) for path in Validator.of_recipe(recipe).paths] == chosen


def test_levels_are_those_of_the_bitrates(clips):
    # 16 kHz / 20 samples x 4 bit: 3200 bit/s a level, three levels
    assert validator(clips, validation__bitrates=[3200, 6399, 9600, 1e6]).num_quantizers == [1, 3]
    with pytest.raises(ConfigError, match=one_line("bitrate", "3000 bit/s", "3200 bit/s")):
        validator(clips, validation__bitrates=[3000])


def test_no_held_out_files_no_validation(clips):
    assert Validator.of_recipe(tiny_recipe(clips)) is None


def test_scores_go_to_every_tracker(clips, only_mel):
    codec, recorders = tiny_codec(), [Recorder(), Recorder()]
    judge = Validator(sorted(clips.iterdir()), num_quantizers=[1, 4], num_samples_logged=0)
    score = judge.validate(codec, recorders, 7)
    expected = expect(codec, judge.paths, [1, 4], ["mel", "snr"])
    first, second = (mean["metrics"]["mel"]["mean"] for mean in expected.means)
    assert score == (first + second) / 2
    for recorder in recorders:
        (values,) = recorder.values.values()
        assert list(recorder.values) == [7]
        for mean, rate in zip(expected.means, ("3.2kbps", "12.8kbps"), strict=True):
            for name in ("mel", "snr"):
                assert values[f"valid/{name}_{rate}"] == mean["metrics"][name]["mean"]
            for band, name in enumerate(describe_bands(expected.edges_hz)):
                for field in ("energy", "power_error"):
                    assert values[f"valid/{field}_{name}Hz_{rate}"] == mean["bands"][field][band]
        health = expected.health["tiny"]
        for name, levels in health._asdict().items():
            assert [values[f"valid_{name}/level_{level}"] for level in (1, 2, 3, 4)] == levels.tolist()
        assert values["valid/entropy_bitrate"] == pytest.approx(float(health.entropy.sum()) * 800)
        assert not recorder.sounds and not recorder.figures


def test_samples_are_decoded_at_each_bitrate_and_with_all_levels(clips, only_mel):
    codec, recorder = tiny_codec().requires_grad_(True), Recorder()
    judge = Validator(sorted(clips.iterdir()), num_quantizers=[1, 3], num_samples_logged=2)
    judge.validate(codec, [recorder], 7)
    rates = {"3.2kbps": 1, "9.6kbps": 3, "12.8kbps": 4}
    assert set(recorder.sounds) == {f"sample_{number}/{kind}" for number in (0, 1) for kind in ("original", *rates)}
    assert set(recorder.figures) == {"sample_0", "sample_1", "bands", "codebooks"}
    for number, num_samples in enumerate((4800, 3200)):
        original, rate, step = recorder.sounds[f"sample_{number}/original"]
        assert (rate, step, original.shape) == (16_000, 7, (num_samples,))
        for name, levels in rates.items():
            decoded, *_ = recorder.sounds[f"sample_{number}/{name}"]
            expected = codec.decode(codec.encode(original[None, None], levels), num_samples)[0, 0]
            assert torch.equal(decoded, expected)
        titles = [axis.get_title() for axis in recorder.figures[f"sample_{number}"][0].axes]
        assert titles == ["original", *rates, ""]


def test_pictures_are_of_the_bands_and_of_the_codebooks(clips, only_mel):
    codec, recorder = tiny_codec(), Recorder()
    judge = Validator(sorted(clips.iterdir()), num_quantizers=[1, 3], num_samples_logged=1)
    judge.validate(codec, [recorder], 7)
    bands, step = recorder.figures["bands"]
    expected = expect(codec, judge.paths, [1, 3, 4], [])
    shown = {series.get_label(): [bar.get_height() for bar in series] for series in bands.axes[0].containers}
    assert shown == dict(
        zip(("3.2 kbit/s", "9.6 kbit/s"), (mean["bands"]["energy"] for mean in expected.means[:2]), strict=True)
    )
    codebooks, step = recorder.figures["codebooks"]
    titles = [axis.get_title() for axis in codebooks.axes if axis.get_title()]
    assert step == 7 and len(titles) == 4
    for level, (title, usage) in enumerate(zip(titles, expected.health["tiny"].usage.tolist(), strict=True), start=1):
        assert title.startswith(f"level {level}: {100 * usage:.1f} % used")


def test_what_is_recorded_draws_no_random_numbers_and_changes_no_weight(clips, only_mel):
    codec = tiny_codec()
    state, generators = state_of(codec), (torch.get_rng_state(), random.getstate())
    for number in (0, 2):
        Validator(sorted(clips.iterdir()), num_quantizers=[1], num_samples_logged=number).validate(
            codec, [Recorder()], 7
        )
    assert_same_state(codec, state)
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]


def test_a_file_that_can_not_be_coded_is_left_out_with_a_warning(tmp_path, only_mel):
    """Of the audio and of the pictures too: it is the first."""
    paths = sorted(write_clips(tmp_path / "clips", [0.2, 0.1]).iterdir())
    sf.write(paths[0], np.full(3200, 5.0), 16_000, "FLOAT")
    judge, recorder = Validator(paths, num_quantizers=[1], num_samples_logged=1), Recorder()
    with pytest.warns(UserWarning, match=one_line("validation", "step", 7, paths[0])):
        score = judge.validate(tiny_codec(), [recorder], 7)
    alone = Recorder()
    assert score == Validator(paths[1:], num_quantizers=[1], num_samples_logged=1).validate(tiny_codec(), [alone], 7)
    for name, (audio, *_) in alone.sounds.items():
        assert torch.equal(recorder.sounds[name][0], audio)


def test_a_run_ends_with_a_report(clips, only_mel, tmp_path):
    """Of the held-out files at the bitrates of the recipe and of Opus; a later end replaces it."""
    judge = Validator(sorted(clips.iterdir())[:3], num_quantizers=[1, 4], num_samples_logged=0)
    for step in (6, 12):
        judge.conclude(tiny_codec(), tmp_path / "run", [], step, 3.2)
    report = tmp_path / "run" / "report"
    results = json.loads((report / "results.json").read_text())
    assert results["about"]["command"] == "codec-train, 12 steps, 3 s" and len(results["rows"]) == 3 * (2 + 5)
    assert [mean["setting"] for mean in results["means"] if mean["codec"] == "run"] == ["1 level", "4 levels"]
    assert {rate["reference"] for rate in results["bd_rate"]} == {"opus"}
    assert sorted(path.name for path in (report / "clips").iterdir()) == ["001.js", "002.js", "003.js"]
    assert (report / "index.html").exists() and (report / "listening.html").exists()


def test_a_run_whose_files_are_gone_ends_without_a_report(tmp_path, only_mel):
    judge = Validator([tmp_path / "gone.wav"], num_quantizers=[1], num_samples_logged=0)
    with pytest.warns(UserWarning, match=one_line("no report", "gone.wav")):
        judge.conclude(tiny_codec(), tmp_path / "run", [], 6, 3.2)


def test_slow_judges_are_left_out_and_the_search_is_greedy(clips, monkeypatch):
    asked = []

    def record(judge, paths, **options):
        asked.append((judge, options))
        raise KeyboardInterrupt

    monkeypatch.setattr(validation_module, "available_metrics", lambda: ("mel", "pesq_wb", "dnsmos", "speaker"))
    monkeypatch.setattr(validation_module, "evaluate", record)
    with pytest.raises(KeyboardInterrupt):
        Validator(sorted(clips.iterdir()), num_quantizers=[1], num_samples_logged=0).validate(tiny_codec(), [], 7)
    ((judge, options),) = asked
    assert judge.metrics == ("mel", "pesq_wb") and [system.beam for system in judge.systems] == [1] and not options


def test_metrics_without_a_value_are_not_logged(tmp_path, only_mel):
    sf.write(tmp_path / "silent.wav", np.zeros(3200), 16_000, "FLOAT")
    recorder = Recorder()
    Validator([tmp_path / "silent.wav"], num_quantizers=[1], num_samples_logged=0).validate(tiny_codec(), [recorder], 7)
    assert "valid/mel_3.2kbps" in recorder.values[7] and "valid/snr_3.2kbps" not in recorder.values[7]
    assert all(np.isfinite(value) for value in recorder.values[7].values())


def test_a_file_that_goes_bad_is_left_out_with_a_warning(tmp_path, only_mel):
    paths = sorted(write_clips(tmp_path / "clips", [0.2, 0.1, 0.1]).iterdir())
    judge = Validator(paths, num_quantizers=[1], num_samples_logged=2)
    codec, recorder = tiny_codec(), Recorder()
    paths[0].write_bytes(b"")
    with pytest.warns(UserWarning, match=one_line("validation", "step", 7, paths[0], "0 bytes")):
        score = judge.validate(codec, [recorder], 7)
    assert score == Validator(paths[1:], num_quantizers=[1], num_samples_logged=0).validate(codec, [], 7)
    assert len(recorder.sounds) == 6  # of the two others: original, one level, all levels
    for path in paths:
        path.unlink(missing_ok=True)
    with pytest.warns(UserWarning, match=one_line("no validation", "step", 8, 3)):
        assert judge.validate(codec, [recorder], 8) is None
    assert 8 not in recorder.values
