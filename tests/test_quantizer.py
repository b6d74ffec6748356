"""The laws of the residual quantizer: gradients, losses, masks, dropout, and what may change a codebook."""

import math
from functools import partial

import pytest
import torch
from einops import rearrange
from models import KINDS, assert_same_state, make_quantizer, noise, seeded, state_of

from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.quantizer import codebook_health


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def fitted(kind="ema", *, batch=3, num_frames=40, **facts):
    """A quantizer initialised on latents `[batch, D, F]`, and those latents, which require a gradient."""
    quantizer = make_quantizer(kind, **facts)
    latents = noise(batch, facts.get("latent_dim", 10), num_frames)
    quantizer.initialize(latents, initialization=Initialization(iterations=5), generator=seeded(0))
    return quantizer, latents.requires_grad_()


def gradients(loss, *tensors):
    """Gradient of each tensor, None where there is none."""
    wanted = [tensor for tensor in tensors if tensor.requires_grad]
    found = iter(torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True))
    return [next(found) if tensor.requires_grad else None for tensor in tensors]


def reference_losses(quantizer, latents, num_active=None):
    """Mean squared distance of every level `[B, K]` in float64, and the residual after it `[B, K, F, d]`."""
    vectors = rearrange(quantizer.project_in(latents).detach().double(), "b d f -> b f d")
    codes, table = quantizer.encode(latents), quantizer.codebooks.table.detach().double()
    distances, residuals = [], []
    for level in range(quantizer.num_quantizers):
        vectors = vectors - table[level, codes[:, level]]
        distances.append(vectors.square().mean(dim=(1, 2)))
        residuals.append(vectors)
    return torch.stack(distances, 1), torch.stack(residuals, 1)


# ---- Straight-through


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("num_quantizers", [1, 4, 12])
def test_the_gradient_is_the_identity_for_any_number_of_levels(kind, num_quantizers, normalize):
    """Without a projection the latents are the vectors of code space."""
    facts = {"num_quantizers": num_quantizers, "latent_dim": 6, "normalize": normalize}
    quantizer, latents = fitted(kind, **facts)
    weight = noise(3, 6, 40, seed=1)
    for num_active in (None, torch.tensor([1, num_quantizers, (num_quantizers + 1) // 2])):
        output = quantizer(latents, num_active=num_active)
        to_latents, to_table = gradients((output.quantized * weight).sum(), latents, quantizer.codebooks.table)
        assert torch.equal(to_latents, weight)
        assert to_table is None
        for item in range(3):
            active = num_quantizers if num_active is None else num_active[item]
            codes = quantizer.encode(latents[item : item + 1])[:, :active]
            assert torch.equal(output.quantized[item : item + 1], quantizer.decode(codes))


def test_both_projections_get_the_gradient_of_the_reconstruction(kind):
    """The input projection gets the gradient that it would get without a quantizer."""
    quantizer, latents = fitted(kind)
    weight = noise(3, 10, 40, seed=1)
    parameters = list(quantizer.project_in.parameters())
    with_quantizer = gradients((quantizer(latents).quantized * weight).sum(), latents, *parameters)
    without = gradients((quantizer.bypass(latents).quantized * weight).sum(), latents, *parameters)
    for ours, expected in zip(with_quantizer, without, strict=True):
        torch.testing.assert_close(ours, expected)
        assert ours.abs().max() > 0
    (to_output,) = gradients((quantizer(latents).quantized * weight).sum(), quantizer.project_out.weight)
    codes = quantizer.encode(latents)
    vectors = sum(quantizer.codebooks.table[k, codes[:, k]] for k in range(4))
    torch.testing.assert_close(to_output[..., 0], torch.einsum("bof,bfi->oi", weight, vectors))


@pytest.mark.parametrize("normalize", [False, True])
def test_decoded_codes_are_the_quantized_latents(kind, normalize):
    quantizer, latents = fitted(kind, normalize=normalize)
    output = quantizer(latents)
    codes = quantizer.encode(latents)
    assert torch.equal(output.codes, codes)
    assert torch.equal(output.quantized, quantizer.decode(codes))
    for levels in range(1, 5):
        assert torch.equal(quantizer.encode(latents, levels), codes[:, :levels])


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("scale", [2.0**-6, 2.0**5])
def test_scaling_the_input_scales_the_output(kind, normalize, scale):
    """Codewords keep their gain, also where the search compares directions only."""
    results = []
    for factor in (1.0, scale):
        quantizer = make_quantizer(kind, latent_dim=6, normalize=normalize)
        latents = factor * noise(3, 6, 40)
        quantizer.initialize(latents, initialization=Initialization(iterations=5), generator=seeded(0))
        results.append(quantizer(latents))
    assert torch.equal(results[1].codes, results[0].codes)
    assert torch.equal(results[1].quantized, scale * results[0].quantized)
    torch.testing.assert_close(results[1].commitment_loss, scale**2 * results[0].commitment_loss)
    error = (results[0].quantized - noise(3, 6, 40)).square().mean()
    assert error < 0.5 * noise(3, 6, 40).square().mean()


# ---- Losses


def test_losses_are_means_over_frames_levels_and_items(kind):
    quantizer, latents = fitted(kind)
    distances, _ = reference_losses(quantizer, latents)
    for num_active in ([4, 4, 4], [1, 4, 2]):
        output = quantizer(latents, num_active=torch.tensor(num_active))
        expected = sum(distances[item, :active].mean() for item, active in enumerate(num_active)) / 3
        torch.testing.assert_close(output.commitment_loss.double(), expected)
        if kind == "ema":
            assert output.codebook_loss == 0.0
        else:
            torch.testing.assert_close(output.codebook_loss.double(), expected)


@pytest.mark.parametrize("lengths", [None, [40, 7, 23]])
def test_losses_with_levels_of_each_frame_are_means_over_the_levels_of_the_frame(kind, lengths):
    quantizer, latents = fitted(kind)
    _, residuals = reference_losses(quantizer, latents)
    num_active = 1 + torch.arange(3 * 40).view(3, 40) % 4
    mask = None if lengths is None else torch.arange(40) < torch.tensor(lengths)[:, None]
    output = quantizer(latents, num_active=num_active, mask=mask)
    active = torch.arange(4)[:, None] < num_active[:, None]
    of_frames = (residuals.square().mean(dim=-1) * active).sum(dim=1) / num_active
    of_items = [frames[:length].mean() for frames, length in zip(of_frames, lengths or [40] * 3, strict=True)]
    torch.testing.assert_close(output.commitment_loss.double(), sum(of_items) / 3)


def test_every_level_commits_the_encoder(kind):
    """The term of level k, from the losses with k and k - 1 levels, has the residual of level k as its gradient."""
    quantizer, latents = fitted(kind, latent_dim=6)
    _, residuals = reference_losses(quantizer, latents)
    so_far = torch.zeros_like(latents)
    for level in range(4):
        loss = quantizer(latents, num_active=torch.full((3,), level + 1)).commitment_loss
        to_latents, to_table = gradients((level + 1) * loss, latents, quantizer.codebooks.table)
        assert to_table is None
        expected = 2 * rearrange(residuals[:, level], "b f d -> b d f") / residuals[:, level].numel()
        torch.testing.assert_close(to_latents - so_far, expected.float(), rtol=1e-4, atol=1e-8)
        assert (to_latents - so_far).abs().mean() > 1e-6
        so_far = to_latents


def test_the_codebook_loss_moves_codewords_towards_their_vectors_and_nothing_else(kind):
    quantizer, latents = fitted(kind)
    output = quantizer(latents)
    if kind == "ema":
        assert not output.codebook_loss.requires_grad
        return
    table = quantizer.codebooks.table
    to_table, *rest = gradients(output.codebook_loss, table, latents, *quantizer.project_in.parameters())
    assert rest == [None, None]
    counts, sums = output.statistics.counts, output.statistics.sums
    torch.testing.assert_close(to_table, 2 * (counts[..., None] * table - sums) / (4 * 3 * 40 * 6))
    assert to_table.abs().sum() > 0


# ---- Precision


def test_codes_and_losses_are_float32_under_autocast(kind):
    quantizer, latents = fitted(kind, batch=8, num_frames=200)
    expected = quantizer(latents)
    with torch.autocast("cpu", torch.bfloat16):
        output = quantizer(latents)
        assert torch.equal(quantizer.encode(latents), expected.codes)
    assert torch.equal(output.codes, expected.codes)
    assert torch.equal(output.commitment_loss, expected.commitment_loss)
    assert torch.equal(output.codebook_loss, expected.codebook_loss)
    assert torch.equal(output.statistics.sums, expected.statistics.sums)


@pytest.mark.parametrize("latent_dim", [6, 10])
def test_latents_in_bfloat16_are_quantized_in_float32(kind, latent_dim):
    """An encoder under autocast gives such latents. Without a projection, latent_dim 6, they are the vectors."""
    quantizer, latents = fitted(kind, latent_dim=latent_dim)
    given = latents.detach().bfloat16()
    expected = quantizer(given.float())
    with torch.autocast("cpu", torch.bfloat16):
        output = quantizer(given)
        assert torch.equal(quantizer.encode(given), expected.codes)
    assert torch.equal(output.codes, expected.codes)
    assert torch.equal(output.commitment_loss, expected.commitment_loss)
    assert torch.equal(output.statistics.sums, expected.statistics.sums)


# ---- State


@pytest.mark.parametrize("training", [True, False])
def test_a_pass_changes_no_state(kind, training):
    quantizer, latents = fitted(kind)
    quantizer.train(training)
    before = state_of(quantizer)
    output = quantizer(latents, num_active=torch.tensor([1, 2, 4]))
    quantizer.bypass(latents)
    quantizer.decode(quantizer.encode(latents))
    assert_same_state(quantizer, before)
    quantizer.codebooks.update(output.statistics, partial(seeded, 0))
    assert not torch.equal(quantizer.codebooks.counts, before["codebooks.counts"])


def test_bypass_is_the_two_projections(kind):
    quantizer, latents = fitted(kind)
    output = quantizer.bypass(latents)
    assert torch.equal(output.quantized, quantizer.project_out(quantizer.project_in(latents)))
    assert output.codes.shape == (3, 0, 40)
    assert output.commitment_loss == 0
    assert output.codebook_loss == 0
    assert output.statistics is None


# ---- Padding


def test_padded_frames_enter_no_loss_no_statistic_and_no_update(kind):
    mask = torch.arange(40) < torch.tensor([40, 7, 0])[:, None]  # the last item has no valid frame at all
    results = []
    for garbage in (0.0, 1000.0):
        quantizer, latents = fitted(kind, latent_dim=6, dead_threshold=0.5)
        quantizer.codebooks.counts[:, :5] = 0.0  # dead: vectors are drawn for their revival
        padded = torch.where(mask[:, None], latents, garbage * noise(3, 6, 40, seed=7))
        output = quantizer(padded, mask=mask)
        (to_latents,) = gradients(output.commitment_loss, latents)
        assert (to_latents[~mask[:, None].expand_as(latents)] == 0).all()
        revived = quantizer.codebooks.update(output.statistics, partial(seeded, 0))
        assert revived.any()
        counts, sums, *_ = output.statistics
        results.append((output.commitment_loss, output.codebook_loss, counts, sums, *state_of(quantizer).values()))
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)


def test_padded_frames_change_no_loss_of_the_valid_ones(kind):
    quantizer, latents = fitted(kind)
    mask = torch.arange(40) < torch.tensor([40, 7, 23])[:, None]
    output = quantizer(latents, mask=mask)
    items = [quantizer(latents[i : i + 1, :, : mask[i].sum()]) for i in range(3)]
    for name in ("commitment_loss", "codebook_loss"):
        expected = torch.stack([getattr(item, name) for item in items]).mean()
        torch.testing.assert_close(getattr(output, name), expected)
    expected = torch.stack([item.statistics.counts for item in items]).sum(0)
    assert torch.equal(output.statistics.counts, expected)


def test_padded_frames_enter_no_initialisation(kind):
    mask = torch.arange(40) < torch.tensor([40, 7, 23])[:, None]
    states = []
    for garbage in (0.0, 1000.0):
        quantizer = make_quantizer(kind)
        padded = torch.where(mask[:, None], noise(3, 10, 40), garbage * noise(3, 10, 40, seed=7))
        quantizer.initialize(padded, mask=mask, initialization=Initialization(iterations=5), generator=seeded(0))
        states.append(state_of(quantizer))
    assert_same_state(quantizer, states[0])


# ---- Quantizer dropout


def test_inactive_levels_of_an_item_get_no_loss_and_no_statistics(kind):
    quantizer, latents = fitted(kind)
    num_active = torch.tensor([1, 4, 2])
    output = quantizer(latents, num_active=num_active)
    assert torch.equal(output.codes, quantizer.encode(latents))
    assert output.statistics.counts.sum(-1).tolist() == [120, 80, 40, 40]
    residual = rearrange(quantizer.project_in(latents), "b d f -> (b f) d")
    for level in range(4):
        active = (num_active > level).repeat_interleave(40)
        assert torch.equal(output.statistics.valid[level], active)
        indices = output.codes[:, level].flatten()
        for codeword in range(16):
            expected = residual[active & (indices == codeword)].sum(0)
            torch.testing.assert_close(output.statistics.sums[level, codeword], expected, rtol=1e-4, atol=1e-5)
        residual = residual - quantizer.codebooks.table[level, indices]


def test_a_level_inactive_in_every_item_keeps_its_codebook(kind):
    quantizer, latents = fitted(kind, dead_threshold=0.5)
    quantizer.codebooks.counts[:, 0] = 0.0
    before = state_of(quantizer.codebooks)
    output = quantizer(latents, num_active=torch.tensor([2, 1, 2]))
    revived = quantizer.codebooks.update(output.statistics, partial(seeded, 0))
    assert revived.any(-1).tolist() == [True, True, False, False]
    for key, tensor in quantizer.codebooks.state_dict().items():
        assert torch.equal(tensor[2:], before[key][2:])
        assert not torch.equal(tensor[:2], before[key][:2])
    if kind == "gradient":
        (to_table,) = gradients(output.codebook_loss, quantizer.codebooks.table)
        assert (to_table[2:] == 0).all()


def test_dropout_of_a_padded_batch_counts_real_frames_of_active_levels(kind):
    """The usual training batch: every item is as it would be alone, without its padding."""
    quantizer, latents = fitted(kind)
    lengths, num_active = torch.tensor([40, 7, 23]), torch.tensor([1, 4, 2])
    output = quantizer(latents, num_active=num_active, mask=torch.arange(40) < lengths[:, None])
    items = [quantizer(latents[i : i + 1, :, : lengths[i]], num_active=num_active[i : i + 1]) for i in range(3)]
    for name in ("commitment_loss", "codebook_loss"):
        expected = torch.stack([getattr(item, name) for item in items]).mean()
        torch.testing.assert_close(getattr(output, name), expected)
    counts, sums = (sum(getattr(item.statistics, name) for item in items) for name in ("counts", "sums"))
    assert torch.equal(output.statistics.counts, counts)
    torch.testing.assert_close(output.statistics.sums, sums, rtol=1e-4, atol=1e-5)
    assert output.statistics.valid.sum(dim=1).tolist() == [70, 30, 7, 7]


# ---- Health


def test_codebook_health_worked_by_hand():
    counts = torch.tensor([[1.0, 1, 1, 1], [4, 0, 0, 0], [0, 0, 0, 0], [2, 1, 1, 0]])
    health = codebook_health(counts)
    torch.testing.assert_close(health.entropy, torch.tensor([2.0, 0, 0, 1.5], dtype=torch.float64))
    torch.testing.assert_close(health.perplexity, torch.tensor([4.0, 1, 1, math.sqrt(8)], dtype=torch.float64))
    assert health.usage.tolist() == [1.0, 0.25, 0.0, 0.75]
