"""Reports of a run: means of the losses, speed and codebook health, to the trackers and the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from codec.errors import ModelError
from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.collective import sum_over_ranks
from codec.model.quantizer.quantizer import Quantizer, codebook_health
from codec.progress import Bar
from codec.train.losses.objective import Term
from codec.train.tracking import Tracker


class Reporter:
    """Adds up the losses of every step, and reports their means since the last report over all processes.

    Args:
        log_every: Steps between reports, if the data has no epochs.
        steps_per_epoch: Reports once an epoch, with a line in the terminal; None if the data has no epochs.
        step_size: Amount of data in a step, in `unit`.
        unit: Unit that speed is counted in, see `Source.unit`.
        frame_rate: Frame rate of the codec (Hz).
        device: Device of the losses.
    """

    def __init__(
        self,
        *,
        log_every: int,
        steps_per_epoch: int | None,
        step_size: float,
        unit: str,
        frame_rate: float,
        device: torch.device,
    ) -> None:
        self.every = steps_per_epoch or log_every
        self.steps_per_epoch = steps_per_epoch
        self.step_size = step_size
        self.unit = unit
        self.frame_rate = frame_rate
        self.device = device
        # Sum and number of the values of the total and of each term, float64 `[2]`.
        self.sums: dict[str, Tensor] = {}

    def add(self, loss: Tensor, terms: Mapping[str, Term], finite: Tensor) -> None:
        """Add the losses of a step on this process if they are `finite`; does not wait for the device."""
        names = ["total", *terms]
        for name in names:
            if name not in self.sums:
                self.sums[name] = torch.zeros(2, dtype=torch.float64, device=self.device)
        values = torch.stack([loss, *(term.value for term in terms.values())]).detach().double()
        counted = torch.stack([values, torch.ones_like(values)], dim=1).masked_fill(~finite, 0.0)
        torch._foreach_add_([self.sums[name] for name in names], list(counted.unbind()))

    def state(self, *, alone: bool = False) -> dict[str, Any]:
        """Sums since the last report, for a checkpoint.

        Args:
            alone: Of this process only; otherwise of all, and every process must call this.
        """
        sums = self._listed(alone=alone)
        return {
            "loss_names": list(sums),
            "loss_sums": [value for value, _ in sums.values()],
            "num_summed": [count for _, count in sums.values()],
        }

    def restore(self, state: Mapping[str, Any], *, is_first: bool) -> None:
        """Continue from a `state`: the first process takes the sums of all processes, the others start at zero.

        Raises:
            ModelError: The state is damaged.
        """
        share = 1.0 if is_first else 0.0
        columns = state["loss_names"], state["loss_sums"], state["num_summed"]
        try:
            self.sums = {
                str(name): torch.tensor([share * value, share * count], dtype=torch.float64, device=self.device)
                for name, value, count in zip(*columns, strict=True)
            }
        except (TypeError, ValueError) as error:
            raise ModelError(f"the losses in the state of the run are damaged: {error}") from error

    def report(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        quantizer: Quantizer,
        statistics: Statistics | None,
        steps_per_second: float,
        trackers: Sequence[Tracker],
        progress: Bar,
    ) -> None:
        """Report the steps since the last report; every process must call this.

        Args:
            step: Steps done.
            values: Further numbers to record.
            quantizer: The trained quantizer.
            statistics: Uses of the codewords in the last step; None without quantization.
            steps_per_second: Speed, without validation and saving.
            trackers: Empty except on the first process.
            progress: Bar that shows loss and speed.
        """
        losses = self._means()
        speed = steps_per_second * self.step_size
        numbers = {f"loss/{name}": value for name, value in losses.items()} | dict(values)
        numbers[f"train/{self.unit}_per_second"] = speed
        if statistics is not None:
            numbers |= self._health(quantizer, *sum_over_ranks(statistics.counts))
        for tracker in trackers:
            tracker.scalars(numbers, step)
        progress.set_postfix_str(f"loss {losses['total']:.3f}, {speed:.4g} {self.unit.replace('_', ' ')}/s")
        if self.steps_per_epoch and trackers and not progress.disable:
            listed = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            progress.write(f"epoch {step // self.steps_per_epoch:4}  {listed}", file=progress.fp)

    def _means(self) -> dict[str, float]:
        """Means of the terms that occurred; clears the sums. The total is NaN if every step was skipped."""
        means = {name: value / count for name, (value, count) in self._listed().items() if count}
        for sums in self.sums.values():
            sums.zero_()
        return {"total": math.nan} | means

    def _listed(self, *, alone: bool = False) -> dict[str, tuple[float, float]]:
        """Sum and number of values by name, over all processes or of this one `alone`."""
        if not self.sums:
            return {}
        sums = torch.stack(list(self.sums.values()))
        if not alone:
            (sums,) = sum_over_ranks(sums)
        return {name: (value, count) for name, (value, count) in zip(self.sums, sums.tolist(), strict=True)}

    def _health(self, quantizer: Quantizer, counts: Tensor) -> dict[str, float]:
        """Codebook health of each level, from the counts `[K, N]` of one step."""
        health = codebook_health(counts.cpu())
        by_name = health._asdict() | {"dead_rate": quantizer.dead_codewords().double().mean(dim=-1)}
        values = {
            f"{name}/level_{level}": value
            for name, levels in by_name.items()
            for level, value in enumerate(levels.tolist(), start=1)
        }
        values["train/entropy_bitrate"] = float(health.entropy.sum()) * self.frame_rate
        return values
