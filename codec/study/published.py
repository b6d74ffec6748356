"""The loss of the published listing of the Gaussian experiment with its three faults, for comparison with ours.

With vectors x `[B, d]`, their codewords q `[B, 1, d]` and sg(.) for stop-gradient, the listing has

    z = q + sg(q - x)        loss = mse(x, sg z) + mse(z, sg x) + mse(z, x)

1. q - x broadcasts `[B, 1, d]` and `[B, d]` to `[B, B, d]`: every x is compared with every q of the batch.
2. Straight-through is x + sg(q - x). The form in the listing has the value 2q - x and passes no gradient to x.
3. It records the sum of its first two terms as the commitment loss; they are commitment and codebook loss.

As a result each codeword is drawn to the mean of the batch, whichever vectors chose it.
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
    """The three losses that the listing records, scalars."""

    total: Tensor
    commitment: Tensor
    """Commitment loss plus codebook loss."""
    reconstruction: Tensor


def published_quantized(vectors: Tensor, codewords: Tensor) -> Tensor:
    """The listing's z `[B, B, d]` of vectors `[B, d]` and codewords `[B, 1, d]`."""
    return codewords + (codewords - vectors).detach()


def published_loss(vectors: Tensor, codewords: Tensor) -> PublishedLoss:
    """The listing's losses of vectors `[B, d]` and their codewords `[B, 1, d]`."""
    quantized = published_quantized(vectors, codewords)
    target = vectors.expand_as(quantized)
    commitment = functional.mse_loss(target, quantized.detach()) + functional.mse_loss(quantized, target.detach())
    reconstruction = functional.mse_loss(quantized, target)
    return PublishedLoss(commitment + reconstruction, commitment, reconstruction)


class PublishedObjective:
    """The loss of the published listing on the codewords that the model's quantizer chose.

    Raises:
        ConfigError: The model has more than the listing's single gradient codebook on the vectors themselves.
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
        """The two terms of the listing, under its names."""
        codewords = self.codebooks.table[0, output.quantizer.codes[:, 0]]
        loss = published_loss(rearrange(batch.audio, "b 1 d -> b d"), codewords)
        return {"commitment": Term(1.0, loss.commitment), "reconstruction": Term(1.0, loss.reconstruction)}
