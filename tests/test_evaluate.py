import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from models import tiny_codec, tiny_tables
from tiny_runs import buzz

import codec.eval.file_judge as file_judge
import codec.eval.systems.ours as ours
from codec.audio.file import load_audio
from codec.bitstream import Bitstream
from codec.config import FILE_BEAM
from codec.errors import AudioError, ConfigError
from codec.eval.alignment import align, find_delay
from codec.eval.conditions import Condition
from codec.eval.evaluate import evaluate
from codec.eval.file_judge import FileJudge
from codec.eval.metrics.bands import Bands, measure_bands
from codec.eval.metrics.clip import Clip, Original
from codec.eval.metrics.metrics import Measured
from codec.eval.metrics.waveform import snr
from codec.eval.systems.ours import OurCodec
from codec.eval.systems.system import Coded
from codec.inference.compression import compress_file
from codec.model.digest import with_identity
from codec.model.quantizer.quantizer import codebook_health, count_codes

RATE = 16_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Mono at the model's rate, and stereo at another one."""
    folder = tmp_path_factory.mktemp("files")
    sf.write(folder / "mono.wav", buzz(0.2, 200), RATE, "FLOAT")
    stereo = np.stack([buzz(0.1, 150, 8000), buzz(0.1, 230, 8000)], axis=1)
    sf.write(folder / "stereo.wav", stereo, 8000, "FLOAT")
    return [folder / "mono.wav", folder / "stereo.wav"]


@pytest.fixture(scope="module")
def codec():
    return tiny_codec()


def judge(codec, levels, metrics=(), *, beam=FILE_BEAM, gains_db=(0.0,), others=(), **how):
    """Return a judge of a model at numbers of levels, and of other systems."""
    systems = [OurCodec("tiny", with_identity(codec), count, beam) for count in levels]
    conditions = tuple(Condition(gain_db=gain) for gain in gains_db)
    return FileJudge((*systems, *others), RATE, tuple(metrics), **{"conditions": conditions} | how)


def judged(codec, files, levels, metrics=(), **how):
    return evaluate(judge(codec, levels, metrics, **how), files, progress=False)


def decode(codec, audio, levels):
    """Decode greedy codes of audio `[1, C, T]` and align the result, `[C, T]`."""
    codes = codec.encode(audio.transpose(0, 1))[:, :levels]
    decoded = codec.decode(codes, audio.shape[-1])[:, 0].detach()
    return align(decoded, audio.shape[-1], find_delay(decoded, audio[0], RATE))


def names(levels):
    return f"{levels} level{'s' if levels > 1 else ''}"


class Fake:
    """A codec of another project at 8 kHz, whose result is a function of its input."""

    codec, setting, sample_rate = "fake", "loud", 8000

    def __init__(self, function, num_bytes=100):
        self.function, self.num_bytes = function, num_bytes

    def __call__(self, audio):
        return Coded(self.function(audio), self.num_bytes, 0.5, 0.25)


def test_rows_are_files_and_levels(codec, files):
    result = judged(codec, files, [1, 4], ["snr", "mel"])
    assert [(row["path"], row["setting"]) for row in result.rows] == [
        (str(path), names(levels)) for path in files for levels in (1, 4)
    ]
    assert {(row["codec"], row["condition"], row["error"]) for row in result.rows} == {("tiny", "as it is", None)}
    assert [row["channels"] for row in result.rows] == [1, 1, 2, 2]
    assert [row["seconds"] for row in result.rows] == pytest.approx([0.2, 0.2, 0.1, 0.1])
    mono, stereo = [800 * 4, 800 * 16], [2 * 800 * 4, 2 * 800 * 16]  # 16 kHz / 20 samples, 4 bit a code
    assert [row["nominal_bitrate"] for row in result.rows] == [*mono, *stereo]
    assert result.seconds == pytest.approx(0.3)
    assert all(list(row)[-5:] == ["snr", "mel", "notes", "bands", "error"] for row in result.rows)
    assert all(row["encode_speed"] > 0 and row["decode_speed"] > 0 for row in result.rows)


def test_a_score_is_that_of_the_decoded_file(codec, files):
    result = judged(codec, files, [2], ["snr"])
    for path, row in zip(files, result.rows, strict=True):
        audio = load_audio(path, RATE)
        pairs = zip(decode(codec, audio, 2), audio[0], strict=True)
        scores = [snr(Clip(decoded, RATE), Clip(channel, RATE)) for decoded, channel in pairs]
        assert row["snr"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_means_are_over_files(codec, files):
    result = judged(codec, files, [1, 3], ["snr", "mel"])
    for levels, mean in zip((1, 3), result.means, strict=True):
        rows = [row for row in result.rows if row["setting"] == names(levels)]
        assert list(mean) == [
            *("codec", "setting", "condition", "gain_db", "num_files", "num_failed", "seconds", "bitrate"),
            *("nominal_bitrate", "encode_speed", "decode_speed", "metrics", "bands", "bands_left_out"),
        ]
        assert (mean["codec"], mean["condition"], mean["gain_db"]) == ("tiny", "as it is", 0)
        assert (mean["num_files"], mean["num_failed"]) == (2, 0) and mean["seconds"] == pytest.approx(0.3)
        took = 0.2 / rows[0]["encode_speed"] + 0.1 / rows[1]["encode_speed"]
        assert mean["encode_speed"] == pytest.approx(0.3 / took)
        assert mean["bitrate"] == pytest.approx(8 * (rows[0]["num_bytes"] + rows[1]["num_bytes"]) / 0.3)
        assert mean["nominal_bitrate"] == pytest.approx(levels * 3200 * (0.2 + 2 * 0.1) / 0.3)
        assert mean["bands_left_out"] == [*[0] * 7, 1, 1]  # the second file is of 8 kHz
        for field in Bands._fields:
            first, second = (row["bands"][field] for row in rows)
            expected = [*((a + b) / 2 for a, b in zip(first[:7], second[:7], strict=True)), *first[7:]]
            assert mean["bands"][field] == pytest.approx(expected)
        for metric in ("snr", "mel"):
            scores = sorted(row[metric] for row in rows)
            value, low, high, num = mean["metrics"][metric].values()
            assert value == pytest.approx(sum(scores) / 2) and [low, high] == pytest.approx(scores) and num == 2


@pytest.mark.parametrize(
    ("scores", "mean"),
    [
        ([1.0, 4.0], 2.5),
        ([math.nan, 4.0], 4.0),
        ([2.0, -math.inf], 2.0),
        ([math.inf, -math.inf], math.nan),
        ([math.nan, math.nan], math.nan),
    ],
)
def test_a_file_without_a_score_is_left_out_of_the_mean(codec, files, monkeypatch, scores, mean):
    left = iter(scores)
    monkeypatch.setattr(file_judge, "measure", lambda *_: Measured({"stoi": next(left)}, {}))
    result = judged(codec, files, [1], ["stoi"])
    assert [row["stoi"] for row in result.rows] == pytest.approx(scores, nan_ok=True)
    assert result.means[0]["metrics"]["stoi"]["mean"] == pytest.approx(mean, nan_ok=True)
    assert result.means[0]["metrics"]["stoi"]["num"] == sum(map(math.isfinite, scores))


def test_health_is_that_of_all_codes(codec, files):
    result = judged(codec, files, [1, 4], [], beam=1)
    codes = [codec.encode(load_audio(path, RATE).transpose(0, 1)) for path in files]
    counts = torch.zeros(4, 16)
    for item in (item for batch in codes for item in batch):
        for level, row in enumerate(item.tolist()):
            for code in row:
                counts[level, code] += 1
    assert counts.sum() == 4 * (codec.num_frames(3200) + 2 * codec.num_frames(1600))
    for field, expected in zip(result.health["tiny"], codebook_health(counts), strict=True):
        assert torch.equal(field, expected)


def test_codes_are_compared_with_those_of_a_reference(codec, files):
    """One frame of the reference starts with another codeword."""
    other = copy.deepcopy(codec)
    encode_frames = other.encode_frames

    def differing(audio, num_quantizers, cache, **how):
        is_first = not cache  # block of the file
        codes = encode_frames(audio, num_quantizers, cache, **how)
        if is_first:
            codes[0, 1, 0] = (codes[0, 1, 0] + 1) % 16
        return codes

    other.encode_frames = differing
    result = judged(codec, files, [1, 4], [], reference=OurCodec("other", other, 4))
    num_frames = codec.num_frames(3200) + 2 * codec.num_frames(1600)
    assert result.agreement.tolist() == pytest.approx([1, 1 - len(files) / num_frames, 1, 1])
    assert judged(codec, files, [1], []).agreement is None


def test_code_counts_of_a_hand_case():
    codes = torch.tensor([[[0, 2, 2], [1, 1, 1]], [[3, 2, 0], [0, 0, 1]]])
    assert count_codes(codes, 4).tolist() == [[2, 0, 3, 1], [2, 4, 0, 0]]


def test_evaluation_changes_no_weight_and_keeps_no_gradient(files, monkeypatch):
    codec = tiny_codec().requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    seen = []
    monkeypatch.setattr(file_judge, "measure", lambda decoded, *_: seen.append(decoded) or Measured({"mel": 0.0}, {}))
    judged(codec, files[:1], [4], ["mel"])
    assert len(seen) == 1 and not seen[0].requires_grad
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_wrong_input_is_refused(codec, files, tmp_path):
    with pytest.raises(ConfigError, match=one_line("'beauty'", "mel")):
        judged(codec, files, [1], ["beauty"])
    with pytest.raises(AudioError, match=one_line("missing.wav")):
        judged(codec, [tmp_path / "missing.wav"], [1], [])


def test_a_score_by_band_is_that_of_the_decoded_file(codec, files):
    (row,) = judged(codec, files[:1], [2], [], beam=1).rows
    audio = load_audio(files[0], RATE)
    expected = measure_bands(decode(codec, audio, 2), Original(audio[0], RATE))
    for field in Bands._fields:
        assert row["bands"][field] == pytest.approx(getattr(expected, field), abs=1e-3)


@pytest.mark.parametrize("with_tables", [False, True])
@pytest.mark.parametrize("beam", [1, FILE_BEAM])
def test_the_rate_is_that_of_the_file_on_disk(files, tmp_path, with_tables, beam):
    codec = tiny_codec()
    if with_tables:
        codec.entropy = tiny_tables(codec, load_audio(files[0], RATE))
    result = judged(codec, files, [1, 4], [], beam=beam)
    for row in result.rows:
        target = tmp_path / "a.codec"
        levels = int(row["setting"].split()[0])
        compress_file(codec, Path(row["path"]), target, num_quantizers=levels, overwrite=True, beam=beam)
        assert row["num_bytes"] == target.stat().st_size
        assert row["bitrate"] == pytest.approx(8 * target.stat().st_size / sf.info(row["path"]).duration)


def test_evaluation_decodes_the_codes_of_the_file(codec, files, monkeypatch):
    """A file that holds other codes than were found is judged by those."""
    read = Bitstream.from_bytes

    def damaged(data, **how):
        bitstream = read(data, **how)
        return dataclasses.replace(bitstream, codes=np.zeros_like(bitstream.codes))

    expected = judged(codec, files[:1], [4], ["mel"]).rows[0]["mel"]
    monkeypatch.setattr(ours.Bitstream, "from_bytes", damaged)
    assert judged(codec, files[:1], [4], ["mel"]).rows[0]["mel"] != expected


def test_a_clip_at_a_gain_is_that_clip_scaled(codec, files, tmp_path):
    gains = (0.0, -20.0)
    result = judged(codec, files[:1], [1, 4], ["mel", "snr"], gains_db=gains)
    expected = [(gain, names(levels)) for gain in gains for levels in (1, 4)]
    assert [(row["gain_db"], row["setting"]) for row in result.rows] == expected
    assert [(mean["gain_db"], mean["setting"]) for mean in result.means] == expected
    assert result.seconds == pytest.approx(0.2)
    samples, _ = sf.read(files[0], dtype="float32")
    sf.write(tmp_path / "quiet.wav", samples * np.float32(0.1), RATE, "FLOAT")
    quiet = judged(codec, [tmp_path / "quiet.wav"], [1, 4], ["mel", "snr"])
    for row, expected in zip(result.rows[2:], quiet.rows, strict=True):
        assert row["num_bytes"] == expected["num_bytes"]
        assert row["mel"] == pytest.approx(expected["mel"], abs=1e-4)
        assert row["bands"]["energy"] == pytest.approx(expected["bands"]["energy"], abs=1e-3)


def test_a_silent_and_a_constant_clip_leave_the_means_finite(codec, files, tmp_path):
    sf.write(tmp_path / "silent.wav", np.zeros(3200), RATE, "FLOAT")
    sf.write(tmp_path / "constant.wav", np.full(3200, 0.1), RATE, "FLOAT")
    paths = [files[0], tmp_path / "silent.wav", tmp_path / "constant.wav"]
    result = judged(codec, paths, [2], ["mel", "snr", "si_sdr"])
    (mean,) = result.means
    assert math.isnan(result.rows[1]["snr"]) and math.isnan(result.rows[2]["si_sdr"])
    scores = mean["metrics"]
    assert scores["snr"]["mean"] == pytest.approx((result.rows[0]["snr"] + result.rows[2]["snr"]) / 2)
    assert scores["si_sdr"]["mean"] == result.rows[0]["si_sdr"]
    assert [scores[name]["num"] for name in ("mel", "snr", "si_sdr")] == [3, 2, 1]
    assert mean["bands_left_out"] == [1, *[2] * 8]
    assert mean["bands"]["energy"][1:] == result.rows[0]["bands"]["energy"][1:]
    values = [
        *(score["mean"] for score in scores.values()),
        *(value for field in mean["bands"].values() for value in field),
    ]
    assert all(map(math.isfinite, values))


def test_a_bad_file_is_left_out_and_named(codec, files, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    paths = [files[0], tmp_path / "bad.wav", files[1]]
    result, expected = (judged(codec, some, [2], ["mel"]) for some in (paths, files))
    assert list(result.unread) == [paths[1]] and "not audio" in str(result.unread[paths[1]])
    assert [row["path"] for row in result.rows] == [str(files[0]), str(files[1])]
    assert result.means[0]["metrics"] == expected.means[0]["metrics"] and result.seconds == expected.seconds
    assert expected.unread == {}


def test_files_that_are_all_bad_are_refused(codec, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no audio")
    with pytest.raises(AudioError, match=one_line(2, "a.wav", "b.wav")):
        judged(codec, sorted(tmp_path.iterdir()), [1])


def test_evaluation_keeps_no_identity_on_the_model(files):
    codec = tiny_codec()
    judged(codec, files, [1], [])
    assert codec.identity is None


def test_another_codec_is_judged_at_its_own_rate(codec, files):
    """It gets 8 kHz and halves it; 8 kHz hold nothing above 4 kHz."""
    seen = []
    fake = Fake(lambda audio: seen.append(audio.shape) or audio / 2)
    result = judged(codec, files, [1], ["snr"], others=[fake])
    assert seen == [(1, 1600), (2, 800)]
    rows = [row for row in result.rows if row["codec"] == "fake"]
    assert [row["setting"] for row in rows] == ["loud", "loud"] and [row["nominal_bitrate"] for row in rows] == [
        None
    ] * 2
    assert [row["bitrate"] for row in rows] == pytest.approx([800 / 0.2, 800 / 0.1])
    assert [row["encode_speed"] for row in rows] == pytest.approx([0.4, 0.2])
    assert [row["decode_speed"] for row in rows] == pytest.approx([0.8, 0.4])
    assert rows[1]["bands"]["energy"][:6] == pytest.approx([-6.02] * 6, abs=0.05)
    assert rows[0]["bands"]["energy"][-1] < -20
    assert result.means[1]["nominal_bitrate"] is None and list(result.health) == ["tiny"]


def test_a_delay_is_removed_the_same_way_for_all(codec, files):
    late = Fake(lambda audio: torch.nn.functional.pad(audio, (100, 0))[:, : audio.shape[1] + 30])
    (row,) = (row for row in judged(codec, files[:1], [1], ["snr"], others=[late]).rows if row["codec"] == "fake")
    assert row["delay_ms"] == pytest.approx(12.5) and row["bands"]["snr"][0] > 20


def test_a_codec_that_fails_costs_only_its_rows(codec, files):
    def fail_on_stereo(audio):
        if len(audio) > 1:
            raise RuntimeError("two\n channels")
        return audio

    result = judged(codec, files, [1], ["snr"], others=[Fake(fail_on_stereo)])
    assert [row["error"] for row in result.rows] == [None, None, None, "two channels"]
    failed = result.rows[-1]
    assert failed["path"] == str(files[1]) and "snr" not in failed and "num_bytes" not in failed
    mean = result.means[1]
    assert (mean["num_files"], mean["num_failed"], mean["metrics"]["snr"]["num"]) == (2, 1, 1)
    assert mean["seconds"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("function", "fact"),
    [(lambda audio: audio * math.nan, "NaN"), (lambda audio: torch.cat([audio, audio]), "1 channels became 2")],
)
def test_a_codec_that_returns_nonsense_has_failed(codec, files, function, fact):
    result = judged(codec, files[:1], [1], ["snr"], others=[Fake(function)])
    assert fact in result.rows[1]["error"] and result.means[1]["num_failed"] == 1
    assert math.isnan(result.means[1]["bitrate"]) and result.means[1]["metrics"]["snr"]["num"] == 0


def test_an_offset_costs_nothing_where_it_is_lost(codec, files):
    """A codec that removes an offset is as good as one that keeps it."""
    condition = Condition(offset=0.05)
    for function in (lambda audio: audio, lambda audio: audio - 0.05):
        result = judged(codec, files[:1], [1], ["snr"], others=[Fake(function)], conditions=(condition,))
        assert result.rows[1]["condition"] == "DC +0.05" and result.rows[1]["bands"]["snr"][1] > 40


def test_files_that_are_kept_come_back_decoded(codec, files):
    fake = Fake(lambda audio: audio / 2)
    result = judge(codec, [1, 4], ["snr"], others=[fake], gains_db=(0, -20), kept=frozenset(files[:1]))(files[0])
    assert torch.equal(result.original, load_audio(files[0], RATE)[0])
    assert [(decode.codec, decode.setting) for decode in result.decodes] == [
        *(("tiny", "1 level"), ("tiny", "4 levels"), ("fake", "loud"))
    ]
    expected = decode(codec, result.original[None], 4)
    greedy = judge(codec, [4], beam=1, kept=frozenset(files[:1]))(files[0])
    assert torch.allclose(greedy.decodes[0].audio, expected, atol=1e-5)
    assert greedy.decodes[0].codes.shape[1] == 4 and result.decodes[2].codes is None
    other = judge(codec, [1], kept=frozenset(files[:1]))(files[1])
    assert other.original is None and other.decodes == []


def test_results_of_before_and_of_now_are_one_evaluation(codec, files):
    ours = judge(codec, [1, 4], ["mel"], reference=OurCodec("other", codec, 4))
    whole = evaluate(ours, files, progress=False)
    seen = []
    resumed = evaluate(
        ours, files[1:], done=[ours(files[0])], on_result=lambda path, result: seen.append(path), progress=False
    )
    assert seen == files[1:]
    for one, other in zip(resumed.means, whole.means, strict=True):
        assert {k: v for k, v in one.items() if "speed" not in k} == {
            k: v for k, v in other.items() if "speed" not in k
        }
    assert resumed.seconds == whole.seconds and torch.equal(resumed.agreement, whole.agreement)
    assert torch.equal(resumed.health["tiny"].usage, whole.health["tiny"].usage)
    assert evaluate(ours, [], done=[ours(path) for path in files], progress=False).seconds == whole.seconds
