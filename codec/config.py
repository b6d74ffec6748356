"""Configuration of models and recipes: frozen dataclasses that hold every default.

A recipe is a TOML file that lists only what differs from the defaults here; the command line overrides both. An unknown
key is an error that names the nearest known one. Reads no torch.
"""

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import pydantic
from pydantic import ConfigDict, Discriminator, Field, PositiveFloat, PositiveInt, Tag, TypeAdapter
from pydantic.dataclasses import dataclass

from codec.errors import ConfigError

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
T = TypeVar("T")
Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class EncoderConfig:
    """Strided convolutional encoder; one stage a stride."""

    strides: tuple[PositiveInt, ...] = (320,)
    """Downsampling factor of each stage; their product is the hop length (samples)."""
    channels: tuple[PositiveInt, ...] = (256,)
    """Width of each stage."""
    num_blocks: tuple[Count, ...] = (6,)
    """ConvNeXt blocks of each stage."""
    kernel_size: PositiveInt = 7
    """Of the depthwise convolutions (frames)."""
    expansion: PositiveFloat = 2.0
    """Hidden width of a block divided by its width."""

    def __post_init__(self) -> None:
        if not len(self.strides) == len(self.channels) == len(self.num_blocks) >= 1:
            raise ValueError("strides, channels and num_blocks need one entry a stage each")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ConvNeXtDecoderConfig:
    """ConvNeXt blocks at the frame rate and a synthesis head."""

    kind: Literal["convnext"] = "convnext"
    head: Literal["overlap_add", "istft"] = "overlap_add"
    """Learned synthesis frames, or magnitude and phase through an inverse STFT."""
    frame_length: PositiveInt = 640
    """Length of a synthesis frame (samples), a multiple of the hop length; beyond a hop it adds latency."""
    channels: PositiveInt = 384
    num_blocks: Count = 7
    kernel_size: PositiveInt = 7
    expansion: PositiveFloat = 2.0


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class UpsampleDecoderConfig:
    """Strided upsampling vocoder with Snake activations."""

    kind: Literal["upsample"] = "upsample"
    strides: tuple[PositiveInt, ...] = (8, 5, 4, 2)
    """Upsampling factor of each stage; their product is the hop length (samples)."""
    channels: PositiveInt = 512
    """Width before the first stage; halved by every stage."""

    def __post_init__(self) -> None:
        if not self.strides or self.channels % 2 ** len(self.strides):
            raise ValueError(f"channels {self.channels} must be divisible by 2 to the number of strides")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class QuantizerConfig:
    """Residual vector quantizer."""

    update: Literal["ema", "gradient"] = "ema"
    """How codebooks learn: by an exponential moving average, or as parameters through the codebook loss."""
    num_quantizers: Annotated[int, Field(ge=1, le=64)] = 12
    codebook_size: Annotated[int, Field(ge=2, le=65536)] = 1024
    codebook_dim: PositiveInt | None = 64
    """Size of a codeword; None means the latent dimension, with no projection."""
    normalize: bool = False
    """Search by direction (cosine similarity); codewords keep their gain."""
    decay: Decay = 0.99
    """Of the moving averages of use (and of the codewords, with EMA), per optimizer step."""
    dead_threshold: Weight = 0.05
    """A codeword used less than this share of uniform use is replaced by a live vector; 0 switches this off."""
    quantizer_dropout: Share = 0.5
    """Share of training items that use only a random number of levels."""


def _decoder_kind(value: Any) -> str:
    return str(value.get("kind", "convnext") if isinstance(value, Mapping) else getattr(value, "kind", value))


_BY_KIND = Discriminator(
    _decoder_kind, custom_error_type="kind", custom_error_message="kind must be convnext or upsample"
)


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class CodecConfig:
    """Everything that defines a model; stored beside its weights as config.json."""

    sample_rate: PositiveInt = 16_000
    """Hz."""
    latent_dim: PositiveInt = 256
    """Channels of the latents."""
    lookahead: Count = 0
    """Samples that the decoder may wait beyond its own delay; raises quality and latency."""
    encoder: EncoderConfig = EncoderConfig()
    quantizer: QuantizerConfig = QuantizerConfig()
    decoder: Annotated[ConvNeXtDecoderConfig, Tag("convnext")] | Annotated[UpsampleDecoderConfig, Tag("upsample")] = (
        Field(default=ConvNeXtDecoderConfig(), discriminator=_BY_KIND)
    )

    def __post_init__(self) -> None:
        decoder, hop = self.decoder, self.hop_length
        if isinstance(decoder, UpsampleDecoderConfig):
            if math.prod(decoder.strides) != hop:
                raise ValueError(f"decoder strides multiply to {math.prod(decoder.strides)}, encoder strides to {hop}")
        elif decoder.frame_length % hop:
            raise ValueError(f"frame_length {decoder.frame_length} must be a multiple of the hop length {hop}")

    @property
    def hop_length(self) -> int:
        """Samples per frame."""
        return math.prod(self.encoder.strides)

    @property
    def frame_rate(self) -> float:
        """Frames per second (Hz), exact."""
        return self.sample_rate / self.hop_length

    @property
    def bits_per_level(self) -> float:
        """Nominal bit/s that one level of one channel costs."""
        return self.frame_rate * math.log2(self.quantizer.codebook_size)

    def num_quantizers_for(self, bitrate: float) -> int:
        """Most levels whose bitrate does not exceed `bitrate` (bit/s).

        Raises:
            ConfigError: Not even one level fits.
        """
        levels = int(min(self.quantizer.num_quantizers, bitrate / self.bits_per_level + 1e-9))
        if levels < 1:
            raise ConfigError(
                f"bitrate {bitrate:g} bit/s is below the lowest of this model, {self.bits_per_level:g} bit/s"
            )
        return levels


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class DataConfig:
    """Where audio comes from and how segments are drawn."""

    root: Path = Path()
    """Folder that `train` and `valid` are relative to; "shipped:clips" is the clips that come with the package."""
    train: Path = Path("MANIFEST.tsv")
    """A folder of audio files, or a TSV manifest: `path`, and `split`, `kind`, `speaker`, `seconds` if it has them."""
    valid: Path | None = None
    """Held-out files, likewise; rows whose `split` is valid. None trains without validation."""
    kinds: tuple[str, ...] = ()
    """Keep only manifest rows of these kinds; all by default."""
    segment_seconds: PositiveFloat = 1.0
    gain_db: tuple[float, float] = (-12.0, 3.0)
    """Range of the random gain of a segment (dB); it is lowered where a segment would clip."""
    num_workers: Count = 1
    """Processes that read audio ahead."""

    def __post_init__(self) -> None:
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db must go from low to high, not {self.gain_db[0]:g} to {self.gain_db[1]:g}")


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class LossConfig:
    """Weights of the terms of the loss; 0 switches a term off."""

    waveform: Weight = 1.0
    """Log waveform error."""
    stft: Weight = 10.0
    """Multi-resolution compressed spectra."""
    mel: Weight = 1.0
    """Multi-resolution log-mel distance."""
    commitment: Weight = 0.25
    codebook: Weight = 1.0
    """Only gradient codebooks have it."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    lr: PositiveFloat = 1e-3
    final_lr: Weight = 2e-5
    betas: tuple[Decay, Decay] = (0.9, 0.98)
    weight_decay: Weight = 0.01
    warmup_steps: Count = 200
    max_grad_norm: PositiveFloat = 1.0
    ema_decay: Decay = 0.998
    """Of the averaged weights that validation and the saved model use."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class TrainConfig:
    """The loop."""

    steps: PositiveInt = 100_000
    max_minutes: PositiveFloat | None = None
    """Stop and save after this long, however many steps are done."""
    batch_size: PositiveInt = 32
    """Segments per optimizer step, over all processes."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """auto is bf16-mixed where the device has fast bfloat16."""
    bypass_steps: Count = 500
    """First steps without the quantizer; its codebooks are then initialised by k-means on live latents."""
    init_batches: PositiveInt = 16
    """Batches whose latents the k-means sees."""
    kmeans_iterations: PositiveInt = 10
    log_every: PositiveInt = 20
    validate_every: PositiveInt = 1000
    checkpoint_every: PositiveInt = 500
    max_bad_steps: PositiveInt = 10
    """Consecutive steps with a loss or gradient that is not finite (each is skipped) after which training stops."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class ValidationConfig:
    """What is measured on the held-out files."""

    bitrates: tuple[PositiveFloat, ...] = (1500.0, 3000.0, 6000.0)
    """bit/s; the most levels that do not exceed each."""
    max_files: PositiveInt | None = None
    """Use only so many files, evenly spread over the list."""
    num_samples_logged: Count = 2
    """Files whose audio and spectrogram go to tensorboard."""


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class Recipe:
    """A training run."""

    name: str
    seed: Count = 0
    codec: CodecConfig = CodecConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    validation: ValidationConfig = ValidationConfig()


def shipped(kind: Literal["recipes", "clips", "weights"]) -> Path:
    """Folder of what ships with the package: inside it in a wheel, at the root in a checkout."""
    package = Path(__file__).parent
    checkout = {"recipes": package.parent / "recipes", "clips": package.parent / "data" / "clips"}
    return package / kind if (package / kind).is_dir() or kind not in checkout else checkout[kind]


def find_recipe(name: str) -> Path:
    """Path of a recipe given by file or by the name of a shipped one.

    Raises:
        ConfigError: No such recipe; the message lists the shipped ones.
    """
    folder = shipped("recipes")
    for path in (Path(name), folder / f"{name}.toml"):
        if path.is_file():
            return path
    known = sorted(recipe.relative_to(folder).with_suffix("").as_posix() for recipe in folder.rglob("*.toml"))
    raise ConfigError(f"no recipe {name!r}: give a .toml file or one of {', '.join(known)}")


def load_recipe(name: str) -> Recipe:
    """Read a recipe by file name or shipped name.

    Raises:
        ConfigError: It does not exist, is not TOML, has an unknown key or a value out of range.
    """
    path = find_recipe(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return from_dict(Recipe, {"name": path.stem, **values}, source=str(path))


def from_dict(config: type[T], values: Mapping[str, Any], *, source: str) -> T:
    """Build a configuration from plain values, strictly.

    Raises:
        ConfigError: Unknown key (naming the nearest) or invalid value, in one line that starts with `source`.
    """
    try:
        return TypeAdapter(config).validate_python(values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"] if part not in ("convnext", "upsample"))
        if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            raise ConfigError(f"{source}: {unknown_key(key, config)}") from error
        message = first["msg"].removeprefix("Value error, ")
        given = "" if first["type"] in ("value_error", "missing") else f", not {first['input']!r}"
        raise ConfigError(f"{source}: {key}: {message}{given}".replace(": : ", ": ")) from error


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON values of a configuration, every default written out."""
    return dict(json.loads(TypeAdapter(type(config)).dump_json(config)))


def unknown_key(key: str, config: type) -> str:
    """Message for an unknown dotted key, naming the nearest known one."""
    known = list(dict.fromkeys(keys(config)))  # both kinds of decoder have channels
    if key in known:
        owner = key.rpartition(".")[0]
        return f"{key!r} is a key of another kind of {owner}: set {owner}.kind"
    by_name = {dotted.rsplit(".", 1)[-1]: dotted for dotted in reversed(known)}
    name = key.rsplit(".", 1)[-1]  # the right name in the wrong section is the likeliest slip
    nearest = [by_name[name]] if name in by_name else difflib.get_close_matches(key, known, 1, 0.6)
    nearest = nearest or [by_name[close] for close in difflib.get_close_matches(name, by_name, 1, 0.6)]
    return f"unknown key {key!r}" + (f"; did you mean {nearest[0]!r}?" if nearest else f"; known: {', '.join(known)}")


def keys(config: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of every value of a configuration class."""
    for field in dataclasses.fields(config):
        for choice in _choices(field.type):
            is_section = isinstance(choice, type) and dataclasses.is_dataclass(choice)
            yield from keys(choice, f"{prefix}{field.name}.") if is_section else [prefix + field.name]


def _choices(annotation: Any) -> Sequence[Any]:
    choices: Sequence[Any] = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    choices = [get_args(choice)[0] if get_origin(choice) is Annotated else choice for choice in choices]
    return [choice for choice in choices if dataclasses.is_dataclass(choice)] or [annotation]
