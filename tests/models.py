"""Tiny models, and equality of codes up to near-ties, where two float paths choose a codeword."""

import torch
from einops import rearrange

from codec.config import (
    FILE_BEAM,
    BandsConfig,
    CodecConfig,
    ConvEncoderConfig,
    EnvelopeEncoderConfig,
    HarmonicNoiseDecoderConfig,
    QuantizerConfig,
    UpsampleDecoderConfig,
)
from codec.model.builder import build_codec
from codec.model.entropy_tables import TOTAL, EntropyTables
from codec.model.quantizer.codebooks import EMACodebooks, GradientCodebooks
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ResidualQuantizer
from codec.onnx.check import NEAR_TIE, tie_margin

HOP = 20
CONV_ENCODER = ConvEncoderConfig(strides=(4, 5), channels=(8, 12), num_blocks=(1, 1), kernel_size=3)
HARMONIC_NOISE = {
    "bands": BandsConfig(cutoff=1600, num_bands=2, num_low_bands=2),
    "encoder": EnvelopeEncoderConfig(hop_length=HOP, channels=16, num_blocks=1, kernel_size=3),
    "decoder": HarmonicNoiseDecoderConfig(channels=16, num_blocks=1, kernel_size=3),
}
PARTS = {
    "harmonic_noise": HARMONIC_NOISE,
    "variable_bitrate": {
        **HARMONIC_NOISE,
        "quantizer": QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=6, vbr_slope=0.5),
    },
    "upsample": {"encoder": CONV_ENCODER, "decoder": UpsampleDecoderConfig(strides=(5, 4), channels=8)},
    "upsample_lookahead": {
        "encoder": CONV_ENCODER,
        "decoder": UpsampleDecoderConfig(strides=(5, 4), channels=8),
        "lookahead": 27,
    },
}
KINDS = {"ema": EMACodebooks, "gradient": GradientCodebooks}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def noise(*shape, seed=0, scale=0.3):
    return scale * torch.randn(*shape, generator=seeded(seed))


def tiny_config(name="harmonic_noise", /, **changes):
    """Return a configuration at 16 kHz with hops of 20 samples; keywords replace fields of CodecConfig."""
    facts = {
        "sample_rate": 16_000,
        "latent_dim": 12,
        "quantizer": QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=6),
    }
    return CodecConfig(**facts | PARTS[name] | changes)


def tiny_codec(name="harmonic_noise", /, *, seed=0, **changes):
    """Return a model in eval mode with random weights and codebooks from k-means on latents of noise."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        codec = build_codec(tiny_config(name, **changes)).eval()
    with torch.no_grad():
        latents = codec.encoder(noise(4, 1, 100 * codec.hop_length, seed=seed))
        codec.quantizer.initialize(latents, initialization=Initialization(iterations=5), generator=seeded(seed))
    return codec.requires_grad_(False)


def tiny_tables(codec, audio):
    """Return entropy tables of the codes of `audio` `[B, 1, T]` in files, with two contexts a level."""
    codes = codec.encode(audio, beam=FILE_BEAM)
    levels, size = codes.shape[1], codec.quantizer.codebook_size
    previous = torch.arange(size + 1) % 2
    counts = torch.full((levels, 2, size), 0.5)
    for level in range(levels):
        context = previous[codes[:, level, :-1]], codes[:, level, 1:]
        counts[level].index_put_(context, torch.ones(()), accumulate=True)
    share = counts.view(2 * levels, size) / counts.view(2 * levels, size).sum(dim=1, keepdim=True)
    frequencies = 1 + (share * (TOTAL - size)).long()
    frequencies[:, 0] += TOTAL - frequencies.sum(dim=1)
    return EntropyTables(
        frequencies=frequencies.to(torch.uint16),
        previous=previous.repeat(levels, 1).to(torch.uint8),
        below=torch.zeros(levels, size + 1, dtype=torch.uint8),
        rows=torch.arange(2 * levels).view(levels, 2, 1).to(torch.uint16),
        bits_per_frame=3.0 * torch.arange(1, levels + 1),
    )


def make_codebooks(
    kind="ema", *, num_quantizers=1, codebook_size=8, codebook_dim=3, decay=0.9, dead_threshold=0.05, normalize=False
):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return KINDS[kind](
            num_quantizers,
            codebook_size,
            codebook_dim,
            decay=decay,
            dead_threshold=dead_threshold,
            normalize=normalize,
        )


def make_quantizer(kind="ema", *, num_quantizers=4, latent_dim=10, codebook_dim=6, **facts):
    codebooks = make_codebooks(
        kind, num_quantizers=num_quantizers, codebook_dim=codebook_dim, **{"codebook_size": 16} | facts
    )
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return ResidualQuantizer(
            codebooks, latent_dim=latent_dim, codebook_dim=None if codebook_dim == latent_dim else codebook_dim
        )


def state_of(module):
    return {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}


def assert_same_state(module, before):
    """Every parameter and buffer is bit for bit what it was."""
    for key, tensor in module.state_dict().items():
        assert torch.equal(tensor, before[key]), key


def assert_beam_codes_equal(codec, first, second, audio, beam=FILE_BEAM):
    """As `assert_codes_equal` for codes of a beam search of padded `audio` `[B, 1, T]`, by files' beam if not given."""
    assert first.shape == second.shape
    assert first.dtype == second.dtype == torch.int64
    assert tie_margin(codec, audio, first, second, beam=beam) <= NEAR_TIE
    assert (first == second).all(dim=1).double().mean() >= 0.9, "more near-ties than chance makes"


def assert_codes_equal(codec, first, second, latents, tolerance=1e-5):
    """Two float paths gave the same codes `[B, K, F]`, up to the first near-tie of each frame.

    At every level both codes must be nearest to what the levels before left of `latents`, within `tolerance`
    of the energies that the distance is computed from; with a variable bitrate code 0 may say that there is none. A
    frame in which two codes differ is such a tie: its later levels quantize different things and are not compared.
    """
    assert first.shape == second.shape
    assert first.dtype == second.dtype == torch.int64
    table = codec.quantizer.codebooks.table.detach().double()
    residual = rearrange(codec.quantizer.project_in(latents).detach().double(), "b d f -> b f d")
    same = torch.ones_like(first[:, 0], dtype=torch.bool)
    for level in range(first.shape[1]):
        distances = (residual[:, :, None] - table[level]).square().sum(-1)
        allowed = tolerance * (residual.square().sum(-1) + table[level].square().sum(-1).max())
        for codes in (first, second):
            excess = distances.gather(-1, codes[:, level, :, None])[..., 0] - distances.amin(-1)
            searched = same if codec.allocation is None or level == 0 else same & (codes[:, level] > 0)
            assert (excess <= allowed)[searched].all(), f"level {level}: not the nearest codeword"
        same &= first[:, level] == second[:, level]
        residual = residual - table[level, first[:, level]]
    assert same.double().mean() >= 0.9, "more near-ties than chance makes"
