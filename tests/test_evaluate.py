import copy
import math

import numpy as np
import pytest
import soundfile as sf
import torch
from models import tiny_codec
from tiny_runs import buzz

import codec.eval.evaluate as evaluate_module
from codec.audio import load_audio
from codec.errors import AudioError, ConfigError
from codec.eval.evaluate import Evaluation, count_codes, evaluate, format_table
from codec.eval.metrics import snr
from codec.model.quantizers import codebook_health

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
    assert [row["bitrate"] for row in result.rows] == [800 * 4, 800 * 16] * 2  # 16 kHz / 20 samples, 4 bit a code
    assert result.seconds == pytest.approx(0.3)
    assert all(list(row)[-2:] == ["snr", "mel"] for row in result.rows)


def test_a_score_is_that_of_the_decoded_file(codec, files):
    result = evaluate(codec, files, num_quantizers=[2], metrics=["snr"], progress=False)
    for path, row in zip(files, result.rows, strict=True):
        audio = load_audio(path, RATE)
        scores = []
        for channel in audio[0]:
            decoded = codec.decode(codec.encode(channel[None, None])[:, :2], len(channel))[0, 0]
            scores.append(snr(decoded, channel))
        assert row["snr"] == pytest.approx(sum(scores) / len(scores), abs=1e-4)


def test_means_are_over_files(codec, files):
    result = evaluate(codec, files, num_quantizers=[1, 3], metrics=["snr", "mel"], progress=False)
    for levels, mean in zip((1, 3), result.means, strict=True):
        rows = [row for row in result.rows if row["num_quantizers"] == levels]
        assert list(mean) == ["num_quantizers", "bitrate", "snr", "mel"]
        assert mean["num_quantizers"] == levels and mean["bitrate"] == rows[0]["bitrate"]
        for metric in ("snr", "mel"):
            assert mean[metric] == pytest.approx((rows[0][metric] + rows[1][metric]) / 2)


@pytest.mark.parametrize(
    ("scores", "mean"),
    [([1.0, 4.0], 2.5), ([math.nan, 4.0], 4.0), ([math.nan, math.nan], math.nan)],
)
def test_a_file_without_a_score_is_left_out_of_the_mean(codec, files, monkeypatch, scores, mean):
    left = iter(scores)
    monkeypatch.setattr(evaluate_module, "measure", lambda *_: {"stoi": next(left)})
    result = evaluate(codec, files, num_quantizers=[1], metrics=["stoi"], progress=False)
    assert [row["stoi"] for row in result.rows] == pytest.approx(scores, nan_ok=True)
    assert result.means[0]["stoi"] == pytest.approx(mean, nan_ok=True)


def test_health_is_that_of_all_codes(codec, files):
    result = evaluate(codec, files, num_quantizers=[1], metrics=[], progress=False)
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
    encode = other.encode

    def differing(audio):
        codes = encode(audio)
        codes[0, 1, 0] = (codes[0, 1, 0] + 1) % 16
        return codes

    other.encode = differing
    result = evaluate(codec, files, num_quantizers=[1], metrics=[], reference=other, progress=False)
    num_frames = codec.num_frames(3200) + 2 * codec.num_frames(1600)
    assert result.agreement.tolist() == pytest.approx([1, 1 - len(files) / num_frames, 1, 1])
    assert evaluate(codec, files, num_quantizers=[1], metrics=[], progress=False).agreement is None


def test_counts_of_a_hand_case():
    codes = torch.tensor([[[0, 2, 2], [1, 1, 1]], [[3, 2, 0], [0, 0, 1]]])
    assert count_codes(codes, 4).tolist() == [[2, 0, 3, 1], [2, 4, 0, 0]]


def test_evaluation_changes_no_weight_and_keeps_no_gradient(files, monkeypatch):
    codec = tiny_codec().requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    judged = []
    monkeypatch.setattr(evaluate_module, "measure", lambda decoded, *_: judged.append(decoded) or {"mel": 0.0})
    evaluate(codec, files[:1], num_quantizers=[4], metrics=["mel"], progress=False)
    assert len(judged) == 1 and not judged[0].requires_grad
    for name, tensor in codec.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_wrong_input_is_refused(codec, files, tmp_path):
    with pytest.raises(ConfigError, match="unknown metric 'loudness'"):
        evaluate(codec, files, num_quantizers=[1], metrics=["loudness"], progress=False)
    with pytest.raises(AudioError, match=r"missing\.wav"):
        evaluate(codec, [tmp_path / "missing.wav"], num_quantizers=[1], metrics=[], progress=False)


def test_table_is_aligned():
    means = [
        {"num_quantizers": 1, "bitrate": 750.0, "mel": 1.23456, "si_sdr": -3.0},
        {"num_quantizers": 16, "bitrate": 12_000.0, "mel": 0.3, "si_sdr": math.nan},
    ]
    health = codebook_health(torch.ones(1, 2))
    assert format_table(Evaluation([], means, health, 1.0, None)).splitlines() == [
        "num_quantizers  bitrate    mel  si_sdr",
        "             1      750  1.235      -3",
        "            16    12000    0.3     nan",
    ]
