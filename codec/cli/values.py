"""Values of options from their words: bitrates, times, devices."""

import math
import re


def parse_bitrate(text: str | float) -> float:
    """Bitrate (bit/s) from 6000, 6k or 1.5k; a number is one already.

    Raises:
        ValueError: It is no positive number.
    """
    if not isinstance(text, str):
        return text
    try:
        bitrate = float(text.lower().removesuffix("k")) * (1000 if text.lower().endswith("k") else 1)
    except ValueError:
        bitrate = math.nan
    if not 0 < bitrate < math.inf:
        raise ValueError(f"{text!r} is no positive number of bit/s: write 6000 or 6k")
    return bitrate


def parse_time(text: str | float) -> float:
    """Time (s) from 12.5, 1:30 or 1:02:03.5; a number is one already.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(text, str):
        return text
    if not re.fullmatch(r"\d+(:[0-5]?\d){0,2}(\.\d*)?|\.\d+", text):
        raise ValueError(f"{text!r} is no time: write seconds, 12.5, or 1:30 or 1:02:03.5")
    seconds = 0.0
    for part in text.split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def parse_device(text: str) -> str:
    """Name of a device.

    Raises:
        ValueError: It is none.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", text):
        raise ValueError(f"{text!r} is no device: write auto, cpu, cuda, cuda:1 or mps")
    return text
