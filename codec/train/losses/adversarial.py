"""Adversarial training: the terms that discriminators add to the loss of the codec, and their own loss.

In a step, both losses use the discriminators of the step before. Original and decoded audio are divided by the rms of
the original, so a quiet item counts as much as a loud one. The losses are least squares (LSGAN, arXiv:1611.04076, eq. 9
with a = 0, b = c = 1) and feature matching (HiFi-GAN, arXiv:2010.05646, eq. 7). We differ from eq. 7: the difference is
relative to the size of the features, so no layer outweighs the others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
            spectral_bands=config.spectral_bands,
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

    def feature_sizes(self, targets: Sequence[Tensor]) -> Tensor | None:
        """Sizes of the features of all originals of a step, for `terms`; None if `terms` can measure them itself.

        Args:
            targets: Original audio `[B, 1, T]` of each part of the batch.
        """
        if len(targets) == 1 or not self.term_weights.feature_matching:
            return None
        with torch.no_grad():
            sizes = [feature_sizes(self._judge(at_unit_rms(target, target)[1])) for target in targets]
        return torch.stack(sizes).mean(dim=0)

    def terms(self, audio: Tensor, target: Tensor, sizes: Tensor | None = None) -> Mapping[str, Term]:
        """Terms of the codec's loss by name; no gradient reaches the discriminators.

        Args:
            audio: Decoded audio `[B, 1, T]`.
            target: Original audio `[B, 1, T]`.
            sizes: From `feature_sizes`, if this audio is only a part of the batch.
        """
        weights, terms = self.term_weights, {}
        audio, target = at_unit_rms(audio, target)
        decoded = self._judge(audio)
        if weights.adversarial:
            terms["adversarial"] = Term(weights.adversarial, adversarial_loss(decoded))
        if weights.feature_matching:
            with torch.no_grad():
                original = self._judge(target)
            terms["feature_matching"] = Term(weights.feature_matching, feature_matching_loss(decoded, original, sizes))
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

    def backward(self, audio: Tensor, target: Tensor, share: float = 1.0) -> Tensor:
        """Add the gradients of the discriminators' loss, times `share`; returns the loss; audio as in `terms`."""
        loss = discriminator_loss(self.model(torch.cat(at_unit_rms(audio.detach(), target))))
        self.fabric.backward(loss * share)
        return loss.detach()

    def clip(self) -> Tensor:
        """Clip the gradients for `apply`; returns their norm before, the same on all processes."""
        norm = get_total_norm([weight.grad for weight in self.weights if weight.grad is not None])
        clip_grads_with_norm_(self.weights, self.config.max_grad_norm, norm)
        return norm

    def apply(self, lr_scale: Tensor, skip: Tensor) -> None:
        """Take the optimizer step for the gradients that `clip` left.

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


def feature_sizes(original: Sequence[DiscriminatorOutput]) -> Tensor:
    """Sum of magnitudes of the features of each layer, `[layers]`, mean over processes."""
    with torch.no_grad():
        (sizes,) = mean_over_ranks(torch.stack(torch._foreach_norm(_features(original), 1, dtype=torch.float32)))
    return sizes


def feature_matching_loss(
    decoded: Sequence[DiscriminatorOutput], original: Sequence[DiscriminatorOutput], sizes: Tensor | None = None
) -> Tensor:
    """Mean absolute difference of features, relative to their mean size in the originals; mean over layers.

    There are about a hundred layers, so the operations are those of PyTorch for lists: one launch instead of one a
    layer.

    Args:
        decoded: Outputs for decoded audio.
        original: Outputs for the originals.
        sizes: `feature_sizes` of all originals of the step, if these are only a part; of `original` by default.
    """
    sizes = feature_sizes(original) if sizes is None else sizes
    differences = torch._foreach_sub(_features(decoded), _features(original))
    return (torch.stack(torch._foreach_norm(differences, 1, dtype=torch.float32)) / (sizes + TINY)).mean()


def _features(outputs: Sequence[DiscriminatorOutput]) -> list[Tensor]:
    return [feature for output in outputs for feature in output.features]


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
