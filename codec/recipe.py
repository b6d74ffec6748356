"""Recipes: the model, its data and its training, in frozen dataclasses with every default (no torch).

A recipe is a TOML file that lists only what differs from the defaults, or from another recipe, its `base`. The command
line overrides both.
"""

import dataclasses
import difflib
import reprlib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, Tag
from pydantic.dataclasses import dataclass

from codec.config import STRICT, CodecConfig, by_kind, from_dict, shipped
from codec.errors import ConfigError
from codec.ranges import Count, Decay, Weight

SHIPPED_CLIPS = "shipped:clips"
_MAX_BYTES, _MAX_LINE = 2**16, 1000  # of a recipe; the time of tomllib grows with the square of a long key


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """Audio files, and how segments are drawn from them."""

    kind: Literal["audio"] = "audio"
    root: Path = Path()
    """Folder that `train` and `valid` are relative to; "shipped:clips" is the folder of clips in the package."""
    train: Path = Path("MANIFEST.tsv")
    """Folder of audio files; manifest (.tsv with `path` and, if known, `split`, `kind`, `speaker`, `seconds`; Kaldi,
    NeMo, Hugging Face); or a data set by name, such as LIBRITTS:train-clean-100 (LIBRISPEECH, LJSPEECH, VCTK_092)."""
    valid: Path | None = None
    """Held-out files, as for `train`; of a manifest with splits, the rows of the split valid. None trains without
    validation."""
    download: bool = False
    """Download named data sets that are not in `root`."""
    kinds: tuple[str, ...] = ()
    """Keep only manifest rows of these kinds; all by default."""
    segment_seconds: PositiveFloat = 1.0
    gain_db: tuple[float, float] = (-12.0, 3.0)
    """Range of the random gain of a segment (dB); a gain that would clip the segment is lowered."""
    num_workers: Count = 1
    """Processes that read audio ahead."""
    in_memory: bool = False
    """Decode all files once and keep them on the device (115 MB an hour at 16 kHz), instead of reading ahead."""

    def __post_init__(self) -> None:
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db must go from low to high, not {self.gain_db[0]:g} to {self.gain_db[1]:g}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GaussianConfig:
    """Random Gaussian vectors of the codec's `latent_dim`, each element of variance one."""

    kind: Literal["gaussian"] = "gaussian"
    num_vectors: PositiveInt = 10_000
    """Vectors per epoch."""
    fresh: bool = False
    """Draw new vectors in every epoch instead of repeating one set."""
    correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.0
    """Elements i and j have covariance correlation^|i - j|."""
    num_held_out: PositiveInt = 1_000_000
    """Vectors that the result is measured on after training; the same in every run."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LossConfig:
    """Weights of the terms of the loss; 0 switches a term off."""

    kind: Literal["weighted"] = "weighted"
    reconstruction: Weight = 0.0
    """Mean squared error, the measure of the Gaussian experiment."""
    waveform: Weight = 1.0
    """Log waveform error."""
    waveform_below: PositiveFloat = 1000.0
    """Highest frequency of the waveform error (Hz). Where the phase is not coded, silence would minimise the error."""
    mel: Weight = 10.0
    """Log-mel distance in seven resolutions."""
    energy: Weight = 0.0
    """Log ratio of the energies of nine frequency bands; the other terms favour too little energy."""
    loudness: Weight = 0.0
    """Audible difference of loudness, as PESQ models it."""
    commitment: Weight = 0.25
    codebook: Weight = 1.0
    """Only for codebooks that are parameters."""
    adversarial: Weight = 0.0
    """Scores of decoded audio by the discriminators; without this and the next term there are none."""
    feature_matching: Weight = 0.0
    """Relative difference of the discriminators' features of decoded and original audio."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PublishedLossConfig:
    """The loss of the published listing of the Gaussian experiment, its faults kept."""

    kind: Literal["as_published"] = "as_published"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DiscriminatorsConfig:
    """Discriminators of the terms `adversarial` and `feature_matching` of the loss, and their optimizer."""

    start_step: Count = 0
    """First step with discriminators."""
    every: PositiveInt = 1
    """Steps from one with discriminators to the next; between them the codec learns from the other terms alone."""
    periods: tuple[PositiveInt, ...] = (2, 3, 5, 7, 11)
    """One discriminator of folded audio per period (samples)."""
    period_channels: PositiveInt = 32
    """Width of the first layer of a period discriminator; the last layer is 32 times as wide."""
    fft_sizes: tuple[Annotated[PositiveInt, Field(multiple_of=4, ge=128)], ...] = (2048, 1024, 512)
    """One discriminator of complex spectra per transform size (samples)."""
    spectral_channels: PositiveInt = 32
    """Width of a spectral discriminator."""
    spectral_bands: Annotated[PositiveInt, Field(le=5)] = 5
    """Bands that a spectral discriminator judges, from the lowest; 2 of 5 are the lowest quarter of the spectrum, at a
    quarter of the cost."""
    lr: PositiveFloat = 2e-4
    """Highest learning rate; it follows the schedule of the codec's."""
    betas: tuple[Decay, Decay] = (0.8, 0.99)
    max_grad_norm: PositiveFloat = 10.0

    def __post_init__(self) -> None:
        if not self.periods and not self.fft_sizes:
            raise ValueError("periods and fft_sizes are both empty: name at least one discriminator")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OptimizerConfig:
    """AdamW with linear warm-up and cosine decay."""

    lr: PositiveFloat = 1e-3
    final_lr: Weight = 2e-5
    betas: tuple[Decay, Decay] = (0.8, 0.99)
    weight_decay: Weight = 0.01
    warmup_steps: Count = 200
    max_grad_norm: PositiveFloat = 1.0
    ema_decay: Decay = 0.998
    """Decay per step of the EMA weights, which validation and the saved model use."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainConfig:
    """Training loop."""

    steps: PositiveInt = 100_000
    epochs: PositiveInt | None = None
    """Length of the training in epochs instead of steps, for data that has them."""
    max_minutes: PositiveFloat | None = None
    """Stop and save after this time, counted from the start of the command with its imports."""
    batch_size: PositiveInt = 32
    """Segments per optimizer step, over all processes."""
    gradient_accumulation: PositiveInt = 1
    """Run the batch of a process in so many equal parts, one after another, before the optimizer step: the same step in
    less memory."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """auto is bf16-mixed where the device has fast bfloat16."""
    freeze: tuple[Literal["encoder", "quantizer"], ...] = ()
    """Parts that keep the weights of the model that the run starts from. A frozen encoder has no commitment loss, and
    the codebooks of a frozen quantizer do not move."""
    bypass_steps: Count = 0
    """Steps without the quantizer at the start; then codebooks are initialised from live latents."""
    init: Literal["kmeans", "data", "normal", "spread"] = "kmeans"
    """Codebooks start at k-means centroids of latents, at latents, at normal vectors, or at evenly spread directions
    with the covariance of the latents."""
    init_scale: PositiveFloat = 1.0
    """Factor of the initial codewords."""
    init_batches: PositiveInt = 16
    """Batches whose latents initialise the codebooks."""
    kmeans_iterations: PositiveInt = 10
    log_every: PositiveInt = 20
    """Steps between logged numbers; data with epochs is logged once per epoch."""
    validate_every: PositiveInt = 1000
    """Steps between validations."""
    checkpoint_every: PositiveInt = 500
    """Steps between checkpoints."""
    checkpoint_minutes: PositiveFloat | None = None
    """Longest time between checkpoints."""
    revive_every: PositiveInt = 1
    """Steps between replacements of dead codewords; each makes the processor wait for the GPU."""
    max_bad_steps: PositiveInt = 10
    """Training stops after so many consecutive steps whose loss or gradient is not finite; each is skipped."""
    trackers: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard",)
    """Where numbers and pictures are written besides history.jsonl; wandb needs the extra `wandb`."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ValidationConfig:
    """Validation on held-out files."""

    bitrates: tuple[PositiveFloat, ...] = (1500.0, 3000.0, 6000.0)
    """Bitrates (bit/s), each measured with the most levels that do not exceed it."""
    max_files: PositiveInt | None = None
    """Use only this number of files, evenly spread over the list."""
    num_samples_logged: Count = 2
    """Files whose audio and spectrograms are tracked, with charts of bands and codebooks; 0: none of these."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    """A training run."""

    name: str
    seed: Count = 0
    codec: CodecConfig = CodecConfig()
    data: Annotated[DataConfig, Tag("audio")] | Annotated[GaussianConfig, Tag("gaussian")] = Field(
        default=DataConfig(), discriminator=by_kind("audio", "gaussian")
    )
    loss: Annotated[LossConfig, Tag("weighted")] | Annotated[PublishedLossConfig, Tag("as_published")] = Field(
        default=LossConfig(), discriminator=by_kind("weighted", "as_published")
    )
    optimizer: OptimizerConfig = OptimizerConfig()
    discriminators: DiscriminatorsConfig = DiscriminatorsConfig()
    train: TrainConfig = TrainConfig()
    validation: ValidationConfig = ValidationConfig()


def find_recipe(name: str) -> Path:
    """Path of a recipe given by file or by the name of a shipped one.

    Raises:
        ConfigError: No such recipe; the message names the nearest shipped one, or lists all.
    """
    folder = shipped("recipes")
    for path in (Path(name), folder / f"{name}.toml"):
        if path.is_file():
            return path
    known = sorted(recipe.relative_to(folder).with_suffix("").as_posix() for recipe in folder.rglob("*.toml"))
    nearest = difflib.get_close_matches(name, known, 1)
    remedy = f"did you mean {nearest[0]!r}?" if nearest else f"give a .toml file or one of {', '.join(known)}"
    raise ConfigError(f"no recipe {name!r}: {remedy}")


def load_recipe(name: str) -> Recipe:
    """Read a recipe by file name or shipped name.

    Raises:
        ConfigError: It does not exist, is not TOML, has an unknown key or a value out of range.
    """
    path = find_recipe(name)
    return from_dict(Recipe, {"name": path.stem, **_read(path, ())}, source=str(path))


def with_absolute_root(recipe: Recipe) -> Recipe:
    """The recipe with an absolute `data.root`: a run can then be resumed from any folder."""
    data = recipe.data
    if not isinstance(data, DataConfig) or str(data.root) == SHIPPED_CLIPS:
        return recipe
    return dataclasses.replace(recipe, data=dataclasses.replace(data, root=data.root.expanduser().absolute()))


def _read(path: Path, derived: tuple[Path, ...]) -> dict[str, Any]:
    """Values of a recipe merged onto those of its `base`, a path relative to its folder."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES + 1).decode("utf-8-sig")
        if len(text) > _MAX_BYTES or max(map(len, text.split("\n"))) > _MAX_LINE:  # tomllib is slow on long keys
            raise ValueError(f"it has more than {_MAX_BYTES} characters, or a line of more than {_MAX_LINE}")
        values = tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    base = values.pop("base", None)
    if base is None:
        return values
    try:
        below, derived = (path.parent / str(base)).resolve(), (*derived, path.resolve())
        is_file = below.is_file()
    except (OSError, ValueError) as error:  # a name that no file can have
        raise ConfigError(f"{path}: base {reprlib.repr(base)} is no file: name another") from error
    if not is_file or below in derived:
        raise ConfigError(
            f"{path}: base {reprlib.repr(base)} is {'based on it' if below in derived else 'no file'}: name another"
        )
    inherited = _read(below, derived)
    inherited.pop("name", None)
    from_dict(Recipe, {"name": below.stem, **inherited}, source=str(below))  # an error names this file
    return _on_top(inherited, values, Recipe(name=""))


def _on_top(below: dict[str, Any], values: dict[str, Any], defaults: Any) -> dict[str, Any]:
    """Merge section by section; one that changes its kind starts anew. `defaults` has the kind of one without a key."""
    merged = dict(below)
    for key, value in values.items():
        other, default = below.get(key), getattr(defaults, key, None)
        if isinstance(value, dict) and isinstance(other, dict):
            usual = getattr(default, "kind", None)
            if value.get("kind", other.get("kind", usual)) == other.get("kind", usual):
                value = _on_top(other, value, default)
        merged[key] = value
    return merged
