"""Token patterns of language models: hand cases, exact inverses, causality, and tokens out of place."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from messages import one_line

from codec.corpus.interleaving import PATTERNS, DelayPattern, FlatPattern, ParallelPattern
from codec.errors import BitstreamError, ConfigError

KINDS = list(PATTERNS.values())


@st.composite
def cases(draw, min_frames=0):
    """A pattern and codes `[..., K, F]` of it."""
    num_quantizers, codebook_size = draw(st.integers(1, 6)), draw(st.integers(1, 2048))
    lead = draw(st.lists(st.integers(1, 3), max_size=2))
    shape = (*lead, num_quantizers, draw(st.integers(min_frames, 9)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = torch.from_numpy(rng.integers(0, codebook_size, shape))
    return draw(st.sampled_from(KINDS))(num_quantizers, codebook_size), codes


def test_the_patterns_of_a_hand_case():
    codes = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert torch.equal(ParallelPattern(2, 10).to_tokens(codes), codes)
    assert FlatPattern(2, 10).to_tokens(codes).tolist() == [1, 14, 2, 15, 3, 16]
    assert DelayPattern(2, 10).to_tokens(codes).tolist() == [[1, 2, 3, 10], [10, 4, 5, 6]]


@given(cases())
def test_the_inverse_is_exact(case):
    pattern, codes = case
    tokens = pattern.to_tokens(codes)
    assert tokens.dtype == torch.int64
    assert torch.equal(pattern.to_codes(tokens), codes)


@given(cases(), st.data())
def test_tokens_that_were_cut_give_the_complete_frames(case, data):
    pattern, codes = case
    tokens = pattern.to_tokens(codes)
    length = data.draw(st.integers(0, tokens.shape[-1]))
    found = pattern.to_codes(tokens[..., :length])
    late = {ParallelPattern: 0, DelayPattern: pattern.num_quantizers - 1, FlatPattern: 0}[type(pattern)]
    steps = pattern.num_quantizers if isinstance(pattern, FlatPattern) else 1
    num_frames = max(length - late, 0) // steps
    assert found.shape[-1] == num_frames
    assert torch.equal(found, codes[..., :num_frames])


@given(cases(min_frames=1))
def test_ids_are_below_the_size_of_the_vocabulary_and_levels_keep_their_ids_apart(case):
    pattern, codes = case
    highest = pattern.to_tokens(torch.full_like(codes, pattern.codebook_size - 1))
    ids = highest[highest != pattern.pad]
    assert ids.numel() == codes.numel() and ids.max() == pattern.vocabulary_size - 2
    flat = isinstance(pattern, FlatPattern)
    assert pattern.vocabulary_size == (pattern.num_quantizers if flat else 1) * pattern.codebook_size + 1
    if flat:
        levels = pattern.to_tokens(codes).unflatten(-1, (-1, pattern.num_quantizers)) // pattern.codebook_size
        assert torch.equal(levels, torch.arange(pattern.num_quantizers).expand_as(levels))


@given(cases(min_frames=1), st.data())
def test_a_code_reaches_one_token_which_comes_after_the_levels_above_it(case, data):
    pattern, codes = case
    if pattern.codebook_size == 1:
        return
    k = data.draw(st.integers(0, pattern.num_quantizers - 1))
    frame = data.draw(st.integers(0, codes.shape[-1] - 1))
    other = codes.clone()
    other[..., k, frame] = (other[..., k, frame] + 1) % pattern.codebook_size
    changed = (pattern.to_tokens(codes) != pattern.to_tokens(other)).nonzero()
    assert len(changed) == codes[..., 0, 0].numel()
    step = {
        ParallelPattern: frame,
        FlatPattern: frame * pattern.num_quantizers + k,
        DelayPattern: frame + k,
    }[type(pattern)]
    assert set(changed[:, -1].tolist()) == {step}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_arrays_of_any_integers_are_taken(kind, dtype):
    codes = np.array([[1, 2, 3], [4, 5, 6]], dtype)
    codes.flags.writeable = False
    pattern = kind(2, 10)
    tokens = pattern.to_tokens(codes)
    assert torch.equal(tokens, pattern.to_tokens(torch.from_numpy(codes.astype(np.int64))))
    assert torch.equal(pattern.to_codes(tokens.numpy()), pattern.to_codes(tokens))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("code", "facts"), [(10, ("codes[1, 2] is 10", "0 .. 9")), (-1, ("codes[1, 2] is -1",))])
def test_codes_out_of_range_are_refused(kind, code, facts):
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        kind(2, 10).to_tokens(torch.tensor([[1, 2, 3], [4, 5, code]]))


@pytest.mark.parametrize(
    ("pattern", "tokens", "facts"),
    [
        (ParallelPattern(2, 10), [[1, 10], [2, 3]], ("tokens[0, 1] is 10", "0 .. 9")),
        (FlatPattern(2, 10), [1, 12, 3, 4], ("tokens[3] is 4", "10 .. 19")),
        (FlatPattern(2, 10), [1, 20], ("tokens[1] is 20", "10 .. 19")),
        (FlatPattern(2, 10), [[1, 12], [11, 2]], ("tokens[1, 0] is 11", "0 .. 9")),
        (DelayPattern(2, 10), [[1, 2, 3], [4, 5, 6]], ("tokens[1, 0] is 4", "must be 10 there")),
        (DelayPattern(2, 10), [[1, 10, 10], [10, 5, 10]], ("tokens[0, 1] is 10", "0 .. 9")),
        (DelayPattern(2, 10), [[1, 2, 11], [10, 5, 6]], ("tokens[0, 2] is 11", "0 .. 10")),
        (DelayPattern(2, 10), [[1, 2]], ("[1, 2]", "[..., 2, length]")),
        (FlatPattern(2, 10), 7, ("shape []", "[..., length]")),
    ],
)
def test_tokens_out_of_place_are_named(pattern, tokens, facts):
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        pattern.to_codes(torch.tensor(tokens))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("values", [torch.zeros(2, 3), np.zeros((2, 3)), np.ones((2, 3), bool), torch.ones(2, 3) > 0])
def test_other_values_than_integers_are_refused(kind, values):
    for call in (kind(2, 10).to_tokens, kind(2, 10).to_codes):
        with pytest.raises(BitstreamError, match=one_line("integers", str(values.dtype))):
            call(values)


def test_lists_are_refused():
    with pytest.raises(BitstreamError, match=one_line("integers", "list")):
        FlatPattern(2, 10).to_tokens([[1], [2]])


@pytest.mark.parametrize(("num_quantizers", "codebook_size"), [(0, 10), (2, 0)])
def test_a_pattern_of_nothing_is_refused(num_quantizers, codebook_size):
    with pytest.raises(ConfigError, match=one_line("levels and codewords")):
        DelayPattern(num_quantizers, codebook_size)
