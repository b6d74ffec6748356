"""Speed of our residual quantizer and of `ResidualVQ` in vector-quantize-pytorch, on the same codebooks and frames.

Both are plain residual vector quantizers in float32 with the same number of threads, without projections and without
randomness: ours has EMA codebooks, theirs `ema_update`, no rotation trick, no cosine similarity, no sampling of codes.
Each gets the memory layout that it prefers. Two tasks are timed.

search          In eval mode: codes and quantized vectors, theirs in one call, ours by `encode` and `decode`.
training step   Forward with straight-through and the commitment loss of every level, backward to the input, one EMA
                update with revival of dead codewords. Theirs updates in the forward pass, ours in `update`. In both, a
                codeword with fewer than two uses per step is dead.

Both start with codebooks and use counts from k-means on these frames. Otherwise the first steps would go into replacing
dead codewords.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from codec.bench.timing import Spread, Task, interleave, ratios, spread
from codec.errors import require
from codec.model.quantizer.codebooks import EMACodebooks
from codec.model.quantizer.initialization import Initialization
from codec.model.quantizer.residual import ResidualQuantizer

PACKAGE = "vector_quantize_pytorch"
DECAY = 0.99
MIN_USES = 2.0
"""A codeword with fewer uses per step is dead."""
KMEANS_ITERATIONS = 2


class Sizes(NamedTuple):
    """Size of both quantizers and of their input."""

    num_quantizers: int
    codebook_size: int
    codebook_dim: int
    batch_size: int
    num_frames: int
    """Of each item."""


class TaskSpeed(NamedTuple):
    """Time of a task with both quantizers, from the same rounds."""

    task: str
    ours_ms: Spread
    theirs_ms: Spread
    theirs_over_ours: Spread
    """Their time divided by ours, for each round: how many times as fast ours is."""


class ResidualComparison(NamedTuple):
    """Result of `compare_residual`."""

    num_threads: int
    sizes: Sizes
    equal_codes: float
    """Share of equal codes, 0 .. 1. Rounding may decide between two codewords that are almost equally near; then all
    later codes of the frame differ."""
    largest_difference: float
    """Of the quantized vectors of frames with equal codes, relative to the largest element."""
    speeds: list[TaskSpeed]


def compare_residual(sizes: Sizes, *, num_rounds: int, budget_s: float) -> ResidualComparison:
    """Compare the codes of both, then time the search and a training step.

    Args:
        sizes: Of both quantizers and their input.
        num_rounds: Measured rounds per task.
        budget_s: Time limit of a task (s): a slow one gets fewer rounds, but at least two.

    Raises:
        ConfigError: vector-quantize-pytorch is not installed; the message holds the command that installs it.
    """
    shape = (sizes.batch_size, sizes.codebook_dim, sizes.num_frames)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    ours = _build_ours(sizes, latents)
    theirs = _build_theirs(sizes, ours)
    equal_codes, difference = _check_equal(ours, theirs, latents)
    speeds = []
    for task, pair in (("search", _searches), ("training step", _steps)):
        times = interleave(pair(ours, theirs, latents), num_rounds=num_rounds, budget_s=budget_s)
        speeds.append(_task_speed(task, times))
    return ResidualComparison(torch.get_num_threads(), sizes, equal_codes, difference, speeds)


def _build_ours(sizes: Sizes, latents: Tensor) -> ResidualQuantizer:
    uses = sizes.batch_size * sizes.num_frames / sizes.codebook_size  # mean uses of a codeword per step
    codebooks = EMACodebooks(
        sizes.num_quantizers,
        sizes.codebook_size,
        sizes.codebook_dim,
        decay=DECAY,
        dead_threshold=MIN_USES / uses,
        normalize=False,
    )
    quantizer = ResidualQuantizer(codebooks, latent_dim=sizes.codebook_dim, codebook_dim=None)
    start = Initialization(iterations=KMEANS_ITERATIONS, uses=uses)
    quantizer.initialize(latents, initialization=start, generator=torch.Generator().manual_seed(0))
    return quantizer


def _build_theirs(sizes: Sizes, ours: ResidualQuantizer) -> Any:
    """Build their quantizer with our codebooks and our EMA statistics."""
    library: Any = require(PACKAGE, "bench")
    theirs = library.ResidualVQ(
        dim=sizes.codebook_dim,
        num_quantizers=sizes.num_quantizers,
        codebook_size=sizes.codebook_size,
        decay=DECAY,
        threshold_ema_dead_code=MIN_USES,
        kmeans_init=False,
        ema_update=True,
        rotation_trick=False,
        use_cosine_sim=False,
        stochastic_sample_codes=False,
    )
    codebooks = ours.codebooks
    assert isinstance(codebooks, EMACodebooks)
    for level, layer in enumerate(theirs.layers):
        layer._codebook.embed.copy_(codebooks.table[level][None])
        layer._codebook.embed_avg.copy_(codebooks.sums[level][None])
        layer._codebook.cluster_size.copy_(codebooks.counts[level][None])
    return theirs


@torch.no_grad()
def _check_equal(ours: ResidualQuantizer, theirs: nn.Module, latents: Tensor) -> tuple[float, float]:
    """Share of equal codes, and the largest relative difference of vectors decoded from equal codes."""
    theirs.eval()
    their_vectors, their_codes, _ = theirs(latents.transpose(1, 2).contiguous())
    codes = ours.encode(latents)
    equal = codes == their_codes.transpose(1, 2)
    vectors = ours.decode(codes).transpose(1, 2)
    difference = (vectors - their_vectors)[equal.all(dim=1)].abs()
    largest = float(difference.max() / vectors.abs().max()) if difference.numel() else 0.0
    return float(equal.double().mean()), largest


def _searches(ours: ResidualQuantizer, theirs: nn.Module, latents: Tensor) -> dict[str, Task]:
    """Tasks that find the codes and quantized vectors of all frames."""
    theirs.eval()
    frames = latents.transpose(1, 2).contiguous()

    @torch.inference_mode()
    def our_search() -> None:
        ours.decode(ours.encode(latents))

    @torch.inference_mode()
    def their_search() -> None:
        theirs(frames)

    return {"ours": our_search, "theirs": their_search}


def _steps(ours: ResidualQuantizer, theirs: nn.Module, latents: Tensor) -> dict[str, Task]:
    """Tasks that do one training step on all frames."""
    theirs.train()
    inputs = latents.clone().requires_grad_()
    frames = latents.transpose(1, 2).contiguous().requires_grad_()

    def our_step() -> None:
        inputs.grad = None
        output = ours(inputs)
        (output.quantized.sum() + output.commitment_loss).backward()
        ours.update(output.statistics, lambda: torch.Generator().manual_seed(0))

    def their_step() -> None:
        frames.grad = None
        quantized, _, losses = theirs(frames)
        (quantized.sum() + losses.sum()).backward()

    return {"ours": our_step, "theirs": their_step}


def _task_speed(task: str, seconds: dict[str, list[float]]) -> TaskSpeed:
    ours, theirs = ([1000 * took for took in seconds[side]] for side in ("ours", "theirs"))
    return TaskSpeed(task, spread(ours), spread(theirs), ratios(theirs, ours))
