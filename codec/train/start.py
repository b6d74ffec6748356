"""How a run starts: weights from another model (`--init-from`), codebooks from latents of its own encoder."""

from collections.abc import Sequence

import torch
from lightning_fabric import Fabric

from codec.inference.pretrained import WEIGHTS_FILE, find_model, read_codec, set_weights
from codec.model.codec import Codec
from codec.model.digest import inference_tensors
from codec.model.quantizer.collective import sum_over_ranks
from codec.model.quantizer.initialization import Initialization
from codec.recipe import TrainConfig
from codec.train.data.source import Source
from codec.train.randomness import generator_of

CODEBOOKS = "quantizer.codebooks."


def load_initial_weights(model: str, codecs: Sequence[Codec]) -> int:
    """Set weights and codebooks to those of another model, which may have fewer levels.

    Args:
        model: Any form that `codec.inference.pretrained.load_codec` takes.
        codecs: Models of one architecture.

    Returns:
        Number of levels whose codebooks were loaded; initialise the others with `initialize_codebooks`.

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


@torch.no_grad()
def initialize_codebooks(
    codec: Codec, source: Source, train: TrainConfig, fabric: Fabric, *, seed: int, first_level: int = 0
) -> None:
    """Initialise codebooks from the latents of batches drawn for this alone.

    Every process must call this; the codebooks are initialised from the vectors of all processes.

    Args:
        codec: Its quantizer is initialised, with latents of its encoder.
        source: Gives the batches.
        train: How many batches, and how codewords are drawn from them.
        fabric: Device and processes.
        seed: Seed of the run.
        first_level: Levels before this one keep their codebooks.
    """
    latents, masks = [], []
    for batch in source.initial_batches(
        train.init_batches, batch_size=train.batch_size, rank=fabric.global_rank, world_size=fabric.world_size
    ):
        batch = fabric.to_device(batch)
        latents.append(codec.encoder(codec.pad(batch.audio)))
        if batch.lengths is not None:
            masks.append(codec.frame_mask(batch.lengths, latents[-1].shape[-1]))
    found, mask = torch.cat(latents), torch.cat(masks) if masks else None
    num_frames = found[:, 0].numel() if mask is None else int(mask.sum())
    (totals,) = sum_over_ranks(torch.tensor([num_frames, len(found)], dtype=torch.float64, device=found.device))
    uses = train.batch_size * float(totals[0] / totals[1]) / codec.quantizer.codebook_size
    codec.quantizer.initialize(
        found,
        mask=mask,
        first_level=first_level,
        initialization=Initialization(train.init, train.kmeans_iterations, train.init_scale, uses),
        generator=generator_of(seed, 3, 0, 0),
    )
