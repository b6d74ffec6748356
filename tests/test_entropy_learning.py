"""Learned tables reach the entropy of sources where it is known, and cost nothing where there is nothing to learn."""

import numpy as np
import pytest
import torch
from messages import one_line

from codec.bitstream import EntropyCoder
from codec.bitstream.rans import TOTAL
from codec.errors import ConfigError
from codec.release.entropy_learning import NUM_ROWS, NUM_ROWS_ABOVE, learn_tables

SIZE = 32


def known_source(seed, num_frames=1_000):
    """Codes [4, F]; given its context each has 3, 2, 2 and 3 bits."""
    rng = np.random.default_rng(seed)
    codes = np.zeros((4, num_frames), np.int64)
    before = rng.integers(0, SIZE, 4)
    for frame in range(num_frames):
        first = 8 * (before[0] % 4) + rng.integers(8)  # the frame before tells two bits
        second = 4 * (first % 8) + rng.integers(4)  # the level below tells three
        third = rng.integers(4)  # nothing tells anything
        fourth = 16 * (before[3] % 2) + 8 * (third % 2) + rng.integers(8)  # each tells one
        codes[:, frame] = before = np.array([first, second, third, fourth])
    return codes


def coder_of(tables):
    return EntropyCoder(**{name: tensor.numpy() for name, tensor in tables.coding_tables().items()})


def bits_a_code(tables, codes):
    """What an ideal coder spends on every level of codes [K, F]."""
    coder = coder_of(tables)
    share = coder._frequencies[coder._contexts(codes[np.newaxis]), codes[np.newaxis]] / TOTAL
    return -np.log2(share).mean(axis=(0, 2))


@pytest.fixture(scope="module")
def tables():
    return learn_tables([known_source(seed) for seed in range(20)], SIZE)


def test_contexts_are_found_and_their_entropy_is_reached(tables):
    tables.check(4, SIZE)
    np.testing.assert_allclose(bits_a_code(tables, known_source(99)), [3, 2, 2, 3], rtol=0.02)


def test_an_unpredictable_level_has_one_row(tables):
    num_rows = [len(np.unique(coder_of(tables)._contexts(known_source(0)[np.newaxis])[0, level])) for level in range(4)]
    assert num_rows[2] == 1 and min(num_rows[level] for level in (0, 1, 3)) >= 4


def test_one_context_that_predicts_everything_gets_all_rows():
    """Every code has its own two successors: with fewer classes than codes a bit would be lost."""

    def chain(seed):
        steps = np.random.default_rng(seed).integers(0, 2, 1_000)
        codes = np.zeros((1, 1_000), np.int64)
        for frame in range(1, 1_000):
            codes[0, frame] = (5 * codes[0, frame - 1] + 21 * steps[frame]) % 64
        return codes

    tables = learn_tables([chain(seed) for seed in range(20)], 64)
    assert bits_a_code(tables, chain(99))[0] < 1.1


def test_the_coder_spends_what_the_tables_say(tables):
    codes = known_source(99)[np.newaxis]
    payload = coder_of(tables).encode(codes)
    assert 8 * len(payload) == pytest.approx(1_000 * (3 + 2 + 2 + 3), rel=0.02)
    np.testing.assert_array_equal(coder_of(tables).decode(payload, codes.shape), codes)


def test_uniform_codes_cost_no_more_than_packed():
    """Chance is not mistaken for a context, and rounding to integers costs next to nothing."""
    rng = np.random.default_rng(0)
    tables = learn_tables([rng.integers(0, 256, (2, 500)) for _ in range(20)], 256)
    assert len(tables.frequencies) == 2
    assert bits_a_code(tables, rng.integers(0, 256, (2, 20_000))).max() < 8.05


def test_codes_that_were_never_seen_can_be_coded(tables):
    codes = np.full((1, 4, 10), SIZE - 1)
    np.testing.assert_array_equal(coder_of(tables).decode(coder_of(tables).encode(codes), codes.shape), codes)


def test_the_same_codes_give_the_same_tables():
    recordings = [known_source(seed, 200) for seed in range(12)]
    first, second = (learn_tables(recordings, SIZE).tensors() for _ in range(2))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_tables_of_twelve_levels_are_small():
    assert 2 * 1024 * (sum(NUM_ROWS) + (12 - len(NUM_ROWS)) * NUM_ROWS_ABOVE) < 1.5e6
    row = np.random.default_rng(0).integers(0, 256, 2_000)
    tables = learn_tables([np.stack([row] * 4)] * 2, 256)  # each level tells all of the next
    assert len(tables.frequencies) <= sum(NUM_ROWS) + NUM_ROWS_ABOVE


def test_the_bits_of_a_frame_are_those_of_the_coder():
    recordings = [known_source(seed) for seed in range(20)]
    tables = learn_tables(recordings, SIZE)
    coder = coder_of(tables)
    for levels in (1, 3, 4):
        spent = np.mean([8 * len(coder.encode(each[None, :levels])) / each.shape[1] for each in recordings])
        assert float(tables.bits_per_frame[levels - 1]) == pytest.approx(spent, rel=0.01)


def test_recordings_may_have_fewer_levels():
    recordings = [known_source(seed)[: 2 + 2 * (seed % 2)] for seed in range(20)]
    tables = learn_tables(recordings, SIZE)
    tables.check(4, SIZE)
    coder = coder_of(tables)
    spent = [np.mean([8 * len(coder.encode(each[None])) / each.shape[1] for each in recordings[n::2]]) for n in (0, 1)]
    np.testing.assert_allclose(tables.bits_per_frame[[1, 3]], spent, rtol=0.01)
    assert float(tables.bits_per_frame[0]) == pytest.approx(spent[0] / 2, rel=0.01)  # interpolated


@pytest.mark.parametrize(
    ("codes", "size", "facts"),
    [
        ([np.zeros((2, 5), int)], 4, ("two recordings", 1)),
        ([np.zeros((2, 5), int), np.zeros((3, 5), int)], 4, ("one recording", "3 levels")),
        ([np.zeros((2, 5), int), np.zeros((2, 0), int)], 4, ("[2, 0]",)),
        ([np.zeros((2, 5), int), np.full((2, 5), 4)], 4, ("0 .. 3",)),
        ([np.zeros((2, 5), int)] * 2, 1, ("2 .. 4096", 1)),
    ],
)
def test_wrong_codes_are_refused(codes, size, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        learn_tables(codes, size)
