import time

import pytest
import torch
from models import tiny_codec

import codec.bench.peers
from codec.bench.peers import PEERS, Peer, load_peer, measure_peer
from codec.bench.speed import WHOLE
from codec.errors import ConfigError

FIELDS = {"seconds": 0.2, "num_rounds": 3, "budget_s": 60.0}


def _slow(seconds):
    """A peer that takes its time, and hands its input through."""

    def run(given):
        time.sleep(seconds)
        return given

    return Peer("slow", "sleeps", 8000, 7, run, run)


def test_ours_beside_a_peer_of_known_speed():
    rows = measure_peer({"float32": tiny_codec()}, _slow(0.05), **FIELDS)
    assert [row.part for row in rows] == list(WHOLE)
    for row in rows:
        runs = 2 if row.part == "round trip" else 1
        assert 0 < row.times_real_time.median <= 0.2 / (0.05 * runs)
        # Pair by pair: with three rounds the median ratio lies between those of the extremes.
        assert row.ours_over_theirs.quartile_1 > 0
        assert row.ours_over_theirs.num_rounds == 3
        assert (row.peer, row.about, row.sample_rate_hz, row.num_parameters) == ("slow", "sleeps", 8000, 7)
    assert rows[0].ours_over_theirs.median > 1  # a tiny model needs less than 50 ms for 0.2 s


def test_every_mode_is_put_beside_the_same_rounds_of_a_peer():
    rows = measure_peer({"one": tiny_codec(), "other": tiny_codec()}, _slow(0.0), **FIELDS)
    assert [(row.mode, row.part) for row in rows] == [(mode, part) for mode in ("one", "other") for part in WHOLE]
    for mine, yours in zip(rows[:3], rows[3:], strict=True):
        assert mine.times_real_time == yours.times_real_time
        assert mine.ours_times_real_time != yours.ours_times_real_time


def test_a_peer_hears_audio_at_its_own_rate():
    heard = []
    peer = _slow(0.0)._replace(encode=lambda audio: heard.append(audio.shape) or audio)
    measure_peer({"float32": tiny_codec()}, peer, **FIELDS)
    assert set(heard) == {(1, 1, 1600)}  # 0.2 s at 8 kHz


def test_a_slow_peer_gets_fewer_rounds():
    fields = FIELDS | {"num_rounds": 50, "budget_s": 0.0}
    assert measure_peer({"float32": tiny_codec()}, _slow(0.0), **fields)[0].times_real_time.num_rounds == 2


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_that_is_not_installed(name, monkeypatch):
    def missing(package, extra):
        raise ConfigError(f"{package} of {extra}")

    monkeypatch.setattr(codec.bench.peers, "require", missing)
    with pytest.raises(ConfigError, match=r"^(transformers|snac) of bench$"):
        load_peer(name)


@pytest.mark.filterwarnings("default")  # of a library that is not ours
@pytest.mark.parametrize(
    ("name", "shape"),
    [("encodec", (1, 1, 8, 30)), ("mimi", (1, 8, 5)), ("dac", (1, 9, 12))],
)
def test_peers_that_are_installed(name, shape):
    pytest.importorskip("transformers")
    peer = load_peer(name)
    assert peer.num_parameters > 1_000_000
    audio = torch.zeros(1, 1, round(0.4 * peer.sample_rate))
    with torch.inference_mode():
        encoded = peer.encode(audio)
        decoded = peer.decode(encoded)
    assert encoded.audio_codes.shape == shape  # 0.4 s; the levels are those that `about` tells of
    assert decoded.audio_values.shape[-1] == pytest.approx(audio.shape[-1], rel=0.1)  # whole frames


@pytest.mark.filterwarnings("default")  # of a library that is not ours
def test_snac():
    pytest.importorskip("snac")
    peer = load_peer("snac")
    with torch.inference_mode():
        codes = peer.encode(torch.zeros(1, 1, peer.sample_rate))
        assert peer.decode(codes).shape[-1] >= peer.sample_rate
