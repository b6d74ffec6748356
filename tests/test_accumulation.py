"""Gradient accumulation: a step whose batch ran in parts is the step on the whole batch."""

import contextlib

import gaussian_runs
import pytest
import torch
from messages import one_line
from tiny_runs import (
    adversarial_changes,
    assert_close,
    distributed_recipe,
    history,
    learned,
    make_trainer,
    start,
    tiny_recipe,
)

from codec.errors import ConfigError
from codec.model.quantizer.codebooks import Statistics
from codec.train.learner import Inputs


def record_updates(monkeypatch, trainer):
    """Lists of the steps in which codebooks followed, and of the revived codewords."""
    codebooks, followed, revived = trainer.learner.codec.quantizer.codebooks, [], []
    follow, revive = codebooks.follow, codebooks.revive

    def recorded(*arguments):
        revived.append(revive(*arguments))
        return revived[-1]

    monkeypatch.setattr(codebooks, "follow", lambda each: (followed.append(trainer.progress.step), follow(each))[1])
    monkeypatch.setattr(codebooks, "revive", recorded)
    return followed, revived


@pytest.mark.parametrize(("update", "num_parts"), [("ema", 2), ("gradient", 4), ("adversarial", 2)])
def test_a_batch_in_parts_makes_the_step_of_the_whole_batch(clips, tmp_path, monkeypatch, update, num_parts):
    """Five steps, the initialisation and revivals among them; sums of another order differ in the last digits."""
    trainers, updates = [], []
    for parts in (1, num_parts):
        recipe = distributed_recipe(clips, update, train__gradient_accumulation=parts)
        trainers.append(start(recipe, tmp_path / str(parts)))
        updates.append(record_updates(monkeypatch, trainers[-1]))
        trainers[-1].fit()
    (followed, revived), (followed_in_parts, revived_in_parts) = updates
    assert followed == followed_in_parts == [1, 2, 3, 4]
    assert sum(map(torch.sum, revived)) >= 3
    assert all(map(torch.equal, revived, revived_in_parts))
    assert_close(*map(learned, trainers))
    lines = [history(tmp_path / str(parts)) for parts in (1, num_parts)]
    for line, other in zip(*lines, strict=True):
        assert other == pytest.approx(line, rel=1e-5), line["step"]


def test_discriminators_are_trained_once_a_step(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, **adversarial_changes(), train__steps=3, train__gradient_accumulation=2)
    trainer = start(recipe, tmp_path)
    adversary, calls = trainer.learner.adversary, []
    for name in ("backward", "clip", "apply"):
        function = getattr(adversary, name)
        monkeypatch.setattr(adversary, name, lambda *args, n=name, f=function: (calls.append(n), f(*args))[1])
    trainer.fit()
    assert calls == ["backward", "backward", "clip", "apply"] * 3


def test_gradients_are_exchanged_once_a_step(clips, tmp_path, monkeypatch):
    recipe = tiny_recipe(clips, **adversarial_changes(), train__steps=1, train__gradient_accumulation=2)
    trainer = start(recipe, tmp_path)
    learner, local, seen = trainer.learner, [], []
    run = learner._run

    @contextlib.contextmanager
    def kept_local(model):
        local.append(model)
        yield
        local.remove(model)

    monkeypatch.setattr(learner.fabric, "no_backward_sync", kept_local)
    monkeypatch.setattr(learner, "_run", lambda *arguments: (seen.append(list(local)), run(*arguments))[1])
    trainer.fit()
    assert seen == [[learner.model, learner.adversary.model], []]


def test_only_one_part_of_a_batch_runs_at_a_time(clips, tmp_path, monkeypatch):
    trainer = start(tiny_recipe(clips, train__steps=2, train__gradient_accumulation=4), tmp_path)
    sizes = []
    trainer.learner.codec.encoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    trainer.fit()
    assert sizes == [1] * 8


def test_inputs_are_split_in_order():
    inputs = Inputs(torch.arange(8.0).view(4, 1, 2), torch.arange(4), torch.arange(4), None, *torch.ones(2))
    parts = inputs.split(2)
    assert [part.audio.flatten().tolist() for part in parts] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [part.lengths.tolist() for part in parts] == [[0, 1], [2, 3]]
    assert [(part.num_active, float(part.lr)) for part in parts] == [(None, 1.0)] * 2


@pytest.mark.parametrize("masked", [True, False])
def test_statistics_of_parts_are_those_of_all_vectors(masked):
    def part(seed):
        draw = torch.Generator().manual_seed(seed)
        rows = torch.randn(2, 3, 4, generator=draw)
        counts, sums = torch.rand(2, 5, generator=draw), torch.randn(2, 5, 4, generator=draw)
        return Statistics(counts, sums, rows, rows[..., 0] > 0 if masked else None)

    parts = [part(0), part(1)]
    counts, sums, residuals, valid = Statistics.of_parts(parts)
    assert torch.equal(counts, parts[0].counts + parts[1].counts) and torch.equal(sums, parts[0].sums + parts[1].sums)
    assert residuals.shape == (2, 6, 4) and torch.equal(residuals[:, 3:], parts[1].residuals)
    assert valid is None if not masked else torch.equal(valid[:, :3], parts[0].valid)


def test_a_batch_that_has_no_equal_parts_is_refused(clips, tmp_path):
    with pytest.raises(ConfigError, match=one_line("batch_size", 4, "divisible", "train.gradient_accumulation", 3)):
        make_trainer(tiny_recipe(clips, train__gradient_accumulation=3), tmp_path)
    with pytest.raises(ConfigError, match=one_line("vectors", "train.gradient_accumulation", 1)):
        recipe = gaussian_runs.short_recipe("gaussian_vq", "--train.gradient-accumulation", "2")
        gaussian_runs.make_trainer(recipe, tmp_path)
