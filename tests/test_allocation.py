"""Variable bitrate: quiet frames use fewer levels; code 0, a codeword of zeros, marks an unused level."""

import pytest
import torch
from messages import one_line
from models import HOP, noise, seeded, tiny_codec

from codec.config import CodecConfig, QuantizerConfig, from_dict
from codec.errors import ConfigError
from codec.inference.streaming import StreamEncoder
from codec.model.allocation import MARGIN, MIN_LEVELS, LevelAllocation
from codec.model.quantizer.codebooks import EMACodebooks, Statistics
from codec.model.quantizer.initialization import Initialization
from codec.model.signal_model import SignalModel

LEVELS = 6
QUANTIZER = QuantizerConfig(num_quantizers=LEVELS, codebook_size=16, codebook_dim=6, vbr_slope=0.25)
MODEL = SignalModel(16_000, HOP, 1600.0, 2, 2)


def vbr_codec():
    return tiny_codec(quantizer=QUANTIZER)


def loud_then_quiet(fall_db, *, loud=200, quiet=200):
    """A low tone whose power falls by `fall_db` in the middle, `[1, 1, T]`."""
    tone = 0.5 * torch.sin(2 * torch.pi * 400 / 16_000 * torch.arange((loud + quiet) * HOP))
    gain = torch.ones(loud + quiet).repeat_interleave(HOP)
    gain[loud * HOP :] = 10 ** (-fall_db / 20)
    return (tone * gain)[None, None]


@pytest.mark.parametrize(("fall_db", "saved"), [(0, 0), (MARGIN, 0), (MARGIN + 4, 1), (MARGIN + 8, 2), (80, 3)])
def test_a_frame_loses_one_level_for_every_four_decibels_below_the_margin(fall_db, saved):
    allocation = LevelAllocation(MODEL, slope=0.25)
    levels = allocation(loud_then_quiet(fall_db), torch.tensor([LEVELS]))
    assert levels.dtype == torch.int64
    assert (levels[0, 2:199] == LEVELS).all()
    assert (levels[0, 203:] == LEVELS - saved).all()


def test_the_loudest_power_is_remembered_for_two_seconds():
    allocation = LevelAllocation(MODEL, slope=0.25)
    memory = 2 * 16_000 // HOP
    levels = allocation(loud_then_quiet(20, loud=50, quiet=memory + 100), torch.tensor([LEVELS]))[0]
    assert (levels[60 : 49 + memory] < LEVELS).all()
    assert (levels[52 + memory :] == LEVELS).all()


@pytest.mark.parametrize("most", [1, 2, MIN_LEVELS, LEVELS])
def test_every_frame_gets_at_least_the_levels_of_the_envelope(most):
    levels = LevelAllocation(MODEL, slope=0.25)(loud_then_quiet(90), torch.tensor([most]))
    assert int(levels.min()) == min(most, MIN_LEVELS)
    assert int(levels.max()) == most


@pytest.mark.parametrize("gain_db", [-40.0, 6.0])
def test_the_gain_of_a_recording_does_not_change_the_levels(gain_db):
    allocation = LevelAllocation(MODEL, slope=0.25)
    audio = noise(1, 1, 300 * HOP, scale=0.1) * torch.linspace(0.05, 1, 300 * HOP)
    levels = allocation(audio, torch.tensor([LEVELS]))
    louder = allocation(audio * 10 ** (gain_db / 20), torch.tensor([LEVELS]))
    assert (levels == louder).float().mean() > 0.99  # rounding may fall to either side
    assert len(levels.unique()) > 1


def test_the_autocast_of_training_does_not_change_the_levels():
    allocation = LevelAllocation(MODEL, slope=0.25)
    audio = noise(1, 1, 300 * HOP, scale=0.1) * torch.linspace(0.01, 1, 300 * HOP).flip(0)
    levels = allocation(audio, torch.tensor([LEVELS]))
    assert len(levels.unique()) > 1
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(allocation(audio, torch.tensor([LEVELS])), levels)


@pytest.mark.parametrize("beam", [1, 4])
def test_codes_of_unused_levels_are_zero_and_add_nothing(beam):
    codec, audio = vbr_codec(), loud_then_quiet(40)
    codes = codec.encode(audio, beam=beam)
    active = codec.levels_of_frames(codec.pad(audio))
    above = torch.arange(LEVELS)[:, None] >= active[0]
    assert above.any()
    assert (codes[0][above] == 0).all()
    kept = int(active.min())
    quiet = active[0] == kept
    every, first = codec.quantizer.decode(codes), codec.quantizer.decode(codes[:, :kept])
    assert torch.equal(every[0, :, quiet], first[0, :, quiet])
    assert not torch.equal(every, first)


@pytest.mark.parametrize("beam", [1, 4])
def test_quiet_frames_do_not_change_the_codes_of_loud_ones(beam):
    codec, audio = vbr_codec(), loud_then_quiet(40)
    latents = codec.encoder(codec.pad(audio))
    active = codec.levels_of_frames(codec.pad(audio))
    codes = codec.quantizer.encode(latents, beam=beam, num_active=active)
    everywhere = codec.quantizer.encode(latents, beam=beam)
    loud = active[0] == LEVELS
    assert torch.equal(codes[0][:, loud], everywhere[0][:, loud])
    levels = int(active.min())
    fewer = codec.quantizer.encode(latents, levels, beam=beam)
    quiet = active[0] == levels
    assert torch.equal(codes[0][:levels, quiet], fewer[0][:, quiet])


@pytest.mark.parametrize("block", [HOP, 3 * HOP, 1000])
def test_a_stream_uses_the_same_levels_as_the_whole_signal(block):
    codec, audio = vbr_codec(), loud_then_quiet(30, loud=30, quiet=40)
    encoder = StreamEncoder(codec)
    streamed = torch.cat([*(encoder.push(part) for part in audio.split(block, dim=-1)), encoder.flush()], dim=-1)
    whole = codec.encode(audio)
    assert torch.equal(streamed == 0, whole == 0)
    assert (streamed == whole).float().mean() > 0.99  # near-ties of codewords


def test_training_quantizes_with_the_levels_of_each_frame():
    codec, audio = vbr_codec(), loud_then_quiet(40)
    output = codec(audio, num_active=torch.tensor([5]))
    active = codec.levels_of_frames(codec.pad(audio), torch.tensor([5]))
    codes = codec.quantizer.encode(codec.encoder(codec.pad(audio)), num_active=active)
    torch.testing.assert_close(output.quantizer.quantized, codec.quantizer.decode(codes))
    used = output.quantizer.statistics.counts.sum(dim=1)
    assert used.tolist() == [(active > level).sum() for level in range(LEVELS)]


def test_the_codeword_of_zeros_stays_zero_and_is_never_dead():
    codebooks = EMACodebooks(3, 8, 4, decay=0.5, dead_threshold=0.5, normalize=False, has_zero=True)
    vectors = noise(200, 4)
    for level in range(3):
        codebooks.initialize(level, vectors, initialization=Initialization(iterations=3), generator=seeded(level))
    codebooks.counts[:, 0] = 0.0
    assert codebooks.dead_codewords()[:, 0].tolist() == [True, False, False]
    assert codebooks.table[0, 0].any()
    assert not codebooks.table[1:, 0].any() and codebooks.table[1:, 1:].any(dim=-1).all()
    sums = torch.ones(3, 8, 4)
    codebooks.follow(Statistics(torch.ones(3, 8), sums, vectors.expand(3, -1, -1), None))
    assert not codebooks.table[1:, 0].any() and not codebooks.sums[1:, 0].any()
    codebooks.table[:, 0] = 1.0
    codebooks.restart_statistics()
    assert not codebooks.table[1:, 0].any() and not codebooks.sums[1:, 0].any()


@pytest.mark.parametrize("changes", [{"update": "gradient"}, {"structure": "product", "num_quantizers": 2}])
def test_other_codebooks_have_no_codeword_of_zeros(changes):
    with pytest.raises(ConfigError, match=one_line("here", "quantizer", "vbr_slope", "update ema", "residual")):
        from_dict(CodecConfig, {"quantizer": {"vbr_slope": 0.25} | changes}, source="here")
