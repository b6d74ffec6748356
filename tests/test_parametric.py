import pytest
import soundfile as sf
import torch
from messages import one_line
from models import noise
from safetensors.torch import load_file, save_file
from tiny_runs import buzz, write_clips

from codec.audio.resampling import resample
from codec.errors import ModelError
from codec.eval.metrics.bands import measure_bands
from codec.eval.metrics.clip import Clip, Original
from codec.eval.metrics.waveform import snr
from codec.eval.systems.parametric import SIGNAL, ParametricCodec, fit, load

RATE = 16_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sorted(write_clips(tmp_path_factory.mktemp("speech")).iterdir())


@pytest.fixture(scope="module")
def path(files, tmp_path_factory):
    path = tmp_path_factory.mktemp("codebooks") / "parametric.safetensors"
    fit(files, path, progress=False)
    return path


def clip():
    """A clip of those that the codebooks were fitted to, `[1, T]`."""
    return torch.from_numpy(buzz(0.3, 110)).float()[None]


def test_the_waveform_below_the_cutoff_and_the_powers_above_come_back(path):
    audio = clip()
    coded = ParametricCodec(path, 16)(audio)
    assert coded.audio.shape == audio.shape
    # Fewer frames were fitted than there are codewords, so every frame has one of its own.
    low, ours = (resample(resample(each, RATE, 1600), 1600, RATE)[0, 400:4400] for each in (audio, coded.audio))
    assert snr(Clip(ours, RATE), Clip(low, RATE)) > 15
    bands = measure_bands(coded.audio, Original(audio, RATE))
    assert all(-4 < error < 4 for error in bands.energy[3:])


def test_more_levels_code_the_low_band_better(tmp_path):
    path = tmp_path / "noise.safetensors"
    sf.write(tmp_path / "noise.wav", noise(40 * RATE, scale=0.1).numpy(), RATE)  # more frames than codewords
    fit([tmp_path / "noise.wav"], path, progress=False)
    audio, model = noise(1, RATE, seed=1, scale=0.1), load(path)
    errors = []
    for levels in (3, 4, 6):
        codes = model.encode(audio, levels)
        coefficients, log_powers = model.analyse(audio)
        decoded = model.envelope.decode(codes.envelope) / model.weights
        target = model.normalised(coefficients, log_powers, decoded)
        errors.append(float((model.low.decode(codes.low) - target).square().mean()))
    assert errors[0] > errors[1] > errors[2]


def test_the_size_is_ten_bits_a_code(path):
    coded = ParametricCodec(path, 6)(noise(2, 320 * 10 - 400, scale=0.1))
    assert coded.codes.shape == (2, 6, 10) and coded.codes.max() < 1024
    assert coded.num_bytes == 2 * 6 * 10 * 10 / 8
    assert coded.nominal_bitrate == 2 * 3000
    assert ParametricCodec(path, 6).setting == "3 kbit/s"


def test_a_quieter_recording_is_as_good(path):
    model, audio = load(path), clip()
    loud, quiet = (torch.cat(model.analyse(gain * audio), dim=1) for gain in (1.0, 0.1))
    torch.testing.assert_close(loud[:, : SIGNAL.num_low], quiet[:, : SIGNAL.num_low], rtol=0.02, atol=0.02)


def test_the_same_seed_fits_the_same_codebooks(files, path, tmp_path):
    for seed in (0, 1):
        fit(files, tmp_path / f"{seed}.safetensors", seed=seed, progress=False)
    same, other = (load_file(tmp_path / f"{seed}.safetensors") for seed in (0, 1))
    first = load_file(path)
    assert set(first) == {"envelope", "low"}
    assert all(torch.equal(same[name], first[name]) for name in first)
    assert not torch.equal(other["low"], first["low"])


def test_a_file_that_holds_no_codebooks(tmp_path):
    with pytest.raises(ModelError, match=one_line(tmp_path / "none.safetensors")):
        load(tmp_path / "none.safetensors")
    save_file({"low": torch.zeros(14, 16, 40)}, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match=one_line(tmp_path / "a.safetensors", "fit")):
        ParametricCodec(tmp_path / "a.safetensors", 3)(torch.zeros(1, 100))
