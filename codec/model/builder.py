"""Builds an untrained model from its configuration: the only code that knows both."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from codec.config import (
    CodecConfig,
    ConvEncoderConfig,
    FSQConfig,
    IdentityDecoderConfig,
    IdentityEncoderConfig,
    QuantizerConfig,
    UpsampleDecoderConfig,
)
from codec.errors import ConfigError
from codec.model.allocation import LevelAllocation
from codec.model.codec import Codec
from codec.model.decoder import HarmonicNoiseDecoder, UpsampleDecoder
from codec.model.encoder import Encoder, EnvelopeEncoder
from codec.model.entropy_tables import EntropyTables
from codec.model.passthrough import IdentityDecoder, IdentityEncoder
from codec.model.quantizer.codebooks import EMACodebooks, GradientCodebooks, SimVQCodebooks
from codec.model.quantizer.estimators import ESTIMATORS
from codec.model.quantizer.fsq import FiniteScalarQuantizer
from codec.model.quantizer.quantizer import Quantizer
from codec.model.quantizer.residual import ProductQuantizer, ResidualQuantizer, SplitQuantizer, VectorQuantizer
from codec.model.signal_model import SignalModel

CODEBOOKS: dict[str, type[EMACodebooks] | type[GradientCodebooks] | type[SimVQCodebooks]] = {
    "ema": EMACodebooks,
    "gradient": GradientCodebooks,
    "simvq": SimVQCodebooks,
}
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.eye, torch.randn)
_WITHOUT_COMPILER: dict[Any, Callable[..., torch.Tensor]] = {
    torch.randn: torch.empty,
    torch.eye: lambda n, m=None, **how: torch.empty(n, n if m is None else m, **how),
}
"""Functions that make the same shape on the meta device. There, those on the left have no kernel: they would import
PyTorch's compiler and sympy, which takes more than a second."""
STRUCTURES = {"residual": ResidualQuantizer, "product": ProductQuantizer}


class SizeLimit(TorchFunctionMode):
    """Refuses to make large tensors in this thread while it is entered: a hostile configuration takes no memory.

    Args:
        num_elements: Of all tensors that are made from a shape, such as weights; results of operations do not count.

    Raises:
        ConfigError: One more tensor would exceed the limit; it is not allocated.
    """

    def __init__(self, num_elements: int) -> None:
        super().__init__()
        self.remaining = num_elements

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Count a new tensor by its shape, then make it."""
        kwargs = kwargs or {}
        if func in _FACTORIES:
            self.remaining -= _WITHOUT_COMPILER.get(func, func)(*args, **kwargs | {"device": "meta"}).numel()
            if self.remaining < 0:
                raise ConfigError("it describes a larger model than the weights are of")
        return func(*args, **kwargs)


def build_codec(config: CodecConfig, entropy: EntropyTables | None = None) -> Codec:
    """Build an untrained model; `entropy` is for one whose weights are loaded next."""
    quantizer = config.quantizer
    allocation = None
    if isinstance(quantizer, QuantizerConfig) and quantizer.vbr_slope:
        allocation = LevelAllocation(_signal_model(config), slope=quantizer.vbr_slope)
    parts = _build_encoder(config), _build_quantizer(config), _build_decoder(config)
    return Codec(*parts, config, allocation, entropy=entropy)


def _build_encoder(config: CodecConfig) -> EnvelopeEncoder | Encoder | IdentityEncoder:
    encoder = config.encoder
    if isinstance(encoder, IdentityEncoderConfig):
        return IdentityEncoder(config.hop_length)
    if isinstance(encoder, ConvEncoderConfig):
        return Encoder(
            strides=encoder.strides,
            channels=encoder.channels,
            num_blocks=encoder.num_blocks,
            kernel_size=encoder.kernel_size,
            expansion=encoder.expansion,
            latent_dim=config.latent_dim,
        )
    return EnvelopeEncoder(
        _signal_model(config),
        channels=encoder.channels,
        num_blocks=encoder.num_blocks,
        kernel_size=encoder.kernel_size,
        expansion=encoder.expansion,
        latent_dim=config.latent_dim,
    )


def _build_quantizer(config: CodecConfig) -> Quantizer:
    quantizer = config.quantizer
    if isinstance(quantizer, FSQConfig):
        return FiniteScalarQuantizer(quantizer.steps, latent_dim=config.latent_dim)
    codebook_dim = quantizer.codebook_dim or config.latent_dim
    codebooks = CODEBOOKS[quantizer.update](
        quantizer.num_quantizers,
        quantizer.codebook_size,
        codebook_dim // quantizer.num_quantizers if quantizer.structure == "product" else codebook_dim,
        decay=quantizer.decay,
        dead_threshold=quantizer.dead_threshold,
        normalize=quantizer.normalize,
        has_zero=quantizer.vbr_slope > 0,
    )
    structure: Callable[..., VectorQuantizer]
    if quantizer.structure == "split":
        assert quantizer.split_at is not None  # checked by QuantizerConfig
        structure = partial(SplitQuantizer, split_at=quantizer.split_at, part_of_level=quantizer.part_of_level)
    else:
        structure = STRUCTURES[quantizer.structure]
    return structure(
        codebooks,
        latent_dim=config.latent_dim,
        codebook_dim=quantizer.codebook_dim,
        estimator=ESTIMATORS[quantizer.estimator],
    )


def _build_decoder(config: CodecConfig) -> HarmonicNoiseDecoder | UpsampleDecoder | IdentityDecoder:
    decoder = config.decoder
    if isinstance(decoder, IdentityDecoderConfig):
        return IdentityDecoder(config.hop_length)
    if isinstance(decoder, UpsampleDecoderConfig):
        return UpsampleDecoder(latent_dim=config.latent_dim, strides=decoder.strides, channels=decoder.channels)
    return HarmonicNoiseDecoder(
        _signal_model(config),
        latent_dim=config.latent_dim,
        channels=decoder.channels,
        num_blocks=decoder.num_blocks,
        kernel_size=decoder.kernel_size,
        expansion=decoder.expansion,
    )


def _signal_model(config: CodecConfig) -> SignalModel:
    bands = config.bands
    try:
        return SignalModel(config.sample_rate, config.hop_length, bands.cutoff, bands.num_bands, bands.num_low_bands)
    except ValueError as error:
        raise ConfigError(f"codec.bands: {error}") from error
