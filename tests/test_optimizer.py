import math

import pytest
import torch
from models import make_codebooks, tiny_codec
from torch import nn

from codec.recipe import OptimizerConfig
from codec.train.optimizer import (
    build_optimizer,
    copy_unaveraged,
    ema_rate,
    learning_rate,
    reset_moments,
    update_ema,
)

CONFIG = OptimizerConfig(lr=1e-3, final_lr=1e-5, warmup_steps=4)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.25e-3),
        (1, 0.5e-3),
        (3, 1e-3),
        (4, 1e-3),
        (4 + 24, 1e-5 + 0.99e-3 * (1 + math.cos(math.pi / 4)) / 2),
        (4 + 48, 1e-5 + 0.99e-3 / 2),
        (100, 1e-5),
        (1000, 1e-5),
    ],
)
def test_learning_rate(step, rate):
    assert learning_rate(CONFIG, step, 100) == pytest.approx(rate)


@pytest.mark.parametrize(("warmup_steps", "num_steps"), [(0, 10), (10, 10), (20, 10), (0, 1)])
def test_learning_rate_of_odd_lengths(warmup_steps, num_steps):
    config = OptimizerConfig(lr=1e-3, final_lr=0, warmup_steps=warmup_steps)
    rates = [learning_rate(config, step, num_steps) for step in range(num_steps)]
    assert all(0 < rate <= 1e-3 for rate in rates)
    assert rates[0] == pytest.approx(1e-3 / max(warmup_steps, 1))


@pytest.mark.parametrize("decoder", ["harmonic_noise", "upsample"])
@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_only_matrices_decay(decoder, update):
    codec = tiny_codec(decoder).requires_grad_(True)
    if update == "gradient":
        codec.quantizer.codebooks = make_codebooks("gradient")
    optimizer = build_optimizer(codec, OptimizerConfig(weight_decay=0.03))
    decays = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert len(decays) == sum(len(group["params"]) for group in optimizer.param_groups)
    names = {name: decays.pop(id(parameter)) for name, parameter in codec.named_parameters()}
    assert not decays
    exempt = ("bias", "scale", "alpha", "norm", "codebooks")
    for name, decay in names.items():
        assert decay == (0 if any(word in name for word in exempt) else 0.03), name
    assert 0.03 in names.values()


def test_optimizer_takes_its_numbers_from_the_config():
    optimizer = build_optimizer(nn.Linear(2, 2), OptimizerConfig(lr=0.5, betas=(0.1, 0.2)))
    for group in optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (0.5, (0.1, 0.2))


def test_average_is_the_recursion():
    """a <- d a + (1 - d) w with d = min(decay, (1 + n) / (10 + n))."""
    model, ema = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(ema.weight, 5.0)
    expected = ema.weight.detach().clone().double()
    for update in range(30):
        weight = torch.arange(3.0) + update
        with torch.no_grad():
            model.weight.copy_(weight)
            model.running_mean.fill_(update)
            model.num_batches_tracked.fill_(update)
        update_ema([*ema.parameters()], [*model.parameters()], torch.tensor(ema_rate(0.7, update)))
        copy_unaveraged(ema, model, decay=0.7)
        decay = min(0.7, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight
        assert ema.weight.detach().double() == pytest.approx(expected, rel=1e-5)
        assert torch.equal(ema.running_mean, model.running_mean)
        assert ema.num_batches_tracked == update
        assert torch.equal(model.weight, weight)


def test_reset_moments_of_rows():
    table = nn.Parameter(torch.randn(2, 3, 4))
    other = nn.Parameter(torch.randn(2, 3))
    optimizer = torch.optim.AdamW([table, other])
    rows = torch.tensor([[True, False, False], [False, False, True]])
    reset_moments(optimizer, table, rows)  # before the first step there is nothing to reset
    (table.square().sum() + other.square().sum()).backward()
    optimizer.step()
    before = {key: value.clone() for key, value in optimizer.state[table].items()}
    others = {key: value.clone() for key, value in optimizer.state[other].items()}
    reset_moments(optimizer, table, rows)
    for key in ("exp_avg", "exp_avg_sq"):
        after = optimizer.state[table][key]
        assert not after[rows].any() and before[key][rows].all()
        assert torch.equal(after[~rows], before[key][~rows])
        assert torch.equal(optimizer.state[other][key], others[key])
    assert optimizer.state[table]["step"] == 1


def test_with_decay_zero_the_ema_is_the_model():
    model, ema = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(model.weight, 5.0)
    copy_unaveraged(ema, model, decay=0)
    assert torch.equal(ema.weight, model.weight)


def test_a_skipped_step_changes_no_weight_moment_or_count():
    model = nn.Linear(2, 2)
    optimizer = build_optimizer(model, OptimizerConfig(lr=0.5))
    states = []
    for skip in (False, True):
        model(torch.ones(1, 2)).sum().backward()
        optimizer.prepare(torch.tensor(0.1), torch.tensor(skip))
        optimizer.step()
        states.append([model.weight.detach().clone(), *(v.clone() for v in optimizer.state[model.weight].values())])
    for before, after in zip(*states, strict=True):
        assert torch.equal(before, after)
    assert optimizer.state[model.weight]["step"] == 1


def test_a_step_uses_the_prepared_learning_rate():
    models = [nn.Linear(2, 2) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [
        build_optimizer(models[0], OptimizerConfig(lr=0.5, weight_decay=0)),
        torch.optim.AdamW(models[1].parameters(), lr=0.01, betas=OptimizerConfig().betas, weight_decay=0, fused=True),
    ]
    optimizers[0].prepare(torch.tensor(0.01, dtype=torch.float64), torch.tensor(False))
    for model, optimizer in zip(models, optimizers, strict=True):
        model(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()
    assert torch.equal(models[0].weight, models[1].weight)
