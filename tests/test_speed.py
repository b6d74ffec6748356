import pytest
import torch
from models import HOP, tiny_codec

import codec.bench.speed as speed_module
from codec.bench.speed import WHOLE, measure_offline, measure_stream, noise, part_tasks
from codec.eval.inspection.operations import count_operations
from codec.model.codec import Codec

PARTS = {"encoder", "search", "lookup", "decoder"}


class _Whole(Codec):
    """A mode that decodes by other means than the decoder of the model."""

    def decode_frames(self, codes, cache=None):
        return super().decode_frames(codes, cache)


@pytest.fixture(scope="module")
def codec():
    return tiny_codec()


@pytest.fixture(scope="module")
def whole(codec):
    return _Whole(codec.encoder, codec.quantizer, codec.decoder, codec.config).eval()


@pytest.fixture(scope="module")
def offline(codec, whole):
    codecs = {"float32": codec, "other": whole}
    return measure_offline(codecs, count_operations(codec), seconds=0.5, num_rounds=3, product_size=64)


def test_every_mode_and_part_has_a_speed(offline):
    measured = {(row.mode, row.part) for row in offline.speeds}
    assert measured == {
        *(("float32", part) for part in (*PARTS, *WHOLE)),
        *(("other", part) for part in ("encoder", "search", *WHOLE)),
    }
    for row in offline.speeds:
        speed = row.times_real_time
        assert row.num_threads == torch.get_num_threads()
        assert 0 < speed.quartile_1 <= speed.median <= speed.quartile_3
        assert speed.num_rounds == 3


def test_speed_is_audio_over_time_and_a_round_trip_is_both_halves_of_a_round(codec, monkeypatch):
    """With times (s) that are given: the median of sums of a round, 4, is not the sum of medians, 3."""
    times = {"encode": [1.0, 3.0, 2.0], "decode": [4.0, 1.0, 1.0]}

    def given(tasks, num_rounds):
        assert tasks["a", "encode"]().shape[-1] == codec.num_frames(60 * codec.sample_rate) and num_rounds == 3
        return {task: times.get(task[1], [5.0, 5.0, 5.0]) for task in tasks}

    monkeypatch.setattr(speed_module, "interleave", given)
    rows = measure_offline({"a": codec}, count_operations(codec), seconds=60.0, num_rounds=3, product_size=64).speeds
    speeds = {row.part: row.times_real_time.median for row in rows}
    assert (speeds["encode"], speeds["decode"], speeds["round trip"]) == (30.0, 60.0, 15.0)


def test_the_share_of_the_peak_is_work_over_time(codec, offline):
    operations = count_operations(codec)
    speeds = {(row.mode, row.part): row.times_real_time.median for row in offline.speeds}
    parts = {(row.mode, row.part) for row in offline.shares}
    assert parts == {("float32", "encoder"), ("float32", "search"), ("float32", "decoder")} | {
        ("other", "encoder"),
        ("other", "search"),
    }
    for row in offline.shares:
        expected = getattr(operations, row.part) * speeds[row.mode, row.part] / 1e9
        assert row.gflop_per_s.median == pytest.approx(expected, rel=1e-9)
        assert 0 < row.share.median < 10


def test_the_parts_of_a_task_are_those_of_the_codec(codec):
    audio = noise(codec.sample_rate, 0.1)
    tasks = part_tasks(codec, audio)
    codes = codec.encode(audio)
    latents = codec.encoder(codec.pad(audio))
    assert torch.equal(tasks["encode"](), codes)
    assert torch.equal(tasks["encoder"](), latents)
    assert torch.equal(tasks["search"](), codes)
    assert torch.equal(tasks["lookup"](), codec.quantizer.decode(codes))
    assert torch.equal(tasks["decode"](), codec.decode(codes, audio.shape[-1]))
    assert tasks["decoder"]().shape[-1] == codes.shape[-1] * HOP


def test_noise_has_the_length_asked_for_and_is_always_the_same():
    assert noise(16_000, 0.25).shape == (1, 1, 4000)
    assert torch.equal(noise(100, 1.0), noise(100, 1.0))
    assert noise(100, 1e-9).shape[-1] == 1


@pytest.mark.parametrize("block_ms", [0.5, 1.25, 20.0])  # 8 samples, a frame of 20, 16 frames
def test_a_stream_has_a_median_and_a_tail(codec, block_ms):
    row = measure_stream(codec, "float32", block_ms=block_ms, num_blocks=30, budget_s=60.0)
    assert (row.mode, row.block_ms, row.num_blocks) == ("float32", block_ms, 30)
    assert 0 < row.median_ms <= row.p99_ms
    assert 0 < row.product_median_ms <= row.product_p99_ms
    assert 0.1 < row.product_median_ms < 100  # about 1 ms, on a machine that may be busy


def test_the_stream_is_pushed_through_the_codec(codec, monkeypatch):
    lengths = {"encode_frames": 0, "decode_frames": 0}
    for name in lengths:
        method = getattr(Codec, name)

        def count(self, x, *rest, name=name, method=method, **how):
            lengths[name] += x.shape[-1]
            return method(self, x, *rest, **how)

        monkeypatch.setattr(Codec, name, count)
    measure_stream(codec, "float32", block_ms=20.0, num_blocks=10, budget_s=60.0)
    samples = (10 + 20) * 320
    assert lengths == {"encode_frames": samples, "decode_frames": samples / HOP}


def test_a_stream_ends_when_its_time_is_up(codec):
    assert measure_stream(codec, "float32", block_ms=20.0, num_blocks=30, budget_s=0.0).num_blocks == 1
