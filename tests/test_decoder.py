"""The decoders: causality, streams, delay, and the initial weights, which already make a codec."""

import math

import pytest
import soundfile as sf
import torch
from models import noise

from codec.config import shipped
from codec.model.builder import build_codec
from codec.model.decoder import HarmonicNoiseDecoder, UpsampleDecoder
from codec.model.signal_model import SignalModel
from codec.recipe import load_recipe

MODEL = SignalModel(16_000, 20, 1600.0, 2, 2)
PARTS = {  # and the delay each must have
    "harmonic_noise": (
        lambda: HarmonicNoiseDecoder(MODEL, latent_dim=6, channels=12, num_blocks=2, kernel_size=3, expansion=2.0),
        25,
    ),
    "upsample": (lambda: UpsampleDecoder(latent_dim=6, strides=(5, 2, 2), channels=16), 0),
}


@pytest.fixture(params=PARTS)
def decoder_and_delay(request):
    make, delay = PARTS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().requires_grad_(False), delay


@pytest.fixture(scope="module")
def untrained():
    """The model of the recipe before its first step."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_codec(load_recipe("speech_16khz").codec).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def speech():
    samples, _ = sf.read(shipped("clips") / "speech_en-us.flac", dtype="float32")
    return torch.from_numpy(samples)[None, None]


def test_each_frame_decodes_to_one_hop(decoder_and_delay):
    decoder, delay = decoder_and_delay
    assert decoder.hop_length == 20
    assert decoder.delay == delay
    assert decoder(noise(2, 6, 7)).shape == (2, 1, 140)


def test_no_sample_depends_on_later_frames(decoder_and_delay):
    decoder, _ = decoder_and_delay
    quantized = noise(1, 6, 10)
    before = decoder(quantized)
    for frame in (0, 1, 4, 9):
        changed = quantized.clone()
        changed[..., frame] += 1.0
        after = decoder(changed)
        assert torch.equal(after[..., : 20 * frame], before[..., : 20 * frame])
        assert not torch.equal(after[..., 20 * frame : 20 * frame + 20], before[..., 20 * frame : 20 * frame + 20])


@pytest.mark.parametrize("blocks", [[1] * 12, [2] * 6, [3] * 4, [7, 5], [1, 6, 2, 3]], ids=str)
def test_a_stream_equals_the_whole(decoder_and_delay, blocks):
    decoder, _ = decoder_and_delay
    quantized = noise(2, 6, 12)
    cache = {}
    parts = [decoder(block, cache) for block in quantized.split(blocks, dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), decoder(quantized), rtol=1e-5, atol=1e-6)


def test_a_decoder_can_start_in_the_middle(decoder_and_delay):
    """Equal after the receptive field: 7 frames (two blocks of kernel 3, two frames of synthesis), or 36 upsampled."""
    decoder, _ = decoder_and_delay
    quantized = noise(2, 6, 260)
    whole = decoder(quantized)
    looks_back = 7 if isinstance(decoder, HarmonicNoiseDecoder) else 36
    for start in (1, 40, 207):
        late = decoder(quantized[..., start:], decoder.cache_at(torch.tensor([start, start])))
        expected = whole[..., 20 * (start + looks_back) :]
        torch.testing.assert_close(late[..., 20 * looks_back :], expected, rtol=0, atol=1e-5)
    late = decoder(quantized[..., 40:], decoder.cache_at(torch.tensor([41, 40])))
    same = (late[..., 20 * looks_back :] - whole[..., 20 * (40 + looks_back) :]).abs().amax(dim=(1, 2)) < 1e-5
    assert same.tolist() == [not isinstance(decoder, HarmonicNoiseDecoder), True]


def test_in_bfloat16_the_synthesis_stays_float32():
    decoder = PARTS["harmonic_noise"][0]()
    for weight in decoder.parameters():
        weight.data = weight.data.bfloat16()
    assert all(buffer.dtype == torch.float32 for buffer in decoder.buffers())
    assert decoder(noise(1, 6, 5)).dtype == torch.float32


# ---- The start


def below(hertz, audio):
    spectrum = torch.fft.rfft(audio)
    frequency = torch.arange(spectrum.shape[-1]) * 16_000 / audio.shape[-1]
    spectrum[..., (frequency < 60) | (frequency > hertz)] = 0
    return torch.fft.irfft(spectrum, audio.shape[-1])


def test_an_untrained_model_is_already_a_codec(untrained, speech):
    """Unquantized: STOI 0.966, 15.5 dB between 60 and 900 Hz, and 0.9 dB too quiet."""
    stoi = pytest.importorskip("pystoi").stoi
    made = untrained(speech, quantize=False).audio
    assert stoi(speech[0, 0].numpy(), made[0, 0].numpy(), 16_000) > 0.95
    wanted, found = below(900, speech), below(900, made)
    assert 10 * (wanted.square().mean() / (found - wanted).square().mean()).log10() > 14
    assert abs(10 * (made.square().mean() / speech.square().mean()).log10()) < 1.5


@pytest.mark.parametrize("gain_db", [-40, -20, -6, 6])
def test_an_untrained_model_keeps_the_gain_of_a_recording(untrained, speech, gain_db):
    """Measured: within 0.06 dB."""
    gain = 10 ** (gain_db / 20)
    plain, scaled = (untrained(audio, quantize=False).audio for audio in (speech, gain * speech))
    assert abs(10 * (scaled.square().mean() / plain.square().mean()).log10() - gain_db) < 0.5


def test_an_untrained_model_uses_harmonics_below_three_kilohertz_and_noise_above(untrained):
    bias = untrained.decoder.project_out.bias.view(-1)[125:].view(4, 20)
    assert (bias[0] == bias).all()
    assert bias[0, 0] == 2.0 and bias[0, -1] == -2.0
    assert (bias[0].diff() <= 0).all()
    share = math.exp(2) / (1 + math.exp(2))
    torch.testing.assert_close(bias[0, 0].sigmoid().item(), share)
