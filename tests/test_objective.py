"""The terms of a loss, from the output of a training pass."""

import pytest
import torch
from gaussian_runs import short_recipe
from messages import one_line
from models import noise, tiny_codec

from codec.errors import ConfigError
from codec.experiment import build_objective
from codec.model.builder import build_codec
from codec.recipe import LossConfig, PublishedLossConfig
from codec.study.published import published_loss
from codec.train.data.segments import Batch
from codec.train.losses.spectral import waveform_loss

CPU = torch.device("cpu")
NOTHING = {"waveform": 0, "mel": 0, "commitment": 0, "codebook": 0}


def batch_of(audio, lengths=None):
    return Batch(audio, lengths, torch.arange(len(audio)))


def gaussian_codec(name, *words):
    torch.manual_seed(0)
    return build_codec(short_recipe(name, *words).codec)


def test_a_term_of_weight_zero_is_not_computed():
    codec, audio = tiny_codec(), noise(2, 1, 2000)
    objective = build_objective(LossConfig(**NOTHING | {"waveform": 2.0}), codec, CPU)
    output = codec(audio)
    terms = objective(output, batch_of(audio))
    assert list(terms) == ["waveform"]
    assert terms["waveform"].weight == 2.0  # of what lies below 1 kHz
    torch.testing.assert_close(terms["waveform"].value, waveform_loss(output.audio, audio, highest=1 / 8))
    assert objective.mel is None


def test_terms_have_the_names_of_their_weights():
    codec, audio = tiny_codec(), noise(2, 1, 4000)
    terms = build_objective(LossConfig(reconstruction=1.0), codec, CPU)(codec(audio), batch_of(audio))
    assert list(terms) == ["reconstruction", "waveform", "mel", "commitment", "power_error_db"]  # EMA: no codebook loss
    assert terms["power_error_db"].weight == 0  # logged only


def test_reconstruction_is_the_mean_squared_error_of_what_is_real():
    codec, audio = tiny_codec(), noise(2, 1, 100)
    audio[1, :, 40:] = 0.0  # behind the end of the second item
    objective = build_objective(LossConfig(**NOTHING | {"reconstruction": 1.0}), codec, CPU)
    output = codec(audio)
    error = (output.audio - audio).square()
    whole = objective(output, batch_of(audio))["reconstruction"].value
    torch.testing.assert_close(whole, error.mean())
    cut = objective(output, batch_of(audio, torch.tensor([100, 40])))["reconstruction"].value
    torch.testing.assert_close(cut, (error[0].sum() + error[1, :, :40].sum()) / 200)


def test_the_published_objective_equals_the_published_listing_on_the_chosen_codewords():
    codec, audio = gaussian_codec("gaussian_vq_as_published"), noise(6, 1, 16, scale=1.0)
    terms = build_objective(PublishedLossConfig(), codec, CPU)(codec(audio), batch_of(audio))
    table = codec.quantizer.codebooks.table[0]
    chosen = torch.cdist(audio[:, 0], table).argmin(-1)
    expected = published_loss(audio[:, 0], table[chosen][:, None])
    assert list(terms) == ["commitment", "reconstruction"]
    total = sum(term.weight * term.value for term in terms.values())
    torch.testing.assert_close(total, expected.total)
    (gradient,) = torch.autograd.grad(total, codec.quantizer.codebooks.table)
    moved = gradient[0].abs().sum(-1) > 0
    assert set(moved.nonzero().flatten().tolist()) == set(chosen.tolist())


@pytest.mark.parametrize(
    ("codec", "facts"),
    [
        (tiny_codec(), ("gradient", "no encoder")),
        (gaussian_codec("gaussian_vq_ema"), ("gradient", "no encoder")),
        (gaussian_codec("bottlenecks/simvq"), ("gradient", "no encoder")),
        (gaussian_codec("bottlenecks/residual"), ("one quantizer", 2)),
    ],
)
def test_the_published_objective_refuses_another_model(codec, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        build_objective(PublishedLossConfig(), codec, CPU)
