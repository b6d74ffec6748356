"""The pattern that the other tests match error messages with."""

import re

import pytest
from messages import one_line


@pytest.mark.parametrize(
    ("facts", "matches"),
    [
        (("beam", 65, 1, 64), True),
        (("beam", 1, 65), False),  # not in this order
        (("beam", 6), False),  # a part of a number
        (("bea",), False),  # a part of a word
        (("64 paths", "a.wav"), True),
        ((".wav",), False),  # the end of a name
        ((0.5,), True),
        ((5,), False),  # the end of 0.5
        ((0,), False),  # the beginning of 0.5
        ((3,), False),  # the end of -3
        ((-3,), True),
        ((), True),
    ],
)
def test_facts_match_as_a_whole_and_in_order(facts, matches):
    message = "beam 65 is not in 1 .. 64 paths, a.wav, 0.5 or -3"
    assert bool(re.search(one_line(*facts), message)) == matches
    assert not re.search(one_line(*facts), f"{message}\nmore")
