"""The training loop: one process, or many under torchrun, by Lightning Fabric.

Step s of a run is a function of the state after step s - 1, the recipe and s: a resumed run repeats the uninterrupted
one bit for bit, and the order of the data does not depend on how many processes share it.
"""

import copy
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from codec.config import Recipe
from codec.errors import ModelError
from codec.model.codec import CodecOutput, build_codec
from codec.model.collective import sum_over_ranks
from codec.model.quantizers import codebook_health
from codec.pretrained import WEIGHTS_FILE, find_model, load_weights
from codec.train.checkpoint import load_checkpoint, save_checkpoint
from codec.train.data import Batch, Segments, batches, data_root, list_items
from codec.train.interrupt import interrupt_deferred
from codec.train.losses import SpectralLosses, waveform_loss
from codec.train.optimizer import average_weights, build_optimizer, forget_moments, learning_rate
from codec.train.rundir import open_trackers
from codec.train.validation import Validator


def build_fabric(precision: str, accelerator: str = "auto") -> Fabric:
    """One process, or one of those that torchrun started, ready to talk to the others."""
    num_local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    num_nodes = int(os.environ.get("WORLD_SIZE", "1")) // num_local
    if precision == "auto":
        precision = "bf16-mixed" if _has_fast_bfloat16(accelerator) else "32-true"
    strategy = "ddp" if num_local * num_nodes > 1 else "auto"
    fabric = Fabric(
        accelerator=accelerator,
        devices=num_local,
        num_nodes=num_nodes,
        strategy=strategy,
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _has_fast_bfloat16(accelerator: str) -> bool:
    if accelerator != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


class Trainer:
    """Trains the model of a recipe.

    Args:
        recipe: What to train, on what, how.
        run_dir: Where checkpoints and records go.
        fabric: Device, precision and processes.
    """

    def __init__(self, recipe: Recipe, run_dir: Path, fabric: Fabric) -> None:
        self.recipe = recipe
        self.run_dir = run_dir
        self.fabric = fabric
        torch.manual_seed(recipe.seed)
        self.codec = build_codec(recipe.codec).to(fabric.device)  # here, so that `resume` finds the device
        self.averaged = copy.deepcopy(self.codec).requires_grad_(False).eval()
        self.optimizer = build_optimizer(self.codec, recipe.optimizer)
        self.spectral = SpectralLosses(recipe.codec.sample_rate).to(fabric.device)
        self.segments = _training_segments(recipe)
        self.validator = Validator.of_recipe(recipe)
        self.step = 0
        self.initialized = False
        self.best_score = math.inf
        self.skipped_steps = 0
        self.bad_steps_in_a_row = 0

    def start_from(self, model: str) -> None:
        """Take over the weights and codebooks of another model of this architecture; the step count stays zero."""
        for codec in (self.codec, self.averaged):
            load_weights(codec, find_model(model) / WEIGHTS_FILE)
        self.initialized = True

    def resume(self) -> None:
        """Continue the run in `run_dir` from its last checkpoint."""
        state = load_checkpoint(
            self.run_dir, averaged=self.averaged, model=self.codec, optimizer=self.optimizer, counters=self.counters()
        )
        for name, value in state.items():
            setattr(self, name, math.inf if value is None else value)

    def counters(self) -> dict[str, Any]:
        """What a resumed run must know besides tensors and the step."""
        return {
            "initialized": self.initialized,
            "best_score": self.best_score if math.isfinite(self.best_score) else None,
            "skipped_steps": self.skipped_steps,
            "bad_steps_in_a_row": self.bad_steps_in_a_row,
        }

    def fit(self) -> None:
        """Train until the recipe's number of steps or minutes.

        Raises:
            ModelError: The loss or its gradient was not finite for too many steps in a row.
        """
        train = self.recipe.train
        self.model, self.wrapped_optimizer = self.fabric.setup(self.codec, self.optimizer)
        self.trackers = open_trackers(self.run_dir, self.step) if self.fabric.is_global_zero else []
        loader = batches(
            self.segments,
            first_step=self.step,
            last_step=train.steps,
            batch_size=train.batch_size,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            num_workers=self.recipe.data.num_workers,
        )
        progress = tqdm(
            total=train.steps,
            initial=self.step,
            unit="step",
            desc="training",
            disable=not self.fabric.is_global_zero,
        )
        self.started_at, self.first_step = time.monotonic(), self.step
        saved_step = self.step
        try:
            for batch in loader:
                self._step(self.fabric.to_device(batch), progress)
                progress.update()
                is_last = self.step == train.steps or self._out_of_time()
                if is_last or self.step % train.validate_every == 0:
                    self._validate(progress)
                    saved_step = self.step
                elif self.step % train.checkpoint_every == 0:
                    self._save(best=False)
                    saved_step = self.step
                if is_last:
                    break
        finally:
            progress.close()
            for tracker in self.trackers:
                tracker.close()
            if self.step > saved_step:  # interrupted, or stopped by an error: what was learned is kept
                self._save(best=False)

    def _out_of_time(self) -> bool:
        limit = self.recipe.train.max_minutes
        return bool(limit is not None and self.fabric.broadcast(time.monotonic() - self.started_at > 60 * limit))

    def _step(self, batch: Batch, progress: "tqdm[Any]") -> None:
        quantize = self.initialized or self.step >= self.recipe.train.bypass_steps
        if quantize and not self.initialized:
            self._initialize_codebooks(progress)
        lr = learning_rate(self.recipe.optimizer, self.step, self.recipe.train.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        output = self.model(
            batch.audio, num_active=self._num_active(batch.number), lengths=batch.lengths, quantize=quantize
        )
        terms = self._terms(output, batch)
        loss = sum((weight * term for weight, term in terms.values()), start=batch.audio.new_zeros(()))
        self.fabric.backward(loss)
        norm: Any = self.fabric.clip_gradients(
            self.model,
            self.wrapped_optimizer,
            max_norm=self.recipe.optimizer.max_grad_norm,
            error_if_nonfinite=False,
        )
        finite = bool(torch.isfinite(norm))  # gradients are averaged over the processes, so all of them agree
        with interrupt_deferred():
            if finite:
                self._apply(output)
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            self._count_bad(finite)
        if self.step % self.recipe.train.log_every == 0:
            self._log(output, terms, loss, norm, progress)

    def _apply(self, output: CodecOutput) -> None:
        """The one place where weights and codebooks change."""
        self.wrapped_optimizer.step()
        codebooks = self.codec.quantizer.codebooks
        if output.quantizer.statistics is not None:
            revived = codebooks.update(output.quantizer.statistics, self._generator("revive", self.step))
            if codebooks.has_codebook_loss and revived.any():  # a revived codeword has no past
                forget_moments(self.optimizer, codebooks.get_parameter("table"), revived)
                self.averaged.quantizer.codebooks.table[revived] = codebooks.table.detach()[revived]
        average_weights(self.averaged, self.codec, decay=self.recipe.optimizer.ema_decay, num_updates=self.step)

    def _terms(self, output: CodecOutput, batch: Batch) -> dict[str, tuple[float, Tensor]]:
        """Name, weight and value of every term of the loss; samples behind the end of an item count as matched."""
        weights = self.recipe.loss
        real = torch.arange(batch.audio.shape[-1], device=batch.audio.device) < batch.lengths[:, None, None]
        audio = output.audio.float() * real
        spectral = self.spectral(audio, batch.audio)
        terms = {
            "waveform": (weights.waveform, waveform_loss(audio, batch.audio)),
            "stft": (weights.stft, spectral.stft),
            "mel": (weights.mel, spectral.mel),
            "commitment": (weights.commitment, output.quantizer.commitment_loss),
        }
        if self.codec.quantizer.codebooks.has_codebook_loss:
            terms["codebook"] = (weights.codebook, output.quantizer.codebook_loss)
        return terms

    def _count_bad(self, finite: bool) -> None:
        self.bad_steps_in_a_row = 0 if finite else self.bad_steps_in_a_row + 1
        self.skipped_steps += not finite
        if self.bad_steps_in_a_row >= self.recipe.train.max_bad_steps:
            raise ModelError(
                f"loss or gradient was not finite for {self.bad_steps_in_a_row} steps in a row, to step {self.step}: "
                f"lower optimizer.lr or optimizer.max_grad_norm and resume from the last checkpoint"
            )

    def _initialize_codebooks(self, progress: "tqdm[Any]") -> None:
        """k-means on the latents of batches drawn for this alone."""
        progress.set_postfix_str("initialising codebooks by k-means")
        train = self.recipe.train
        # Each rank takes consecutive batches: gathered by rank, the rows are in the order that one process has them in.
        first = self.fabric.global_rank * train.init_batches
        loader = batches(
            self.segments.reseeded(self.recipe.seed, 1),
            first_step=first,
            last_step=first + train.init_batches,
            batch_size=train.batch_size // self.fabric.world_size,
        )
        latents, masks = [], []
        with torch.no_grad():
            for batch in loader:
                batch = self.fabric.to_device(batch)
                audio = self.codec.pad(batch.audio)
                latents.append(self.codec.encoder(audio))
                masks.append(self.codec.frame_mask(batch.lengths, latents[-1].shape[-1]))
        self.codec.quantizer.initialize(
            torch.cat(latents),
            mask=torch.cat(masks),
            iterations=train.kmeans_iterations,
            generator=self._generator("initialize", 0),
        )
        # Gradient codebooks are parameters: without this their average would start from the random table.
        self.averaged.quantizer.codebooks.load_state_dict(self.codec.quantizer.codebooks.state_dict())
        self.initialized = True

    def _log(
        self,
        output: CodecOutput,
        terms: Mapping[str, tuple[float, Tensor]],
        loss: Tensor,
        norm: Tensor,
        progress: "tqdm[Any]",
    ) -> None:
        num_segments = (self.step - self.first_step) * self.recipe.train.batch_size
        seconds = num_segments * self.segments.segment_samples / self.recipe.codec.sample_rate
        speed = seconds / max(time.monotonic() - self.started_at, 1e-9)
        lr = self.optimizer.param_groups[0]["lr"]
        (summed,) = sum_over_ranks(torch.stack([loss, *(term for _, term in terms.values())]).detach())
        total, *averages = (summed / self.fabric.world_size).tolist()
        values = dict(zip((f"loss/{name}" for name in terms), averages, strict=True))
        values |= {"loss/total": total, "train/grad_norm": float(norm), "train/lr": lr}
        values |= {"train/audio_seconds_per_second": speed, "train/skipped_steps": float(self.skipped_steps)}
        if output.quantizer.statistics is not None:
            values |= self._health(*sum_over_ranks(output.quantizer.statistics.counts))
        for tracker in self.trackers:
            tracker.scalars(values, self.step)
        progress.set_postfix_str(f"loss {total:.3f}, {speed:.1f} audio s/s")

    def _health(self, counts: Tensor) -> dict[str, float]:
        """Codebook health of one step by level."""
        health = codebook_health(counts)
        dead = self.codec.quantizer.codebooks.dead().double().mean(dim=-1)
        values = {}
        for level in range(self.codec.quantizer.num_quantizers):
            values[f"perplexity/level_{level + 1}"] = float(health.perplexity[level])
            values[f"usage/level_{level + 1}"] = float(health.usage[level])
            values[f"dead_rate/level_{level + 1}"] = float(dead[level])
            values[f"entropy/level_{level + 1}"] = float(health.entropy[level])
        values["train/entropy_bitrate"] = float(health.entropy.sum()) * self.recipe.codec.frame_rate
        return values

    def _validate(self, progress: "tqdm[Any]") -> None:
        """Judge the averaged model, then save it; rank 0 does both."""
        best = False
        if self.validator is not None and self.initialized and self.fabric.is_global_zero:
            progress.set_postfix_str("validating")
            score = self.validator.run(self.averaged, self.trackers, self.step)
            best = score < self.best_score
            self.best_score = min(score, self.best_score)
        self._save(best=best)

    def _save(self, *, best: bool) -> None:
        if self.fabric.is_global_zero:
            save_checkpoint(
                self.run_dir,
                step=self.step,
                averaged=self.averaged,
                model=self.codec,
                optimizer=self.optimizer,
                counters=self.counters(),
                best=best,
            )
        self.fabric.barrier()

    def _num_active(self, numbers: Tensor) -> Tensor:
        """Levels of each item: all, or with the probability of quantizer dropout a uniform number of them."""
        quantizer = self.recipe.codec.quantizer
        levels = []
        for number in numbers.tolist():
            rng = np.random.default_rng((self.recipe.seed, 2, number))
            drop = rng.random() < quantizer.quantizer_dropout
            levels.append(int(rng.integers(1, quantizer.num_quantizers + 1)) if drop else quantizer.num_quantizers)
        return torch.tensor(levels, device=numbers.device)

    def _generator(self, purpose: str, step: int) -> torch.Generator:
        """The same on every process, and after resuming."""
        seed = np.random.SeedSequence((self.recipe.seed, 3, {"initialize": 0, "revive": 1}[purpose], step))
        return torch.Generator().manual_seed(int(seed.generate_state(1, np.uint64)[0] >> 1))


def _training_segments(recipe: Recipe) -> Segments:
    data, sample_rate = recipe.data, recipe.codec.sample_rate
    return Segments(
        list_items(data_root(data), data.train, split="train", kinds=data.kinds),
        sample_rate=sample_rate,
        segment_samples=round(data.segment_seconds * sample_rate),
        gain_db=data.gain_db,
        seed=(recipe.seed, 0),
    )
