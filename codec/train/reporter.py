"""What a run tells while it trains: means of the losses, speed and codebook health, to trackers and the terminal."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from codec.model.quantizer.codebooks import Statistics
from codec.model.quantizer.collective import sum_over_ranks
from codec.model.quantizer.quantizer import Quantizer, codebook_health
from codec.train.losses.objective import Term
from codec.train.tracking import Tracker


class Reporter:
    """Gathers the losses of steps and reports their means, over all processes and since the last report.

    Args:
        log_every: Steps between reports.
        steps_per_epoch: Where the data has epochs: a report each, and a line in the terminal.
        step_size: Units of data in a step.
        unit: Their name.
        frame_rate: Of the codec (Hz).
        device: Where losses are.
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
        # Of the total and of each term by its name: the sum of its values, and how many they are, float64 `[2]`.
        self.sums: dict[str, Tensor] = {}
        self.unnamed: list[Tensor] = []  # the same from a checkpoint that names none, in the order of the terms

    def add(self, loss: Tensor, terms: Mapping[str, Term], finite: Tensor) -> None:
        """Take in the loss of a step on this process, if it was `finite`; the device is not waited for."""
        names = ["total", *terms]
        self._name(names)
        values = torch.stack([loss, *(term.value for term in terms.values())]).detach().double()
        counted = torch.stack([values, torch.ones_like(values)], dim=1).masked_fill(~finite, 0.0)
        torch._foreach_add_([self.sums[name] for name in names], list(counted.unbind()))

    def _name(self, names: Sequence[str]) -> None:
        for name, sums in itertools.zip_longest(names, self.unnamed[: len(names)]):
            if name not in self.sums:
                self.sums[name] = torch.zeros(2, dtype=torch.float64, device=self.device) if sums is None else sums
        self.unnamed = []

    def state(self) -> dict[str, Any]:
        """What a resumed run must know of the steps since the last report; every process must call it."""
        sums = self._over_ranks()
        return {
            "loss_names": list(sums),
            "loss_sums": [value for value, _ in sums.values()],
            "num_summed": [count for _, count in sums.values()],
        }

    def restore(self, state: Mapping[str, Any], *, is_first: bool) -> None:
        """Go on from a state; the sums are those of all processes, so one of them takes them."""
        sums, counts = state["loss_sums"], state["num_summed"]
        if not isinstance(counts, list):  # as checkpoints had it when every term was in every step
            counts = [counts] * len(sums)
            sums = [value if count else 0.0 for value, count in zip(sums, counts, strict=True)]
        share = 1.0 if is_first else 0.0
        found = [
            torch.tensor([share * value, share * count], dtype=torch.float64, device=self.device)
            for value, count in zip(sums, counts, strict=True)
        ]
        names = state.get("loss_names", [])
        self.sums = dict(zip(names, found, strict=False))
        self.unnamed = found[len(names) :]

    def report(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        quantizer: Quantizer,
        statistics: Statistics | None,
        steps_per_second: float,
        trackers: Sequence[Tracker],
        progress: "tqdm[Any]",
    ) -> None:
        """Tell the trackers what happened since the last report; every process must call it.

        Args:
            step: Steps done.
            values: Further numbers to record.
            quantizer: The quantizer that is trained.
            statistics: Of the codes of the last step.
            steps_per_second: Training alone.
            trackers: None but on the first process.
            progress: Bar that shows loss and speed, and a line an epoch.
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
        if self.steps_per_epoch and trackers:
            listed = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            progress.write(f"epoch {step // self.steps_per_epoch:4}  {listed}", file=progress.fp)

    def _means(self) -> dict[str, float]:
        """Means of the total and of the terms that were there; the total is not a number if every step was skipped."""
        means = {name: value / count for name, (value, count) in self._over_ranks().items() if count}
        for sums in self.sums.values():
            sums.zero_()
        return {"total": math.nan} | means

    def _over_ranks(self) -> dict[str, tuple[float, float]]:
        """Sum and count of each, over all processes."""
        if not self.sums:
            return {}
        (sums,) = sum_over_ranks(torch.stack(list(self.sums.values())))
        return {name: (value, count) for name, (value, count) in zip(self.sums, sums.tolist(), strict=True)}

    def _health(self, quantizer: Quantizer, counts: Tensor) -> dict[str, float]:
        """Codebook health of one step by level."""
        health = codebook_health(counts.cpu())
        by_name = health._asdict() | {"dead_rate": quantizer.dead_codewords().double().mean(dim=-1)}
        values = {
            f"{name}/level_{level}": value
            for name, levels in by_name.items()
            for level, value in enumerate(levels.tolist(), start=1)
        }
        values["train/entropy_bitrate"] = float(health.entropy.sum()) * self.frame_rate
        return values
