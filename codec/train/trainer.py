"""The training loop, in one process or in several under torchrun; one step is `codec.train.learner.Learner.step`.

Step s depends only on the state after step s - 1, the recipe and s. So a resumed run repeats the uninterrupted one bit
for bit, and the order of the data does not depend on the number of processes.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from codec.dsp.precision import full_precision
from codec.errors import ConfigError, ModelError
from codec.model.quantizer.collective import broadcast_from_first, gather_rows, sum_over_ranks
from codec.progress import Bar, progress_bar
from codec.recipe import Recipe, TrainConfig
from codec.train.checkpoint import load_checkpoint, save_checkpoint
from codec.train.data.segments import Batch
from codec.train.data.source import Source
from codec.train.engine import lost_process_reported, to_device
from codec.train.interrupt import interrupt_deferred
from codec.train.learner import Inputs, Learner, Plan, StepResult
from codec.train.optimizer import ema_rate, learning_rate
from codec.train.progress import Progress
from codec.train.randomness import draw_num_active, generator_of
from codec.train.reporter import Reporter
from codec.train.rundir import build_trackers
from codec.train.start import initialize_codebooks, load_initial_weights
from codec.train.stopwatch import Stopwatch
from codec.train.tracking import Tracker
from codec.train.validation import Judge


class Trainer:
    """Runs the steps of a run, reports, validates and saves; `codec.experiment.build_trainer` builds it.

    Args:
        recipe: Schedule and seed of the run.
        run_dir: Directory for checkpoints and records.
        fabric: Device, precision and processes.
        source: The data.
        learner: The codec and everything else that is trained.
        run_step: `learner.step`, or a function that replays it.
        reporter: Reports the losses.
        judge: Measures the EMA codec, if there is held-out data.
        began: Time that `train.max_minutes` counts from, by `time.monotonic`.

    Raises:
        ConfigError: The recipe counts in epochs, and the data has none.
    """

    def __init__(
        self,
        recipe: Recipe,
        run_dir: Path,
        fabric: Fabric,
        *,
        source: Source,
        learner: Learner,
        run_step: Callable[[Inputs, Plan], StepResult],
        reporter: Reporter,
        judge: Judge | None,
        began: float,
    ) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        self.fabric = fabric
        self.source = source
        self.learner = learner
        self.run_step = run_step
        self.reporter = reporter
        self.judge = judge
        self.began = began
        self.num_steps = count_steps(recipe.train, source)
        self.progress = Progress()
        self.stopwatch = Stopwatch()
        self.num_loaded_levels = 0  # levels whose codebooks came from another model
        self.saved_step = 0
        self.saved_at = time.monotonic()

    def start_from(self, model: str) -> None:
        """Start with the weights of another model, see `load_initial_weights`; the step count stays zero."""
        codec = self.learner.codec
        self.num_loaded_levels = load_initial_weights(model, (codec, self.learner.ema))
        self.progress.initialized = self.num_loaded_levels == codec.quantizer.num_quantizers

    def resume(self) -> None:
        """Continue the run in `run_dir` from its last checkpoint."""
        state = load_checkpoint(
            self.run_dir,
            ema=self.learner.ema,
            trained=self.learner.trained(),
            counters=(*Progress().to_json(), "loss_names", "loss_sums", "num_summed"),
        )
        self.reporter.restore(state, is_first=self.fabric.is_global_zero)
        self.progress = Progress.from_json(state)
        self.learner.skipped_steps.fill_(self.progress.skipped_steps)
        self.learner.bad_steps_in_a_row.fill_(self.progress.bad_steps_in_a_row)
        self.stopwatch = Stopwatch(self.progress.seconds)
        self.saved_step = self.progress.step

    def fit(self) -> None:
        """Train for the recipe's number of steps or minutes, then measure the result.

        Raises:
            ConfigError: Parts are frozen before they were trained.
            ModelError: Loss or gradient was not finite for too many steps in a row, or another process died.
        """
        if self.recipe.train.freeze and not self.progress.initialized:
            raise ConfigError("train.freeze keeps what a model has learned, and this one is untrained", init_from=...)
        is_first = self.fabric.is_global_zero
        with contextlib.ExitStack() as at_end:  # all of it runs, even if some of it fails
            trackers = build_trackers(self.run_dir, self.recipe, self.progress.step) if is_first else []
            for tracker in trackers:
                at_end.callback(tracker.close)
            at_end.callback(self._keep_steps)
            bar = progress_bar(total=self.num_steps, initial=self.progress.step, unit="step", hidden=not is_first)
            at_end.callback(bar.close)
            bar.set_description("training")
            with lost_process_reported(), self._precision(), torch.inference_mode(self.learner.optimizer is None):
                self._check_same_step()
                self._run(self._batches(), trackers, bar)
            if self.judge is not None and is_first:
                bar.set_postfix_str("measuring the result")
                step, seconds = self.progress.step, self.stopwatch.seconds
                self.judge.conclude(self.learner.ema, self.run_dir, trackers, step, seconds)

    def _keep_steps(self) -> None:
        """After an interrupt or an error, save the steps done, unless it came in the middle of an update.

        A second signal waits: torchrun sends one to every process that is left when another has died.
        """
        if self.progress.step > self.saved_step and not self.learner.is_updating:
            with interrupt_deferred():
                self._save(best=False, alone=True)

    def _check_same_step(self) -> None:
        """Refuse to start if the processes found different checkpoints, or some found none.

        Raises:
            ConfigError: They did.
        """
        steps = gather_rows(torch.tensor([[self.progress.step]], device=self.fabric.device))
        if steps.min() < steps.max():
            raise ConfigError(
                f"processes of one run start at steps {int(steps.min())} to {int(steps.max())}: all must see the same "
                f"run directory, on a disk that the nodes share"
            )

    def _batches(self) -> Iterator[Batch]:
        return self.source.batches(
            first_step=self.progress.step,
            last_step=self.num_steps,
            batch_size=self.recipe.train.batch_size,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
        )

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """If all of it is float32, set the flags once: nested uses then do nothing."""
        precise = self.recipe.train.precision == "32-true"
        return full_precision(self.fabric.device) if precise else contextlib.nullcontext()

    def _run(self, batches: Iterable[Batch], trackers: Sequence[Tracker], bar: Bar) -> None:
        """Run the steps, with reports, validation and checkpoints in between; the last step is validated and saved."""
        train, progress = self.recipe.train, self.progress
        first_step, seconds_before = progress.step, self.stopwatch.seconds
        self.stopwatch.start()
        for batch in batches:
            result = self._step(batch, bar)
            bar.update()
            if progress.step % self.reporter.every == 0:
                self._check_health()
                speed = (progress.step - first_step) / max(self.stopwatch.seconds - seconds_before, 1e-9)
                self._report(result, speed, trackers, bar)
            is_last = progress.step == self.num_steps or self._is_over(train.max_minutes, self.began)
            if is_last or progress.step % train.validate_every == 0:
                self._validate(trackers, bar)
            elif progress.step % train.checkpoint_every == 0 or self._is_over(train.checkpoint_minutes, self.saved_at):
                self._save(best=False)
            if is_last:
                return

    def _is_over(self, minutes: float | None, since: float) -> bool:
        """Whether so many minutes have passed, by the clock of the first process."""
        if minutes is None:
            return False
        is_over = torch.tensor(time.monotonic() - since > 60 * minutes, device=self.fabric.device)
        broadcast_from_first(is_over)
        return bool(is_over)

    def _step(self, batch: Batch, bar: Bar) -> StepResult:
        """Do a step, and initialise the codebooks before the first one that needs them."""
        progress, seed = self.progress, self.recipe.seed
        plan = self._plan()
        if plan.quantize and not progress.initialized:
            self._initialize_codebooks(bar)
        inputs = self._inputs(batch)
        with interrupt_deferred():
            result = self.run_step(inputs, plan)
            if (progress.step + 1) % self.recipe.train.revive_every == 0:
                self.learner.revive(result, lambda: generator_of(seed, 3, 1, progress.step))
            progress.step += 1
            self.learner.end_step()
        return result

    def _plan(self) -> Plan:
        step, adversary = self.progress.step, self.learner.adversary
        return Plan(
            quantize=self.progress.initialized or self.num_loaded_levels > 0 or step >= self.recipe.train.bypass_steps,
            adversarial=adversary is not None and adversary.is_active(step),
        )

    def _inputs(self, batch: Batch) -> Inputs:
        """Inputs of the next step, copied to the device."""
        recipe, step = self.recipe, self.progress.step
        lr = learning_rate(recipe.optimizer, step, self.num_steps)
        rate = ema_rate(recipe.optimizer.ema_decay, step)
        num_active = draw_num_active(recipe.codec.quantizer, batch.number.tolist(), seed=recipe.seed)
        tensors = (*batch, num_active, torch.tensor([lr, rate], dtype=torch.float64))
        *moved, rates = (None if each is None else to_device(each, self.fabric.device) for each in tensors)
        assert rates is not None
        return Inputs._make([*moved, *rates])

    def _initialize_codebooks(self, bar: Bar) -> None:
        bar.set_postfix_str("initialising codebooks")
        recipe, codec = self.recipe, self.learner.codec
        initialize_codebooks(
            codec, self.source, recipe.train, self.fabric, seed=recipe.seed, first_level=self.num_loaded_levels
        )
        self.learner.copy_codebooks_to_ema()
        self.progress.initialized = True

    def _read_health(self) -> None:
        """Read from the device how many steps were skipped."""
        progress, learner = self.progress, self.learner
        counters = torch.stack([learner.skipped_steps, learner.bad_steps_in_a_row])
        progress.skipped_steps, progress.bad_steps_in_a_row = counters.tolist()

    def _check_health(self) -> None:
        self._read_health()
        progress = self.progress
        if progress.bad_steps_in_a_row >= self.recipe.train.max_bad_steps:
            raise ModelError(
                f"loss or gradient was not finite for {progress.bad_steps_in_a_row} steps in a row, to step "
                f"{progress.step}: lower optimizer.lr, optimizer.max_grad_norm or discriminators.lr and resume from "
                f"the last checkpoint"
            )

    def _report(self, result: StepResult, speed: float, trackers: Sequence[Tracker], bar: Bar) -> None:
        step = self.progress.step
        self.reporter.report(
            step,
            {
                **{name: float(norm) for name, norm in result.grad_norms.items()},
                "train/lr": learning_rate(self.recipe.optimizer, step - 1, self.num_steps),
                "train/skipped_steps": float(self.progress.skipped_steps),
                **self._skipped_draws(),
            },
            quantizer=self.learner.codec.quantizer,
            statistics=result.statistics,
            steps_per_second=speed,
            trackers=trackers,
            progress=bar,
        )

    def _skipped_draws(self) -> dict[str, float]:
        """Draws skipped by all processes because their file can't be read; empty if there are none."""
        (total,) = sum_over_ranks(torch.tensor(float(self.source.num_skipped), device=self.fabric.device))
        return {"train/skipped_draws": float(total)} if total else {}

    def _validate(self, trackers: Sequence[Tracker], bar: Bar) -> None:
        """Measure the EMA codec on the first process, then save a checkpoint."""
        best, progress = False, self.progress
        ema = self.learner.current_ema()
        if self.judge is not None and progress.initialized and self.fabric.is_global_zero:
            bar.set_postfix_str("validating")
            with self.stopwatch.paused():
                score = self.judge.validate(ema, trackers, progress.step)
            best = score is not None and score < progress.best_score
            progress.best_score = progress.best_score if score is None else min(score, progress.best_score)
        self._save(best=best)

    def _save(self, *, best: bool, alone: bool = False) -> None:
        """Save a checkpoint; `alone` exchanges nothing with other processes, which may have died."""
        sums = self.reporter.state(alone=alone)
        self._read_health()
        self.progress.seconds = self.stopwatch.seconds
        with self.stopwatch.paused():
            if self.fabric.is_global_zero:
                save_checkpoint(
                    self.run_dir,
                    step=self.progress.step,
                    ema=self.learner.current_ema(),
                    trained=self.learner.trained(),
                    counters=self.progress.to_json() | sums,
                    best=best,
                )
            self.saved_step, self.saved_at = self.progress.step, time.monotonic()
            if not alone:
                self.fabric.barrier()


def count_steps(train: TrainConfig, source: Source) -> int:
    """Number of steps of a run.

    Raises:
        ConfigError: The recipe counts in epochs, and the data has none.
    """
    if train.epochs is None:
        return train.steps
    epoch = source.steps_per_epoch(train.batch_size)
    if epoch is None:
        raise ConfigError("train.epochs is for data that has epochs, such as Gaussian vectors: give train.steps")
    return train.epochs * epoch
