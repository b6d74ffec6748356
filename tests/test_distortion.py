"""Distortion of a codec on vectors, against brute force and closed forms."""

import pytest
import torch
from models import noise, seeded

from codec.config import CodecConfig, FSQConfig, IdentityDecoderConfig, IdentityEncoderConfig, QuantizerConfig
from codec.model.builder import build_codec
from codec.study.distortion import exact_distortion, first_codewords, measure_distortion, scalar_codewords
from codec.study.rate_distortion import lloyd_max


def vector_codec(dim, quantizer=None, **facts):
    facts = {"num_quantizers": 1, "codebook_size": 8, "dead_threshold": 0} | facts
    config = CodecConfig(
        latent_dim=dim,
        encoder=IdentityEncoderConfig(),
        decoder=IdentityDecoderConfig(),
        quantizer=quantizer or QuantizerConfig(**facts),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_codec(config).eval()


def test_distortion_is_the_brute_force_mean_squared_error():
    codec, vectors = vector_codec(3), noise(500, 3, scale=1.0)
    measured = measure_distortion(codec, torch.split(vectors, 64))
    distances = (vectors[:, None].double() - codec.quantizer.codebooks.table[0].double()).square().sum(-1)
    assert measured.total == pytest.approx(float(distances.amin(-1).mean()) / 3, rel=1e-6)
    assert measured.counts.tolist() == [torch.bincount(distances.argmin(-1), minlength=8).tolist()]
    assert measured.num_vectors == 500
    assert float(measured.health.usage[0]) == float((measured.counts > 0).double().mean())


@pytest.mark.parametrize("structure", ["residual", "product"])
def test_distortion_of_fewer_levels(structure):
    codec, vectors = vector_codec(4, structure=structure, num_quantizers=2), noise(100, 4, scale=1.0)
    measured = measure_distortion(codec, [vectors])
    codes = codec.encode(vectors.reshape(1, 1, -1))
    for level in (1, 2):
        decoded = codec.decode(codes[:, :level]).reshape(-1, 4)
        assert measured.by_level[level - 1] == pytest.approx(float((decoded - vectors).square().mean()), rel=1e-6)


def test_a_scalar_codebook_has_a_closed_form():
    codec = vector_codec(1, codebook_size=4)
    codec.quantizer.codebooks.table[0, :, 0] = torch.tensor([0.9, -2.0, 0.1, -0.7])
    exact = exact_distortion(scalar_codewords(codec))
    number = 400_000
    measured = measure_distortion(codec, [torch.randn(number, 1, generator=seeded(1))])
    assert measured.total == pytest.approx(exact.total, abs=5 / number**0.5)
    shares = measured.counts.double() / number
    assert torch.allclose(shares, exact.counts, atol=5 * 0.5 / number**0.5)
    assert float(exact.health.perplexity[0]) == pytest.approx(float(measured.health.perplexity[0]), rel=1e-2)


def test_the_optimal_quantizer_is_recognised():
    exact = exact_distortion(torch.from_numpy(lloyd_max(8)))
    assert exact.total == pytest.approx(0.034548, abs=1e-6)
    assert float(exact.health.entropy[0]) == pytest.approx(2.825, abs=1e-3)


@pytest.mark.parametrize(
    "codec",
    [
        vector_codec(2),
        vector_codec(1, num_quantizers=2),
        vector_codec(1, normalize=True),
        vector_codec(1, codebook_dim=1),
        vector_codec(1, structure="product"),
        vector_codec(1, FSQConfig(steps=(4,))),
    ],
)
def test_other_codecs_have_no_closed_form(codec):
    assert scalar_codewords(codec) is None


def test_first_codewords_are_what_codes_decode_to():
    codec = vector_codec(3, num_quantizers=2)
    assert torch.equal(first_codewords(codec), codec.quantizer.codebooks.table[0])
    grid = first_codewords(vector_codec(2, FSQConfig(steps=(2, 2))))
    assert sorted(grid.tolist()) == [[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]
