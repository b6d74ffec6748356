"""A training step never reads from the device: the host would wait for a GPU, and no CUDA graph could hold the step."""

import pytest
import torch
from tiny_runs import adversarial_changes, make_trainer, tiny_recipe
from torch.utils._python_dispatch import TorchDispatchMode

from codec.train.learner import Plan


class NoWaiting(TorchDispatchMode):
    """Raises at operations that wait for a GPU: reading a number, a shape that depends on data, a copy of a list."""

    FORBIDDEN = (
        "aten._local_scalar_dense",
        "aten.item",
        "aten.nonzero",
        "aten.is_nonzero",
        "aten.masked_select",
        "aten.unique",
        "aten._unique2",
        "aten.equal",
        "aten.repeat_interleave.Tensor",
        "aten.lift_fresh",
    )

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        assert not name.startswith(self.FORBIDDEN), f"{name} waits for the device"
        if name.startswith("aten.index.Tensor"):
            assert all(index is None or index.dtype != torch.bool for index in args[1]), "indices by a mask: nonzero"
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("update", ["ema", "gradient"])
@pytest.mark.parametrize("plan", [Plan(False, False), Plan(True, False), Plan(True, True)], ids=str)
def test_a_step_never_waits_for_the_device(clips, tmp_path, update, plan):
    recipe = tiny_recipe(
        clips,
        **adversarial_changes(),
        loss__loudness=1.0,
        codec__quantizer__update=update,
        codec__quantizer__quantizer_dropout=0.5,
        codec__quantizer__vbr_slope=0.25 if update == "ema" else 0.0,
        codec__quantizer__codebook_size=128,
    )
    trainer = make_trainer(recipe, tmp_path)
    inputs = trainer._inputs(next(trainer._batches()))
    with NoWaiting():
        trainer.learner.step(inputs, plan)
    assert trainer.learner.skipped_steps == 0


def first_step(clips, run_dir, **changes):
    """The norms that the first step returns, and the gradients that the optimizers took, by kind of module."""
    recipe = tiny_recipe(clips, **adversarial_changes(**changes.pop("discriminators", {})), **changes)
    learner = (trainer := make_trainer(recipe, run_dir)).learner
    norms = learner.step(trainer._inputs(next(trainer._batches())), Plan(True, True)).grad_norms
    modules = {"train/grad_norm": learner.weights, "train/discriminators_grad_norm": learner.adversary.weights}
    return norms, {name: [weight.grad.clone() for weight in weights] for name, weights in modules.items()}


@pytest.mark.parametrize("name", ["train/grad_norm", "train/discriminators_grad_norm"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_gradients_are_clipped_above_their_limit_and_only_there(clips, tmp_path, name, factor):
    def limited_to(most):
        limits = {"optimizer__max_grad_norm": most, "discriminators": {"max_grad_norm": most}}
        return first_step(clips, tmp_path, **limits)

    norms, gradients = limited_to(1e9)
    clipped_norms, clipped = limited_to(factor * float(norms[name]))
    assert clipped_norms[name] == norms[name]  # logged as it was
    for gradient, expected in zip(clipped[name], gradients[name], strict=True):
        torch.testing.assert_close(gradient, min(factor, 1.0) * expected, rtol=1e-4, atol=0)


def test_waiting_for_the_device_is_noticed():
    for ask in (
        lambda x: float(x[0]),
        lambda x: x[x > 0],
        lambda x: torch.tensor([1.0, 2.0]) + 1,
        lambda x: bool(x[0]),
    ):
        with pytest.raises(AssertionError), NoWaiting():
            ask(torch.ones(2))
