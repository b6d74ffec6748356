"""Adversarial training: what discriminators add to the loss of the codec, and how they learn themselves.

The codec is judged by the discriminators of the step before; then they learn from the same audio. Both see original
and decoded audio divided by the level of the original, so that a quiet item counts as much as a loud one. Least squares
(LSGAN, arXiv:1611.04076, eq. 9 with a = 0, b = c = 1), feature matching as in HiFi-GAN (arXiv:2010.05646, eq. 7), but
relative to the size of the features, so that no layer outweighs the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import AdamW

from codec.config import IdentityEncoderConfig
from codec.errors import ConfigError
from codec.model.collective import mean_over_ranks
from codec.recipe import DataConfig, DiscriminatorsConfig, LossConfig, Recipe
from codec.train.discriminators import Discriminators, Opinion
from codec.train.objective import Term

TINY = 1e-6  # of the features of a layer that says nothing of any original
SILENCE_POWER = 1e-6  # an original quieter than -60 dBFS is taken to have this mean power


class Learned(NamedTuple):
    """What the discriminators' own pass gave."""

    loss: Tensor
    norm: Tensor
    """Of their gradient, before clipping; the same on all processes."""


class Adversary:
    """The discriminators of a run and their training.

    Args:
        weights: Of the two terms that they add to the loss of the codec.
        config: Sizes and learning rate.
        fabric: Device, precision and processes.
    """

    def __init__(self, weights: LossConfig, config: DiscriminatorsConfig, fabric: Fabric) -> None:
        self.term_weights = weights
        self.config = config
        self.fabric = fabric
        self.discriminators = Discriminators(
            periods=config.periods,
            period_channels=config.period_channels,
            fft_sizes=config.fft_sizes,
            spectral_channels=config.spectral_channels,
        ).to(fabric.device)
        self.weights = list(self.discriminators.parameters())
        self.optimizer = AdamW(self.weights, lr=config.lr, betas=config.betas, weight_decay=0.0, fused=True)
        self.model: Any = None
        self.wrapped_optimizer: Any = None

    def set_up(self) -> None:
        """Put processes and precision around them: after a checkpoint is loaded, before the first step."""
        self.model, self.wrapped_optimizer = self.fabric.setup(self.discriminators, self.optimizer)

    def terms(self, audio: Tensor, target: Tensor, step: int) -> Mapping[str, Term]:
        """What decoded audio costs the codec, nothing before the start; no gradient reaches the discriminators.

        Args:
            audio: Decoded, `[B, 1, T]`.
            target: Original, `[B, 1, T]`.
            step: Of the run.
        """
        values = {"adversarial": audio.new_zeros(()), "feature_matching": audio.new_zeros(())}
        if step >= self.config.start_step:
            audio, target = at_level_one(audio, target)
            decoded = self._judge(audio)
            values["adversarial"] = adversarial_loss(decoded)
            if self.term_weights.feature_matching:
                with torch.no_grad():
                    original = self._judge(target)
                values["feature_matching"] = feature_matching_loss(decoded, original)
        terms = {name: Term(getattr(self.term_weights, name), value) for name, value in values.items()}
        return {name: term for name, term in terms.items() if term.weight}

    def _judge(self, audio: Tensor) -> list[Opinion]:
        """Opinions of audio; only what it was made by gets a gradient."""
        self.discriminators.requires_grad_(False)
        try:
            # Not the wrapped model: this pass has no gradient of theirs that processes could share.
            with self.fabric.autocast():
                return self.discriminators.judge(audio)
        finally:
            self.discriminators.requires_grad_(True)

    def learn(self, audio: Tensor, target: Tensor, step: int) -> Learned:
        """Gradients of the discriminators, clipped, for `apply`; none before the start. Arguments as of `terms`."""
        if step < self.config.start_step:
            return Learned(audio.new_zeros(()), audio.new_zeros(()))
        loss = discriminator_loss(self.model(torch.cat(at_level_one(audio.detach(), target))))
        self.fabric.backward(loss)
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)
        return Learned(loss.detach(), norm)

    def apply(self, lr_share: float) -> None:
        """Take the step that `learn` prepared, at this share of the learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * lr_share
        self.wrapped_optimizer.step()


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


def at_level_one(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both divided by the level of the original, the root of its mean square; float32 `[B, 1, T]`."""
    target = target.float()
    level = (target.square().mean(dim=-1, keepdim=True) + SILENCE_POWER).sqrt()
    return audio.float() / level, target / level


def adversarial_loss(decoded: Sequence[Opinion]) -> Tensor:
    """Mean squared distance of the scores of decoded audio from those of originals, mean over discriminators."""
    return torch.stack([(opinion.scores.float() - 1).square().mean() for opinion in decoded]).mean()


def feature_matching_loss(decoded: Sequence[Opinion], original: Sequence[Opinion]) -> Tensor:
    """Mean absolute difference of features over their mean size in the originals of all processes; mean over layers.

    A hundred layers make a hundred times as many small operations: those that PyTorch has for lists are one each.
    """
    ours, theirs = ([feature for each in opinions for feature in each.features] for opinions in (decoded, original))
    with torch.no_grad():
        (sizes,) = mean_over_ranks(torch.stack(torch._foreach_norm(theirs, 1, dtype=torch.float32)))
    differences = torch.stack(torch._foreach_norm(torch._foreach_sub(ours, theirs), 1, dtype=torch.float32))
    return (differences / (sizes + TINY)).mean()


def discriminator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of scores from 0 for decoded and from 1 for original audio, mean over discriminators.

    Args:
        scores: Of each discriminator, `[2 B, n]`: decoded audio first, its originals behind.
    """
    losses = []
    for each in scores:
        decoded, original = each.float().chunk(2)
        losses.append(decoded.square().mean() + (original - 1).square().mean())
    return torch.stack(losses).mean()
