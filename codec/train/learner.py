"""One optimizer step: everything that learns, and how it learns from a batch.

Nothing in `Learner.step` asks a device for a number: no shape and no branch depends on data, so that the host may be
steps ahead of a GPU, and a step can be captured once and replayed (`codec.train.graph`). What the host decides comes in
as `Inputs` and `Plan`; a step whose loss or gradient is not finite changes nothing, as the device decides.
"""

import copy
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from codec.model.codec import Codec
from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.collective import sum_over_ranks
from codec.model.quantizer.residual import VectorQuantizer
from codec.recipe import OptimizerConfig
from codec.train.checkpoint import Trained
from codec.train.data.segments import Batch
from codec.train.losses.adversarial import Adversary
from codec.train.losses.objective import Objective, Term, within_lengths
from codec.train.optimizer import average_weights, build_optimizer, catch_up, forget_moments
from codec.train.reporter import Reporter


class Inputs(NamedTuple):
    """What a step takes, all of it on the device."""

    audio: Tensor
    """float32 `[B, 1, T]`."""
    lengths: Tensor | None
    """Real samples of each item, int64 `[B]`; None where all are whole."""
    number: Tensor
    """Of each item since the start of training, int64 `[B]`."""
    levels: Tensor | None
    """Levels that each item uses, int64 `[B]`; None where all use all."""
    lr: Tensor
    """Learning rate of the codec, scalar."""
    average_share: Tensor
    """How far the EMA weights move towards those of the model, scalar."""


class Plan(NamedTuple):
    """Which kind of step it is."""

    quantize: bool
    """Through the codebooks, not past them."""
    adversarial: bool
    """With the discriminators."""


class Taken(NamedTuple):
    """What a step leaves to be looked at."""

    statistics: Statistics | None
    """Of the codes; counts and sums are zero where the step was not finite. None without quantization."""
    seen: Tensor | None
    """Which levels had vectors, bool `[K]`."""
    norms: Mapping[str, Tensor]
    """Of gradients before clipping, by the name that they are logged as."""


class Learner:
    """The codec, its EMA twin and the discriminators, with their optimizers.

    Args:
        codec: What is trained, on its device.
        objective: Gives the terms of the loss.
        adversary: Discriminators, if there are any.
        reporter: Takes in the losses of every step.
        fabric: Device, precision and processes.
        config: Of the codec's optimizer.
        learns_codebooks: Whether they may move. Parameters that have no gradient keep still without being told.
    """

    def __init__(
        self,
        codec: Codec,
        *,
        objective: Objective,
        adversary: Adversary | None,
        reporter: Reporter,
        fabric: Fabric,
        config: OptimizerConfig,
        learns_codebooks: bool = True,
    ) -> None:
        self.codec = codec
        self.ema = copy.deepcopy(codec).requires_grad_(False).eval()
        self.objective = objective
        self.adversary = adversary
        self.reporter = reporter
        self.fabric = fabric
        self.config = config
        self.learns_codebooks = learns_codebooks
        # Lists, because to look for them takes as long as a small step.
        pairs = zip(codec.parameters(), self.ema.parameters(), strict=True)
        learned = [(weight, average) for weight, average in pairs if weight.requires_grad]
        self.weights: list[Tensor] = [weight for weight, _ in learned]
        self.ema_weights: list[Tensor] = [average for _, average in learned]
        self.optimizer = build_optimizer(codec, config)
        self.model: Any = codec
        self.wrapped_optimizer: Any = None
        if self.optimizer is not None:  # where nothing has a gradient, DistributedDataParallel has nothing to do
            self.model, self.wrapped_optimizer = fabric.setup(codec, self.optimizer)
        self.skipped_steps = torch.zeros((), dtype=torch.int64, device=fabric.device)
        self.bad_steps_in_a_row = torch.zeros_like(self.skipped_steps)

    def trained(self) -> dict[str, Trained]:
        """What learns, with its optimizer, by its name in a checkpoint."""
        trained = {"model": Trained(self.codec, self.optimizer)}
        if self.adversary is not None:
            trained["discriminators"] = Trained(self.adversary.discriminators, self.adversary.optimizer)
        return trained

    def step(self, inputs: Inputs, plan: Plan) -> Taken:
        """Learn from a batch."""
        for weight in self.weights if self.adversary is None else [*self.weights, *self.adversary.weights]:
            weight.grad = None  # also those of a step that broke off
        batch = Batch(inputs.audio, inputs.lengths, inputs.number)
        output = self.model(
            batch.audio,
            num_active=inputs.levels,
            lengths=batch.lengths,
            first_frame=batch.number,
            quantize=plan.quantize,
        )
        terms = dict(self.objective(output, batch))
        audio = within_lengths(output.audio, batch)
        adversary = self.adversary if plan.adversarial else None
        if adversary is not None:
            terms |= adversary.terms(audio, batch.audio)
        loss = sum((term.weight * term.value for term in terms.values()), start=batch.audio.new_zeros(()))
        norms = {"train/grad_norm": self._backward(loss)}
        if adversary is not None:
            learned = adversary.learn(audio, batch.audio)
            terms["discriminators"] = Term(0.0, learned.loss)
            norms["train/discriminators_grad_norm"] = learned.norm
        finite = torch.stack(list(norms.values())).isfinite().all()
        statistics, seen = self._apply(output.quantizer.statistics, inputs, finite, adversary)
        self.reporter.add(loss, terms, finite)
        return Taken(statistics, seen, norms)

    def _backward(self, loss: Tensor) -> Tensor:
        """Gradients, clipped; returns what all processes agree on: the norm, or a loss that has no gradient."""
        if self.optimizer is None:
            return sum_over_ranks(loss)[0]
        self.fabric.backward(loss)
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)  # averaged over processes: all agree
        return norm

    def _apply(
        self, statistics: Statistics | None, inputs: Inputs, finite: Tensor, adversary: Adversary | None
    ) -> tuple[Statistics | None, Tensor | None]:
        """The one place where weights and codebooks change: not at all unless `finite`."""
        bad, seen = finite.logical_not(), None
        if self.optimizer is not None:
            self.optimizer.prepare(inputs.lr, bad)
            self.wrapped_optimizer.step()
        if adversary is not None:
            adversary.apply(inputs.lr / self.config.lr, bad)
        if statistics is not None:
            counts, sums = (each.masked_fill(bad, 0) for each in (statistics.counts, statistics.sums))
            statistics = statistics._replace(counts=counts, sums=sums)
            seen = self.codec.quantizer.follow(statistics) if self.learns_codebooks else None
        if self.config.ema_decay > 0:
            average_weights(self.ema_weights, self.weights, inputs.average_share.masked_fill(bad, 0))
        self.skipped_steps.add_(bad)
        self.bad_steps_in_a_row.add_(1).mul_(bad)
        return statistics, seen

    def revive(self, taken: Taken, generator: Callable[[], torch.Generator]) -> None:
        """Replace codewords that died by vectors of the last step; this does ask the device."""
        quantizer = self.codec.quantizer
        if taken.statistics is None or taken.seen is None:
            return
        revived = quantizer.revive(taken.statistics, taken.seen, generator)
        if isinstance(quantizer, VectorQuantizer) and quantizer.has_codebook_loss and revived.any():
            self._forget(quantizer, revived)

    def _forget(self, quantizer: VectorQuantizer, revived: Tensor) -> None:
        """A revived codeword has no past, neither in the optimizer nor in the average."""
        table = quantizer.codebooks.get_parameter("table")
        assert self.optimizer is not None
        forget_moments(self.optimizer, table, revived)
        self.ema.get_parameter("quantizer.codebooks.table")[revived] = table.detach()[revived]

    def adopt_codebooks(self) -> None:
        """Give the EMA codec the codebooks that were just set: else their average would start at random ones."""
        codebooks = {key: value for key, value in self.codec.state_dict().items() if "quantizer.codebooks" in key}
        self.ema.load_state_dict(codebooks, strict=False)

    def up_to_date(self) -> Codec:
        """The EMA codec, with all that has no average as the codec has it."""
        catch_up(self.ema, self.codec, decay=self.config.ema_decay)
        return self.ema
