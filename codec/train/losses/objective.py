"""What a run minimises: named terms with their weights, of the output of a training pass."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from codec.model.codec import Codec, CodecOutput
from codec.recipe import LossConfig
from codec.train.data.segments import Batch
from codec.train.losses.loudness import LoudnessError
from codec.train.losses.spectral import BandComparison, MelDistance, squared_error, to_one_loudness, waveform_loss


class Term(NamedTuple):
    """A part of the loss."""

    weight: float
    value: Tensor
    """Scalar."""


class Objective(Protocol):
    """The loss is the sum of weight x value over the terms."""

    def __call__(self, output: CodecOutput, batch: Batch) -> Mapping[str, Term]:
        """Terms by name, those of weight zero left out."""


class WeightedObjective:
    """Distances of decoded audio and of codewords, weighted as the recipe says.

    Args:
        weights: A term of weight zero is not computed.
        codec: The model that is trained.
        device: Where batches are.
    """

    def __init__(self, weights: LossConfig, codec: Codec, device: torch.device) -> None:
        self.weights = weights
        self.has_codebook_loss = codec.quantizer.has_codebook_loss
        self.sample_rate = codec.sample_rate
        self.mel = MelDistance(codec.sample_rate).to(device) if weights.mel else None
        self.levels = BandComparison(codec.sample_rate).to(device) if weights.mel else None
        self.loudness = LoudnessError(codec.sample_rate).to(device) if weights.loudness else None

    def __call__(self, output: CodecOutput, batch: Batch) -> Mapping[str, Term]:
        """Terms by name; samples behind the end of an item count as matched."""
        weights, audio = self.weights, within_lengths(output.audio, batch)
        terms = {}
        if weights.reconstruction:
            terms["reconstruction"] = Term(weights.reconstruction, squared_error(audio, batch.audio))
        if weights.waveform:
            highest = min(1.0, weights.waveform_below / (self.sample_rate / 2))
            terms["waveform"] = Term(weights.waveform, waveform_loss(audio, batch.audio, highest=highest))
        if self.mel is not None:
            terms["mel"] = Term(weights.mel, self.mel(*to_one_loudness(audio, batch.audio)))
        if self.loudness is not None:
            terms["loudness"] = Term(weights.loudness, self.loudness(audio, batch.audio))
        terms["commitment"] = Term(weights.commitment, output.quantizer.commitment_loss)
        if self.has_codebook_loss:
            terms["codebook"] = Term(weights.codebook, output.quantizer.codebook_loss)
        levels = None if self.levels is None else self.levels(audio, batch.audio)
        if levels is not None:
            terms["energy"] = Term(weights.energy, levels.energy)
        terms = {name: term for name, term in terms.items() if term.weight}
        if levels is not None:
            terms["power_error_db"] = Term(0.0, levels.error_db)
        return terms


def within_lengths(audio: Tensor, batch: Batch) -> Tensor:
    """Decoded audio, float32 `[B, 1, T]`, silent behind the end of an item as the original is."""
    audio = audio.float()
    if batch.lengths is None:
        return audio
    return audio * (torch.arange(audio.shape[-1], device=audio.device) < batch.lengths[:, None, None])
