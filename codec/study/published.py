"""The loss of the published listing of the Gaussian experiment, its faults kept, to be measured beside the right one.

With vectors x `[B, d]`, the codewords q `[B, 1, d]` that they chose and sg(.) for "held fixed", the listing has

    z = q + sg(q - x)        loss = mse(x, sg z) + mse(z, sg x) + mse(z, x)

1. q - x broadcasts `[B, 1, d]` against `[B, d]` to `[B, B, d]`: every x is compared with every q of the batch.
2. Straight-through is x + sg(q - x). The listing's form is 2q - x going forward, and passes x no gradient.
3. What it records as the commitment loss is the sum of the first two terms: commitment and codebook loss.

So each codeword is drawn to the mean of the batch, as if no vector had chosen it.
"""

from collections.abc import Mapping
from typing import NamedTuple

from einops import rearrange
from torch import Tensor
from torch.nn import functional

from codec.errors import ConfigError
from codec.model.codec import Codec, CodecOutput
from codec.model.quantizer.residual import VectorQuantizer
from codec.train.data.segments import Batch
from codec.train.losses.objective import Term


class PublishedLoss(NamedTuple):
    """The three numbers that the listing records, scalars."""

    total: Tensor
    commitment: Tensor
    """Commitment and codebook loss in one."""
    reconstruction: Tensor


def published_quantized(vectors: Tensor, codewords: Tensor) -> Tensor:
    """The listing's z `[B, B, d]` of vectors `[B, d]` and codewords `[B, 1, d]`."""
    return codewords + (codewords - vectors).detach()


def published_loss(vectors: Tensor, codewords: Tensor) -> PublishedLoss:
    """The listing's losses of vectors `[B, d]` and the codewords `[B, 1, d]` that they chose."""
    quantized = published_quantized(vectors, codewords)
    target = vectors.expand_as(quantized)
    commitment = functional.mse_loss(target, quantized.detach()) + functional.mse_loss(quantized, target.detach())
    reconstruction = functional.mse_loss(quantized, target)
    return PublishedLoss(commitment + reconstruction, commitment, reconstruction)


class PublishedObjective:
    """The loss of the published listing, on the codewords that the model's own quantizer chose.

    Raises:
        ConfigError: The model is not the listing's: one codebook of parameters on the vectors themselves.
    """

    def __init__(self, codec: Codec) -> None:
        quantizer = codec.quantizer
        parameters = [name for name, _ in codec.named_parameters()]
        if not isinstance(quantizer, VectorQuantizer) or parameters != ["quantizer.codebooks.table"]:
            raise ConfigError("loss.kind as_published needs a gradient codebook and no encoder, decoder or projection")
        if quantizer.num_quantizers != 1:
            raise ConfigError(f"loss.kind as_published needs one quantizer, not {quantizer.num_quantizers}")
        self.codebooks = quantizer.codebooks

    def __call__(self, output: CodecOutput, batch: Batch) -> Mapping[str, Term]:
        """The two terms of the listing, with its names."""
        codewords = self.codebooks.table[0, output.quantizer.codes[:, 0]]
        loss = published_loss(rearrange(batch.audio, "b 1 d -> b d"), codewords)
        return {"commitment": Term(1.0, loss.commitment), "reconstruction": Term(1.0, loss.reconstruction)}
