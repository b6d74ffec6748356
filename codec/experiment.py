"""Builds a trainer from a recipe: the one place that reads which data, losses and discriminators a recipe asks for."""

import dataclasses
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from codec.config import IdentityEncoderConfig
from codec.errors import ConfigError
from codec.model.builder import build_codec
from codec.model.codec import Codec
from codec.recipe import DataConfig, GaussianConfig, LossConfig, PublishedLossConfig, Recipe
from codec.study.judge import DistortionJudge
from codec.study.published import PublishedObjective
from codec.study.vectors import GaussianVectors
from codec.train.data.files import find_audio
from codec.train.data.in_memory import AudioInMemory
from codec.train.data.segments import Segments
from codec.train.data.source import AudioSource, Source
from codec.train.graph import GraphedSteps
from codec.train.learner import Learner
from codec.train.losses.adversarial import Adversary
from codec.train.losses.objective import Objective, WeightedObjective
from codec.train.reporter import Reporter
from codec.train.trainer import Trainer
from codec.train.validation import Judge, Validator


def build_trainer(recipe: Recipe, run_dir: Path, fabric: Fabric, *, began: float | None = None) -> Trainer:
    """Build everything that a run needs; writes no file.

    Args:
        recipe: The recipe.
        run_dir: Directory for checkpoints and records.
        fabric: Device, precision and processes.
        began: Time that `train.max_minutes` counts from, by `time.monotonic`; now if not given.

    Raises:
        ConfigError: The data is missing, or the recipe contradicts itself.
        AudioError: Audio files can't be used.
    """
    began = time.monotonic() if began is None else began
    check_parts(recipe, fabric.world_size)
    torch.manual_seed(recipe.seed)
    codec = build_codec(recipe.codec).to(fabric.device)
    for part in recipe.train.freeze:  # encoder or quantizer: autograd then records nothing in them
        codec.get_submodule(part).requires_grad_(False)
    objective = build_objective(_learned_terms(recipe), codec, fabric.device)
    adversary = build_adversary(recipe, fabric)
    source = build_source(recipe, fabric.device)
    reporter = build_reporter(recipe, source, fabric.device)
    learner = Learner(
        codec,
        objective=objective,
        adversary=adversary,
        reporter=reporter,
        fabric=fabric,
        config=recipe.optimizer,
        num_parts=recipe.train.gradient_accumulation,
        learns_codebooks="quantizer" not in recipe.train.freeze,
    )
    on_one_gpu = fabric.device.type == "cuda" and fabric.world_size == 1 and learner.optimizer is not None
    return Trainer(
        recipe,
        run_dir,
        fabric,
        source=source,
        learner=learner,
        run_step=GraphedSteps(learner.step) if on_one_gpu else learner.step,
        reporter=reporter,
        judge=build_judge(recipe, source),
        began=began,
    )


def check_parts(recipe: Recipe, world_size: int) -> None:
    """Refuse a batch that can't be divided into equal parts, `train.gradient_accumulation` of them on each process.

    Raises:
        ConfigError: It can't.
    """
    batch_size, num_parts = recipe.train.batch_size, recipe.train.gradient_accumulation
    if num_parts == 1:
        return  # the source checks the shares of the processes
    if isinstance(recipe.data, GaussianConfig):
        raise ConfigError("batches of vectors are not run in parts: set train.gradient_accumulation to 1")
    if batch_size % (world_size * num_parts):
        raise ConfigError(
            f"batch_size {batch_size} must be divisible by {world_size * num_parts}: train.gradient_accumulation makes "
            f"{num_parts} parts on each of {world_size} processes"
        )


def build_judge(recipe: Recipe, source: Source) -> Judge | None:
    """Build the judge of a recipe; None if the recipe has no held-out data."""
    if isinstance(source, GaussianVectors):
        return DistortionJudge(source)
    return Validator.of_recipe(recipe)


def build_objective(loss: LossConfig | PublishedLossConfig, codec: Codec, device: torch.device) -> Objective:
    """Build the objective of a recipe for a codec on `device`."""
    if isinstance(loss, PublishedLossConfig):
        return PublishedObjective(codec)
    return WeightedObjective(loss, codec, device)


def _learned_terms(recipe: Recipe) -> LossConfig | PublishedLossConfig:
    """The loss without the terms that only reach frozen parts."""
    loss, freeze = recipe.loss, recipe.train.freeze
    if not isinstance(loss, LossConfig):
        return loss
    return dataclasses.replace(
        loss,
        commitment=0.0 if "encoder" in freeze else loss.commitment,
        codebook=0.0 if "quantizer" in freeze else loss.codebook,
    )


def build_source(recipe: Recipe, device: torch.device) -> Source:
    """Open the data of a recipe, after a check of all its audio files, held-out ones too, by their headers.

    Args:
        recipe: Its section `data`.
        device: Device that keeps the audio if `data.in_memory`.

    Raises:
        ConfigError: The data is missing, does not match the recipe, or does not fit into memory.
        AudioError: Audio files can't be used; one error for all.
    """
    data, seed = recipe.data, recipe.seed
    if isinstance(data, GaussianConfig):
        return GaussianVectors(data, dim=recipe.codec.latent_dim, seed=seed)
    segments = Segments(
        find_audio(data).train,
        sample_rate=recipe.codec.sample_rate,
        segment_samples=round(data.segment_seconds * recipe.codec.sample_rate),
        gain_db=data.gain_db,
        seed=(seed, 0),
    )
    if data.in_memory:
        return AudioInMemory(segments, device=device, seed=seed)
    return AudioSource(segments, num_workers=data.num_workers, seed=seed)


def build_adversary(recipe: Recipe, fabric: Fabric) -> Adversary | None:
    """Build the discriminators of a recipe; None if its loss has no adversarial and no feature-matching term.

    Raises:
        ConfigError: The data is not audio, or the codec has no encoder.
    """
    weights = recipe.loss
    if not isinstance(weights, LossConfig) or not (weights.adversarial or weights.feature_matching):
        return None
    identities = isinstance(recipe.codec.encoder, IdentityEncoderConfig)
    if identities or not isinstance(recipe.data, DataConfig):
        raise ConfigError(
            "discriminators need audio and an encoder: set loss.adversarial and loss.feature_matching to 0"
        )
    return Adversary(weights, recipe.discriminators, fabric)


def build_reporter(recipe: Recipe, source: Source, device: torch.device) -> Reporter:
    """Build the reporter of a recipe."""
    return Reporter(
        log_every=recipe.train.log_every,
        steps_per_epoch=source.steps_per_epoch(recipe.train.batch_size),
        step_size=recipe.train.batch_size * source.item_size,
        unit=source.unit,
        frame_rate=recipe.codec.frame_rate,
        device=device,
    )
