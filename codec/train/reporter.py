"""What a run tells while it trains: means of the losses, speed and codebook health, to trackers and the terminal."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from codec.model.collective import sum_over_ranks
from codec.model.quantizers import Quantizer, QuantizerOutput, codebook_health
from codec.recipe import Recipe
from codec.train.objective import Term
from codec.train.source import Source
from codec.train.tracking import Tracker


class Reporter:
    """Gathers the losses of steps and reports their means, over all processes and since the last report.

    Args:
        recipe: What is trained.
        source: Its data: with epochs, a report an epoch.
        world_size: Processes.
        device: Where losses are.
    """

    def __init__(self, recipe: Recipe, source: Source, *, world_size: int = 1, device: torch.device) -> None:
        self.steps_per_epoch = source.steps_per_epoch(recipe.train.batch_size)
        self.every = self.steps_per_epoch or recipe.train.log_every
        self.frame_rate = recipe.codec.frame_rate
        self.step_size = recipe.train.batch_size * source.item_size
        self.unit = source.unit
        self.trackers: Sequence[Tracker] = []  # on the first process alone, while a run is on
        self.world_size = world_size
        self.sums = torch.zeros(0, dtype=torch.float64, device=device)
        self.num_steps = 0

    def add(self, loss: Tensor, terms: Mapping[str, Term]) -> None:
        """Take in the loss of a step on this process; one that was skipped, not being finite, is left out."""
        values = torch.stack([loss, *(term.value for term in terms.values())]).detach().double()
        self.sums = self.sums + values if self.num_steps else values
        self.num_steps += 1

    def state(self) -> dict[str, Any]:
        """What a resumed run must know of the steps since the last report; every process must call it."""
        (sums,) = sum_over_ranks(self.sums)
        return {"loss_sums": sums.tolist(), "num_summed": self.num_steps}

    def restore(self, state: Mapping[str, Any], *, is_first: bool) -> None:
        """Go on from a state; the sums are those of all processes, so one of them takes them."""
        sums = torch.tensor(state["loss_sums"], dtype=torch.float64, device=self.sums.device)
        self.sums = sums if is_first else torch.zeros_like(sums)
        self.num_steps = int(state["num_summed"])

    def report(
        self,
        step: int,
        names: Sequence[str],
        values: Mapping[str, float],
        *,
        quantizer: Quantizer,
        output: QuantizerOutput,
        steps_per_second: float,
        progress: "tqdm[Any]",
    ) -> None:
        """Tell the trackers what happened since the last report; every process must call it.

        Args:
            step: Steps done.
            names: Of the terms, in the order that `add` had them.
            values: Further numbers to record.
            quantizer: The quantizer that is trained.
            output: Of the last step, whose code statistics are reported.
            steps_per_second: Training alone.
            progress: Bar that shows loss and speed, and a line an epoch.
        """
        losses = self._means(names)
        speed = steps_per_second * self.step_size
        numbers = {f"loss/{name}": value for name, value in losses.items()} | dict(values)
        numbers[f"train/{self.unit}_per_second"] = speed
        if output.statistics is not None:
            numbers |= self._health(quantizer, *sum_over_ranks(output.statistics.counts))
        for tracker in self.trackers:
            tracker.scalars(numbers, step)
        progress.set_postfix_str(f"loss {losses['total']:.3f}, {speed:.4g} {self.unit.replace('_', ' ')}/s")
        if self.steps_per_epoch and self.trackers:
            listed = "  ".join(f"{name} {value:.4f}" for name, value in losses.items())
            progress.write(f"epoch {step // self.steps_per_epoch:4}  {listed}", file=progress.fp)

    def _means(self, names: Sequence[str]) -> dict[str, float]:
        """Means of the total and the terms since the last report; not a number where every step was skipped."""
        (sums,) = sum_over_ranks(self.sums)
        count, self.num_steps = self.num_steps * self.world_size, 0
        if not count:
            return dict.fromkeys(["total", *names], math.nan)
        return dict(zip(["total", *names], (sums / count).tolist(), strict=True))

    def _health(self, quantizer: Quantizer, counts: Tensor) -> dict[str, float]:
        """Codebook health of one step by level."""
        health = codebook_health(counts)
        dead = quantizer.dead().double().mean(dim=-1)
        values = {}
        for level in range(quantizer.num_quantizers):
            values[f"perplexity/level_{level + 1}"] = float(health.perplexity[level])
            values[f"usage/level_{level + 1}"] = float(health.usage[level])
            values[f"dead_rate/level_{level + 1}"] = float(dead[level])
            values[f"entropy/level_{level + 1}"] = float(health.entropy[level])
        values["train/entropy_bitrate"] = float(health.entropy.sum()) * self.frame_rate
        return values
