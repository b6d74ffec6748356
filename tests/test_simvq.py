"""SimVQ: codewords are fixed vectors times one learned matrix per level, so that every step moves them all."""

from functools import partial

import pytest
import torch
from einops import rearrange
from messages import one_line
from models import assert_same_state, noise, seeded, state_of, tiny_codec, tiny_config

from codec.config import CodecConfig, QuantizerConfig, from_dict
from codec.errors import ConfigError
from codec.inference.pretrained import load_codec, save_codec
from codec.model.builder import build_codec
from codec.model.digest import model_identity
from codec.model.quantizer.codebooks import SimVQCodebooks
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ProductQuantizer, ResidualQuantizer
from codec.model.quantizer.search import nearest

STRUCTURES = {"residual": ResidualQuantizer, "product": ProductQuantizer}
SIMVQ = QuantizerConfig(update="simvq", dead_threshold=0.0, num_quantizers=4, codebook_size=16, codebook_dim=8)


@pytest.fixture(params=STRUCTURES)
def structure(request):
    return request.param


def make_simvq(*, num_quantizers=2, codebook_size=16, codebook_dim=3, dead_threshold=0.0, normalize=False, maps=True):
    """Codebooks with random maps, or new ones, whose maps are the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        codebooks = SimVQCodebooks(
            num_quantizers,
            codebook_size,
            codebook_dim,
            decay=0.9,
            dead_threshold=dead_threshold,
            normalize=normalize,
        )
    if maps:
        codebooks.map.data += noise(*codebooks.map.shape, seed=5)
    return codebooks


def make_quantizer(structure="residual", **facts):
    """A quantizer of latents of six channels: two levels of six elements, or two parts of three."""
    codebooks = make_simvq(codebook_dim=6 if structure == "residual" else 3, **facts)
    return STRUCTURES[structure](codebooks, latent_dim=6, codebook_dim=None)


# ---- The table


def test_a_codeword_is_the_map_of_a_fixed_vector():
    """One by one, in float64."""
    codebooks = make_simvq()
    table = codebooks.table
    assert table.shape == (2, 16, 3)
    for level in range(2):
        for row in range(16):
            fixed, matrix = codebooks.fixed[level, row].double(), codebooks.map[level].double()
            expected = sum(fixed[number] * matrix[number] for number in range(3))
            torch.testing.assert_close(table[level, row], expected.float())


def test_the_map_starts_as_the_identity():
    codebooks = make_simvq(maps=False)
    assert torch.equal(codebooks.map, torch.eye(3).expand(2, 3, 3))
    assert torch.equal(codebooks.table, codebooks.fixed)
    assert not torch.equal(codebooks.fixed[0], codebooks.fixed[1])


def test_only_the_map_can_learn():
    codebooks = make_simvq()
    assert [name for name, _ in codebooks.named_parameters()] == ["map"]
    assert sorted(codebooks.state_dict()) == ["counts", "fixed", "map"]
    assert not codebooks.fixed.requires_grad
    assert codebooks.has_codebook_loss


def test_the_table_is_float32_under_autocast():
    codebooks = make_simvq()
    expected = codebooks.table
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codebooks.table, expected)


# ---- Losses and gradients


def test_the_codebook_loss_reaches_the_map_and_nothing_else(structure):
    """Its gradient is that of a table of parameters, through fixed @ map."""
    quantizer, latents = make_quantizer(structure), noise(3, 6, 40).requires_grad_()
    codebooks, output = quantizer.codebooks, quantizer(latents)
    (to_map,) = torch.autograd.grad(output.codebook_loss, codebooks.map, retain_graph=True)
    assert torch.autograd.grad(output.codebook_loss, latents, allow_unused=True) == (None,)
    counts, sums = output.statistics.counts, output.statistics.sums
    elements = 2 * 3 * 40 * codebooks.table.shape[-1]
    to_table = 2 * (counts[..., None] * codebooks.table.detach() - sums) / elements
    torch.testing.assert_close(to_map, codebooks.fixed.mT @ to_table)
    assert to_map.abs().sum(dim=(1, 2)).min() > 0
    assert codebooks.fixed.grad is None


def test_the_encoder_gets_its_commitment_and_the_identity(structure):
    quantizer, latents = make_quantizer(structure), noise(3, 6, 40).requires_grad_()
    weight, output = noise(3, 6, 40, seed=1), quantizer(latents)
    wanted = [latents, quantizer.codebooks.map]
    loss = (output.quantized * weight).sum()
    to_latents, to_map = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    assert torch.equal(to_latents, weight)
    assert to_map is None
    to_latents, to_map = torch.autograd.grad(output.commitment_loss, wanted, allow_unused=True)
    assert to_latents.abs().max() > 0
    assert to_map is None
    torch.testing.assert_close(output.commitment_loss, output.codebook_loss)


def test_every_codeword_moves_when_only_one_was_chosen(structure):
    quantizer = make_quantizer(structure)
    latents = noise(1, 6, 1).expand(4, 6, 10)
    output = quantizer(latents)
    assert ((output.statistics.counts > 0).sum(-1) == 1).all()
    before = quantizer.codebooks.table.detach().clone()
    optimizer = torch.optim.SGD(quantizer.parameters(), lr=1.0)
    output.codebook_loss.backward()
    optimizer.step()
    moved = (quantizer.codebooks.table - before).norm(dim=-1)
    assert (moved > 0).all()
    chosen = output.statistics.counts > 0
    error = (output.statistics.sums[chosen] / 40 - quantizer.codebooks.table[chosen]).norm(dim=-1)
    assert (error < (output.statistics.sums[chosen] / 40 - before[chosen]).norm(dim=-1)).all()


def test_the_map_of_an_unused_level_gets_no_gradient():
    quantizer = make_quantizer()
    output = quantizer(noise(3, 6, 40), num_active=torch.ones(3).long())
    (to_map,) = torch.autograd.grad(output.codebook_loss, quantizer.codebooks.map)
    assert to_map[0].abs().max() > 0
    assert (to_map[1] == 0).all()


def test_the_warm_up_gives_the_map_a_gradient_of_zero(structure):
    """Training on several processes needs a gradient for each parameter."""
    quantizer = make_quantizer(structure)
    output = quantizer.bypass(noise(3, 6, 40))
    assert output.codebook_loss == 0
    (to_map,) = torch.autograd.grad(output.codebook_loss, quantizer.codebooks.map)
    assert torch.equal(to_map, torch.zeros_like(to_map))


def test_the_map_learns_to_fit_the_vectors(structure):
    """Vectors of a fifth of the size that the codewords were made for."""
    quantizer = make_quantizer(structure, codebook_size=64, maps=False)
    fixed = quantizer.codebooks.fixed.clone()
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    losses = []
    for step in range(100):
        loss = quantizer(noise(1, 6, 500, seed=step, scale=0.2)).codebook_loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert losses[-1] < 0.04  # of the vectors themselves
    assert torch.equal(quantizer.codebooks.fixed, fixed)


# ---- State


@pytest.mark.parametrize("training", [True, False])
def test_a_pass_changes_no_state(structure, training):
    quantizer = make_quantizer(structure).train(training)
    before, latents = state_of(quantizer), noise(3, 6, 40)
    quantizer(latents, num_active=torch.tensor([1, 2, 2]))
    quantizer.decode(quantizer.encode(latents))
    assert_same_state(quantizer, before)


@pytest.mark.parametrize("normalize", [False, True])
def test_codes_are_of_the_nearest_codewords(structure, normalize):
    quantizer = make_quantizer(structure, normalize=normalize)
    latents = noise(3, 6, 40)
    codes, table = quantizer.encode(latents), quantizer.codebooks.table
    rows = rearrange(latents, "b d f -> b f d")
    first = rows if structure == "residual" else rows[..., :3]
    expected = nearest(rearrange(first, "b f d -> (b f) d"), table[0], normalize=normalize).view(3, 40)
    assert torch.equal(codes[:, 0], expected)
    assert torch.equal(quantizer(latents).codes, codes)
    assert torch.equal(quantizer(latents).quantized, quantizer.decode(codes))


@pytest.mark.parametrize("method", ["kmeans", "data", "normal"])
def test_initialisation_writes_the_fixed_codewords_and_resets_their_map(method):
    codebooks, vectors = make_simvq(), noise(200, 3)
    before = state_of(codebooks)
    initialization = Initialization(method, scale=0.5)
    codebooks.initialize(1, vectors, initialization=initialization, generator=seeded(0))
    expected, counts = initialization.draw(vectors, 16, generator=seeded(0), normalize=False)
    assert torch.equal(codebooks.fixed[1], expected)
    assert torch.equal(codebooks.map[1], torch.eye(3))
    assert torch.equal(codebooks.table[1], expected)
    torch.testing.assert_close(codebooks.counts[1], counts / counts.mean())
    for key, tensor in codebooks.state_dict().items():
        assert torch.equal(tensor[0], before[key][0])
    assert codebooks.map.requires_grad


def test_an_initialised_quantizer_fits_its_vectors(structure):
    quantizer, latents = make_quantizer(structure), noise(3, 6, 100)
    quantizer.initialize(latents, initialization=Initialization(), generator=seeded(0))
    error = (quantizer.decode(quantizer.encode(latents)) - latents).square().mean()
    assert error < 0.5 * latents.square().mean()
    assert torch.equal(quantizer.codebooks.map, torch.eye(quantizer.codebooks.map.shape[-1]).expand(2, -1, -1))


def test_an_update_counts_uses_and_moves_nothing(structure):
    quantizer = make_quantizer(structure)
    quantizer.codebooks.counts[:, 3] = 0.0  # hardly used, and yet it stays
    before, latents = state_of(quantizer.codebooks), noise(3, 6, 40)
    statistics = quantizer(latents).statistics
    assert not quantizer.update(statistics, partial(seeded, 0)).any()
    assert not quantizer.dead_codewords().any()
    torch.testing.assert_close(quantizer.codebooks.counts, 0.9 * before["counts"] + 0.1 * statistics.counts)
    for key in ("fixed", "map"):
        assert torch.equal(quantizer.codebooks.state_dict()[key], before[key])
    quantizer.restart_statistics()
    assert torch.equal(quantizer.codebooks.counts, torch.ones(2, 16))


# ---- Configuration and files


@pytest.mark.parametrize("facts", [{}, {"structure": "product"}, {"codebook_dim": None}], ids=str)
def test_a_saved_model_comes_back_with_its_codes(tmp_path, facts):
    changes = {"update": "simvq", "dead_threshold": 0.0, "num_quantizers": 4, "codebook_size": 16, "codebook_dim": 8}
    codec = tiny_codec(quantizer=QuantizerConfig(**changes | facts))
    codebooks = codec.quantizer.codebooks
    assert isinstance(codebooks, SimVQCodebooks)
    codebooks.map.data += noise(*codebooks.map.shape, seed=5)
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    for key in ("fixed", "map"):
        assert torch.equal(getattr(loaded.quantizer.codebooks, key), getattr(codebooks, key))
    audio = noise(2, 1, 500)
    codes = codec.encode(audio)
    assert torch.equal(loaded.encode(audio), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))
    assert model_identity(loaded) == model_identity(codec)


@pytest.mark.parametrize("name", ["fixed", "map"])
def test_the_identity_of_a_model_covers_fixed_vectors_and_maps(name):
    codec = build_codec(tiny_config(quantizer=SIMVQ))
    identity = model_identity(codec)
    getattr(codec.quantizer.codebooks, name).data[-1, -1, -1] += 1e-3
    assert model_identity(codec) != identity


def test_a_threshold_for_dead_codewords_is_refused():
    with pytest.raises(ValueError, match=one_line("dead_threshold", 0)):
        make_simvq(dead_threshold=0.05)
    for quantizer in ({"update": "simvq"}, {"update": "simvq", "dead_threshold": 0.1}):  # the default is above 0
        with pytest.raises(ConfigError, match=one_line("here", "quantizer", "simvq", "dead_threshold", 0)):
            from_dict(CodecConfig, {"quantizer": quantizer}, source="here")
