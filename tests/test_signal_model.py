"""The signal model: its bands, and the matrices that encoder and decoder share."""

import math

import pytest
import torch
from messages import one_line
from models import noise, tiny_config

from codec.config import BandsConfig
from codec.errors import ConfigError
from codec.model.builder import build_codec
from codec.model.encoder import start_map
from codec.model.signal_model import (
    SHAPE_EXPONENT,
    SUBFRAMES,
    SignalModel,
    averages,
    cepstral_basis,
    interpolation,
    low_amplitudes,
)

MODEL = SignalModel(16_000, 320, 1000.0, 20, 5)


def test_sizes_at_16_khz():
    assert (MODEL.subframe, MODEL.num_low, MODEL.first_high, MODEL.num_high, MODEL.num_log_powers) == (
        80,
        40,
        10,
        70,
        85,
    )
    frequencies = MODEL.high_frequencies()
    assert (frequencies[0], frequencies[-1]) == (1050, 7950)
    weights = MODEL.high_interpolation(frequencies)
    peaks = frequencies[weights.argmax(dim=1)]
    assert (peaks.diff() > 0).all()  # every band has a coefficient of its own
    assert peaks[0] < 1150 and peaks[-1] > 7500
    assert MODEL.low_basis().shape == (40, 640) and MODEL.high_basis().shape == (70, 160)


def test_both_transforms_are_orthonormal():
    for basis in (MODEL.low_basis(), MODEL.high_basis()):
        torch.testing.assert_close(basis @ basis.T, torch.eye(len(basis)), rtol=0, atol=1e-5)
        first, second = basis.chunk(2, dim=1)  # and to those of the next frame
        assert (first @ second.T).abs().max() < 1e-5


@pytest.mark.parametrize("weights", [MODEL.low_interpolation(), MODEL.high_interpolation(MODEL.high_frequencies())])
def test_interpolation_weights_add_up_to_one_at_a_point_and_averages_over_a_band(weights):
    assert weights.min() >= 0
    torch.testing.assert_close(weights.sum(dim=0), torch.ones(weights.shape[1]))
    assert weights.sum(dim=1).min() > 0  # no band is empty
    torch.testing.assert_close(averages(weights).sum(dim=1), torch.ones(len(weights)))


def test_interpolation_is_exact_at_centres_linear_between_and_constant_outside():
    centres = torch.tensor([1.0, 2, 4, 7])
    torch.testing.assert_close(interpolation(centres, centres), torch.eye(4).double())
    points = torch.tensor([0.0, 1, 1.25, 3, 6.5, 7, 100])
    line = 3 * centres.double() - 1
    expected = 3 * points.double().clamp(1, 7) - 1
    torch.testing.assert_close(line @ interpolation(centres, points), expected)
    assert interpolation(torch.tensor([5.0]), points).tolist() == [[1.0] * 7]


@pytest.mark.parametrize(
    ("bands", "facts"),
    [
        ({"cutoff": 1050}, ("cutoff", "100 Hz", "8000 Hz", 1050)),
        ({"cutoff": 8000}, ("cutoff", "100 Hz", "8000 Hz", 8000)),
        ({"num_bands": 71}, (5, 71, 40, 70, "one band")),
        ({"num_low_bands": 41}, (41, 20, 40)),
    ],
)
def test_bands_that_do_not_fit_the_transforms_are_refused(bands, facts):
    config = tiny_config(bands=BandsConfig(**bands), encoder={"hop_length": 320})
    with pytest.raises(ConfigError, match=one_line("codec.bands", *facts)):
        build_codec(config)


def test_a_hop_that_subframes_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match=one_line("codec.bands", "hop length", SUBFRAMES, 322)):
        build_codec(tiny_config(encoder={"hop_length": 322}))


def test_a_louder_frame_has_larger_amplitudes_of_the_same_shape():
    log_powers, weights = noise(3, 5, scale=4.0), MODEL.low_interpolation()
    quiet, loud = low_amplitudes(log_powers, weights), low_amplitudes(log_powers + 2 * math.log(10), weights)
    torch.testing.assert_close(loud, 10 * quiet, rtol=1e-5, atol=0)
    flat = low_amplitudes(torch.full((1, 5), 2 * math.log(3)), weights)
    torch.testing.assert_close(flat, torch.full((1, 40), 3.0))


def test_the_shape_of_the_envelope_is_whitened_in_part():
    log_powers = torch.tensor([[0.0, 0, 0, 0, -8]])
    amplitudes = low_amplitudes(log_powers, MODEL.low_interpolation())[0]
    ratio = math.log(amplitudes[0] / amplitudes[-1])
    assert ratio == pytest.approx(SHAPE_EXPONENT * 8 / 2, rel=1e-4)


@pytest.mark.parametrize("model", [MODEL, SignalModel(16_000, 20, 1600.0, 2, 2)])
def test_cepstra_are_orthonormal_complete_and_the_smoothest_come_first(model):
    full = cepstral_basis(model, model.num_log_powers)
    assert full.shape == (model.num_log_powers, model.num_log_powers)
    torch.testing.assert_close(full @ full.T, torch.eye(len(full)), rtol=0, atol=1e-5)
    assert full[0].std() < 0.5 * full[0].mean()  # the power as a whole
    few = cepstral_basis(model, 4)
    torch.testing.assert_close(few, full[:4])


def test_a_half_wave_over_time_counts_as_much_as_six_over_the_bands():
    """The first seven patterns have 0 to 6 half-waves over the bands, the eighth has one over the subframes."""
    over_time = cepstral_basis(MODEL, 9)[:, 5:].view(9, SUBFRAMES, 20)
    changes = (over_time - over_time.mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2))
    assert (changes[:7] < 1e-6).all() and changes[7] > 0.1


def test_smooth_log_powers_need_few_cepstra():
    """A slope over the bands that rises within the frame: 24 of 85 numbers keep it within 0.5 dB."""
    band = torch.linspace(0, 1, 25)
    low, high = -6 * band[:5], -6 * band[5:] + torch.linspace(0, 3, SUBFRAMES)[:, None]
    log_powers = torch.cat([low, high.flatten()])
    basis = cepstral_basis(MODEL, 24)
    error = log_powers - basis.T @ (basis @ log_powers)
    assert error[5:].square().mean().sqrt() < 0.5 * math.log(10) / 10


@pytest.mark.parametrize("latent_dim", [12, 48, 64, 125, 140])
def test_the_start_map_is_orthonormal_and_a_third_of_it_is_the_envelope(latent_dim):
    rows = start_map(MODEL, latent_dim)
    assert rows.shape == (latent_dim, 125)
    used = rows[rows.norm(dim=1) > 0]
    assert len(used) == min(latent_dim, 125)
    torch.testing.assert_close(used @ used.T, torch.eye(len(used)), rtol=0, atol=1e-5)
    assert (used[:, 40:].norm(dim=1) > 0.5).sum() >= latent_dim / 3
