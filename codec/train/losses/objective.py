"""The objective: the loss of a training pass as named terms with weights."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from codec.model.codec import Codec, CodecOutput
from codec.recipe import LossConfig
from codec.train.data.segments import Batch
from codec.train.losses.loudness import LoudnessError
from codec.train.losses.spectral import BandComparison, MelDistance, normalize_rms, squared_error, waveform_loss


class Term(NamedTuple):
    """A term of the loss."""

    weight: float
    """0: logged only."""
    value: Tensor
    """Scalar."""


class Objective(Protocol):
    """Computes the terms of the loss, which is the sum of weight x value."""

    def __call__(self, output: CodecOutput, batch: Batch) -> Mapping[str, Term]:
        """Terms by name, without those that the weights switch off."""


class WeightedObjective:
    """Weighted distances of decoded audio to the original and of latents to codewords.

    Args:
        weights: Weights of the terms; a term of weight zero is not computed.
        codec: The model to train.
        device: Device of the batches.
    """

    def __init__(self, weights: LossConfig, codec: Codec, device: torch.device) -> None:
        self.weights = weights
        self.has_codebook_loss = codec.quantizer.has_codebook_loss
        self.sample_rate = codec.sample_rate
        self.mel = MelDistance(codec.sample_rate).to(device) if weights.mel else None
        self.bands = BandComparison(codec.sample_rate).to(device) if weights.mel else None
        self.loudness = LoudnessError(codec.sample_rate).to(device) if weights.loudness else None

    def __call__(self, output: CodecOutput, batch: Batch) -> Mapping[str, Term]:
        """Terms by name; padded samples have no error."""
        weights, audio = self.weights, within_lengths(output.audio, batch)
        terms = {}
        if weights.reconstruction:
            terms["reconstruction"] = Term(weights.reconstruction, squared_error(audio, batch.audio))
        if weights.waveform:
            highest = min(1.0, weights.waveform_below / (self.sample_rate / 2))
            terms["waveform"] = Term(weights.waveform, waveform_loss(audio, batch.audio, highest=highest))
        if self.mel is not None:
            terms["mel"] = Term(weights.mel, self.mel(*normalize_rms(audio, batch.audio)))
        if self.loudness is not None:
            terms["loudness"] = Term(weights.loudness, self.loudness(audio, batch.audio))
        terms["commitment"] = Term(weights.commitment, output.quantizer.commitment_loss)
        if self.has_codebook_loss:
            terms["codebook"] = Term(weights.codebook, output.quantizer.codebook_loss)
        errors = None if self.bands is None else self.bands(audio, batch.audio)
        if errors is not None:
            terms["energy"] = Term(weights.energy, errors.energy)
        terms = {name: term for name, term in terms.items() if term.weight}
        if errors is not None:
            terms["power_error_db"] = Term(0.0, errors.error_db)
        return terms


def within_lengths(audio: Tensor, batch: Batch) -> Tensor:
    """Decoded audio, float32 `[B, 1, T]`, with zeros after the end of an item, like the original."""
    audio = audio.float()
    if batch.lengths is None:
        return audio
    return audio * (torch.arange(audio.shape[-1], device=audio.device) < batch.lengths[:, None, None])
