"""The synthesis: exact low band, powers of the bands above it, timing, and finite gradients."""

import hashlib
import math

import pytest
import soundfile as sf
import torch
from models import noise

from codec.config import shipped
from codec.model.analysis import LOG_POWER_MEAN, LOG_POWER_SCALE, SignalAnalysis, without_mean
from codec.model.signal_model import CEILING, SignalModel
from codec.model.synthesis import NOISE_FRAMES, Delay, HarmonicNoiseSynthesis, Noise, OverlapAdd

MODEL = SignalModel(16_000, 320, 1000.0, 20, 5)
DB = 10 / math.log(10)
NOISE, HARMONICS = -100.0, 100.0  # logits


@pytest.fixture(scope="module")
def analysis():
    return SignalAnalysis(MODEL)


@pytest.fixture(scope="module")
def synthesis():
    return HarmonicNoiseSynthesis(MODEL)


@pytest.fixture(scope="module")
def signals():
    speech, _ = sf.read(shipped("clips") / "speech_en-us.flac", dtype="float32")
    speech = torch.from_numpy(speech)[None, None]
    return {"noise": noise(1, 1, 320 * 300, scale=0.1), "speech": speech[..., : speech.shape[-1] // 320 * 320]}


def controls_of(analysis, audio, logit=NOISE):
    features = analysis(audio)
    return torch.cat([features, torch.full((len(audio), 80, features.shape[-1]), logit)], dim=1)


def high_powers(analysis, audio):
    """Log powers above the cutoff `[4, 20, F]`, natural logarithms."""
    return (analysis(audio)[0, 45:] * LOG_POWER_SCALE + LOG_POWER_MEAN).view(4, 20, -1)


def in_time(synthesis, controls):
    """Synthesized audio without the delay, cut to whole hops."""
    audio = synthesis(controls)[..., synthesis.delay :]
    return audio[..., : audio.shape[-1] // 320 * 320]


# ---- The signal comes back


@pytest.mark.parametrize(
    ("name", "logit", "lowest", "highest"),
    [
        ("noise", NOISE, -0.5, 0.3),
        ("noise", HARMONICS, -1.4, 0),
        ("speech", NOISE, -2, 2.3),
        ("speech", HARMONICS, -4, 2),
    ],
)
def test_powers_above_the_cutoff_are_synthesized(analysis, synthesis, signals, name, logit, lowest, highest):
    """Mean power of every band (dB). Measured: noise -0.2 to 0; speech, whose power changes, -1.6 to 2.0.

    With harmonics at least -1.2 and -3.7: the power of that carrier is one at the centres of the bands, not over them.
    """
    audio = signals[name]
    made = in_time(synthesis, controls_of(analysis, audio, logit))
    expected, found = (high_powers(analysis, each)[..., 3:].exp().mean(dim=(0, 2)).log() * DB for each in (audio, made))
    error = found[: len(expected)] - expected
    assert lowest < error.min() and error.max() < highest


def test_powers_of_single_subframes_are_synthesized(analysis, synthesis, signals):
    """Of noise, whose power scatters: the error of one subframe is 1.4 dB."""
    audio = signals["noise"]
    made = in_time(synthesis, controls_of(analysis, audio))
    expected, found = high_powers(analysis, audio)[..., 3:-3], high_powers(analysis, made)[..., 3:]
    assert ((found[..., : expected.shape[-1]] - expected) * DB).square().mean().sqrt() < 1.7


@pytest.mark.parametrize("name", ["noise", "speech"])
def test_the_low_band_is_synthesized_exactly(analysis, signals, name):
    """As the lapped transform alone, to 1e-4 of its largest sample (5e-7 measured)."""
    audio, synthesis = signals[name], HarmonicNoiseSynthesis(MODEL)
    synthesis.high_basis.zero_()
    made = in_time(synthesis, controls_of(analysis, audio))[0, 0]
    padded = torch.nn.functional.pad(audio[0, 0], (320, 0))
    frames = padded.unfold(0, 640, 320) @ without_mean(MODEL.low_basis()).T @ MODEL.low_basis()
    expected = torch.cat([frames[:, :320], frames.new_zeros(1, 320)])
    expected[1:] += frames[:, 320:]
    expected = expected[1:].flatten()[: len(made) - 320]
    torch.testing.assert_close(made[: len(expected)], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_bands_above_the_cutoff_are_in_time_with_the_low_band(analysis, synthesis):
    """The envelope of gated noise, in steps of a millisecond, fits best where it was."""
    audio = noise(1, 1, 320 * 200, scale=0.1)
    gate = (noise(1, 1, 40, seed=1) > 0).float().repeat_interleave(1600, dim=-1)
    audio = audio * gate
    made = in_time(synthesis, controls_of(analysis, audio))
    first, second = (each[0, 0, : 320 * 190].square().view(-1, 16).mean(dim=1).sqrt() for each in (audio, made))
    scores = [float(torch.corrcoef(torch.stack([first, second.roll(-lag)]))[0, 1]) for lag in range(-20, 21)]
    assert abs(scores.index(max(scores)) - 20) <= 1
    assert max(scores) > 0.8


def test_the_delay_is_a_hop_and_a_subframe(synthesis):
    assert synthesis.delay == 320 + 80


# ---- Carriers


def test_the_power_of_carriers_is_one(analysis, synthesis, signals):
    """Noise exactly, in every band and subframe. Harmonics where there is a low band: 0.9 on average, 0.1 to 1.4."""
    controls = controls_of(analysis, signals["noise"])
    coefficients, log_powers, _, _ = torch.split(controls.transpose(1, 2), synthesis.sizes, dim=-1)
    low = synthesis._low_band(coefficients, synthesis._log_powers(log_powers), None)
    harmonics, carrier = synthesis._carriers(low, controls, None)
    power = carrier.square() @ synthesis.high_averages
    torch.testing.assert_close(power, torch.ones_like(power))
    power = (harmonics.square() @ synthesis.high_averages)[0, 8:]
    assert 0.85 < power.mean() < 1.1
    assert power.quantile(0.01) > 0.1 and power.max() < 1.4
    quiet, _ = synthesis._carriers(1e-3 * low, controls, None)
    torch.testing.assert_close(quiet, harmonics, rtol=1e-2, atol=1e-2)  # whatever the gain of the low band


def test_carriers_of_silence_are_finite(synthesis):
    controls = torch.zeros(1, synthesis.size, 5)
    controls[:, :40] = 0
    assert synthesis(controls).isfinite().all()


def test_noise_is_a_function_of_the_frame_number():
    source = Noise(7)
    like = torch.zeros(2, 3, NOISE_FRAMES + 50)
    whole = source(like)
    assert whole.shape == (2, NOISE_FRAMES + 50, 28)
    assert torch.equal(whole[:, NOISE_FRAMES:], whole[:, :50])
    assert not torch.equal(whole[:, 1], whole[:, 0])
    cache = source.cache_at(torch.tensor([3, NOISE_FRAMES - 2]))
    parts = torch.cat([source(block, cache) for block in like[..., :40].split([1, 2, 30, 7], dim=-1)], dim=1)
    assert torch.equal(parts[0], whole[0, 3:43])
    assert torch.equal(parts[1], whole[1, NOISE_FRAMES - 2 :][:40])
    assert cache[source].tolist() == [[[43.0]], [[38.0]]]


def test_a_frame_number_beyond_the_exact_integers_of_float32_is_exact():
    """Training numbers frames by the items drawn so far, which are more than 2^24 in a long run."""
    source = Noise(7)
    assert source.cache_at(torch.tensor([NOISE_FRAMES * 2**40 + 3]))[source].tolist() == [[[3.0]]]


def test_noise_never_changes():
    """Files are decoded with it: other signs would change the audio of old files."""
    signs = Noise(70).signs
    assert signs.shape == (NOISE_FRAMES, 280) and set(signs.unique().tolist()) == {-1.0, 1.0}
    assert hashlib.sha256(signs.numpy().astype("<f4").tobytes()).hexdigest()[:16] == "ee3ef026c46895ba"
    assert abs(float(signs.mean())) < 0.02
    for lag in (1, 70, 280):  # white: no more alike than chance makes them, whose deviation is 0.004
        flat = signs.flatten()
        assert abs(float((flat[lag:] * flat[:-lag]).mean())) < 0.02


def test_frames_are_counted_exactly_in_bfloat16(synthesis):
    """Bfloat16 has no odd numbers beyond 256."""
    controls = noise(1, synthesis.size, 700, scale=0.1).bfloat16()
    assert torch.equal(synthesis(controls), synthesis(controls.float()))


# ---- Extremes and gradients


@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
def test_no_control_makes_infinite_audio_or_gradients(synthesis, value):
    for wild in (torch.full((1, synthesis.size, 6), value), noise(1, synthesis.size, 6).sign() * value):
        controls = wild.requires_grad_()
        audio = synthesis(controls)
        assert audio.isfinite().all()
        audio.square().mean().backward()
        assert controls.grad.isfinite().all()


def test_log_powers_are_limited_to_the_ceiling(synthesis):
    controls = torch.full((1, synthesis.size, 50), 1e4)
    controls[:, :40] = 0.0
    controls[:, 125:] = NOISE
    power = in_time(synthesis, controls)[..., 1000:].square().mean()
    assert float(power.log()) == pytest.approx(CEILING + math.log(7 / 8), abs=0.1)  # 7 of 8 kHz


def test_no_gradient_goes_through_carriers(monkeypatch):
    """The bands above the cutoff learn their envelope and do not change the low band for better harmonics."""
    synthesis = HarmonicNoiseSynthesis(MODEL)
    monkeypatch.setattr(synthesis.low_delay, "forward", lambda low, cache: torch.zeros_like(low))
    controls = noise(1, synthesis.size, 8).requires_grad_()
    synthesis(controls).square().sum().backward()
    assert (controls.grad[:, :45] == 0).all()
    assert (controls.grad[:, 45:].abs().amax(dim=(0, 2)) > 0).all()


def test_gradient_is_that_of_finite_differences():
    small = HarmonicNoiseSynthesis(SignalModel(16_000, 20, 1600.0, 2, 2)).double()
    controls = noise(1, small.size, 3, scale=0.5).double()
    weights = noise(60, seed=1).double()

    def of(envelope):  # not of what the harmonics are made of
        return small(torch.cat([controls[:, :6], envelope], dim=1)).flatten() @ weights

    assert torch.autograd.gradcheck(of, controls[:, 6:].clone().requires_grad_())


# ---- Streams


@pytest.mark.parametrize("blocks", [[1] * 12, [2] * 6, [7, 5], [1, 6, 2, 3]], ids=str)
def test_a_stream_equals_the_whole(synthesis, blocks):
    controls, cache = noise(2, synthesis.size, 12, scale=1.0), {}
    whole = synthesis(controls)
    parts = torch.cat([synthesis(block, cache) for block in controls.split(blocks, dim=-1)], dim=-1)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-5 * float(whole.abs().max()))


def test_delay_and_overlap_add_worked_by_hand():
    frames = torch.tensor([[[1.0, 10, 0], [2, 20, 0], [3, 30, 0], [4, 40, 0]]])
    assert OverlapAdd(2)(frames).tolist() == [[[1, 2, 13, 24, 30, 40]]]
    assert Delay(2)(torch.tensor([[[1.0, 2, 3]]])).tolist() == [[[0, 0, 1]]]
    delay, cache = Delay(2), {}
    parts = [delay(block, cache) for block in torch.arange(1.0, 8)[None, None].split([1, 1, 5], dim=-1)]
    assert torch.cat(parts, dim=-1).tolist() == [[[0, 0, 1, 2, 3, 4, 5]]]
