"""Other codecs beside ours: those that are installed, with random weights from their own default configuration.

Nothing is downloaded; how fast a network is does not depend on what its weights say. All run in float32, in inference
mode, on as many seconds of audio as ours, each at its own rate.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codec.bench.operations import num_parameters
from codec.bench.speed import WHOLE, noise, part_tasks, total
from codec.bench.timing import Spread, Task, interleave, ratios, spread
from codec.errors import require
from codec.model.codec import Codec

EXTRA = "bench"
WARM_UP_S = 1.0
"""Audio of the runs before the measured ones (s): a slow peer takes long enough without ten."""


class Peer(NamedTuple):
    """A codec of another project, ready to run."""

    name: str
    about: str
    """Which of its configurations this is."""
    sample_rate: int
    num_parameters: int
    encode: Callable[[Tensor], Any]
    """Map audio `[1, 1, T]` to whatever its decoder takes."""
    decode: Callable[[Any], object]


class PeerSpeed(NamedTuple):
    """A part of a peer and the same part of ours, from the same rounds."""

    num_threads: int
    peer: str
    about: str
    sample_rate_hz: int
    num_parameters: int
    mode: str
    """Of our codec."""
    part: str
    times_real_time: Spread
    ours_times_real_time: Spread
    ours_over_theirs: Spread
    """Our speed divided by theirs, pair by pair."""


def _of_transformers(kind: str) -> tuple[Any, Any]:
    """Default configuration of a codec of transformers, and a model of it with random weights."""
    library: Any = require("transformers", EXTRA)
    config = getattr(library, f"{kind}Config")()
    return config, getattr(library, f"{kind}Model")(config).eval()


def _encodec() -> Peer:
    config, model = _of_transformers("Encodec")
    return Peer(
        "encodec",
        "transformers, 24 kHz, 6 kbit/s",
        config.sampling_rate,
        num_parameters(model),
        lambda audio: model.encode(audio, bandwidth=6.0),
        lambda encoded: model.decode(encoded.audio_codes, encoded.audio_scales),
    )


def _mimi() -> Peer:
    config, model = _of_transformers("Mimi")
    return Peer(
        "mimi",
        "transformers, 24 kHz, 8 levels",
        config.sampling_rate,
        num_parameters(model),
        lambda audio: model.encode(audio, num_quantizers=8),
        lambda encoded: model.decode(encoded.audio_codes),
    )


def _dac() -> Peer:
    config, model = _of_transformers("Dac")
    return Peer(
        "dac",
        f"transformers, {config.sampling_rate / 1000:g} kHz, {config.n_codebooks} levels",
        config.sampling_rate,
        num_parameters(model),
        model.encode,
        lambda encoded: model.decode(audio_codes=encoded.audio_codes),
    )


def _snac() -> Peer:
    library: Any = require("snac", EXTRA)
    model = library.SNAC().eval()
    return Peer(
        "snac",
        f"snac, {model.sampling_rate / 1000:g} kHz, {model.n_codebooks} levels",
        model.sampling_rate,
        num_parameters(model),
        model.encode,
        model.decode,
    )


PEERS: dict[str, Callable[[], Peer]] = {"encodec": _encodec, "mimi": _mimi, "dac": _dac, "snac": _snac}


def load_peer(name: str) -> Peer:
    """Build a peer with random weights.

    Args:
        name: One of `PEERS`.

    Raises:
        ConfigError: Its package is not installed; the message holds the command that installs it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what their authors will change one day
        return PEERS[name]()


@torch.inference_mode()
def measure_peer(
    codecs: Mapping[str, Codec], peer: Peer, *, seconds: float, num_rounds: int, budget_s: float
) -> list[PeerSpeed]:
    """Time a peer and our codec in the same rounds: encode, decode and round trip.

    Args:
        codecs: Ours in several modes, by name, in eval mode.
        peer: Theirs.
        seconds: Audio per run.
        num_rounds: Measured rounds.
        budget_s: Fewer rounds, but two at least, if they would take longer than that.
    """
    theirs = noise(peer.sample_rate, seconds)
    peer.decode(peer.encode(noise(peer.sample_rate, min(WARM_UP_S, seconds))))
    their_codes = peer.encode(theirs)
    peer.decode(their_codes)
    tasks: dict[tuple[str | None, str], Task] = {
        (None, "encode"): lambda: peer.encode(theirs),
        (None, "decode"): lambda: peer.decode(their_codes),
    }
    for mode, codec in codecs.items():
        whole = part_tasks(codec, noise(codec.sample_rate, seconds))
        tasks |= {(mode, part): whole[part] for part in ("encode", "decode")}
        whole["decode"]()
    times = interleave(tasks, num_rounds=num_rounds, num_warm_up=0, budget_s=budget_s)
    for side in (None, *codecs):
        times[side, "round trip"] = total(times[side, "encode"], times[side, "decode"])
    about = (torch.get_num_threads(), peer.name, peer.about, peer.sample_rate, peer.num_parameters)
    return [
        PeerSpeed(*about, mode, part, *_compare(times[mode, part], times[None, part], seconds))
        for mode in codecs
        for part in WHOLE
    ]


def _compare(ours: Sequence[float], theirs: Sequence[float], seconds: float) -> tuple[Spread, Spread, Spread]:
    """Their speed, our speed, and ours over theirs, from times (s)."""
    speed, our_speed = (spread([seconds / took for took in times]) for times in (theirs, ours))
    return speed, our_speed, ratios(theirs, ours)
