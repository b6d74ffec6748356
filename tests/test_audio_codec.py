"""What all codecs share: sizes, and levels for a bitrate. test_codec.py has the checks of audio and codes."""

import pytest
from foreign_codec import ForeignCodec
from messages import one_line
from models import tiny_codec

from codec.config import to_dict
from codec.errors import ConfigError
from codec.model.digest import model_identity


def test_rates_follow_from_the_sizes():
    model = ForeignCodec()
    assert (model.frame_rate, model.bitrate_per_level, model.num_frames(11)) == (800, 3200, 2)
    ours = tiny_codec()
    assert (ours.frame_rate, ours.bitrate_per_level) == (ours.config.frame_rate, ours.config.bitrate_per_level)
    assert (ours.num_quantizers, ours.codebook_size) == (4, 16)


def test_levels_for_a_bitrate():
    model = ForeignCodec()
    assert [model.num_quantizers_for(bitrate) for bitrate in (3200, 6399, 6400, 1e9)] == [1, 1, 2, 2]
    with pytest.raises(ConfigError, match=one_line("3199", "3200")):
        model.num_quantizers_for(3199)


def test_what_a_codec_is():
    ours = tiny_codec()
    assert ours.describe() == to_dict(ours.config)
    assert model_identity(ForeignCodec()) == bytes(range(32))
