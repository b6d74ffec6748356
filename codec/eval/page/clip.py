"""A clip of the report: its audio and codes as a script, which the page loads when the clip is looked at.

    report.clips.arrive(
    {...facts...},
    {"audio": [...], "codes": [...]}
    );

A script, because browsers refuse to fetch data from disk. The second line is JSON and can be read again.
"""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from codec.audio.flac import flac_bytes
from codec.errors import AudioError
from codec.eval.page.level import matching_gain_db

_BEGINNING = "report.clips.arrive(\n"


class Decode(NamedTuple):
    """A clip after a codec at one setting."""

    codec: str
    setting: str
    audio: Tensor
    """Samples `[C, T]`, as long as the original and at its rate."""
    codes: Tensor | None = None
    """Codes `[C, K, F]`, 0 <= code < codebook_size."""
    codebook_size: int | None = None
    """Given with codes; at most 65536."""


def clip_script(number: int, name: str, sample_rate: int, original: Tensor, decodes: Sequence[Decode]) -> str:
    """The text of the script of a clip; arguments and errors as for `codec.eval.page.page.ReportPage.add_clip`."""
    for decode in decodes:
        if decode.audio.shape != original.shape:
            shapes = f"{list(decode.audio.shape)}, the original {list(original.shape)}"
            raise AudioError(f"{decode.codec} {decode.setting} of {name} has shape {shapes}: align them first")
    facts = {
        "number": number,
        "name": name,
        "sample_rate": sample_rate,
        "seconds": round(original.shape[1] / sample_rate, 3),
        "decodes": [_decode_facts(decode, original, sample_rate) for decode in decodes],
    }
    audio = [
        flac_bytes(samples.detach().float().cpu().numpy(), sample_rate)
        for samples in (original, *(decode.audio for decode in decodes))
    ]
    codes = [_code_bytes(decode.codes) for decode in decodes]
    payload = {"audio": [_text(data) for data in audio], "codes": [data and _text(data) for data in codes]}
    return f"{_BEGINNING}{json.dumps(facts)},\n{json.dumps(payload)}\n);\n"


def read_facts(path: Path) -> dict[str, Any] | None:
    """Facts of a clip that was written before; None if there is no such file, or it is another's."""
    try:
        with path.open(encoding="utf-8") as file:
            beginning, line = file.readline(), file.readline()
        facts = json.loads(line.rstrip(",\n")) if beginning == _BEGINNING else None
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.keys() >= {"number", "name", "decodes"} else None


def _decode_facts(decode: Decode, original: Tensor, sample_rate: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"codec": decode.codec, "setting": decode.setting}
    facts["gain_db"] = round(matching_gain_db(decode.audio, original, sample_rate), 2)
    if decode.codes is not None:
        facts["codes"] = {"shape": list(decode.codes.shape), "size": decode.codebook_size}
    return facts


def _code_bytes(codes: Tensor | None) -> bytes | None:
    """Codes `[C, K, F]` as unsigned integers of 16 bits, little-endian, channel by channel and level by level."""
    return None if codes is None else codes.cpu().numpy().astype(np.dtype("<u2")).tobytes()


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
