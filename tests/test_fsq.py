"""Finite scalar quantization: the grid, its exact integer codes, gradients and configuration."""

import itertools
import math

import pytest
import torch
from messages import one_line
from models import assert_same_state, noise, seeded, state_of, tiny_codec, tiny_config

from codec.bitstream import Bitstream
from codec.config import (
    CodecConfig,
    FSQConfig,
    IdentityDecoderConfig,
    IdentityEncoderConfig,
    QuantizerConfig,
    from_dict,
    to_dict,
)
from codec.errors import ConfigError
from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.inference.pretrained import load_codec, save_codec
from codec.model.builder import build_codec
from codec.model.digest import model_identity
from codec.model.quantizer.fsq import FiniteScalarQuantizer
from codec.model.quantizer.initialization import Initialization

GRIDS = [(4, 4, 4, 4, 4), (8, 5, 5, 5), (2,), (3, 2)]
POWERS_OF_TWO = [(4, 4, 4, 4, 4), (2,), (2, 4, 8, 16), (256, 128, 2)]
IDENTITY = {"encoder": IdentityEncoderConfig(), "decoder": IdentityDecoderConfig()}


@pytest.fixture(params=GRIDS, ids=str)
def steps(request):
    return request.param


def make_fsq(steps, *, latent_dim=None):
    """One latent channel a value and no change by the projections, or `latent_dim` channels and random projections."""
    quantizer = FiniteScalarQuantizer(steps, latent_dim=latent_dim or len(steps))
    if latent_dim:
        quantizer.project_in.weight.data.copy_(noise(len(steps), latent_dim, 1, seed=3, scale=1.0))
        quantizer.project_out.weight.data.copy_(noise(latent_dim, len(steps), 1, seed=4, scale=1.0))
    return quantizer


def all_codes(steps):
    """Every code, `[1, 1, N]`."""
    return torch.arange(math.prod(steps))[None, None]


def code_space(quantizer, latents):
    """Bounded values `[B, d, F]`."""
    return torch.tanh(quantizer.project_in(latents))


def latents_at(values):
    """Latents of a quantizer without projections whose bounded values are these; exact up to the last digits."""
    return torch.atanh(values)


# ---- The grid


def test_the_default_grid_worked_by_hand():
    quantizer = make_fsq((4,))
    assert quantizer.decode(all_codes((4,))).flatten().tolist() == [-0.75, -0.25, 0.25, 0.75]
    values = torch.tensor([-0.999, -0.51, -0.49, -0.01, 0.01, 0.49, 0.51, 0.999])
    assert quantizer.encode(latents_at(values)[None, None]).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_first_value_is_the_lowest_digit():
    """Code 1 * 1 + 0 * 3 + 1 * 6 = 7 of the grid 3 x 2 x 2."""
    quantizer = make_fsq((3, 2, 2))
    assert quantizer.codes_to_digits(torch.tensor([0, 1, 3, 7, 11])).tolist() == [
        [0, 0, 0],
        [1, 0, 0],
        [0, 1, 0],
        [1, 0, 1],
        [2, 1, 1],
    ]
    assert quantizer.decode(torch.tensor([[[7]]])).flatten().tolist() == [0.0, -0.5, 0.5]


def test_values_are_the_centres_of_equal_cells(steps):
    """Digit k of L: the middle of -1 + 2 k / L and -1 + 2 (k + 1) / L."""
    values = make_fsq(steps).decode(all_codes(steps))[0].T.double()
    digits = itertools.product(*(range(number) for number in reversed(steps)))
    expected = [
        [-1 + (2 * digit + 1) / number for digit, number in zip(reversed(row), steps, strict=True)] for row in digits
    ]
    torch.testing.assert_close(values, torch.tensor(expected).double(), rtol=0, atol=1e-7)


def test_codes_and_digits_are_one_to_one(steps):
    quantizer = make_fsq(steps)
    codes = torch.arange(math.prod(steps))
    digits = quantizer.codes_to_digits(codes)
    assert digits.dtype == torch.int64
    assert (digits >= 0).all()
    assert (digits < torch.tensor(steps)).all()
    assert len(digits.unique(dim=0)) == len(codes)
    back = quantizer.digits_to_codes(digits)
    assert back.dtype == torch.int64
    assert torch.equal(back, codes)
    shaped = quantizer.codes_to_digits(codes.view(1, 1, -1))
    assert torch.equal(shaped, digits[None, None])
    assert torch.equal(quantizer.digits_to_codes(shaped), codes[None, None])


def test_the_largest_codebook_is_exact():
    """65,536 codes: no float16 or bfloat16 could hold them."""
    steps = (256, 256)
    quantizer = make_fsq(steps)
    codes = all_codes(steps)
    for dtype in (torch.float32, torch.bfloat16):
        assert torch.equal(quantizer.to(dtype).digits_to_codes(quantizer.codes_to_digits(codes)), codes)
    values = make_fsq(steps).decode(codes)
    assert torch.equal(make_fsq(steps).encode(latents_at(values)), codes)


def test_a_quantized_vector_has_the_code_that_it_came_from(steps):
    quantizer = make_fsq(steps)
    codes = all_codes(steps)
    values = quantizer.decode(codes)
    assert torch.equal(quantizer.encode(latents_at(values)), codes)
    assert torch.equal(quantizer.decode(quantizer.encode(latents_at(values))), values)


@pytest.mark.parametrize("steps", POWERS_OF_TWO, ids=str)
def test_values_of_powers_of_two_are_exact_in_bfloat16(steps):
    quantizer = make_fsq(steps)
    codes = all_codes(steps)
    values = quantizer.decode(codes)
    assert torch.equal(values.bfloat16().float(), values)
    assert torch.equal(quantizer.encode(latents_at(values.bfloat16().float())), codes)


def test_values_within_a_cell_have_its_code_up_to_the_edges(steps):
    """The edges are where they should be to one part in 10,000 of a value."""
    quantizer = make_fsq(steps)
    codes = all_codes(steps)
    half = (1 / torch.tensor(steps) - 1e-4)[:, None]
    centres = quantizer.decode(codes)
    for signs in itertools.product((-1.0, 0.0, 1.0), repeat=len(steps)):
        within = centres + torch.tensor(signs)[:, None] * half
        assert torch.equal(quantizer.encode(latents_at(within)), codes)


@pytest.mark.parametrize("size", [10.0, 20.0, 1e4, 1e38])
def test_saturated_values_are_in_the_outer_cells(steps, size):
    """The hyperbolic tangent of 10 is 1 in float32."""
    assert torch.tanh(torch.tensor(10.0)) == 1
    quantizer = make_fsq(steps)
    corners = torch.tensor(list(itertools.product((-size, size), repeat=len(steps)))).T[None]
    expected = (corners[0].T > 0) * (torch.tensor(steps) - 1)
    codes = quantizer.encode(corners)
    assert torch.equal(quantizer.codes_to_digits(codes[0, 0]), expected)
    assert codes.max() == math.prod(steps) - 1
    assert codes.min() == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_latents_that_are_not_finite_have_a_valid_code(steps, bad):
    """A training step with an infinite loss must run to its end, where it is skipped."""
    latents = noise(2, len(steps), 10)
    latents[0, 0, 3] = bad
    output = make_fsq(steps)(latents)
    for codes in (output.codes, make_fsq(steps).encode(latents)):
        assert codes.min() >= 0
        assert codes.max() < math.prod(steps)
    assert output.statistics.counts.sum() == 20


def test_huge_inputs_have_finite_gradients(steps):
    latents = (1e30 * noise(2, len(steps), 10)).requires_grad_()
    output = make_fsq(steps)(latents)
    (to_latents,) = torch.autograd.grad(output.quantized.sum(), latents)
    assert output.quantized.abs().max() < 1
    assert (to_latents == 0).all()


def test_zero_is_in_the_middle():
    for number in (3, 5, 7):
        code = make_fsq((number,)).encode(torch.zeros(1, 1, 1))
        assert make_fsq((number,)).decode(code) == 0
        assert code == number // 2
    for number in (2, 4, 8):  # on an edge: the upper cell
        assert make_fsq((number,)).encode(torch.zeros(1, 1, 1)) == number // 2


@pytest.mark.parametrize("latent_dim", [None, 9])
def test_the_error_of_a_value_is_at_most_half_a_cell(steps, latent_dim):
    quantizer = make_fsq(steps, latent_dim=latent_dim)
    latents = noise(4, latent_dim or len(steps), 500, scale=1.0)
    centres = make_fsq(steps).decode(quantizer.encode(latents))
    errors = (centres - code_space(quantizer, latents)).abs().amax(dim=(0, 2))
    assert (errors <= 1 / torch.tensor(steps) + 1e-6).all()
    assert (errors > 0.9 / torch.tensor(steps)).all()


def test_normal_data_uses_every_cell(steps):
    """Values of standard deviation 0.8: half of them are beyond the inner edges of four steps, at atanh 0.5."""
    quantizer = make_fsq(steps)
    output = quantizer(noise(10, len(steps), 3000, scale=0.8))
    assert (output.statistics.counts > 0).all()
    assert output.statistics.counts.shape == (1, math.prod(steps))


# ---- One path


@pytest.mark.parametrize("latent_dim", [None, 9])
def test_decoded_codes_are_the_quantized_latents(steps, latent_dim):
    quantizer = make_fsq(steps, latent_dim=latent_dim)
    latents = noise(3, latent_dim or len(steps), 50, scale=1.0)
    output, codes = quantizer(latents), quantizer.encode(latents)
    assert codes.shape == (3, 1, 50)
    assert codes.dtype == torch.int64
    assert torch.equal(quantizer.encode(latents, 1), codes)
    assert torch.equal(output.codes, codes)
    assert torch.equal(output.quantized, quantizer.decode(codes))
    assert torch.equal(quantizer(latents, num_active=torch.ones(3).long()).quantized, output.quantized)


@pytest.mark.parametrize("latent_dim", [None, 9])
def test_codes_are_float32_under_autocast(steps, latent_dim):
    quantizer = make_fsq(steps, latent_dim=latent_dim)
    latents = noise(3, latent_dim or len(steps), 2000, scale=1.0)
    expected = quantizer(latents)
    rounded = torch.tanh(quantizer.project_in(latents)).bfloat16().float().clamp(-0.999, 0.999)
    assert not torch.equal(make_fsq(steps).encode(latents_at(rounded)), expected.codes) or steps == (2,)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.encode(latents), expected.codes)
        output = quantizer(latents)
    assert torch.equal(output.codes, expected.codes)
    assert torch.equal(output.statistics.counts, expected.statistics.counts)


def test_a_grid_has_no_losses():
    output = make_fsq((4, 4), latent_dim=9)(noise(3, 9, 50).requires_grad_())
    assert output.commitment_loss == 0
    assert output.codebook_loss == 0
    assert not make_fsq((4, 4)).has_codebook_loss


# ---- Gradients


def test_the_gradient_of_latents_is_that_of_the_hyperbolic_tangent(steps):
    """1 - tanh(x)^2, times the identity of the straight-through step."""
    quantizer = make_fsq(steps)
    latents = noise(3, len(steps), 50, scale=1.0).requires_grad_()
    weight = noise(3, len(steps), 50, seed=1)
    (to_latents,) = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), latents)
    torch.testing.assert_close(to_latents, weight * (1 - torch.tanh(latents.detach()).square()))


def test_the_input_projection_learns_as_if_nothing_were_quantized(steps):
    quantizer = make_fsq(steps, latent_dim=9)
    latents, weight = noise(3, 9, 50).requires_grad_(), noise(3, 9, 50, seed=1)
    wanted = [latents, quantizer.project_in.weight]
    ours = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), wanted)
    plain = quantizer.project_out(torch.tanh(quantizer.project_in(latents)))
    expected = torch.autograd.grad((plain * weight).sum(), wanted)
    for found, without in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, without)
        assert found.abs().max() > 0
    assert torch.equal(quantizer.bypass(latents).quantized, plain)


def test_the_output_projection_learns_from_the_quantized_values(steps):
    quantizer = make_fsq(steps, latent_dim=9)
    latents, weight = noise(3, 9, 50), noise(3, 9, 50, seed=1)
    loss = (quantizer(latents).quantized * weight).sum()
    (found,) = torch.autograd.grad(loss, quantizer.project_out.weight)
    values = make_fsq(steps).decode(quantizer.encode(latents))
    torch.testing.assert_close(found[..., 0], torch.einsum("bof,bif->oi", weight, values))


def test_a_codec_that_is_a_grid_learns_gaussian_vectors():
    """Eight variables, of which two are kept at four steps each: the best four steps lose 0.1175 of a variance (Max,
    1960, table I), equally spaced ones 0.1188, and all is lost of the other six: (6 + 2 * 0.1188) / 8 = 0.780."""
    codec = build_codec(tiny_config(latent_dim=8, quantizer=FSQConfig(steps=(4, 4)), **IDENTITY))
    held_out = noise(1, 1, 8 * 20_000, seed=99, scale=1.0)

    def share_lost():
        with torch.no_grad():
            return ((codec(held_out).audio - held_out).square().mean() / held_out.square().mean()).item()

    assert share_lost() > 0.81  # the tanh of the signal itself, unscaled
    optimizer = torch.optim.Adam(codec.parameters(), lr=0.02)
    for step in range(200):
        audio = noise(1, 1, 8 * 1024, seed=step, scale=1.0)
        loss = (codec(audio).audio - audio).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert 0.775 < share_lost() < 0.785


# ---- Statistics and state


def test_padded_frames_are_not_counted(steps):
    quantizer = make_fsq(steps, latent_dim=9)
    mask = torch.arange(40) < torch.tensor([40, 7, 0])[:, None]
    codes, results = quantizer.encode(noise(3, 9, 40))[:, 0], []
    for garbage in (0.0, 1000.0):
        padded = torch.where(mask[:, None], noise(3, 9, 40), garbage * noise(3, 9, 40, seed=7))
        output = quantizer(padded, mask=mask)
        results.append(output.statistics.counts)
        assert output.commitment_loss == 0
    expected = torch.bincount(codes[mask], minlength=math.prod(steps)).float()
    for counts in results:
        assert torch.equal(counts, expected[None])
    everything = quantizer(noise(3, 9, 40)).statistics.counts
    assert torch.equal(everything[0], torch.bincount(codes.flatten(), minlength=math.prod(steps)).float())


@pytest.mark.parametrize("training", [True, False])
def test_only_the_optimizer_changes_a_grid(steps, training):
    quantizer = make_fsq(steps, latent_dim=9).train(training)
    before, latents = state_of(quantizer), noise(3, 9, 40)
    statistics = quantizer(latents).statistics
    quantizer.bypass(latents)
    generator = seeded(0)
    quantizer.initialize(latents, initialization=Initialization(), generator=generator)
    revived = quantizer.update(statistics, generator)
    quantizer.restart_statistics()
    assert_same_state(quantizer, before)
    assert [name for name, _ in quantizer.named_parameters()] == ["project_in.weight", "project_out.weight"]
    assert torch.equal(generator.get_state(), seeded(0).get_state())
    for flags in (revived, quantizer.dead_codewords()):
        assert flags.shape == (1, math.prod(steps))
        assert flags.dtype == torch.bool
        assert not flags.any()


# ---- Codecs


def test_a_codec_with_a_grid_is_saved_and_makes_bitstreams(tmp_path, steps):
    codec = tiny_codec(quantizer=FSQConfig(steps=steps))
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert loaded.config == codec.config
    audio = noise(1, 2, 500)
    codes = codec.encode(audio.transpose(0, 1))
    assert torch.equal(loaded.encode(audio.transpose(0, 1)), codes)
    bitstream = Bitstream.from_bytes(compress(codec, audio).to_bytes())
    assert bitstream.header.codebook_size == math.prod(steps)
    assert torch.equal(torch.from_numpy(bitstream.codes), codes)
    expected = codec.decode(codes, 500).transpose(0, 1)
    torch.testing.assert_close(decompress(loaded, bitstream), expected, rtol=0, atol=1e-5)


def test_models_of_other_grids_are_other_models():
    """Their tensors may be equal, but their codes stand for other values."""
    codecs = [build_codec(tiny_config(quantizer=FSQConfig(steps=steps), **IDENTITY)) for steps in ((8, 2), (2, 8))]
    codes = torch.arange(16)[None, None]
    assert not torch.equal(codecs[0].decode(codes), codecs[1].decode(codes))
    assert model_identity(codecs[0]) != model_identity(codecs[1])


# ---- Configuration


def test_a_grid_is_configured_by_its_kind(steps):
    config = from_dict(CodecConfig, {"quantizer": {"kind": "fsq", "steps": list(steps)}}, source="here")
    assert config.quantizer == FSQConfig(steps=steps)
    assert from_dict(CodecConfig, to_dict(config), source="here") == config
    assert config.quantizer.codebook_size == math.prod(steps)
    assert config.quantizer.num_quantizers == 1
    assert config.quantizer.quantizer_dropout == 0
    assert config.bits_per_frame == math.log2(math.prod(steps))
    quantizer = build_codec(tiny_config(quantizer=config.quantizer)).quantizer
    assert isinstance(quantizer, FiniteScalarQuantizer)
    assert (quantizer.num_quantizers, quantizer.codebook_size) == (1, math.prod(steps))
    assert quantizer.project_in.weight.shape == (len(steps), 12, 1)


def test_the_default_grid_has_the_codes_of_the_default_codebook():
    assert FSQConfig().steps == (4, 4, 4, 4, 4)
    assert FSQConfig().codebook_size == QuantizerConfig().codebook_size == 1024


@pytest.mark.parametrize(
    ("quantizer", "facts"),
    [
        ({"steps": []}, ("quantizer", "steps", 1, 2, 65536)),
        ({"steps": [256, 257]}, ("quantizer", "steps", 65792, 2, 65536)),
        ({"steps": [4, 1]}, ("quantizer.steps.1", 2, 1)),
        ({"steps": [4, 2.5]}, ("quantizer.steps.1", "integer", 2.5)),
        ({"num_quantizers": 2}, ("quantizer.num_quantizers", "quantizer.kind")),
        ({"step": [4, 4]}, ("quantizer.step", "quantizer.steps")),
    ],
)
def test_impossible_grids_are_refused(quantizer, facts):
    with pytest.raises(ConfigError, match=one_line("here", *facts)):
        from_dict(CodecConfig, {"quantizer": {"kind": "fsq"} | quantizer}, source="here")


def test_the_largest_grid_is_possible():
    assert FSQConfig(steps=(256, 256)).codebook_size == 65536
    assert FSQConfig(steps=(2,) * 16).codebook_size == 65536
