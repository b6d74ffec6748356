"""Speed of other codecs and of ours in the same rounds.

Those that are installed run in their default configuration with random weights: nothing is downloaded, and the speed
of a network does not depend on its weights. All run in float32, in inference mode, on equally long audio, each at its
own sample rate.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from codec.bench.speed import WHOLE, noise, part_tasks, total
from codec.bench.timing import Spread, Task, interleave, ratios, spread
from codec.errors import require
from codec.eval.inspection.operations import num_parameters
from codec.model.codec import Codec

EXTRA = "bench"
WARM_UP_S = 1.0
"""Audio of the run before the measured rounds (s), short because some peers are slow."""


class Peer(NamedTuple):
    """A codec of another project, ready to run."""

    name: str
    about: str
    """Package and configuration."""
    sample_rate: int
    num_parameters: int
    encode: Callable[[Tensor], Any]
    """Map audio `[1, 1, T]` to the input of `decode`."""
    decode: Callable[[Any], object]


class PeerSpeed(NamedTuple):
    """Speed of a part of a peer and of the same part of our codec, from the same rounds."""

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
    """Our speed divided by theirs, for each round."""


def _of_transformers(kind: str, about: str, codes: Sequence[str], **how: Any) -> Peer:
    """A codec of transformers.

    Args:
        kind: Its name in the names of the classes.
        about: Its bitrate or number of levels, formatted with its `config`.
        codes: Fields of the encoder's output that the decoder takes.
        how: Options of its encoder.
    """
    library: Any = require("transformers", EXTRA)
    config = getattr(library, f"{kind}Config")()
    model = getattr(library, f"{kind}Model")(config).eval()
    return Peer(
        kind.lower(),
        f"transformers, {config.sampling_rate / 1000:g} kHz, {about.format(config=config)}",
        config.sampling_rate,
        num_parameters(model),
        lambda audio: model.encode(audio, **how),
        lambda encoded: model.decode(**{name: getattr(encoded, name) for name in codes}),
    )


def _snac() -> Peer:
    library: Any = require("snac", EXTRA)
    model = library.SNAC().eval()
    about = f"snac, {model.sampling_rate / 1000:g} kHz, {model.n_codebooks} levels"
    return Peer("snac", about, model.sampling_rate, num_parameters(model), model.encode, model.decode)


PEERS: dict[str, Callable[[], Peer]] = {
    "encodec": lambda: _of_transformers("Encodec", "6 kbit/s", ("audio_codes", "audio_scales"), bandwidth=6.0),
    "mimi": lambda: _of_transformers("Mimi", "8 levels", ("audio_codes",), num_quantizers=8),
    "dac": lambda: _of_transformers("Dac", "{config.n_codebooks} levels", ("audio_codes",)),
    "snac": _snac,
}


def load_peer(name: str) -> Peer:
    """Build a peer with random weights.

    Args:
        name: One of `PEERS`.

    Raises:
        ConfigError: Its package is not installed; the message holds the command that installs it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # future changes of their libraries
        return PEERS[name]()


@torch.inference_mode()
def measure_peer(
    codecs: Mapping[str, Codec], peer: Peer, *, seconds: float, num_rounds: int, budget_s: float
) -> list[PeerSpeed]:
    """Time encode, decode and round trip of a peer and of our codec in the same rounds.

    Args:
        codecs: Our codec in several modes, by name, in eval mode.
        peer: The other codec.
        seconds: Audio per run.
        num_rounds: Measured rounds.
        budget_s: Time limit (s): slow ones get fewer rounds, but at least two.
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
    """Their speed, our speed, and the ratio ours / theirs, from times (s)."""
    speed, our_speed = (spread([seconds / took for took in times]) for times in (theirs, ours))
    return speed, our_speed, ratios(theirs, ours)
