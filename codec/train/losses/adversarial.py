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

from codec.model.quantizer.collective import mean_over_ranks
from codec.recipe import DiscriminatorsConfig, LossConfig
from codec.train.losses.discriminators import DiscriminatorOutput, Discriminators
from codec.train.losses.objective import Term
from codec.train.optimizer import DeviceAdamW

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
        self.optimizer = DeviceAdamW(self.weights, device=fabric.device, lr=config.lr, betas=config.betas)
        self.model: Any
        self.wrapped_optimizer: Any
        self.model, self.wrapped_optimizer = fabric.setup(self.discriminators, self.optimizer)

    def takes_part(self, step: int) -> bool:
        """Whether the discriminators judge and learn in this step of the run."""
        since = step - self.config.start_step
        return since >= 0 and since % self.config.every == 0

    def terms(self, audio: Tensor, target: Tensor) -> Mapping[str, Term]:
        """What decoded audio costs the codec; no gradient reaches the discriminators.

        Args:
            audio: Decoded, `[B, 1, T]`.
            target: Original, `[B, 1, T]`.
        """
        weights, terms = self.term_weights, {}
        audio, target = at_unit_rms(audio, target)
        decoded = self._judge(audio)
        if weights.adversarial:
            terms["adversarial"] = Term(weights.adversarial, adversarial_loss(decoded))
        if weights.feature_matching:
            with torch.no_grad():
                original = self._judge(target)
            terms["feature_matching"] = Term(weights.feature_matching, feature_matching_loss(decoded, original))
        return terms

    def _judge(self, audio: Tensor) -> list[DiscriminatorOutput]:
        """Opinions of audio; only what it was made by gets a gradient."""
        self.discriminators.requires_grad_(False)
        try:
            # Not the wrapped model: this pass has no gradient of theirs that processes could share.
            with self.fabric.autocast():
                return self.discriminators.judge(audio)
        finally:
            self.discriminators.requires_grad_(True)

    def learn(self, audio: Tensor, target: Tensor) -> Learned:
        """Gradients of the discriminators, clipped, for `apply`. Arguments as of `terms`."""
        loss = discriminator_loss(self.model(torch.cat(at_unit_rms(audio.detach(), target))))
        self.fabric.backward(loss)
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)
        return Learned(loss.detach(), norm)

    def apply(self, lr_share: Tensor, skip: Tensor) -> None:
        """Take the step that `learn` prepared, at this share of the learning rate, or `skip` it; both are scalars."""
        self.optimizer.prepare(self.config.lr * lr_share, skip)
        self.wrapped_optimizer.step()


def at_unit_rms(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Both divided by the level of the original, the root of its mean square; float32 `[B, 1, T]`."""
    target = target.float()
    level = (target.square().mean(dim=-1, keepdim=True) + SILENCE_POWER).sqrt()
    return audio.float() / level, target / level


def adversarial_loss(decoded: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean squared distance of the scores of decoded audio from those of originals, mean over discriminators."""
    return torch.stack([(opinion.scores.float() - 1).square().mean() for opinion in decoded]).mean()


def feature_matching_loss(decoded: Sequence[DiscriminatorOutput], original: Sequence[DiscriminatorOutput]) -> Tensor:
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
