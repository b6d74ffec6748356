"""Configuration of a model: frozen dataclasses with every default, and functions that read and write them (no torch).

A file lists what differs from the defaults; `codec.recipe` has the rest of a recipe: data, loss and training.
"""

import dataclasses
import difflib
import json
import math
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pydantic
from pydantic import ConfigDict, Discriminator, Field, PositiveFloat, Tag, TypeAdapter
from pydantic.dataclasses import dataclass

from codec.errors import ConfigError
from codec.ranges import MAX_SIZE, Decay, Delay, Depth, Expansion, SampleRate, Share, Size, Steps, Weight

FILE_BEAM = 8
"""Paths that the search for the codes of a file keeps; the time of encoding grows in proportion."""
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
T = TypeVar("T")
_kinds: set[str] = set()


def by_kind(*kinds: str) -> Discriminator:
    """Choose a class of a union by the key `kind`; without the key the first. The error for another kind lists them."""
    _kinds.update(kinds)

    def kind_of(value: Any) -> str:
        kind = value.get("kind", kinds[0]) if isinstance(value, Mapping) else getattr(value, "kind", None)
        return kind if isinstance(kind, str) else ""

    listed = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
    return Discriminator(kind_of, custom_error_type="kind", custom_error_message=f"kind must be {listed}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BandsConfig:
    """The signal model of the envelope encoder and the harmonic-noise decoder, see `codec.model.signal_model`."""

    cutoff: PositiveFloat = 1000.0
    """The waveform is coded below it, the envelope above it (Hz)."""
    num_bands: Size = 20
    """Bands of the envelope above the cutoff, evenly spaced on the mel scale."""
    num_low_bands: Size = 5
    """Bands of the envelope below the cutoff."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EnvelopeEncoderConfig:
    """ConvNeXt blocks at the frame rate over the features of the signal model."""

    kind: Literal["envelope"] = "envelope"
    hop_length: Size = 320
    """Samples per frame."""
    channels: Size = 320
    num_blocks: Depth = 3
    kernel_size: Size = 7
    """Kernel size of the depthwise convolutions (frames)."""
    expansion: Expansion = 2.0
    """Hidden width of a block divided by its width."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvEncoderConfig:
    """Strided convolutions on the waveform; one stage per stride."""

    kind: Literal["conv"] = "conv"
    strides: tuple[Size, ...] = (2, 4, 5, 8)
    """Downsampling factor of each stage; their product is the hop length (samples)."""
    channels: tuple[Size, ...] = (32, 64, 128, 256)
    """Width of each stage."""
    num_blocks: tuple[Depth, ...] = (1, 1, 1, 1)
    """ConvNeXt blocks of each stage."""
    kernel_size: Size = 7
    """Kernel size of the depthwise convolutions (frames)."""
    expansion: Expansion = 2.0
    """Hidden width of a block divided by its width."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.strides) == len(self.channels) == len(self.num_blocks) <= 16:
            raise ValueError("strides, channels and num_blocks need one entry per stage each: at most 16")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IdentityEncoderConfig:
    """No encoder: the signal is cut into vectors of `latent_dim` samples, the hop length."""

    kind: Literal["identity"] = "identity"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HarmonicNoiseDecoderConfig:
    """ConvNeXt blocks at the frame rate that control the synthesis of the signal model."""

    kind: Literal["harmonic_noise"] = "harmonic_noise"
    channels: Size = 512
    num_blocks: Depth = 3
    kernel_size: Size = 7
    """Kernel size of the depthwise convolutions (frames)."""
    expansion: Expansion = 2.0
    """Hidden width of a block divided by its width."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UpsampleDecoderConfig:
    """Strided upsampling vocoder with Snake activations."""

    kind: Literal["upsample"] = "upsample"
    strides: tuple[Size, ...] = (8, 5, 4, 2)
    """Upsampling factor of each stage; their product is the hop length (samples)."""
    channels: Size = 512
    """Width before the first stage; halved by every stage."""

    def __post_init__(self) -> None:
        if not self.strides or self.channels % 2 ** len(self.strides):
            raise ValueError(f"channels {self.channels} must be divisible by 2 to the number of strides")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IdentityDecoderConfig:
    """No decoder: the quantized vectors are the signal."""

    kind: Literal["identity"] = "identity"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class QuantizerConfig:
    """Vector quantizer of one or more levels."""

    kind: Literal["vector"] = "vector"
    structure: Literal["residual", "product", "split"] = "residual"
    """A level quantizes the residual of those before it, its own part of the vector, or the residual of one of two
    parts."""
    split_at: Size | None = None
    """Elements of part 0 of a split vector; the others are part 1."""
    part_of_level: tuple[Literal[0, 1], ...] = ()
    """The part of a split vector that each level quantizes."""
    update: Literal["ema", "gradient", "simvq"] = "ema"
    """How codebooks learn: as moving averages, as parameters, or by one learned linear map of a fixed codebook."""
    estimator: Literal["straight_through", "rotation"] = "straight_through"
    """How the gradient passes through the quantizer."""
    num_quantizers: Annotated[int, Field(ge=1, le=64)] = 12
    codebook_size: Annotated[int, Field(ge=2, le=65536)] = 1024
    codebook_dim: Size | None = None
    """Elements of a codeword (in a product: of all parts) after a learned projection; None quantizes the latents."""
    normalize: bool = False
    """Search by direction (cosine similarity); codewords keep their gain."""
    decay: Decay = 0.99
    """Decay per optimizer step of the moving averages: the use of codewords, and with EMA the codewords."""
    dead_threshold: Weight = 0.05
    """A codeword used less than this share of uniform use is replaced by a live vector; 0 switches this off."""
    quantizer_dropout: Share = 0.5
    """Share of training items that use only a random number of levels."""
    vbr_slope: Weight = 0.0
    """Levels that a frame saves per dB that it is quieter than the signal before it (`codec.model.allocation`)."""

    def __post_init__(self) -> None:
        if self.vbr_slope and (self.update != "ema" or self.structure == "product"):
            raise ValueError("vbr_slope needs update ema and residual levels, which have a codeword of zeros")
        if self.update == "simvq" and self.dead_threshold > 0:
            raise ValueError("simvq moves all codewords at once and can't replace one: set dead_threshold to 0")
        if self.structure != "split" and (self.split_at is not None or self.part_of_level):
            raise ValueError(f"split_at and part_of_level are for structure split, not {self.structure}")
        if self.structure == "split" and self.split_at is None:
            raise ValueError("structure split needs split_at")
        if self.structure == "split" and len(self.part_of_level) != self.num_quantizers:
            raise ValueError(f"part_of_level has {len(self.part_of_level)} entries for {self.num_quantizers} levels")
        if self.codebook_dim is not None:
            self.check_parts(self.codebook_dim)

    def check_parts(self, codebook_dim: int) -> None:
        """Raise ValueError if a vector of `codebook_dim` elements does not have the parts that the structure needs."""
        if self.split_at is not None and self.split_at >= codebook_dim:
            raise ValueError(f"split_at {self.split_at} leaves nothing of {codebook_dim} elements for part 1")
        if self.structure == "product" and codebook_dim % self.num_quantizers:
            raise ValueError(f"{codebook_dim} elements can't be split into {self.num_quantizers} equal parts")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FSQConfig:
    """Finite scalar quantizer: a few projected values, each rounded to a few steps; one code per vector."""

    kind: Literal["fsq"] = "fsq"
    steps: tuple[Steps, ...] = (4, 4, 4, 4, 4)
    """Number of steps of each value; their product is the codebook size."""

    def __post_init__(self) -> None:
        if not 2 <= (codes := math.prod(self.steps[:17])) <= 65536:  # 17 values are too many
            raise ValueError(f"steps make {codes} codes: 2 to 65536 are possible")

    @property
    def num_quantizers(self) -> int:
        """One level: a vector has one code."""
        return 1

    @property
    def codebook_size(self) -> int:
        """Number of codes N."""
        return math.prod(self.steps)

    @property
    def quantizer_dropout(self) -> float:
        """Zero: there is only one level."""
        return 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CodecConfig:
    """Everything that defines a model; stored beside its weights as config.json."""

    sample_rate: SampleRate = 16_000
    """Hz."""
    latent_dim: Size = 64
    """Channels of the latents."""
    lookahead: Delay = 0
    """Samples that the decoder waits beyond its own delay; raises quality and latency."""
    bands: BandsConfig = BandsConfig()
    encoder: (
        Annotated[EnvelopeEncoderConfig, Tag("envelope")]
        | Annotated[ConvEncoderConfig, Tag("conv")]
        | Annotated[IdentityEncoderConfig, Tag("identity")]
    ) = Field(default=EnvelopeEncoderConfig(), discriminator=by_kind("envelope", "conv", "identity"))
    quantizer: Annotated[QuantizerConfig, Tag("vector")] | Annotated[FSQConfig, Tag("fsq")] = Field(
        default=QuantizerConfig(), discriminator=by_kind("vector", "fsq")
    )
    decoder: (
        Annotated[HarmonicNoiseDecoderConfig, Tag("harmonic_noise")]
        | Annotated[UpsampleDecoderConfig, Tag("upsample")]
        | Annotated[IdentityDecoderConfig, Tag("identity")]
    ) = Field(default=HarmonicNoiseDecoderConfig(), discriminator=by_kind("harmonic_noise", "upsample", "identity"))

    def __post_init__(self) -> None:
        decoder, hop = self.decoder, self.hop_length
        if hop > MAX_SIZE:
            raise ValueError(f"a frame has {hop} samples: {MAX_SIZE} are possible")
        if isinstance(decoder, UpsampleDecoderConfig) and math.prod(decoder.strides) != hop:
            raise ValueError(f"decoder strides multiply to {math.prod(decoder.strides)}, the encoder's hop is {hop}")
        if isinstance(decoder, IdentityDecoderConfig):
            if self.latent_dim != hop:
                raise ValueError(f"an identity decoder makes {self.latent_dim} samples, the encoder's hop is {hop}")
            if self.lookahead and isinstance(self.encoder, IdentityEncoderConfig):
                raise ValueError(f"nothing between two identities can use a lookahead of {self.lookahead}: set it to 0")
        if isinstance(self.quantizer, QuantizerConfig):
            self.quantizer.check_parts(self.quantizer.codebook_dim or self.latent_dim)

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return self.latent_dim if isinstance(self.encoder, IdentityEncoderConfig) else self.encoder.hop_length

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz), exact."""
        return self.sample_rate / self.hop_length

    @property
    def bitrate_per_level(self) -> float:
        """Bitrate of one level of one channel without entropy coding (bit/s)."""
        return self.frame_rate * math.log2(self.quantizer.codebook_size)

    @property
    def bits_per_frame(self) -> float:
        """Bits per frame of one channel with all levels, without entropy coding."""
        return self.quantizer.num_quantizers * math.log2(self.quantizer.codebook_size)

    def num_quantizers_for(self, bitrate: float) -> int:
        """Most levels whose bitrate does not exceed `bitrate` (bit/s).

        Raises:
            ConfigError: Not even one level fits.
        """
        levels = int(min(self.quantizer.num_quantizers, bitrate / self.bitrate_per_level + 1e-9))
        if levels < 1:
            lowest = self.bitrate_per_level
            raise ConfigError(f"bitrate {bitrate:g} bit/s is below the lowest of this model, {lowest:g} bit/s")
        return levels


def shipped(kind: Literal["recipes", "clips", "weights"]) -> Path:
    """Folder that ships with the package: inside it in a wheel, at the root of the repository in a checkout."""
    package = Path(__file__).parent
    checkout = {"recipes": package.parent / "recipes", "clips": package.parent / "data" / "clips"}
    return package / kind if (package / kind).is_dir() or kind not in checkout else checkout[kind]


def from_dict(config: type[T], values: Mapping[str, Any], *, source: str = "") -> T:
    """Build a configuration from plain values, strictly.

    Raises:
        ConfigError: Unknown key (naming the nearest) or invalid value, in one line that starts with `source`, a file.
    """
    try:
        return TypeAdapter(config).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"] if part not in _kinds)
        reason = [key, first["msg"].removeprefix("Value error, ")]
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            reason = [unknown_key(key[:100], config)]
        elif first["type"] not in ("value_error", "missing"):
            reason[1] += f", not {reprlib.repr(first['input'])}"
        raise ConfigError(": ".join(filter(None, (source, *reason)))) from error


def to_dict(config: Any) -> dict[str, Any]:
    """Values of a configuration as JSON has them, every default written out."""
    return dict(json.loads(TypeAdapter(type(config)).dump_json(config)))


def unknown_key(key: str, config: type) -> str:
    """Message for an unknown dotted key, naming the nearest known one."""
    known = list(dict(leaves(config)))
    if key in known:
        owner = key.rpartition(".")[0]
        return f"{key!r} is a key of another kind of {owner}: set {owner}.kind"
    name = key.rsplit(".", 1)[-1]  # the right name in the wrong section is the likeliest slip
    by_name: dict[str, str] = {}
    for dotted in sorted(known, key=lambda dotted: dotted.count(".")):
        by_name.setdefault(dotted.rsplit(".", 1)[-1], dotted)
    nearest = [by_name[name]] if name in by_name else difflib.get_close_matches(key, known, 1, 0.6)
    nearest = nearest or [by_name[close] for close in difflib.get_close_matches(name, by_name, 1, 0.6)]
    return f"unknown key {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else f"; known: {', '.join(known)}")


def leaves(config: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and type of every value of a configuration class; once for each kind of section that has it."""
    for field in dataclasses.fields(config):
        kinds = section_kinds(field.type)
        for kind in kinds:
            yield from leaves(kind, f"{prefix}{field.name}.")
        if not kinds:
            yield prefix + field.name, field.type


def section_kinds(annotation: Any) -> list[type]:
    """Configuration classes that a field may hold; none if it holds a value."""
    choices: Sequence[Any] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [get_args(choice)[0] if get_origin(choice) is Annotated else choice for choice in choices]
    return [choice for choice in choices if isinstance(choice, type) and dataclasses.is_dataclass(choice)]
