"""A split quantizer equals two residual quantizers whose levels take turns: values, losses, gradients, learning."""

from functools import partial

import pytest
import torch
from messages import one_line
from models import HOP, KINDS, make_codebooks, noise, seeded, state_of, tiny_codec

from codec.config import CodecConfig, QuantizerConfig, from_dict, to_dict
from codec.errors import ConfigError
from codec.inference.pretrained import load_codec, save_codec
from codec.model.digest import model_identity
from codec.model.quantizer.codebooks import EMACodebooks, SimVQCodebooks
from codec.model.quantizer.estimators import rotation_trick
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ResidualQuantizer, SplitQuantizer
from codec.onnx.check import NEAR_TIE, tie_margin
from codec.onnx.engine import load_onnx

DIM, AT = 7, 3
PARTS = (0, 1, 1, 0, 1)
SEEN = (slice(0, AT), slice(AT, DIM))
SPLIT = {"structure": "split", "split_at": 2, "part_of_level": (0, 1, 0, 1)}


@pytest.fixture(params=[*KINDS, "simvq"])
def kind(request):
    return request.param


def make_split(kind="ema", **facts):
    facts = {"num_quantizers": len(PARTS), "codebook_size": 16, "codebook_dim": DIM} | facts
    if kind == "simvq":
        codebooks = SimVQCodebooks(len(PARTS), 16, DIM, decay=0.9, dead_threshold=0.0, normalize=False)
    else:
        codebooks = make_codebooks(kind, **facts)
    return SplitQuantizer(codebooks, latent_dim=DIM, codebook_dim=None, split_at=AT, part_of_level=PARTS)


def fitted(kind="ema", *, method="kmeans", **facts):
    """A split quantizer set from latents `[3, 7, 40]`, and these, which require a gradient."""
    quantizer, latents = make_split(kind, **facts), noise(3, DIM, 40, scale=1.0)
    start = Initialization(method=method, iterations=5)
    quantizer.initialize(latents, initialization=start, generator=seeded(0))
    return quantizer, latents.requires_grad_()


def levels_of(part):
    return [level for level, of in enumerate(PARTS) if of == part]


def separate(quantizer, part):
    """A residual quantizer of one part alone, with the codewords of its levels."""
    levels = levels_of(part)
    size = SEEN[part].stop - SEEN[part].start
    codebooks = make_codebooks(num_quantizers=len(levels), codebook_size=16, codebook_dim=size)
    codebooks.table.copy_(quantizer.codebooks.table.detach()[levels][..., SEEN[part]])
    codebooks.normalize = quantizer.codebooks.normalize
    return ResidualQuantizer(codebooks, latent_dim=size, codebook_dim=None)


def assert_confined(quantizer):
    """Codewords are exactly zero outside the part of their level."""
    for level, part in enumerate(PARTS):
        assert (quantizer.codebooks.table[level][:, SEEN[1 - part]] == 0).all()
        assert (quantizer.codebooks.table[level][:, SEEN[part]] != 0).any()
        if isinstance(quantizer.codebooks, EMACodebooks):
            assert (quantizer.codebooks.sums[level][:, SEEN[1 - part]] == 0).all()


# ---- Two residual quantizers


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("beam", [1, 4])
def test_codes_and_values_are_those_of_a_residual_quantizer_of_each_part(kind, normalize, beam):
    quantizer, latents = fitted(kind, normalize=normalize)
    codes, output = quantizer.encode(latents, beam=beam), quantizer(latents)
    decoded = quantizer.decode(codes)
    for part in (0, 1):
        single, given = separate(quantizer, part), latents[:, SEEN[part]]
        torch.testing.assert_close(decoded[:, SEEN[part]], single.decode(codes[:, levels_of(part)]))
        if beam == 1:
            assert torch.equal(codes[:, levels_of(part)], single.encode(given))
    if beam == 1:
        assert torch.equal(output.codes, codes)
        assert torch.equal(output.quantized, decoded)


def test_any_prefix_decodes_and_is_closer(kind):
    quantizer, latents = fitted(kind)
    codes, before = quantizer.encode(latents), latents.square().mean()
    for levels in range(1, len(PARTS) + 1):
        assert torch.equal(quantizer.encode(latents, levels), codes[:, :levels])
        decoded = quantizer.decode(codes[:, :levels])
        error = (latents - decoded).square().mean()
        assert error < before
        before = error
        if levels == 1:
            assert (decoded[:, AT:] == 0).all()


def test_losses_are_means_over_all_elements(kind):
    quantizer, latents = fitted(kind)
    output, expected = quantizer(latents), []
    for level, part in enumerate(PARTS):
        residual = latents.detach() - quantizer.decode(output.codes[:, : level + 1]).detach()
        expected.append(residual[:, SEEN[part]].square().sum() / latents.numel())
    torch.testing.assert_close(output.commitment_loss, torch.stack(expected).mean())
    assert (output.codebook_loss > 0) == (kind != "ema")


def test_the_gradient_is_the_identity(kind):
    quantizer, latents = fitted(kind)
    weight = noise(3, DIM, 40, seed=1)
    (found,) = torch.autograd.grad((quantizer(latents).quantized * weight).sum(), latents)
    assert torch.equal(found, weight)


# ---- Codewords stay in their part


def test_new_codewords_are_in_their_part(kind):
    assert_confined(make_split(kind))


@pytest.mark.parametrize("method", ["kmeans", "data", "normal", "spread"])
def test_every_initialization_keeps_codewords_in_their_part(kind, method):
    quantizer, latents = fitted(kind, method=method)
    assert_confined(quantizer)
    before = state_of(quantizer)
    quantizer.initialize(latents.detach(), initialization=Initialization(), generator=seeded(1), first_level=3)
    for key, tensor in quantizer.codebooks.state_dict().items():
        assert torch.equal(tensor[:3], before[f"codebooks.{key}"][:3]), key


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD])
def test_training_keeps_codewords_in_their_part(kind, optimizer):
    """With dropped levels and dead codewords among them."""
    quantizer, _ = fitted(kind, **({} if kind == "simvq" else {"dead_threshold": 0.5}))
    quantizer.estimator = rotation_trick
    parameters = list(quantizer.parameters())
    steps = optimizer(parameters, lr=0.01, weight_decay=0.1) if parameters else None
    before, revived = quantizer.codebooks.table.detach().clone(), 0
    for step in range(5):
        output = quantizer(noise(3, DIM, 40, seed=step), num_active=torch.tensor([5, 3, 4]))
        if steps is not None:
            steps.zero_grad()
            (output.commitment_loss + output.codebook_loss + output.quantized.square().mean()).backward()
            steps.step()
        revived += int(quantizer.update(output.statistics, partial(seeded, step)).sum())
    assert_confined(quantizer)
    assert not torch.equal(quantizer.codebooks.table, before)
    assert (revived > 0) == (kind != "simvq")


def test_codewords_from_elsewhere_are_cut_to_their_part(kind):
    quantizer, _ = fitted(kind)
    before = state_of(quantizer)
    quantizer.restart_statistics()
    for key in ("codebooks.table", "codebooks.fixed", "codebooks.map"):
        if key in before:
            assert torch.equal(state_of(quantizer)[key], before[key])  # its own are not changed
    with torch.no_grad():
        for tensor in (*quantizer.codebooks.parameters(), *quantizer.codebooks.buffers()):
            tensor.add_(1.0)
    quantizer.restart_statistics()
    assert_confined(quantizer)


# ---- A model


@pytest.mark.parametrize("update", ["ema", "gradient", "simvq"])
@pytest.mark.parametrize("codebook_dim", [None, 6])
def test_a_model_is_built_saved_and_loaded(tmp_path, update, codebook_dim):
    facts = SPLIT | {"update": update, "codebook_dim": codebook_dim, "num_quantizers": 4, "codebook_size": 16}
    config = QuantizerConfig(**facts, dead_threshold=0.0)
    codec = tiny_codec(quantizer=config)
    assert isinstance(codec.quantizer, SplitQuantizer)
    assert (
        codec.quantizer.mask.tolist()
        == [[1.0, 1.0, *[0.0] * ((codebook_dim or 12) - 2)], [0.0, 0.0, *[1.0] * ((codebook_dim or 12) - 2)]] * 2
    )
    assert from_dict(CodecConfig, to_dict(codec.config), source="here") == codec.config
    audio = noise(2, 1, 500)
    codes = codec.encode(audio)
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert model_identity(loaded) == model_identity(codec)
    assert torch.equal(loaded.encode(audio), codes)
    assert torch.equal(loaded.decode(codes[:, :3]), codec.decode(codes[:, :3]))


def test_onnx_gives_what_pytorch_gives():
    codec = tiny_codec(quantizer=QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=6, **SPLIT))
    engine, audio = load_onnx(codec), noise(2, 1, 30 * HOP)
    codes = codec.encode_frames(audio)
    assert tie_margin(codec, audio, codes, engine.encode_frames(audio)) <= NEAR_TIE
    for levels in (1, 2, 3, 4):
        expected = codec.decode_frames(codes[:, :levels])
        torch.testing.assert_close(engine.decode_frames(codes[:, :levels]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("quantizer", "facts"),
    [
        ({"split_at": None}, ("quantizer", "split", "split_at")),
        ({"split_at": 0}, ("quantizer.split_at", "greater than", 1, 0)),
        ({"split_at": 12}, ("split_at", 12, 12, "part 1")),
        ({"split_at": 6, "codebook_dim": 6}, ("quantizer", "split_at", 6, 6, "part 1")),
        ({"part_of_level": [0, 1]}, ("quantizer", "part_of_level", 2, 4)),
        ({"part_of_level": [0, 1, 0, 2]}, ("quantizer.part_of_level.3", 0, 1, 2)),
        ({"structure": "residual"}, ("quantizer", "split_at", "part_of_level", "split", "residual")),
        ({"structure": "product", "split_at": None}, ("quantizer", "split_at", "part_of_level", "split", "product")),
    ],
)
def test_splits_that_do_not_fit_are_refused(quantizer, facts):
    values = {"latent_dim": 12, "quantizer": SPLIT | {"num_quantizers": 4} | quantizer}
    with pytest.raises(ConfigError, match=one_line("here", *facts)):
        from_dict(CodecConfig, values, source="here")
