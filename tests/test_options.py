import pytest
from messages import one_line

from codec.cli.command_line import parse
from codec.cli.options import EncodeOptions, parse_bitrate
from codec.errors import ConfigError


class TestBitrate:
    @pytest.mark.parametrize(("text", "bitrate"), [("6000", 6000), ("6k", 6000), ("1.5K", 1500), ("6e3", 6000)])
    def test_forms(self, text: str, bitrate: float) -> None:
        assert parse_bitrate(text) == bitrate

    @pytest.mark.parametrize("text", ["k", "fast", "-3k", "0", "nan", "inf"])
    def test_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=one_line("bitrate", f"'{text}'", "positive number")):
            parse(EncodeOptions, ["a.wav", f"--bitrate={text}"], "codec-encode")
