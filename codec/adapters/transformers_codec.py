"""A codec of `transformers`, from a folder that its `save_pretrained` wrote, as a codec of ours.

`codec.adapters.families` lists the families. Nothing is downloaded, no code in the folder is executed, and only
`.safetensors` weights are read.
"""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.adapters.families import EXTRA, FAMILIES, Family
from codec.adapters.folder import WEIGHTS_FILE, folder_identity, read_config, weight_files
from codec.dsp.precision import full_precision
from codec.errors import CodecError, ConfigError, ModelError, one_line, require
from codec.inference.hub import NESTED_CONFIG, TRANSFORMERS_PREFIX
from codec.model.audio_codec import AudioCodec


class TransformersCodec(AudioCodec):
    """A codec of transformers, which runs on whole recordings and gives what the library gives.

    Args:
        model: A model of the library, in eval mode and float32.
        family: How to call it.
        folder: What it was loaded from; another process loads it again from there.
        identity: Of the folder.
        config: `config.json` of the folder.
    """

    def __init__(self, model: Any, family: Family, *, folder: Path, identity: bytes, config: dict[str, Any]) -> None:
        sizes = family.sizes(model)
        super().__init__(
            sample_rate=sizes.sample_rate,
            hop_length=sizes.hop_length,
            delay=sizes.tail,
            num_quantizers=sizes.num_quantizers,
            codebook_size=sizes.codebook_size,
            identity=identity,
        )
        self.model = model
        self._family, self._folder, self._config = family, folder, config

    def describe(self) -> dict[str, Any]:
        """`config.json` of the folder."""
        return self._config

    @torch.inference_mode()
    def encode(self, audio: Tensor, num_quantizers: int | None = None, *, beam: int = 1) -> Tensor:
        """Encode whole signals; arguments as of `AudioCodec.encode`.

        The codes of the first levels do not depend on how many there are. `beam` is not used: these models search in
        their own way.

        Raises:
            AudioError: Wrong shape or dtype, no samples, NaN, Inf, or a peak above 4.
            ConfigError: `num_quantizers` is not in 1 .. K.
            ModelError: The model fails, or makes another number of frames than its family does.
        """
        self.check_audio(audio)
        self.check_num_quantizers(num_quantizers)
        levels = num_quantizers or self.num_quantizers
        expected = (len(audio), levels, self.num_frames(audio.shape[-1]))
        with self._named_errors("encode"), full_precision(audio.device):
            padded = self.pad(audio) if self._family.fills_frames else audio
            codes = self._family.encode(self.model, padded, levels)[:, :levels]
        if codes.shape != expected:
            raise ModelError(f"{self._folder} gives codes {list(codes.shape)} where {list(expected)} are expected")
        return codes

    @torch.inference_mode()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Decode whole signals; arguments as of `AudioCodec.decode`.

        Where the model decodes to less than whole frames (DAC with odd strides), zeros fill up the end.

        Raises:
            BitstreamError: Wrong shape, codes out of range, or more samples asked for than the frames hold.
            ModelError: The model fails, or makes another length than its family does.
        """
        self.check_codes(codes)
        num_samples = self.check_num_samples(codes, num_samples)
        with self._named_errors("decode"), full_precision(codes.device):
            audio = self._family.decode(self.model, codes).reshape(len(codes), 1, -1).float()
        missing = codes.shape[-1] * self.hop_length - audio.shape[-1]
        if abs(missing) > self.hop_length // 2:
            raise ModelError(f"{self._folder} decodes {codes.shape[-1]} frames to {audio.shape[-1]} samples")
        return F.pad(audio, (0, max(missing, 0)))[..., :num_samples]

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Load it again on the other side, on the CPU: models with weight normalisation can't be pickled."""
        return _load_again, (self._folder, self.identity)

    @contextlib.contextmanager
    def _named_errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except CodecError:
            raise
        except Exception as error:  # transformers raises whatever its parts raise
            raise ModelError(f"{self._folder} can't {action} this: {one_line(error)}") from error


def load_transformers(folder: str | Path, *, device: str | torch.device = "cpu") -> TransformersCodec:
    """Load a codec of transformers for inference, in float32.

    Args:
        folder: Written by `save_pretrained`, or a download of a model of the hub.
        device: Device of the weights.

    Raises:
        ConfigError: There is no such folder, it holds no codec that can be used, or transformers is not installed.
        ModelError: The folder lacks weights or files, or they are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give one that save_pretrained of transformers wrote")
    config = read_config(folder)
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise ConfigError(f"{folder} holds {_what(config)}")
    files = weight_files(folder)
    family = FAMILIES[kind]
    library: Any = require("transformers", EXTRA)
    how: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    settings = _call(folder, library.AutoConfig.from_pretrained, **how)
    if reason := family.refuse(settings):
        raise ConfigError(f"{folder} can't be used: {reason}")
    how |= {"use_safetensors": True, "dtype": torch.float32, "output_loading_info": True}
    with _hidden_bars(library.utils.logging):
        model, report = _call(folder, library.AutoModel.from_pretrained, **how)
    _check_complete(folder, report)
    model.config.return_dict = True
    model.eval().requires_grad_(False)
    identity = folder_identity(config, files)
    return TransformersCodec(model, family, folder=folder, identity=identity, config=config).eval().to(device)


@contextlib.contextmanager
def _hidden_bars(logging: Any) -> Iterator[None]:
    """Hide the progress bars of transformers, which every process would show, and of the hub's library with them."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _what(config: dict[str, Any]) -> str:
    """What a folder holds that is none of the families, and a remedy."""
    kind = config.get("model_type")
    if kind is None:
        return f"no model of transformers: without {TRANSFORMERS_PREFIX} it may be one of this toolkit"
    if NESTED_CONFIG in config:
        return f"a model of this toolkit: give its folder without {TRANSFORMERS_PREFIX}"
    return f"a model {kind!r}: give one of {', '.join(FAMILIES)}"


def _check_complete(folder: Path, report: dict[str, Any]) -> None:
    """Raise ModelError if weights are missing, which the library would draw at random."""
    # The embedding of masked frames is used in training alone, and not every checkpoint has it.
    missing = [key for key in sorted(report["missing_keys"]) if not key.endswith("masked_spec_embed")]
    wrong = missing + sorted(str(key) for key in report["mismatched_keys"])
    if wrong:
        raise ModelError(f"{folder / WEIGHTS_FILE} lacks {len(wrong)} weights of the model, such as {wrong[0]}")


def _call(folder: Path, load: Callable[..., Any], **how: Any) -> Any:
    try:
        return load(folder, **how)
    except Exception as error:  # transformers raises whatever its parts raise
        raise ModelError(f"can't load {folder}: {one_line(error)}") from error


def _load_again(folder: Path, identity: bytes) -> TransformersCodec:
    codec = load_transformers(folder)
    if codec.identity != identity:
        raise ModelError(f"{folder} holds another model here than where the work began")
    return codec
