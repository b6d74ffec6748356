"""From a recipe to a trainer: the one place that knows which data, discriminators and judgement a recipe asks for."""

import dataclasses
import time
from pathlib import Path

import torch
from lightning_fabric import Fabric

from codec.audio.manifest import list_items
from codec.config import IdentityEncoderConfig
from codec.errors import ConfigError
from codec.model.builder import build_codec
from codec.model.codec import Codec
from codec.recipe import DataConfig, GaussianConfig, LossConfig, PublishedLossConfig, Recipe
from codec.study.judge import DistortionJudge
from codec.study.published import PublishedObjective
from codec.study.vectors import GaussianVectors
from codec.train.data.in_memory import AudioInMemory
from codec.train.data.segments import Segments, data_root
from codec.train.data.source import AudioSource, Source
from codec.train.graph import GraphedSteps
from codec.train.learner import Learner
from codec.train.losses.adversarial import Adversary
from codec.train.losses.objective import Objective, WeightedObjective
from codec.train.reporter import Reporter
from codec.train.trainer import Trainer
from codec.train.validation import Judge, Validator


def build_trainer(recipe: Recipe, run_dir: Path, fabric: Fabric, *, began: float | None = None) -> Trainer:
    """Build all that a run needs; nothing is written yet.

    Args:
        recipe: What to train, on what, how.
        run_dir: Where checkpoints and records will go.
        fabric: Device, precision and processes.
        began: What `train.max_minutes` counts from, by `time.monotonic`; now if not given.

    Raises:
        ConfigError: The data is missing, or the recipe contradicts itself.
    """
    began = time.monotonic() if began is None else began
    torch.manual_seed(recipe.seed)
    codec = build_codec(recipe.codec).to(fabric.device)
    for part in recipe.train.freeze:  # encoder and quantizer come first: nothing in them is recorded for a gradient
        codec.get_submodule(part).requires_grad_(False)
    objective = build_objective(_learned_terms(recipe), codec, fabric.device)
    adversary = open_adversary(recipe, fabric)
    source = open_source(recipe, fabric.device)
    reporter = build_reporter(recipe, source, fabric.device)
    learner = Learner(
        codec,
        objective=objective,
        adversary=adversary,
        reporter=reporter,
        fabric=fabric,
        config=recipe.optimizer,
        learns_codebooks="quantizer" not in recipe.train.freeze,
    )
    on_one_gpu = fabric.device.type == "cuda" and fabric.world_size == 1 and learner.optimizer is not None
    return Trainer(
        recipe,
        run_dir,
        fabric,
        source=source,
        learner=learner,
        take=learner.step if not on_one_gpu else GraphedSteps(learner.step),
        reporter=reporter,
        judge=open_judge(recipe, source),
        began=began,
    )


def open_judge(recipe: Recipe, source: Source) -> Judge | None:
    """The judge of a recipe; None if it has no held-out data."""
    if isinstance(source, GaussianVectors):
        return DistortionJudge(source)
    return Validator.of_recipe(recipe)


def build_objective(loss: LossConfig | PublishedLossConfig, codec: Codec, device: torch.device) -> Objective:
    """The objective of a recipe."""
    if isinstance(loss, PublishedLossConfig):
        return PublishedObjective(codec)
    return WeightedObjective(loss, codec, device)


def _learned_terms(recipe: Recipe) -> LossConfig | PublishedLossConfig:
    """The loss without terms that only frozen parts could learn from."""
    loss, freeze = recipe.loss, recipe.train.freeze
    if not isinstance(loss, LossConfig):
        return loss
    return dataclasses.replace(
        loss,
        commitment=0.0 if "encoder" in freeze else loss.commitment,
        codebook=0.0 if "quantizer" in freeze else loss.codebook,
    )


def open_source(recipe: Recipe, device: torch.device) -> Source:
    """The data of a recipe, on its way to `device`.

    Raises:
        ConfigError: It is missing or not what the recipe says, or does not fit into memory.
    """
    data, seed = recipe.data, recipe.seed
    if isinstance(data, GaussianConfig):
        return GaussianVectors(data, dim=recipe.codec.latent_dim, seed=seed)
    segments = Segments(
        list_items(data_root(data), data.train, split="train", kinds=data.kinds),
        sample_rate=recipe.codec.sample_rate,
        segment_samples=round(data.segment_seconds * recipe.codec.sample_rate),
        gain_db=data.gain_db,
        seed=(seed, 0),
    )
    if data.in_memory:
        return AudioInMemory(segments, device=device, seed=seed)
    return AudioSource(segments, num_workers=data.num_workers, seed=seed)


def open_adversary(recipe: Recipe, fabric: Fabric) -> Adversary | None:
    """The discriminators of a recipe; None where its loss has no term of theirs.

    Raises:
        ConfigError: They would have no audio to judge, or no encoder and decoder to teach.
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
    """What tells of a run of this recipe."""
    return Reporter(
        log_every=recipe.train.log_every,
        steps_per_epoch=source.steps_per_epoch(recipe.train.batch_size),
        step_size=recipe.train.batch_size * source.item_size,
        unit=source.unit,
        frame_rate=recipe.codec.frame_rate,
        device=device,
    )
