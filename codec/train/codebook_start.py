"""How the codebooks of a run get their first codewords: from the latents of batches drawn for this alone."""

import torch
from lightning_fabric import Fabric

from codec.model.codec import Codec
from codec.model.quantizer.collective import sum_over_ranks
from codec.model.quantizer.initialization import Initialization
from codec.recipe import TrainConfig
from codec.train.data.source import Source
from codec.train.randomness import generator_of


@torch.no_grad()
def initialize_codebooks(
    codec: Codec, source: Source, train: TrainConfig, fabric: Fabric, *, seed: int, first_level: int = 0
) -> None:
    """Set those of `first_level` and beyond; every process must call it, and sees the vectors of all."""
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
