"""A product quantizer equals separate quantizers of the parts of a vector: values, losses, gradients, learning."""

from functools import partial

import pytest
import torch
from einops import rearrange
from messages import one_line
from models import KINDS, assert_same_state, make_codebooks, noise, seeded, state_of, tiny_codec, tiny_config

from codec.config import CodecConfig, IdentityDecoderConfig, IdentityEncoderConfig, QuantizerConfig, from_dict
from codec.errors import ConfigError
from codec.inference.pretrained import load_codec, save_codec
from codec.model.builder import build_codec
from codec.model.quantizer.estimators import rotation_trick, straight_through
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ProductQuantizer, ResidualQuantizer
from codec.model.quantizer.search import nearest

PARTS, SIZE = 3, 2


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(params=[None, PARTS * SIZE], ids=["latents", "projected"])
def codebook_dim(request):
    return request.param


def make_product(kind="ema", *, codebook_dim=None, latent_dim=None, estimator=straight_through, **facts):
    """Three parts of two elements each, after a random projection if `codebook_dim` says so."""
    facts = {"num_quantizers": PARTS, "codebook_size": 16, "codebook_dim": SIZE} | facts
    latent_dim = latent_dim or (10 if codebook_dim else PARTS * SIZE)
    quantizer = ProductQuantizer(
        make_codebooks(kind, **facts), latent_dim=latent_dim, codebook_dim=codebook_dim, estimator=estimator
    )
    if codebook_dim:
        quantizer.project_in.weight.data.copy_(noise(codebook_dim, latent_dim, 1, seed=3))
        quantizer.project_out.weight.data.copy_(noise(latent_dim, codebook_dim, 1, seed=4))
    return quantizer


def fitted(kind="ema", *, batch=3, num_frames=40, **facts):
    """A product quantizer initialised on latents `[batch, D, F]`, and those latents, which require a gradient."""
    quantizer = make_product(kind, **facts)
    latents = noise(batch, quantizer.project_in.in_channels if facts.get("codebook_dim") else PARTS * SIZE, num_frames)
    quantizer.initialize(latents, initialization=Initialization(iterations=5), generator=seeded(0))
    return quantizer, latents.requires_grad_()


def vectors_of(quantizer, latents):
    """What is quantized, `[B, d, F]`."""
    return quantizer.project_in(latents).detach()


def part(tensor, number):
    """One part of vectors `[B, d, F]`."""
    return tensor[:, number * SIZE : (number + 1) * SIZE]


def separate(quantizer, kind):
    """A single-level quantizer on latents for each part, with the product's codewords."""
    normalize = quantizer.codebooks.normalize
    found = []
    for number in range(PARTS):
        codebooks = make_codebooks(kind, codebook_size=16, codebook_dim=SIZE, normalize=normalize)
        codebooks.table.data[0] = quantizer.codebooks.table.detach()[number]
        codebooks.restart_statistics()
        found.append(ResidualQuantizer(codebooks, latent_dim=SIZE, codebook_dim=None))
    return found


# ---- A product of separate quantizers


@pytest.mark.parametrize("normalize", [False, True])
def test_codes_and_values_are_those_of_separate_quantizers(kind, codebook_dim, normalize):
    quantizer, latents = fitted(kind, codebook_dim=codebook_dim, normalize=normalize)
    vectors, codes, output = vectors_of(quantizer, latents), quantizer.encode(latents), quantizer(latents)
    singles = separate(quantizer, kind)
    for number, single in enumerate(singles):
        assert torch.equal(codes[:, number : number + 1], single.encode(part(vectors, number)))
    decoded = torch.cat([single.decode(codes[:, n : n + 1]) for n, single in enumerate(singles)], dim=1)
    expected = quantizer.project_out(decoded)
    assert torch.equal(quantizer.decode(codes), expected)
    assert torch.equal(output.codes, codes)
    assert torch.equal(output.quantized, expected)


def test_losses_and_statistics_are_those_of_separate_quantizers(kind, codebook_dim):
    quantizer, latents = fitted(kind, codebook_dim=codebook_dim)
    vectors = vectors_of(quantizer, latents)
    mask = torch.arange(40) < torch.tensor([40, 7, 23])[:, None]
    for given in (None, mask):
        output = quantizer(latents, mask=given)
        singles = [single(part(vectors, n), mask=given) for n, single in enumerate(separate(quantizer, kind))]
        for name in ("commitment_loss", "codebook_loss"):
            expected = torch.stack([getattr(single, name) for single in singles]).mean()
            torch.testing.assert_close(getattr(output, name), expected)
        for number, single in enumerate(singles):
            assert torch.equal(output.statistics.counts[number], single.statistics.counts[0])
            torch.testing.assert_close(output.statistics.sums[number], single.statistics.sums[0])
            assert torch.equal(output.statistics.residuals[number], single.statistics.residuals[0])
    assert output.commitment_loss > 0
    assert (output.codebook_loss > 0) == (kind == "gradient")


def test_the_commitment_loss_is_the_mean_square_over_elements(kind):
    """Parts are of one size: the mean over parts is the mean over all elements of a vector."""
    quantizer, latents = fitted(kind)
    expected = (latents - quantizer.decode(quantizer.encode(latents))).square().mean()
    torch.testing.assert_close(quantizer(latents).commitment_loss, expected)


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_any_number_of_equal_parts(parts):
    """One part is a plain vector quantizer; as many parts as elements are scalar quantizers."""
    latents = noise(3, 6, 40)
    facts = {"num_quantizers": parts, "codebook_size": 8, "codebook_dim": 6 // parts}
    quantizer = ProductQuantizer(make_codebooks(**facts), latent_dim=6, codebook_dim=None)
    quantizer.initialize(latents, initialization=Initialization(), generator=seeded(0))
    decoded = quantizer.decode(quantizer.encode(latents))
    pieces = zip(latents.chunk(parts, 1), decoded.chunk(parts, 1), quantizer.codebooks.table, strict=True)
    for given, found, table in pieces:
        rows = rearrange(given, "b d f -> (b f) d")
        assert torch.equal(rearrange(found, "b d f -> (b f) d"), table[nearest(rows, table)])
    if parts == 1:
        residual = ResidualQuantizer(quantizer.codebooks, latent_dim=6, codebook_dim=None)
        assert torch.equal(residual.decode(residual.encode(latents)), decoded)


# ---- Fewer levels


def test_omitted_parts_decode_to_zero(kind):
    quantizer, latents = fitted(kind)
    codes = quantizer.encode(latents)
    whole = quantizer.decode(codes)
    for levels in range(1, PARTS + 1):
        assert torch.equal(quantizer.encode(latents, levels), codes[:, :levels])
        decoded = quantizer.decode(codes[:, :levels])
        assert torch.equal(decoded[:, : levels * SIZE], whole[:, : levels * SIZE])
        assert (decoded[:, levels * SIZE :] == 0).all()


def test_unused_parts_of_an_item_enter_no_loss_and_no_statistics(kind):
    quantizer, latents = fitted(kind)
    codes, num_active = quantizer.encode(latents), torch.tensor([1, 3, 2])
    output = quantizer(latents, num_active=num_active)
    assert torch.equal(output.codes, codes)
    distances = []
    for item, levels in enumerate(num_active.tolist()):
        decoded = quantizer.decode(codes[item : item + 1, :levels])
        assert torch.equal(output.quantized[item : item + 1], decoded)
        used = levels * SIZE
        distances.append((latents[item, :used] - decoded[0, :used]).square().mean())
    torch.testing.assert_close(output.commitment_loss, torch.stack(distances).mean())
    assert output.statistics.counts.sum(-1).tolist() == [120, 80, 40]


# ---- Gradients


def test_the_gradient_is_the_identity(kind):
    quantizer, latents = fitted(kind)
    weight = noise(3, PARTS * SIZE, 40, seed=1)
    for num_active in (None, torch.tensor([1, 2, 3])):
        loss = (quantizer(latents, num_active=num_active).quantized * weight).sum()
        wanted = [latents, *quantizer.codebooks.parameters()]
        to_latents, *to_table = torch.autograd.grad(loss, wanted, allow_unused=True)
        assert torch.equal(to_latents, weight)
        assert to_table == [None] * len(to_table)


def test_the_rotation_estimator_rotates_the_whole_vector(kind):
    quantizer, latents = fitted(kind, estimator=rotation_trick)
    weight = noise(3, PARTS * SIZE, 40, seed=1)
    (found,) = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), latents)
    rows = rearrange(latents.detach(), "b d f -> b f d").requires_grad_()
    quantized = rearrange(quantizer.decode(quantizer.encode(latents)), "b d f -> b f d")
    loss = (rotation_trick(rows, quantized) * rearrange(weight, "b d f -> b f d")).sum()
    (expected,) = torch.autograd.grad(loss, rows)
    torch.testing.assert_close(found, rearrange(expected, "b f d -> b d f"))
    assert not torch.allclose(found, weight, rtol=0.1)


def test_both_projections_learn(kind):
    """The input projection gets the gradient that it would get without a quantizer between the two."""
    quantizer, latents = fitted(kind, codebook_dim=PARTS * SIZE)
    weight = noise(3, 10, 40, seed=1)
    wanted = [latents, quantizer.project_in.weight]
    ours = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), wanted)
    expected = torch.autograd.grad((quantizer.bypass(latents).quantized * weight).sum(), wanted)
    for found, without in zip(ours, expected, strict=True):
        torch.testing.assert_close(found, without)
        assert found.abs().max() > 0


def test_the_commitment_loss_of_a_part_has_a_gradient_for_its_elements_only(kind):
    """With one part active the loss is that of this part."""
    quantizer, latents = fitted(kind)
    decoded = quantizer.decode(quantizer.encode(latents))
    (one,) = torch.autograd.grad(quantizer(latents, num_active=torch.ones(3).long()).commitment_loss, latents)
    torch.testing.assert_close(part(one, 0), (2 * part(latents - decoded, 0) / (3 * 40 * SIZE)).detach())
    assert (one[:, SIZE:] == 0).all()
    (both,) = torch.autograd.grad(quantizer(latents).commitment_loss, latents)
    torch.testing.assert_close(both, (2 * (latents - decoded) / latents.numel()).detach())


def test_the_codebook_loss_of_a_part_has_a_gradient_for_its_codewords_only():
    quantizer, latents = fitted("gradient")
    table = quantizer.codebooks.table
    output = quantizer(latents)
    (to_table,) = torch.autograd.grad(output.codebook_loss, table, retain_graph=True)
    counts, sums = output.statistics.counts, output.statistics.sums
    torch.testing.assert_close(to_table, 2 * (counts[..., None] * table - sums).detach() / latents.numel())
    assert torch.autograd.grad(output.codebook_loss, latents, allow_unused=True) == (None,)
    (moved,) = torch.autograd.grad(quantizer(latents, num_active=torch.ones(3).long()).codebook_loss, table)
    assert moved[0].abs().sum() > 0
    assert (moved[1:] == 0).all()


# ---- Learning


@pytest.mark.parametrize("normalize", [False, True])
def test_every_part_starts_at_its_own_kmeans(kind, codebook_dim, normalize):
    """The generator draws for one part after the other."""
    quantizer, latents = fitted(kind, codebook_dim=codebook_dim, normalize=normalize)
    vectors, generator = vectors_of(quantizer, latents), seeded(0)
    for number, table in enumerate(quantizer.codebooks.table):
        rows = rearrange(part(vectors, number), "b d f -> (b f) d")
        expected, counts = Initialization(iterations=5).draw(rows, 16, generator=generator, normalize=normalize)
        torch.testing.assert_close(table, expected)
        torch.testing.assert_close(quantizer.codebooks.counts[number], counts / counts.mean())
        error = (rows - table[nearest(rows, table, normalize=normalize)]).square().mean()
        assert error < 0.5 * rows.var(0).mean()


def test_padded_frames_enter_no_initialisation(kind):
    mask, states = torch.arange(40) < torch.tensor([40, 7, 23])[:, None], []
    for garbage in (0.0, 1000.0):
        quantizer = make_product(kind)
        padded = torch.where(mask[:, None], noise(3, 6, 40), garbage * noise(3, 6, 40, seed=7))
        quantizer.initialize(padded, mask=mask, initialization=Initialization(iterations=5), generator=seeded(0))
        states.append(state_of(quantizer))
    assert_same_state(quantizer, states[0])


def test_an_update_is_that_of_separate_quantizers(kind):
    quantizer, latents = fitted(kind, dead_threshold=0.0)
    quantizer.restart_statistics()
    singles, vectors = separate(quantizer, kind), vectors_of(quantizer, latents)
    quantizer.update(quantizer(latents).statistics, partial(seeded, 0))
    for number, single in enumerate(singles):
        single.codebooks.dead_threshold = 0.0
        single.update(single(part(vectors, number)).statistics, partial(seeded, 0))
        for key, tensor in single.codebooks.state_dict().items():
            torch.testing.assert_close(quantizer.codebooks.state_dict()[key][number], tensor[0])


def test_a_dead_codeword_comes_back_as_a_vector_of_its_part(kind):
    quantizer, latents = fitted(kind)
    with torch.no_grad():
        quantizer.codebooks.table[1, 5] = 1e3
    quantizer.restart_statistics()
    quantizer.codebooks.counts[1, 5] = 0.0
    assert quantizer.dead_codewords().nonzero().tolist() == [[1, 5]]
    revived = quantizer.update(quantizer(latents).statistics, partial(seeded, 0))
    assert revived.nonzero().tolist() == [[1, 5]]
    rows = rearrange(part(latents, 1), "b d f -> (b f) d")
    assert (rows == quantizer.codebooks.table[1, 5]).all(-1).sum() == 1


@pytest.mark.parametrize("training", [True, False])
def test_a_pass_changes_no_state(kind, training):
    quantizer, latents = fitted(kind)
    before = state_of(quantizer.train(training))
    quantizer(latents, num_active=torch.tensor([1, 2, 3]))
    quantizer.decode(quantizer.encode(latents))
    assert_same_state(quantizer, before)


# ---- Configuration


@pytest.mark.parametrize("codebook_dim", [None, 8])
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_the_builder_splits_vectors_of_code_space(tmp_path, update, codebook_dim):
    quantizer = QuantizerConfig(
        structure="product", update=update, num_quantizers=4, codebook_size=16, codebook_dim=codebook_dim
    )
    codec = tiny_codec(quantizer=quantizer)  # of 12 latent channels
    assert isinstance(codec.quantizer, ProductQuantizer)
    assert codec.quantizer.codebooks.table.shape == (4, 16, (codebook_dim or 12) // 4)
    assert isinstance(codec.quantizer.project_in, torch.nn.Conv1d) == (codebook_dim is not None)
    audio = noise(2, 1, 500)
    codes = codec.encode(audio)
    assert codes.shape == (2, 4, codec.num_frames(500))
    assert codec.decode(codes[:, :2], 500).shape == (2, 1, 500)
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert torch.equal(loaded.encode(audio), codes)
    assert torch.equal(loaded.decode(codes), codec.decode(codes))


def test_without_networks_each_part_codes_its_own_samples():
    """With no encoder, decoder or projection a part is a piece of the signal."""
    quantizer = QuantizerConfig(structure="product", num_quantizers=4, codebook_size=16)
    codec = tiny_codec(
        latent_dim=8, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig(), quantizer=quantizer
    )
    audio = noise(1, 1, 800)
    pieces = audio.view(100, 4, 2)
    decoded = codec.decode(codec.encode(audio)).view(100, 4, 2)
    for number in range(4):
        table = codec.quantizer.codebooks.table[number]
        assert torch.equal(decoded[:, number], table[nearest(pieces[:, number], table)])


@pytest.mark.parametrize(
    ("latent_dim", "quantizer", "facts"),
    [
        (12, {"num_quantizers": 5}, (12, 5, "equal parts")),
        (10, {"num_quantizers": 12}, (10, 12, "equal parts")),
        (12, {"num_quantizers": 4, "codebook_dim": 6}, ("quantizer", 6, 4, "equal parts")),
        (10, {"num_quantizers": 5, "codebook_dim": 4}, ("quantizer", 4, 5, "equal parts")),
    ],
)
def test_vectors_without_equal_parts_are_refused(latent_dim, quantizer, facts):
    values = {"latent_dim": latent_dim, "quantizer": {"structure": "product"} | quantizer}
    with pytest.raises(ConfigError, match=one_line("here", *facts)):
        from_dict(CodecConfig, values, source="here")


def test_a_projected_vector_is_split_after_the_projection():
    """Ten channels can't be split into four parts; the eight projected ones can."""
    values = {
        "latent_dim": 10,
        "quantizer": {"structure": "product", "num_quantizers": 4, "codebook_dim": 8, "codebook_size": 4},
    }
    codec = build_codec(from_dict(CodecConfig, values, source="here"))
    assert codec.quantizer.codebooks.table.shape == (4, 4, 2)
    residual = tiny_config(quantizer=QuantizerConfig(num_quantizers=5, codebook_size=4))  # needs no parts
    assert build_codec(residual).quantizer.codebooks.table.shape == (5, 4, 12)
