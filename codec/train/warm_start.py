"""Training that begins with the weights of another model instead of random ones."""

from collections.abc import Sequence

import torch

from codec.inference.pretrained import WEIGHTS_FILE, find_model, read_codec, set_weights
from codec.model.codec import Codec
from codec.model.digest import inference_tensors

CODEBOOKS = "quantizer.codebooks."


def load_initial_weights(model: str, codecs: Sequence[Codec]) -> int:
    """Set weights and codebooks to those of another model, which may have fewer levels.

    Args:
        model: Any form that `codec.inference.pretrained.load_codec` takes.
        codecs: Models of one architecture.

    Returns:
        How many levels have codebooks now; the others must be set from live latents.

    Raises:
        ModelError: There is no such model, or it is of another architecture.
    """
    source = read_codec(model)
    given = inference_tensors(source)
    for codec in codecs:
        own = inference_tensors(codec)
        for name in given.keys() & own.keys():
            missing = len(own[name]) - len(given[name]) if name.startswith(CODEBOOKS) else 0
            if missing > 0 and own[name].shape[1:] == given[name].shape[1:]:
                given[name] = torch.cat([given[name], own[name][-missing:]])
        set_weights(codec, given, source=str(find_model(model) / WEIGHTS_FILE))
    return source.quantizer.num_quantizers
