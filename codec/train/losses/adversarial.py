"""Adversarial training: the terms that discriminators add to the loss of the codec, and their own loss.

In a step, both losses use the discriminators of the step before. Original and decoded audio are divided by the rms of
the original, so a quiet item counts as much as a loud one. The losses are least squares (LSGAN, arXiv:1611.04076, eq. 9
with a = 0, b = c = 1) and feature matching (HiFi-GAN, arXiv:2010.05646, eq. 7). We differ from eq. 7: the difference is
relative to the size of the features, so no layer outweighs the others.
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

TINY = 1e-6  # keeps the division finite if the features of a layer are zero for all originals
SILENCE_POWER = 1e-6  # -60 dBFS, added to the mean power of an original


class DiscriminatorLoss(NamedTuple):
    """Result of `Adversary.backward`, scalars."""

    loss: Tensor
    grad_norm: Tensor
    """Before clipping; the same on all processes."""


class Adversary:
    """The discriminators of a run and their training.

    Args:
        weights: Weights of the two terms that they add to the loss of the codec.
        config: Sizes and optimizer settings.
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

    def is_active(self, step: int) -> bool:
        """Whether the discriminators are used and trained in this step of the run."""
        since = step - self.config.start_step
        return since >= 0 and since % self.config.every == 0

    def terms(self, audio: Tensor, target: Tensor) -> Mapping[str, Term]:
        """Terms of the codec's loss by name; no gradient reaches the discriminators.

        Args:
            audio: Decoded audio `[B, 1, T]`.
            target: Original audio `[B, 1, T]`.
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
        """Run all discriminators; only the audio gets a gradient."""
        self.discriminators.requires_grad_(False)
        try:
            # Not the wrapped model: the discriminators have no gradient here that processes could share.
            with self.fabric.autocast():
                return self.discriminators.judge(audio)
        finally:
            self.discriminators.requires_grad_(True)

    def backward(self, audio: Tensor, target: Tensor) -> DiscriminatorLoss:
        """Compute the discriminators' loss and its clipped gradients, for `apply`; arguments as in `terms`."""
        loss = discriminator_loss(self.model(torch.cat(at_unit_rms(audio.detach(), target))))
        self.fabric.backward(loss)
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)
        return DiscriminatorLoss(loss.detach(), norm)

    def apply(self, lr_scale: Tensor, skip: Tensor) -> None:
        """Take the optimizer step for the gradients of `backward`.

        Args:
            lr_scale: Factor of `config.lr`, scalar.
            skip: Whether to change nothing, bool scalar.
        """
        self.optimizer.prepare(self.config.lr * lr_scale, skip)
        self.wrapped_optimizer.step()


def at_unit_rms(audio: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Divide decoded audio and original `[B, 1, T]` by the rms of the original; float32."""
    target = target.float()
    rms = (target.square().mean(dim=-1, keepdim=True) + SILENCE_POWER).sqrt()
    return audio.float() / rms, target / rms


def adversarial_loss(decoded: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean squared distance of the scores of decoded audio from 1, mean over discriminators."""
    return torch.stack([(output.scores.float() - 1).square().mean() for output in decoded]).mean()


def feature_matching_loss(decoded: Sequence[DiscriminatorOutput], original: Sequence[DiscriminatorOutput]) -> Tensor:
    """Mean absolute difference of features, relative to their mean size in the originals; mean over layers.

    The mean size is over the originals of all processes. There are about a hundred layers, so the operations are those
    of PyTorch for lists: one launch instead of one a layer.
    """
    of_decoded, of_original = (
        [feature for output in outputs for feature in output.features] for outputs in (decoded, original)
    )
    with torch.no_grad():
        (sizes,) = mean_over_ranks(torch.stack(torch._foreach_norm(of_original, 1, dtype=torch.float32)))
    differences = torch.stack(torch._foreach_norm(torch._foreach_sub(of_decoded, of_original), 1, dtype=torch.float32))
    return (differences / (sizes + TINY)).mean()


def discriminator_loss(scores: Sequence[Tensor]) -> Tensor:
    """Mean squared distance of scores from 0 for decoded and from 1 for original audio, mean over discriminators.

    Args:
        scores: Scores `[2 B, n]` of each discriminator: first of decoded audio, then of the originals.
    """
    losses = []
    for each in scores:
        decoded, original = each.float().chunk(2)
        losses.append(decoded.square().mean() + (original - 1).square().mean())
    return torch.stack(losses).mean()
