"""Gaussian vectors: functions of seed, epoch and step, whatever the number of processes."""

import numpy as np
import pytest
import torch
from messages import one_line

from codec.errors import ConfigError
from codec.recipe import GaussianConfig
from codec.study.rate_distortion import ar1_covariance
from codec.study.vectors import GaussianVectors


def source(*, dim=3, seed=0, num_vectors=50, **config):
    return GaussianVectors(GaussianConfig(num_vectors=num_vectors, **config), dim=dim, seed=seed)


def batches(vectors, first_step, last_step, batch_size=16, **processes):
    return list(vectors.batches(first_step=first_step, last_step=last_step, batch_size=batch_size, **processes))


def rows(batch_list):
    return torch.cat([batch.audio[:, 0] for batch in batch_list])


def as_set(tensor):
    return {tuple(row) for row in tensor.tolist()}


def test_an_epoch_goes_once_through_the_fixed_set():
    vectors = source()
    assert vectors.steps_per_epoch(16) == 4
    epochs = [batches(vectors, first, first + 4) for first in (0, 4)]
    assert [len(batch.audio) for batch in epochs[0]] == [16, 16, 16, 2]
    assert epochs[0][0].audio.shape == (16, 1, 3) and epochs[0][0].lengths is None
    assert as_set(rows(epochs[0])) == as_set(rows(epochs[1])) == as_set(vectors.fixed)
    assert not torch.equal(rows(epochs[0]), rows(epochs[1]))  # in an order of its own


def test_fresh_vectors_are_never_repeated():
    vectors = source(fresh=True)
    seen = rows(batches(vectors, 0, 12))
    assert len(as_set(seen)) == 150


@pytest.mark.parametrize("fresh", [False, True])
def test_a_step_is_the_same_whenever_it_is_asked_for(fresh):
    whole = batches(source(fresh=fresh), 0, 10)
    for first in (3, 4, 9):
        for batch, expected in zip(batches(source(fresh=fresh), first, 10), whole[first:], strict=True):
            assert torch.equal(batch.audio, expected.audio) and torch.equal(batch.number, expected.number)
    assert not torch.equal(whole[0].audio, batches(source(fresh=fresh, seed=1), 0, 1)[0].audio)


def test_items_are_numbered_from_the_start_of_training():
    numbers = torch.cat([batch.number for batch in batches(source(), 0, 8)])
    assert numbers.tolist() == list(range(100))


@pytest.mark.parametrize("fresh", [False, True])
def test_processes_share_what_one_would_have(fresh):
    whole = batches(source(fresh=fresh), 0, 6)
    shares = [batches(source(fresh=fresh), 0, 6, rank=rank, world_size=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert len(parts[0].audio) == len(parts[1].audio)
        assert torch.equal(torch.cat([part.audio for part in parts]), batch.audio)
        assert torch.equal(torch.cat([part.number for part in parts]), batch.number)
    initial = [next(source().initial_batches(2, batch_size=16, rank=rank, world_size=2)) for rank in range(2)]
    (one,) = source().initial_batches(2, batch_size=16, rank=0, world_size=1)
    assert torch.equal(torch.cat([part.audio for part in initial]), one.audio) and len(one.audio) == 32


@pytest.mark.parametrize(("batch_size", "size"), [(15, 15), (16, 2)])
def test_batches_that_processes_cannot_share_are_refused(batch_size, size):
    with pytest.raises(ConfigError, match=one_line(50, batch_size, size, "processes", 4)):
        batches(source(), 0, 1, batch_size=batch_size, world_size=4)


def test_initial_batches_are_at_most_an_epoch():
    (batch,) = source().initial_batches(99, batch_size=16, rank=0, world_size=1)
    assert as_set(batch.audio[:, 0]) == as_set(source().fixed)


def test_held_out_vectors_are_those_of_every_run_and_never_trained_on():
    first, second = source(num_held_out=20_000), source(num_held_out=20_000, seed=7, num_vectors=10, fresh=True)
    held_out = [torch.cat(list(vectors.held_out())) for vectors in (first, second)]
    assert held_out[0].shape == (20_000, 3)
    assert torch.equal(*held_out)
    validation = torch.cat(list(first.validation()))
    assert validation.shape == (10_000, 3)
    assert not as_set(held_out[0]) & as_set(first.fixed)
    assert not as_set(validation) & (as_set(first.fixed) | as_set(held_out[0]))


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.5])
def test_vectors_have_the_covariance_that_is_asked_for(correlation):
    vectors = source(dim=4, num_vectors=100_000, correlation=correlation)
    for drawn in (vectors.fixed, torch.cat(list(vectors.validation()))):
        error = np.cov(drawn.numpy().T) - ar1_covariance(4, correlation)
        assert np.abs(error).max() < 5 * np.sqrt(2 / len(drawn))
        assert drawn.mean(0).abs().max() < 5 / len(drawn) ** 0.5
