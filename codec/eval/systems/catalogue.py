"""The codecs that `codec-eval` can judge beside a model, by what the command line says of them.

    NAME[:PATH][@BITRATE,BITRATE...]      opus@6k,9k   codec2   lyra:lyra/model_coeffs@3200   model:runs/other@3k,6k

A bitrate is that of one channel, in bit/s; `6k` is 6000.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from codec.adapters.transformers_codec import load_transformers
from codec.audio.manifest import list_items
from codec.errors import ConfigError
from codec.eval.systems import lyra, parametric, programs, soundfile_codecs
from codec.eval.systems.ours import OurCodec
from codec.eval.systems.system import System
from codec.inference.pretrained import load_codec
from codec.model.audio_codec import AudioCodec
from codec.model.digest import with_identity

Bitrates = tuple[float, ...]


class Request(NamedTuple):
    """What a specification asks for."""

    name: str
    path: str
    bitrates: Bitrates
    """Those that were given (bit/s); empty for the defaults."""
    sample_rate: int
    """Rate of the evaluation (Hz)."""


class Kind(NamedTuple):
    """A kind of codec."""

    about: str
    defaults: str
    """Bitrates without `@`, for the help."""
    make: Callable[[Request], Sequence[System]]
    path: str = ""
    """What its path names; empty if it takes none."""


OPUS_BITRATES = (6_000, 8_000, 12_000, 16_000, 24_000)
SOUNDFILE_BITRATES: dict[str, Bitrates] = {
    "opus": OPUS_BITRATES,
    "vorbis": (24_000, 32_000, 48_000),
    "mp3": (16_000, 24_000, 32_000, 48_000),
}
PARAMETRIC_BITRATES = (1_500, 3_000, 6_000, 8_000)


def parse_systems(specifications: Sequence[str], sample_rate: int) -> list[System]:
    """Make the systems of several specifications, see `parse_system`; errors also as of `check_unique`."""
    systems = [system for text in specifications for system in parse_system(text, sample_rate)]
    check_unique(systems)
    return systems


def parse_system(specification: str, sample_rate: int) -> Sequence[System]:
    """Make the systems of one specification: a codec at each of its bitrates.

    Args:
        specification: NAME[:PATH][@BITRATE,BITRATE...], see `describe`.
        sample_rate: Rate of the evaluation (Hz). A codec of any rate takes it, another one the nearest it has.

    Raises:
        ConfigError: The name is unknown, the path is missing or not wanted, the codec lacks a bitrate, or a program or
            package is not installed.
        ModelError: A model can't be loaded.
    """
    name, path, bitrates = _split(specification)
    if name not in KINDS:
        nearest = difflib.get_close_matches(name, KINDS, 1)
        remedy = f"did you mean {nearest[0]!r}?" if nearest else f"choose from {', '.join(KINDS)}"
        raise ConfigError(f"unknown codec {name!r}: {remedy}")
    kind = KINDS[name]
    if kind.path and not path:
        raise ConfigError(f"codec {name!r} needs a path: give {name}:PATH, where PATH is {kind.path}")
    if path and not kind.path:
        raise ConfigError(f"codec {name!r} takes no path: give {name} instead of {name}:{path}")
    return kind.make(Request(name, path, bitrates, sample_rate))


def check_unique(systems: Sequence[System]) -> None:
    """Raise ConfigError if two systems have the same codec and setting."""
    seen = set()
    for system in systems:
        key = (system.codec, system.setting)
        if key in seen:
            raise ConfigError(
                f"{system.codec} at {system.setting} is asked for twice: name it once, or give two folders of that "
                "name other names"
            )
        seen.add(key)


def describe() -> str:
    """The kinds of codecs, one a line, for the help of a command."""
    lines = []
    for name, kind in KINDS.items():
        path = f" PATH: {kind.path}." if kind.path else ""
        lines.append(f"{name}{':PATH' if kind.path else ''}: {kind.about}.{path} Default: {kind.defaults}.")
    return "\n".join(lines)


def _split(specification: str) -> tuple[str, str, Bitrates]:
    """Name, path and bitrates of a specification; an @ in a path is part of it unless digits follow to the end."""
    match = re.fullmatch(r"(?P<name>[^:@]*)(:(?P<path>.*?))?(@(?P<bitrates>[\d.,k]*))?", specification)
    if match is None:
        raise ConfigError(f"{specification!r} has bitrates that can't be read: give bit/s, as in opus@6k,9000")
    texts = [] if match["bitrates"] is None else match["bitrates"].split(",")
    return match["name"], match["path"] or "", tuple(_bitrate(text, specification) for text in texts)


def _bitrate(text: str, specification: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(k?)", text)
    bitrate = float(match[1]) * (1000 if match[2] else 1) if match else 0.0
    if not 0 < bitrate < 1e7:
        raise ConfigError(f"{text!r} in {specification!r} is no bitrate: give bit/s, such as 6000 or 6k")
    return bitrate


def _with_soundfile(request: Request) -> list[System]:
    rate = soundfile_codecs.allowed_rate(request.name, request.sample_rate)
    for bitrate in request.bitrates:
        soundfile_codecs.check_bitrate(request.name, bitrate, rate)
    low, high = soundfile_codecs.bitrate_range(request.name, rate)
    defaults = [bitrate for bitrate in SOUNDFILE_BITRATES[request.name] if low <= bitrate <= high]
    wanted = request.bitrates or defaults
    return [soundfile_codecs.SoundfileCodec(request.name, bitrate, rate) for bitrate in wanted]


def _opus_tools(request: Request) -> list[System]:
    programs.check_programs("opusenc", "opusdec")
    for bitrate in request.bitrates:
        soundfile_codecs.check_bitrate("opus", bitrate, request.sample_rate)
    return [programs.OpusTools(bitrate, request.sample_rate) for bitrate in request.bitrates or OPUS_BITRATES]


def _codec2(request: Request) -> list[System]:
    programs.check_programs("c2enc", "c2dec")
    return [programs.Codec2(round(bitrate)) for bitrate in _among(request, programs.CODEC2_MODES)]


def _lyra(request: Request) -> list[System]:
    folder = Path(request.path)
    lyra.read_files(folder)
    return [lyra.Lyra(folder, round(bitrate)) for bitrate in _among(request, lyra.LEVELS)]


def _parametric(request: Request) -> list[System]:
    per_level = parametric.BITRATE_PER_LEVEL
    known = [per_level * levels for levels in range(parametric.ENVELOPE_LEVELS + 1, parametric.MAX_LEVELS + 1)]
    wanted = _among(request, known) if request.bitrates else PARAMETRIC_BITRATES
    file, _, data = request.path.partition("=")
    path = Path(file)
    if not path.exists():
        if not data:
            raise ConfigError(
                f"no codebooks at {path}: give parametric:{path}=DATA to fit them to speech (two minutes), where DATA "
                "is a folder or a manifest"
            )
        items = list_items(Path(), Path(data), split="train", kinds=("speech",))
        parametric.fit([item.path for item in items], path)
    parametric.load(path)
    return [parametric.ParametricCodec(path, round(bitrate / per_level)) for bitrate in wanted]


def _transformers(request: Request) -> list[System]:
    return _at_bitrates(load_transformers(request.path), request)


def _model(request: Request) -> list[System]:
    return _at_bitrates(with_identity(load_codec(request.path)), request)


def _at_bitrates(codec: AudioCodec, request: Request) -> list[System]:
    """A model at the most levels that do not exceed each bitrate."""
    levels = [codec.num_quantizers_for(bitrate) for bitrate in request.bitrates]
    name = Path(request.path).resolve().name
    return [OurCodec(name, codec, number) for number in levels or quarter_half_all(codec.num_quantizers)]


def quarter_half_all(num_quantizers: int) -> list[int]:
    """Numbers of levels that are judged where no bitrates are given."""
    return sorted({-(-num_quantizers // 4), -(-num_quantizers // 2), num_quantizers})


def _among(request: Request, known: Collection[float]) -> Bitrates:
    """The bitrates that were asked for, or all that the codec has.

    Raises:
        ConfigError: It lacks one.
    """
    lacking = [bitrate for bitrate in request.bitrates if bitrate not in known]
    if lacking:
        listed = ", ".join(f"{bitrate:g}" for bitrate in known)
        raise ConfigError(f"{request.name} has no {lacking[0]:g} bit/s: ask for {listed}")
    return request.bitrates or tuple(known)


def _in_kbits(bitrates: Sequence[float]) -> str:
    return f"{', '.join(f'{bitrate / 1000:g}' for bitrate in bitrates)} kbit/s"


KINDS: dict[str, Kind] = {
    "opus": Kind("Opus by libsndfile", _in_kbits(OPUS_BITRATES), _with_soundfile),
    "opusenc": Kind("Opus by opusenc of opus-tools", _in_kbits(OPUS_BITRATES), _opus_tools),
    "vorbis": Kind("Vorbis by libsndfile", _in_kbits(SOUNDFILE_BITRATES["vorbis"]), _with_soundfile),
    "mp3": Kind("MP3 by libsndfile", _in_kbits(SOUNDFILE_BITRATES["mp3"]), _with_soundfile),
    "codec2": Kind("Codec2 by c2enc and c2dec, 8 kHz", _in_kbits(tuple(programs.CODEC2_MODES)), _codec2),
    "lyra": Kind("Lyra V2", _in_kbits(tuple(lyra.LEVELS)), _lyra, "the folder with its .tflite files"),
    "transformers": Kind(
        "EnCodec, DAC, Mimi and others of transformers",
        "a quarter, half and all of its levels",
        _transformers,
        "a folder that save_pretrained of transformers wrote",
    ),
    "parametric": Kind(
        "no network: k-means and carriers, the floor that a neural codec must beat",
        _in_kbits(PARAMETRIC_BITRATES),
        _parametric,
        "FILE.safetensors=DATA; it is fitted to DATA, a folder of speech or a manifest, if FILE is missing",
    ),
    "model": Kind(
        "another model of this toolkit",
        "a quarter, half and all of its levels",
        _model,
        "a name, folder or run as for codec-encode",
    ),
}
