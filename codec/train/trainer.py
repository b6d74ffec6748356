"""The training loop: one process, or many under torchrun, by Lightning Fabric.

Step s of a run is a function of the state after step s - 1, the recipe and s: a resumed run repeats the uninterrupted
one bit for bit, and the order of the data does not depend on how many processes share it.
"""

import contextlib
import copy
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from tqdm import tqdm

from codec.errors import ConfigError, ModelError
from codec.model.codec import CodecOutput, build_codec
from codec.model.collective import sum_over_ranks
from codec.model.quantizers import QuantizerOutput
from codec.model.vector_quantizers import VectorQuantizer
from codec.precision import full_precision
from codec.recipe import Recipe
from codec.train.adversary import open_adversary
from codec.train.checkpoint import Trained, load_checkpoint, save_checkpoint
from codec.train.codebook_start import initialize_codebooks
from codec.train.data import Batch
from codec.train.interrupt import interrupt_deferred
from codec.train.judge import open_judge
from codec.train.objective import Term, build_objective, within_lengths
from codec.train.optimizer import average_weights, build_optimizer, catch_up, forget_moments, learning_rate
from codec.train.randomness import draw_levels, generator_of
from codec.train.reporter import Reporter
from codec.train.rundir import open_trackers
from codec.train.source import open_source
from codec.train.stopwatch import Stopwatch
from codec.train.warm_start import take_over


class Trainer:
    """Trains the model of a recipe.

    Args:
        recipe: What to train, on what, how.
        run_dir: Where checkpoints and records go.
        fabric: Device, precision and processes.

    Raises:
        ConfigError: The data is missing, or the recipe contradicts itself.
    """

    def __init__(self, recipe: Recipe, run_dir: Path, fabric: Fabric) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        self.fabric = fabric
        torch.manual_seed(recipe.seed)
        self.codec = build_codec(recipe.codec).to(fabric.device)  # here, so that `resume` finds the device
        self.averaged = copy.deepcopy(self.codec).requires_grad_(False).eval()
        # Lists, because to look for them takes as long as a small step.
        self.weights: list[Tensor] = list(self.codec.parameters())
        self.averaged_weights: list[Tensor] = list(self.averaged.parameters())
        self.optimizer = build_optimizer(self.codec, recipe.optimizer)
        self.objective = build_objective(recipe.loss, self.codec, fabric.device)
        self.adversary = open_adversary(recipe, fabric)
        self.source = open_source(recipe)
        self.num_steps = self._count_steps()
        self.judge = open_judge(recipe, self.source)
        self.reporter = Reporter(recipe, self.source, world_size=fabric.world_size, device=fabric.device)
        self.step = 0
        self.initialized = False
        self.known_levels = 0  # that came with codebooks from another model
        self.best_score = math.inf
        self.skipped_steps = 0
        self.bad_steps_in_a_row = 0
        self.stopwatch = Stopwatch()

    def _count_steps(self) -> int:
        train = self.recipe.train
        if train.epochs is None:
            return train.steps
        epoch = self.source.steps_per_epoch(train.batch_size)
        if epoch is None:
            raise ConfigError("train.epochs is for data that has epochs, such as Gaussian vectors: give train.steps")
        return train.epochs * epoch

    def start_from(self, model: str) -> None:
        """Begin with another model of this architecture, see `take_over`; the step count stays zero."""
        self.known_levels = take_over(model, (self.codec, self.averaged))
        self.initialized = self.known_levels == self.codec.quantizer.num_quantizers

    def resume(self) -> None:
        """Continue the run in `run_dir` from its last checkpoint."""
        counters, sums = self.counters(), self.reporter.state()
        state = load_checkpoint(
            self.run_dir,
            averaged=self.averaged,
            trained=self.trained(),
            counters=(*counters, *sums, "seconds"),
        )
        self.reporter.restore(state, is_first=self.fabric.is_global_zero)
        self.stopwatch = Stopwatch(state["seconds"])
        for name in ("step", *counters):
            setattr(self, name, math.inf if state[name] is None else state[name])

    def trained(self) -> dict[str, Trained]:
        """What learns, with its optimizer, by its name in a checkpoint."""
        trained = {"model": Trained(self.codec, self.optimizer)}
        if self.adversary is not None:
            trained["discriminators"] = Trained(self.adversary.discriminators, self.adversary.optimizer)
        return trained

    def counters(self) -> dict[str, Any]:
        """What a resumed run must know besides tensors and the step."""
        return {
            "initialized": self.initialized,
            "best_score": self.best_score if math.isfinite(self.best_score) else None,
            "skipped_steps": self.skipped_steps,
            "bad_steps_in_a_row": self.bad_steps_in_a_row,
        }

    def fit(self) -> None:
        """Train until the recipe's number of steps or minutes, then judge the result where the data has a judgement.

        Raises:
            ModelError: The loss or its gradient was not finite for too many steps in a row.
        """
        self._set_up()
        loader = self.source.batches(
            first_step=self.step,
            last_step=self.num_steps,
            batch_size=self.recipe.train.batch_size,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )
        progress = tqdm(
            total=self.num_steps,
            initial=self.step,
            unit="step",
            desc="training",
            disable=not self.fabric.is_global_zero,
        )
        self.saved_step = self.step
        # Where all is float32, to say so once spares the islands the time to say it again in every step.
        precise = self.recipe.train.precision == "32-true"
        precision = full_precision(self.fabric.device) if precise else contextlib.nullcontext()
        try:
            with precision, torch.inference_mode(self.optimizer is None):
                self._run(loader, progress)
            if self.judge is not None and self.fabric.is_global_zero:
                progress.set_postfix_str("measuring the result")
                self.judge.conclude(
                    self.averaged, self.run_dir, self.reporter.trackers, self.step, self.stopwatch.seconds
                )
        finally:
            progress.close()
            for tracker in self.reporter.trackers:
                tracker.close()
            if self.step > self.saved_step:  # interrupted, or stopped by an error: what was learned is kept
                self._save(best=False)

    def _set_up(self) -> None:
        self.model: Any = self.codec
        self.wrapped_optimizer: Any = None
        if self.optimizer is not None:  # where nothing has a gradient, DistributedDataParallel has nothing to do
            self.model, self.wrapped_optimizer = self.fabric.setup(self.codec, self.optimizer)
        if self.adversary is not None:
            self.adversary.set_up()
        if self.fabric.is_global_zero:
            self.reporter.trackers = open_trackers(self.run_dir, self.recipe, self.step)

    def _run(self, loader: Iterable[Batch], progress: "tqdm[Any]") -> None:
        """Take the steps; the last one is validated and saved."""
        train, wall, first_step, seconds_before = self.recipe.train, Stopwatch(), self.step, self.stopwatch.seconds
        wall.start()
        self.stopwatch.start()
        for batch in loader:
            taken = self._step(batch, progress)
            progress.update()
            if self.step % self.reporter.every == 0:
                speed = (self.step - first_step) / max(self.stopwatch.seconds - seconds_before, 1e-9)
                self._report(taken, speed, progress)
            is_last = self.step == self.num_steps or self._is_out_of_time(wall.seconds)
            if is_last or self.step % train.validate_every == 0:
                self._validate(progress)
            elif self.step % train.checkpoint_every == 0:
                self._save(best=False)
            if is_last:
                return

    def _is_out_of_time(self, seconds: float) -> bool:
        limit = self.recipe.train.max_minutes
        return bool(limit is not None and self.fabric.broadcast(seconds > 60 * limit))

    def _step(self, batch: Batch, progress: "tqdm[Any]") -> "_Taken":
        quantize = self.initialized or self.known_levels > 0 or self.step >= self.recipe.train.bypass_steps
        if quantize and not self.initialized:
            self._initialize_codebooks(progress)
        lr = learning_rate(self.recipe.optimizer, self.step, self.num_steps)
        levels = draw_levels(self.recipe.codec.quantizer, batch.number.tolist(), seed=self.recipe.seed)
        batch, levels = self.fabric.to_device((batch, levels))
        output = self.model(
            batch.audio, num_active=levels, lengths=batch.lengths, first_frame=batch.number, quantize=quantize
        )
        terms = dict(self.objective(output, batch))
        audio = within_lengths(output.audio, batch)
        if self.adversary is not None:
            terms |= self.adversary.terms(audio, batch.audio, self.step)
        loss = sum((term.weight * term.value for term in terms.values()), start=batch.audio.new_zeros(()))
        norms = {"train/grad_norm": self._backward(loss)}
        if self.adversary is not None:
            learned = self.adversary.learn(audio, batch.audio, self.step)
            terms["discriminators"] = Term(0.0, learned.loss)
            norms["train/discriminators_grad_norm"] = learned.norm
        finite = bool(torch.stack(list(norms.values())).isfinite().all())
        with interrupt_deferred():
            if finite:
                self._apply(output, lr)
                self.reporter.add(loss, terms)
            self._forget_gradients()
            self.step += 1
            self._count_bad(finite)
        return _Taken(output.quantizer, list(terms), norms, lr)

    def _backward(self, loss: Tensor) -> Tensor:
        """Gradients, clipped; returns what all processes agree on: the norm, or a loss that has no gradient."""
        if self.optimizer is None:
            return sum_over_ranks(loss)[0]
        self.fabric.backward(loss)
        gradients = [weight.grad for weight in self.weights if weight.grad is not None]
        norm = get_total_norm(gradients)  # of gradients that are averaged over the processes: all agree
        if norm > self.recipe.optimizer.max_grad_norm:
            clip_grads_with_norm_(self.weights, self.recipe.optimizer.max_grad_norm, norm)
        return norm

    def _apply(self, output: CodecOutput, lr: float) -> None:
        """The one place where weights and codebooks change."""
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            self.wrapped_optimizer.step()
        if self.adversary is not None:
            self.adversary.apply(lr / self.recipe.optimizer.lr)
        quantizer = self.codec.quantizer
        if output.quantizer.statistics is not None:
            revived = quantizer.update(
                output.quantizer.statistics, lambda: generator_of(self.recipe.seed, 3, 1, self.step)
            )
            if isinstance(quantizer, VectorQuantizer) and quantizer.has_codebook_loss and revived.any():
                self._forget(quantizer, revived)
        decay = self.recipe.optimizer.ema_decay
        average_weights(self.averaged_weights, self.weights, decay=decay, num_updates=self.step)

    def _forget_gradients(self) -> None:
        for weight in self.weights if self.adversary is None else [*self.weights, *self.adversary.weights]:
            weight.grad = None

    def _forget(self, quantizer: VectorQuantizer, revived: Tensor) -> None:
        """A revived codeword has no past, neither in the optimizer nor in the average."""
        table = quantizer.codebooks.get_parameter("table")
        assert self.optimizer is not None
        forget_moments(self.optimizer, table, revived)
        self.averaged.get_parameter("quantizer.codebooks.table")[revived] = table.detach()[revived]

    def _count_bad(self, finite: bool) -> None:
        self.bad_steps_in_a_row = 0 if finite else self.bad_steps_in_a_row + 1
        self.skipped_steps += not finite
        if self.bad_steps_in_a_row >= self.recipe.train.max_bad_steps:
            raise ModelError(
                f"loss or gradient was not finite for {self.bad_steps_in_a_row} steps in a row, to step {self.step}: "
                f"lower optimizer.lr, optimizer.max_grad_norm or discriminators.lr and resume from the last checkpoint"
            )

    def _initialize_codebooks(self, progress: "tqdm[Any]") -> None:
        """Set them from live latents, in the average too."""
        progress.set_postfix_str("initialising codebooks")
        initialize_codebooks(self.codec, self.source, self.recipe, self.fabric, first_level=self.known_levels)
        # Codebooks that are parameters: without this their average would start from the random table.
        codebooks = {key: value for key, value in self.codec.state_dict().items() if "quantizer.codebooks" in key}
        self.averaged.load_state_dict(codebooks, strict=False)
        self.initialized = True

    def _report(self, taken: "_Taken", steps_per_second: float, progress: "tqdm[Any]") -> None:
        self.reporter.report(
            self.step,
            taken.names,
            {
                **{name: float(norm) for name, norm in taken.norms.items()},
                "train/lr": taken.lr,
                "train/skipped_steps": float(self.skipped_steps),
            },
            quantizer=self.codec.quantizer,
            output=taken.output,
            steps_per_second=steps_per_second,
            progress=progress,
        )

    def _validate(self, progress: "tqdm[Any]") -> None:
        """Judge the averaged model, then save it; rank 0 does both."""
        best = False
        catch_up(self.averaged, self.codec, decay=self.recipe.optimizer.ema_decay)
        if self.judge is not None and self.initialized and self.fabric.is_global_zero:
            progress.set_postfix_str("validating")
            with self.stopwatch.paused():
                score = self.judge.validate(self.averaged, self.reporter.trackers, self.step)
            best = score is not None and score < self.best_score
            self.best_score = self.best_score if score is None else min(score, self.best_score)
        self._save(best=best)

    def _save(self, *, best: bool) -> None:
        sums = self.reporter.state()
        catch_up(self.averaged, self.codec, decay=self.recipe.optimizer.ema_decay)
        with self.stopwatch.paused():
            if self.fabric.is_global_zero:
                save_checkpoint(
                    self.run_dir,
                    step=self.step,
                    averaged=self.averaged,
                    trained=self.trained(),
                    counters=self.counters() | sums | {"seconds": self.stopwatch.seconds},
                    best=best,
                )
            self.saved_step = self.step
            self.fabric.barrier()


class _Taken(NamedTuple):
    """What a report needs of the last step."""

    output: QuantizerOutput
    names: list[str]
    norms: dict[str, Tensor]
    lr: float
