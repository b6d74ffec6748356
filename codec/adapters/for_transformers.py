"""Write a model of ours as a folder that both this toolkit and `transformers` load.

config.json                 configuration of transformers, with ours in `codec_config`
model.safetensors           the same weights for both
modeling_codec.py           the class for transformers, which needs this package installed
preprocessor_config.json    a feature extractor of transformers that pads and makes masks
entropy.safetensors         only this toolkit reads it, if the model has it
"""

import json
import shutil
from pathlib import Path

from codec.config import to_dict
from codec.errors import WriteError
from codec.files import new_folder
from codec.inference.hub import NESTED_CONFIG
from codec.inference.pretrained import CONFIG_FILE, WEIGHTS_FILE, save_codec
from codec.model.codec import Codec

MODEL_TYPE = "neural_codec"
_MODELING = Path(__file__).with_name("modeling_codec.py")


def save_for_transformers(codec: Codec, folder: str | Path, *, overwrite: bool = False) -> None:
    """Write a folder for `AutoModel.from_pretrained(folder, trust_remote_code=True)`, and for `load_codec(folder)`.

    Raises:
        ModelError: The model is in bfloat16.
        WriteError: A model is there already and `overwrite` is False, or the folder can't be written.
    """
    folder = Path(folder)
    if (folder / WEIGHTS_FILE).exists() and not overwrite:
        raise WriteError(f"{folder} holds a model already", overwrite=True)
    with new_folder(folder) as partial:
        save_codec(codec, partial)
        _write_json(partial / CONFIG_FILE, _configuration(codec))
        _write_json(partial / "preprocessor_config.json", _preprocessor(codec))
        shutil.copy(_MODELING, partial)


def _configuration(codec: Codec) -> dict[str, object]:
    module = _MODELING.stem
    return {
        "architectures": ["NeuralCodecModel"],
        "auto_map": {"AutoConfig": f"{module}.NeuralCodecConfig", "AutoModel": f"{module}.NeuralCodecModel"},
        "model_type": MODEL_TYPE,
        "dtype": "float32",
        NESTED_CONFIG: to_dict(codec.config),
    }


def _preprocessor(codec: Codec) -> dict[str, object]:
    return {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": codec.sample_rate,
    }


def _write_json(path: Path, values: dict[str, object]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
