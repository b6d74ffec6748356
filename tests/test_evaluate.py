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
from codec.audio.file import load_audio
from codec.bitstream import Bitstream
from codec.errors import AudioError, ConfigError
from codec.eval.evaluate import evaluate
from codec.eval.file_judge import count_codes
from codec.eval.metrics.bands import Bands, measure_bands
from codec.eval.metrics.clip import Clip, Original
from codec.eval.metrics.metrics import Measured
from codec.eval.metrics.waveform import snr
from codec.inference.compression import compress_file
from codec.model.quantizer.quantizer import codebook_health

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


def test_rows_are_files_and_levels(codec, files):
    result = evaluate(codec, files, num_quantizers=[1, 4], metrics=["snr", "mel"], progress=False)
    assert [(row["path"], row["num_quantizers"]) for row in result.rows] == [
        (str(path), levels) for path in files for levels in (1, 4)
    ]
    assert [row["seconds"] for row in result.rows] == pytest.approx([0.2, 0.2, 0.1, 0.1])
    mono, stereo = [800 * 4, 800 * 16], [2 * 800 * 4, 2 * 800 * 16]  # 16 kHz / 20 samples, 4 bit a code
    assert [row["nominal_bitrate"] for row in result.rows] == [*mono, *stereo]
    assert result.seconds == pytest.approx(0.3)
    assert all(list(row)[-3:] == ["snr", "mel", "bands"] for row in result.rows)


def test_a_score_is_that_of_the_decoded_file(codec, files):
    result = evaluate(codec, files, num_quantizers=[2], metrics=["snr"], progress=False)
    for path, row in zip(files, result.rows, strict=True):
        audio = load_audio(path, RATE)
        scores = []
        for channel in audio[0]:
            decoded = codec.decode(codec.encode(channel[None, None])[:, :2], len(channel))[0, 0]
            scores.append(snr(Clip(decoded, RATE), Clip(channel, RATE)))
        assert row["snr"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_means_are_over_files(codec, files):
    result = evaluate(codec, files, num_quantizers=[1, 3], metrics=["snr", "mel"], progress=False)
    for levels, mean in zip((1, 3), result.means, strict=True):
        rows = [row for row in result.rows if row["num_quantizers"] == levels]
        assert list(mean) == [
            *("gain_db", "num_quantizers", "bitrate", "nominal_bitrate", "snr", "mel", "bands", "left_out"),
        ]
        assert mean["num_quantizers"] == levels and mean["gain_db"] == 0
        assert mean["bitrate"] == pytest.approx(8 * (rows[0]["num_bytes"] + rows[1]["num_bytes"]) / 0.3)
        assert mean["nominal_bitrate"] == pytest.approx(levels * 3200 * (0.2 + 2 * 0.1) / 0.3)
        assert mean["left_out"] == {"bands": [*[0] * 7, 1, 1]}  # the second file is of 8 kHz
        for field in Bands._fields:
            first, second = (row["bands"][field] for row in rows)
            expected = [*((a + b) / 2 for a, b in zip(first[:7], second[:7], strict=True)), *first[7:]]
            assert mean["bands"][field] == pytest.approx(expected)
        for metric in ("snr", "mel"):
            assert mean[metric] == pytest.approx((rows[0][metric] + rows[1][metric]) / 2)


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
    result = evaluate(codec, files, num_quantizers=[1], metrics=["stoi"], progress=False)
    assert [row["stoi"] for row in result.rows] == pytest.approx(scores, nan_ok=True)
    assert result.means[0]["stoi"] == pytest.approx(mean, nan_ok=True)
    assert result.means[0]["left_out"].get("stoi", 0) == sum(not math.isfinite(score) for score in scores)


def test_health_is_that_of_all_codes(codec, files):
    result = evaluate(codec, files, num_quantizers=[1], metrics=[], beam=1, progress=False)
    codes = [codec.encode(load_audio(path, RATE).transpose(0, 1)) for path in files]
    counts = torch.zeros(4, 16)
    for item in (item for batch in codes for item in batch):
        for level, row in enumerate(item.tolist()):
            for code in row:
                counts[level, code] += 1
    assert counts.sum() == 4 * (codec.num_frames(3200) + 2 * codec.num_frames(1600))
    for field, expected in zip(result.health, codebook_health(counts), strict=True):
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
    result = evaluate(codec, files, num_quantizers=[1], metrics=[], reference=other, progress=False)
    num_frames = codec.num_frames(3200) + 2 * codec.num_frames(1600)
    assert result.agreement.tolist() == pytest.approx([1, 1 - len(files) / num_frames, 1, 1])
    assert evaluate(codec, files, num_quantizers=[1], metrics=[], progress=False).agreement is None


def test_code_counts_of_a_hand_case():
    codes = torch.tensor([[[0, 2, 2], [1, 1, 1]], [[3, 2, 0], [0, 0, 1]]])
    assert count_codes(codes, 4).tolist() == [[2, 0, 3, 1], [2, 4, 0, 0]]


def test_evaluation_changes_no_weight_and_keeps_no_gradient(files, monkeypatch):
    codec = tiny_codec().requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    judged, result = [], Measured({"mel": 0.0}, {})
    monkeypatch.setattr(file_judge, "measure", lambda decoded, *_: judged.append(decoded) or result)
    evaluate(codec, files[:1], num_quantizers=[4], metrics=["mel"], progress=False)
    assert len(judged) == 1 and not judged[0].requires_grad
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_wrong_input_is_refused(codec, files, tmp_path):
    with pytest.raises(ConfigError, match=one_line("'beauty'", "mel")):
        evaluate(codec, files, num_quantizers=[1], metrics=["beauty"], progress=False)
    with pytest.raises(AudioError, match=one_line("missing.wav")):
        evaluate(codec, [tmp_path / "missing.wav"], num_quantizers=[1], metrics=[], progress=False)


def test_a_score_by_band_is_that_of_the_decoded_file(codec, files):
    (row,) = evaluate(codec, files[:1], num_quantizers=[2], metrics=[], beam=1, progress=False).rows
    audio = load_audio(files[0], RATE)
    decoded = codec.decode(codec.encode(audio)[:, :2], audio.shape[-1])
    expected = measure_bands(decoded[0], Original(audio[0], RATE))
    for field in Bands._fields:
        assert row["bands"][field] == pytest.approx(getattr(expected, field), abs=1e-3)


@pytest.mark.parametrize("with_tables", [False, True])
@pytest.mark.parametrize("beam", [1, None])
def test_the_rate_is_that_of_the_file_on_disk(files, tmp_path, with_tables, beam):
    codec = tiny_codec()
    if with_tables:
        codec.entropy = tiny_tables(codec, load_audio(files[0], RATE))
    result = evaluate(codec, files, num_quantizers=[1, 4], metrics=[], beam=beam, progress=False)
    for row in result.rows:
        target = tmp_path / "a.codec"
        searched = {} if beam is None else {"beam": beam}
        levels = row["num_quantizers"]
        compress_file(codec, Path(row["path"]), target, num_quantizers=levels, overwrite=True, **searched)
        assert row["num_bytes"] == target.stat().st_size
        assert row["bitrate"] == pytest.approx(8 * target.stat().st_size / sf.info(row["path"]).duration)


def test_evaluation_decodes_the_codes_of_the_file(codec, files, monkeypatch):
    """A file that holds other codes than were found is judged by those."""
    read = Bitstream.from_bytes

    def damaged(data, **how):
        bitstream = read(data, **how)
        return dataclasses.replace(bitstream, codes=np.zeros_like(bitstream.codes))

    expected = evaluate(codec, files[:1], num_quantizers=[4], metrics=["mel"], progress=False).rows[0]["mel"]
    monkeypatch.setattr(file_judge.Bitstream, "from_bytes", damaged)
    assert evaluate(codec, files[:1], num_quantizers=[4], metrics=["mel"], progress=False).rows[0]["mel"] != expected


def test_a_clip_at_a_gain_is_that_clip_scaled(codec, files, tmp_path):
    gains = (0.0, -20.0)
    result = evaluate(codec, files[:1], num_quantizers=[1, 4], metrics=["mel", "snr"], gains_db=gains, progress=False)
    assert [(row["gain_db"], row["num_quantizers"]) for row in result.rows] == [(0, 1), (0, 4), (-20, 1), (-20, 4)]
    assert [(mean["gain_db"], mean["num_quantizers"]) for mean in result.means] == [(0, 1), (0, 4), (-20, 1), (-20, 4)]
    assert result.seconds == pytest.approx(0.2)
    samples, _ = sf.read(files[0], dtype="float32")
    sf.write(tmp_path / "quiet.wav", samples * np.float32(0.1), RATE, "FLOAT")
    quiet = evaluate(codec, [tmp_path / "quiet.wav"], num_quantizers=[1, 4], metrics=["mel", "snr"], progress=False)
    for row, expected in zip(result.rows[2:], quiet.rows, strict=True):
        assert row["num_bytes"] == expected["num_bytes"]
        assert row["mel"] == pytest.approx(expected["mel"], abs=1e-4)
        assert row["bands"]["energy"] == pytest.approx(expected["bands"]["energy"], abs=1e-3)


def test_a_silent_and_a_constant_clip_leave_the_means_finite(codec, files, tmp_path):
    sf.write(tmp_path / "silent.wav", np.zeros(3200), RATE, "FLOAT")
    sf.write(tmp_path / "constant.wav", np.full(3200, 0.1), RATE, "FLOAT")
    paths = [files[0], tmp_path / "silent.wav", tmp_path / "constant.wav"]
    result = evaluate(codec, paths, num_quantizers=[2], metrics=["mel", "snr", "si_sdr"], progress=False)
    (mean,) = result.means
    assert math.isnan(result.rows[1]["snr"]) and math.isnan(result.rows[2]["si_sdr"])
    assert mean["snr"] == pytest.approx((result.rows[0]["snr"] + result.rows[2]["snr"]) / 2)
    assert mean["si_sdr"] == result.rows[0]["si_sdr"]
    assert mean["left_out"] == {"snr": 1, "si_sdr": 2, "bands": [1, *[2] * 8]}
    assert mean["bands"]["energy"][1:] == result.rows[0]["bands"]["energy"][1:]
    values = [mean["mel"], mean["snr"], mean["si_sdr"], *(value for field in mean["bands"].values() for value in field)]
    assert all(map(math.isfinite, values))


def test_a_bad_file_is_left_out_and_named(codec, files, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    paths = [files[0], tmp_path / "bad.wav", files[1]]
    how = {"num_quantizers": [2], "metrics": ["mel"], "progress": False}
    result, expected = evaluate(codec, paths, **how), evaluate(codec, files, **how)
    assert list(result.unread) == [paths[1]] and "not audio" in str(result.unread[paths[1]])
    assert [row["path"] for row in result.rows] == [str(files[0]), str(files[1])]
    assert result.means[0]["mel"] == expected.means[0]["mel"] and result.seconds == expected.seconds
    assert expected.unread == {}


def test_files_that_are_all_bad_are_refused(codec, tmp_path):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no audio")
    with pytest.raises(AudioError, match=one_line(2, "a.wav", "b.wav")):
        evaluate(codec, sorted(tmp_path.iterdir()), num_quantizers=[1], metrics=[], progress=False)


def test_evaluation_keeps_no_identity_on_the_model(files):
    codec = tiny_codec()
    evaluate(codec, files, num_quantizers=[1], metrics=[], progress=False)
    assert codec.identity is None
