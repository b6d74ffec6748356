"""One training step: `Learner.step` runs the codec on a batch, backpropagates and updates everything that is trained.

A step never waits for the device: no shape and no branch depends on data. So the host can run ahead of a GPU, and a
step can be captured as a CUDA graph and replayed (`codec.train.graph`). What the host decides is passed in as `Inputs`
and `Plan`. Whether loss and gradients are finite is decided on the device; if they are not, the step changes nothing.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from codec.train.optimizer import build_optimizer, copy_unaveraged, reset_moments, update_ema
from codec.train.reporter import Reporter


class Inputs(NamedTuple):
    """What a step reads, all of it on the device."""

    audio: Tensor
    """float32 `[B, 1, T]`."""
    lengths: Tensor | None
    """Real samples of each item, int64 `[B]`; None if none is padded."""
    number: Tensor
    """Number of each item since the start of training, int64 `[B]`."""
    num_active: Tensor | None
    """Levels of each item, int64 `[B]`, 1 .. K; None for all."""
    lr: Tensor
    """Learning rate of the codec, scalar."""
    ema_rate: Tensor
    """How far the EMA weights move towards the weights, 0 .. 1, scalar; see `codec.train.optimizer.ema_rate`."""

    def split(self, num_parts: int) -> "list[Inputs]":
        """Equal parts of the batch, in order; `num_parts` divides B."""
        if num_parts == 1:
            return [self]
        columns = (
            [each] * num_parts if each is None or each.ndim == 0 else each.chunk(num_parts)  # one value for all items
            for each in self
        )
        return [Inputs._make(part) for part in zip(*columns, strict=True)]


class Plan(NamedTuple):
    """What a step does."""

    quantize: bool
    """Run the quantizer, do not bypass it."""
    adversarial: bool
    """Use and train the discriminators."""


class _Pass(NamedTuple):
    """Result of one part of the batch."""

    loss: Tensor
    terms: dict[str, Term]
    statistics: Statistics | None


class StepResult(NamedTuple):
    """What a step returns."""

    statistics: Statistics | None
    """Uses of the codewords; counts and sums are zero if the step was skipped. None without quantization."""
    seen: Tensor | None
    """Which levels had any vectors, bool `[K]`; None if the codebooks are frozen or not used."""
    grad_norms: Mapping[str, Tensor]
    """Gradient norms before clipping, by the name that they are logged under."""


class Learner:
    """The codec, its EMA copy and the discriminators, with their optimizers.

    Args:
        codec: The model to train, on its device.
        objective: Computes the terms of the loss.
        adversary: The discriminators, if there are any.
        reporter: Collects the losses of every step.
        fabric: Device, precision and processes.
        config: Settings of the codec's optimizer.
        num_parts: Equal parts of a batch that run one after another (gradient accumulation). The step is the same, up
            to rounding, for any number of parts, just as it is for any number of processes.
        learns_codebooks: Whether `step` and `revive` change the codebooks. Frozen parameters need no flag: they have no
            gradient.

    Attributes:
        is_updating: True from the first change of a step until `end_step`. After an error in between, the state is that
            of half a step and must not be saved.
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
        num_parts: int = 1,
        learns_codebooks: bool = True,
    ) -> None:
        self.codec = codec
        self.ema = copy.deepcopy(codec).requires_grad_(False).eval()
        self.objective = objective
        self.adversary = adversary
        self.reporter = reporter
        self.fabric = fabric
        self.config = config
        self.num_parts = num_parts
        self.learns_codebooks = learns_codebooks
        # Cached: walking the modules costs as much as a small step.
        pairs = zip(codec.parameters(), self.ema.parameters(), strict=True)
        trainable = [(weight, average) for weight, average in pairs if weight.requires_grad]
        self.weights: list[Tensor] = [weight for weight, _ in trainable]
        self.ema_weights: list[Tensor] = [average for _, average in trainable]
        self.optimizer = build_optimizer(codec, config)
        self.model: Any = codec
        self.wrapped_optimizer: Any = None
        if self.optimizer is not None:  # DistributedDataParallel refuses a model without gradients
            self.model, self.wrapped_optimizer = fabric.setup(codec, self.optimizer)
        self.skipped_steps = torch.zeros((), dtype=torch.int64, device=fabric.device)
        self.bad_steps_in_a_row = torch.zeros_like(self.skipped_steps)
        self.is_updating = False

    def trained(self) -> dict[str, Trained]:
        """Trained modules and their optimizers, by their name in a checkpoint."""
        trained = {"model": Trained(self.codec, self.optimizer)}
        if self.adversary is not None:
            trained["discriminators"] = Trained(self.adversary.discriminators, self.adversary.optimizer)
        return trained

    def step(self, inputs: Inputs, plan: Plan) -> StepResult:
        """Do one training step.

        1. Run the codec on the batch; the loss is the weighted sum of its terms.
        2. Backpropagate the loss, then the discriminators' own loss on the same audio. With several parts of the batch,
           both gradients add up.
        3. Clip both gradients. If they are finite, update weights, codebooks and EMA weights; if not, skip the step.

        Dead codewords are replaced afterwards, by `revive`: that waits for the device.
        """
        adversary = self.adversary if plan.adversarial else None
        self._clear_gradients()
        *first, last = inputs.split(self.num_parts)
        sizes = None if adversary is None else adversary.feature_sizes([part.audio for part in (*first, last)])
        with self._gradients_kept_local(adversary):
            passes = [self._run(part, plan, adversary, sizes) for part in first]
        loss, terms, statistics = _joined([*passes, self._run(last, plan, adversary, sizes)])

        grad_norms = {"train/grad_norm": self._clip(loss)}
        if adversary is not None:
            grad_norms["train/discriminators_grad_norm"] = adversary.clip()
        finite = torch.stack(list(grad_norms.values())).isfinite().all()
        skip = finite.logical_not()
        self.is_updating = True
        self._update_weights(inputs.lr, adversary, skip)
        statistics, seen = self._update_codebooks(statistics, skip)
        if self.config.ema_decay > 0:
            update_ema(self.ema_weights, self.weights, inputs.ema_rate.masked_fill(skip, 0))
        self.skipped_steps.add_(skip)
        self.bad_steps_in_a_row.add_(1).mul_(skip)
        self.reporter.add(loss, terms, finite)
        return StepResult(statistics, seen, grad_norms)

    def _clear_gradients(self) -> None:
        """Drop all gradients, also those of a step that was interrupted."""
        for weight in self.weights if self.adversary is None else [*self.weights, *self.adversary.weights]:
            weight.grad = None

    @contextlib.contextmanager
    def _gradients_kept_local(self, adversary: Adversary | None) -> Iterator[None]:
        """Add gradients up on this process; the next pass after this averages the sums over all processes."""
        with contextlib.ExitStack() as stack:
            if self.optimizer is not None:
                stack.enter_context(self.fabric.no_backward_sync(self.model))
            if adversary is not None:
                stack.enter_context(self.fabric.no_backward_sync(adversary.model))
            yield

    def _run(self, part: Inputs, plan: Plan, adversary: Adversary | None, sizes: Tensor | None) -> _Pass:
        """Run a part of the batch, forward and backward; `sizes` are those of `Adversary.feature_sizes`."""
        batch, share = Batch(part.audio, part.lengths, part.number), 1 / self.num_parts
        output = self.model(
            batch.audio,
            num_active=part.num_active,
            lengths=batch.lengths,
            first_frame=batch.number,
            quantize=plan.quantize,
        )
        audio = within_lengths(output.audio, batch)
        terms = dict(self.objective(output, batch))
        if adversary is not None:
            terms |= adversary.terms(audio, batch.audio, sizes)
        loss = sum((term.weight * term.value for term in terms.values()), start=batch.audio.new_zeros(()))
        if self.optimizer is not None:
            self.fabric.backward(loss * share)
        if adversary is not None:
            terms["discriminators"] = Term(0.0, adversary.backward(audio, batch.audio, share))  # weight 0: logged only
        terms = {name: Term(term.weight, term.value.detach()) for name, term in terms.items()}
        return _Pass(loss.detach(), terms, output.quantizer.statistics)

    def _clip(self, loss: Tensor) -> Tensor:
        """Clip the gradients; returns their norm, or the loss if nothing has a gradient.

        It is the same number on all processes: gradients are averaged over them.
        """
        if self.optimizer is None:
            return sum_over_ranks(loss)[0]
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)
        return norm

    def _update_weights(self, lr: Tensor, adversary: Adversary | None, skip: Tensor) -> None:
        """Take the optimizer steps of the codec and of the discriminators, whose learning rate has the same course."""
        if self.optimizer is not None:
            self.optimizer.prepare(lr, skip)
            self.wrapped_optimizer.step()
        if adversary is not None:
            adversary.apply(lr / self.config.lr, skip)

    def _update_codebooks(self, statistics: Statistics | None, skip: Tensor) -> tuple[Statistics | None, Tensor | None]:
        """Move the averages of the codebooks; returns `StepResult.statistics` and `StepResult.seen`."""
        if statistics is None:
            return None, None
        counts, sums = (each.masked_fill(skip, 0) for each in (statistics.counts, statistics.sums))
        statistics = statistics._replace(counts=counts, sums=sums)
        return statistics, self.codec.quantizer.follow(statistics) if self.learns_codebooks else None

    def revive(self, result: StepResult, generator: Callable[[], torch.Generator]) -> None:
        """Replace dead codewords by vectors of the last step, see `Codebooks.revive`; this waits for the device."""
        quantizer = self.codec.quantizer
        if result.statistics is None or result.seen is None:
            return
        revived = quantizer.revive(result.statistics, result.seen, generator)
        if isinstance(quantizer, VectorQuantizer) and quantizer.has_codebook_loss and revived.any():
            # The table is a parameter: reset the Adam moments and the average of revived rows.
            assert self.optimizer is not None
            table = quantizer.codebooks.get_parameter("table")
            reset_moments(self.optimizer, table, revived)
            self.ema.get_parameter("quantizer.codebooks.table")[revived] = table.detach()[revived]

    def end_step(self) -> None:
        """Mark the step as complete, with or without `revive`: its state can be saved."""
        self.is_updating = False

    def copy_codebooks_to_ema(self) -> None:
        """Start the average of the codebooks at their first codewords, not at the random table before them."""
        codebooks = {key: value for key, value in self.codec.state_dict().items() if "quantizer.codebooks" in key}
        self.ema.load_state_dict(codebooks, strict=False)

    def current_ema(self) -> Codec:
        """The EMA codec, with the buffers of the codec copied into it."""
        copy_unaveraged(self.ema, self.codec, decay=self.config.ema_decay)
        return self.ema


def _joined(passes: Sequence[_Pass]) -> _Pass:
    """Result of the whole batch from those of its equal parts: losses are means over items."""
    if len(passes) == 1:
        return passes[0]
    terms = {
        name: Term(term.weight, torch.stack([each.terms[name].value for each in passes]).mean())
        for name, term in passes[0].terms.items()
    }
    statistics = [each.statistics for each in passes if each.statistics is not None]
    loss = torch.stack([each.loss for each in passes]).mean()
    return _Pass(loss, terms, Statistics.of_parts(statistics) if statistics else None)
