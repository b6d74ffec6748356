import pytest
from messages import one_line

from codec.cli.command_line import parse
from codec.cli.options import DecodeOptions, EncodeOptions
from codec.cli.values import parse_bitrate, parse_time
from codec.errors import ConfigError


class TestBitrate:
    @pytest.mark.parametrize(("text", "bitrate"), [("6000", 6000), ("6k", 6000), ("1.5K", 1500), ("6e3", 6000)])
    def test_forms(self, text: str, bitrate: float) -> None:
        assert parse_bitrate(text) == bitrate

    @pytest.mark.parametrize("text", ["k", "fast", "-3k", "0", "nan", "inf"])
    def test_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=one_line("bitrate", f"'{text}'", "positive number")):
            parse(EncodeOptions, ["a.wav", f"--bitrate={text}"], "codec-encode")


class TestTime:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("12.5", 12.5),
            ("0", 0),
            (".25", 0.25),
            ("90", 90),
            ("1:30", 90),
            ("61:05", 3665),
            ("1:02:03.5", 3723.5),
            ("00:00:01", 1),
        ],
    )
    def test_forms(self, text: str, seconds: float) -> None:
        assert parse_time(text) == seconds

    @pytest.mark.parametrize("text", ["-1", "nan", "inf", "1:60", "1:60:00", "1:", ":5", "1:2:3:4", "1e3", "1s", "1,5"])
    def test_refused(self, text: str) -> None:
        for name in ("start", "duration"):
            with pytest.raises(ConfigError, match=one_line(name, f"'{text}'", "no time", "1:30")):
                parse(DecodeOptions, ["a.codec", f"--{name}={text}"], "codec-decode")
