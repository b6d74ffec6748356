"""The laws of the whole model: lengths, delay, equality of batch and single, and what it refuses."""

import math
import warnings
from functools import partial

import numpy as np
import pytest
import torch
from messages import one_line
from models import (
    HOP,
    PARTS,
    assert_codes_equal,
    assert_same_state,
    noise,
    seeded,
    state_of,
    tiny_codec,
    tiny_config,
    tiny_tables,
)

from codec.config import (
    BandsConfig,
    CodecConfig,
    ConvEncoderConfig,
    EnvelopeEncoderConfig,
    IdentityDecoderConfig,
    IdentityEncoderConfig,
    QuantizerConfig,
    UpsampleDecoderConfig,
)
from codec.errors import AudioError, BitstreamError, ConfigError, ModelError
from codec.model.builder import build_codec
from codec.model.codec import Codec


@pytest.fixture(params=PARTS)
def codec(request):
    return tiny_codec(request.param)


def latents_of(codec, audio):
    return codec.encoder(codec.pad(audio))


# ---- Lengths


def test_decoded_audio_has_the_length_of_the_original(codec):
    """T samples make ceil((T + delay) / hop) frames and come back as T samples."""
    for num_samples in [*range(1, 3 * HOP + 2), 199, 200, 201, 1003]:
        codes = codec.encode(noise(1, 1, num_samples))
        assert codes.shape == (1, 4, math.ceil((num_samples + codec.delay) / HOP))
        assert codes.shape[-1] == codec.num_frames(num_samples)
        assert codec.decode(codes, num_samples).shape == (1, 1, num_samples)
        assert codec.decode(codes).shape[-1] == codes.shape[-1] * HOP - codec.delay >= num_samples


def test_the_end_of_the_signal_is_coded(codec):
    """The last sample is in the codes: with it changed, so are the latents."""
    audio = noise(1, 1, 3 * HOP + 1)
    changed = audio.clone()
    changed[..., -1] += 1.0
    assert not torch.equal(latents_of(codec, audio), latents_of(codec, changed))


# ---- Delay


def test_latency_of_the_documented_model():
    """16 kHz, hop 320: the low band is a hop late, the bands above it a subframe of 80 more. 45 ms in all."""
    codec = build_codec(CodecConfig())
    assert codec.latency == 720
    assert codec.latency / codec.sample_rate == 0.045


def test_latency_is_what_the_output_waits_for(codec):
    """Output t needs input up to t + latency - 1, and no further; no quantizer hides a dependence here."""
    audio = noise(1, 1, 10 * HOP)
    before = codec(audio, quantize=False).audio[0, 0]
    for at in (2 * HOP - 1, 4 * HOP - 1, 5 * HOP, 6 * HOP + 7, 8 * HOP - 1):
        changed = audio.clone()
        changed[..., at] += 1.0
        differs = codec(changed, quantize=False).audio[0, 0] != before
        first = max(0, at - codec.latency + 1)
        assert not differs[:first].any()
        if at % HOP == HOP - 1:  # the last sample of a hop: the bound is met
            assert differs[first : first + 3].any()


LINEAR = {
    "encoder": ConvEncoderConfig(strides=(8,), channels=(16,), num_blocks=(0,)),
    "latent_dim": 16,
    "quantizer": QuantizerConfig(num_quantizers=1, codebook_size=2, codebook_dim=None),
}
UPSAMPLE = UpsampleDecoderConfig(strides=(8,), channels=16)


def between(low, high, audio):
    """Return audio `[B, 1, T]` at 16 kHz with only the frequencies between two (Hz)."""
    spectrum = torch.fft.rfft(audio)
    frequency = torch.arange(spectrum.shape[-1]) * 16_000 / audio.shape[-1]
    spectrum[..., (frequency < low) | (frequency > high)] = 0
    return torch.fft.irfft(spectrum, audio.shape[-1])


@pytest.mark.parametrize("num_samples", [200, 319, 800, 1280, 6001])
def test_a_new_model_returns_its_low_band_in_place(num_samples):
    """It starts as a lapped transform and its inverse: in time and with the right gain.

    With as many latents as features nothing is lost. Of audio well inside the low band all comes back but what the
    windows leak into the bands above, where the phase is not kept: -39 dB at most.
    """
    config = tiny_config(
        bands=BandsConfig(cutoff=2000, num_bands=5, num_low_bands=2),
        encoder=EnvelopeEncoderConfig(channels=16, num_blocks=1),
        quantizer=QuantizerConfig(num_quantizers=1, codebook_size=2),
        latent_dim=102,
    )
    codec = build_codec(config).requires_grad_(False)
    for network in (codec.encoder, codec.decoder):
        network.project_out.weight.zero_()
    codec.encoder.project_out.bias.zero_()
    audio = between(200, 1500, noise(1, 1, 8000))
    window = torch.zeros(1, 1, 8000)
    window[..., 1000 : 1000 + num_samples] = torch.hann_window(num_samples + 2)[1:-1]
    audio = (audio * window)[..., : 1000 + num_samples]
    decoded = codec(audio, quantize=False).audio
    assert (decoded - audio).square().mean() < 10**-3.5 * audio.square().mean()


@pytest.mark.parametrize("lookahead", [0, 8])
def test_an_upsampling_model_set_to_the_identity_returns_samples_in_place(lookahead):
    """Latents are the samples of two hops; with a lookahead of a hop the decoder plays the older one."""
    codec = build_codec(tiny_config(**LINEAR, decoder=UPSAMPLE, lookahead=lookahead)).requires_grad_(False)
    for name, parameter in codec.named_parameters():
        parameter.fill_(30.0 if name.endswith("log_alpha") else 0.0)  # Snake: sin^2(a x) / a vanishes
    two_hops, first, upsample, last = (codec.encoder.layers[0].filters, *(codec.decoder.layers[i] for i in (0, 2, -1)))
    two_hops.weight[..., 0] = torch.eye(16)
    codec.encoder.project.weight[..., 0] = torch.eye(16)
    first.weight[..., -1] = torch.eye(16)
    upsample.conv.weight[:8, slice(0, 8) if lookahead else slice(8, 16), 1] = torch.eye(8)
    last.weight[0, 0, -1] = 1.0
    for num_samples in (1, 8, 50, 64):
        audio = noise(1, 1, num_samples)
        torch.testing.assert_close(codec(audio, quantize=False).audio, audio, rtol=0, atol=1e-6)


# ---- One model, one result


def test_encode_is_deterministic_and_levels_are_a_prefix(codec):
    audio = noise(2, 1, 333)
    codes = codec.encode(audio)
    assert torch.equal(codec.encode(audio), codes)
    for levels in range(1, 5):
        assert torch.equal(codec.encode(audio, levels), codes[:, :levels])
        assert codec.decode(codes[:, :levels], 333).shape == (2, 1, 333)


def test_earlier_codes_do_not_depend_on_later_codebooks(codec):
    audio = noise(1, 1, 333)
    codes = codec.encode(audio)
    codec.quantizer.codebooks.table[2:] += 1.0
    changed = codec.encode(audio)
    assert torch.equal(changed[:, :2], codes[:, :2])
    assert not torch.equal(changed[:, 2:], codes[:, 2:])


def test_a_batch_equals_its_items_alone(codec):
    audio = noise(3, 1, 417)
    codes = codec.encode(audio)
    latents = latents_of(codec, audio)
    for item in range(3):
        alone = slice(item, item + 1)
        assert_codes_equal(codec, codec.encode(audio[alone]), codes[alone], latents[alone])
        torch.testing.assert_close(codec.decode(codes, 417)[alone], codec.decode(codes[alone], 417), rtol=0, atol=1e-5)


def test_a_padded_batch_equals_its_items_alone(codec):
    lengths = [417, 20, 233]
    audio = [noise(1, 1, length, seed=length) for length in lengths]
    padded = torch.cat([torch.nn.functional.pad(item, (0, 417 - item.shape[-1])) for item in audio])
    codes = codec.encode(padded)
    decoded = codec.decode(codes, 417)
    for item, length in enumerate(lengths):
        num_frames = codec.num_frames(length)
        mine = codes[item : item + 1, :, :num_frames]
        assert_codes_equal(codec, codec.encode(audio[item]), mine, latents_of(codec, audio[item]))
        expected = codec.decode(mine, length)
        torch.testing.assert_close(decoded[item : item + 1, :, :length], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_the_training_pass_equals_encode_and_decode(codec, training):
    codec.train(training)
    before = state_of(codec)
    audio = noise(2, 1, 333)
    output = codec(audio)
    codes = codec.encode(audio)
    assert torch.equal(output.quantizer.codes, codes)
    torch.testing.assert_close(output.audio, codec.decode(codes, 333), rtol=0, atol=1e-6)
    fewer = codec(audio, num_active=torch.tensor([1, 3]))
    for item, levels in enumerate((1, 3)):
        expected = codec.decode(codes[item : item + 1, :levels], 333)
        torch.testing.assert_close(fewer.audio[item : item + 1], expected, rtol=0, atol=1e-5)
    assert_same_state(codec, before)


def test_the_autocast_of_the_caller_changes_neither_codes_nor_audio(codec):
    audio = noise(2, 1, 333)
    codes = codec.encode(audio)
    expected = codec.decode(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(codec.encode(audio), codes)
        decoded = codec.decode(codes)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, expected)


def test_gradients_reach_every_part(codec):
    codec.requires_grad_(True)
    output = codec(noise(2, 1, 333))
    (output.audio.square().mean() + output.quantizer.commitment_loss).backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_frames_behind_the_end_of_an_item_are_masked():
    codec = tiny_codec()
    audio = noise(2, 1, 400)
    lengths = torch.tensor([400, 83])
    mask = codec.frame_mask(lengths, codec.num_frames(400))
    assert mask.sum(1).tolist() == [codec.num_frames(400), codec.num_frames(83)]
    garbage = audio.clone()
    garbage[1, :, codec.num_frames(83) * HOP :] = 1.0
    clean, dirty = (codec(batch, lengths=lengths).quantizer for batch in (audio, garbage))
    assert torch.equal(clean.commitment_loss, dirty.commitment_loss)
    assert torch.equal(clean.statistics.sums, dirty.statistics.sums)
    assert clean.statistics.counts.sum(-1).tolist() == 4 * [int(mask.sum())]
    assert not torch.equal(clean.codes, dirty.codes)


# ---- What equal means


def test_equal_codes_forgive_a_near_tie_and_nothing_else():
    codec = tiny_codec()
    table = codec.quantizer.codebooks.table
    audio = noise(1, 1, 100 * HOP)
    latents, codes = latents_of(codec, audio), codec.encode(audio)
    assert_codes_equal(codec, codes, codes, latents)

    wrong = codes.clone()
    wrong[0, 1, 5] = (wrong[0, 1, 5] + 1) % 16
    for first in (codes, wrong):
        with pytest.raises(AssertionError, match="level 1"):
            assert_codes_equal(codec, first, wrong, latents)

    frame = (codes[0, 1] == codes[0, 1, 5]).nonzero().flatten()[0]
    twin = (codes[0, 1, frame] + 1) % 16
    table[1, twin] = table[1, codes[0, 1, frame]] + 1e-9
    codes = codec.encode(audio)
    tied = codes.clone()
    tied[0, 1, frame] = 2 * twin - 1 - codes[0, 1, frame] if codes[0, 1, frame] == twin else twin
    tied[0, 2:, frame] = (tied[0, 2:, frame] + 7) % 16
    assert_codes_equal(codec, codes, tied, latents)


# ---- Edges


def test_silence_constants_and_clipping_give_finite_audio(codec):
    square = torch.sign(noise(1, 1, 300))
    for audio in (torch.zeros(1, 1, 300), torch.ones(1, 1, 300), -torch.ones(1, 1, 300), square, 4 * square):
        decoded = codec.decode(codec.encode(audio), 300)
        assert torch.isfinite(decoded).all()


@pytest.mark.parametrize(
    ("audio", "facts"),
    [
        (torch.zeros(100), ("float32", "[B, 1, T]", "float32", "[100]")),
        (torch.zeros(1, 100), ("[B, 1, T]", "[1, 100]")),
        (torch.zeros(1, 2, 100), ("[B, 1, T]", "[1, 2, 100]", "channels")),
        (torch.zeros(1, 1, 100, dtype=torch.float64), ("float32", "float64")),
        (torch.zeros(1, 1, 100, dtype=torch.int16), ("float32", "int16")),
        (torch.zeros(1, 1, 0), ("no samples",)),
        (torch.zeros(0, 1, 100), ("no samples",)),
        (torch.full((1, 1, 100), math.nan), ("NaN",)),
        (torch.full((1, 1, 100), math.inf), ("Inf",)),
        (torch.full((1, 1, 100), -4.001), ("4.001", "[-1, 1]")),
        (torch.full((1, 1, 100), 32767.0), (32767, "divide", 32768)),
        (torch.full((1, 1, 100), 1e30), ("1e+30",)),
        (np.zeros((1, 1, 100), np.float32), ("ndarray", "torch.from_numpy")),
    ],
)
def test_wrong_audio_is_refused(audio, facts):
    with pytest.raises(AudioError, match=one_line(*facts)):
        tiny_codec().encode(audio)


def test_audio_that_requires_a_gradient_is_coded_without_a_warning():
    codec, audio = tiny_codec(), noise(1, 1, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes = codec.encode(audio.clone().requires_grad_())
    assert torch.equal(codes, codec.encode(audio))


def test_a_quantizer_on_its_own_takes_any_numbers():
    codec = tiny_codec(latent_dim=5, encoder=IdentityEncoderConfig(), decoder=IdentityDecoderConfig())
    codec.encode(torch.full((1, 1, 100), 1000.0))


@pytest.mark.parametrize("convert", [lambda codec: codec.half(), lambda codec: codec.to(torch.float16)])
def test_half_precision_is_refused_and_changes_nothing(convert):
    codec = tiny_codec()
    with pytest.raises(ModelError, match=r"float16.*speed_up.*bf16"):
        convert(codec)
    assert codec.is_float32


def test_a_bitrate_is_met_by_the_most_levels_that_take_no_more():
    """800 frames a second of 3, 6, 9 and 12 bits."""
    codec = tiny_codec()
    codec.entropy = tiny_tables(codec, noise(1, 1, 2000))
    found = [codec.num_quantizers_for(bitrate) for bitrate in (2400, 4799, 4800, 9600, 1e6)]
    assert found == [1, 1, 2, 4, 4]
    with pytest.raises(ConfigError, match=one_line(2399, 2400)):
        codec.num_quantizers_for(2399)


@pytest.mark.parametrize("num_quantizers", [0, -1, 5])
def test_a_number_of_quantizers_that_the_model_lacks_is_refused(num_quantizers):
    with pytest.raises(ConfigError, match=one_line("num_quantizers", num_quantizers, 1, 4)):
        tiny_codec().encode(noise(1, 1, 100), num_quantizers)


@pytest.mark.parametrize(
    ("codes", "facts"),
    [
        (torch.zeros(4, 5, dtype=torch.int64), ("int64", "[B, k, F]", 1, 4, "int64", "[4, 5]")),
        (torch.zeros(1, 5, 5, dtype=torch.int64), (1, 4, "[1, 5, 5]")),
        (torch.zeros(1, 0, 5, dtype=torch.int64), (1, 4, "[1, 0, 5]")),
        (torch.zeros(1, 4, 0, dtype=torch.int64), ("[1, 4, 0]",)),
        (torch.zeros(1, 4, 5), ("int64", "float32")),
        (torch.zeros(1, 4, 5, dtype=torch.int16), ("int64", "int16")),
        (torch.zeros(1, 4, 5, dtype=torch.uint8), ("int64", "uint8")),
        (torch.full((1, 4, 5), 16), (0, 15, 16)),
        (torch.full((1, 4, 5), -1), (0, 15, -1)),
    ],
)
def test_wrong_codes_are_refused(codes, facts):
    with pytest.raises(BitstreamError, match=one_line(*facts)):
        tiny_codec().decode(codes)


@pytest.mark.parametrize("num_samples", [0, -3, 76])
def test_a_length_that_the_codes_do_not_hold_is_refused(num_samples):
    codes = torch.zeros(1, 4, 5, dtype=torch.int64)
    assert tiny_codec().decode(codes, 75).shape == (1, 1, 75)
    with pytest.raises(BitstreamError, match=one_line(5, "frames", 1, 75, "samples", num_samples)):
        tiny_codec().decode(codes, num_samples)


def test_parts_that_do_not_fit_are_refused():
    codec, other = tiny_codec(), build_codec(tiny_config(**LINEAR, decoder=UPSAMPLE))
    with pytest.raises(ConfigError, match=one_line("encoder", 20, "decoder", 8)):
        Codec(codec.encoder, codec.quantizer, other.decoder, codec.config)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_a_quantizer_without_projection_normalised_or_not(update):
    for normalize in (False, True):
        quantizer = QuantizerConfig(
            num_quantizers=2, codebook_size=16, codebook_dim=None, update=update, normalize=normalize
        )
        codec = tiny_codec(quantizer=quantizer)
        assert codec.quantizer.codebooks.table.shape == (2, 16, 12)
        output = codec(noise(1, 1, 333))
        assert torch.equal(output.quantizer.codes, codec.encode(noise(1, 1, 333)))
        codec.quantizer.codebooks.update(output.quantizer.statistics, partial(seeded, 0))


def test_without_the_quantizer_the_gain_is_kept():
    """A quieter recording comes back as much quieter: power has features of its own."""
    codec = tiny_codec()
    audio = noise(2, 1, 4000)
    loud = codec(audio, quantize=False).audio.square().mean()
    assert loud > 0.3 * audio.square().mean()
    quiet = codec(0.1 * audio, quantize=False).audio.square().mean()
    assert abs(10 * (100 * quiet / loud).log10()) < 0.5  # dB; the network is not trained at either loudness


@pytest.mark.parametrize("first", [0, 1, 137, 199, 200, 1003])
def test_frames_of_a_training_pass_are_numbered_from_first_frame(first):
    """The noise of a frame is a function of its number; an excerpt gets the noise of its place in the recording."""
    codec = tiny_codec()
    audio = noise(1, 1, 40 * HOP)
    first_frame = torch.tensor([first, 0])
    both = codec(audio.repeat(2, 1, 1), quantize=False, first_frame=first_frame).audio
    assert torch.equal(both[1:], codec(audio, quantize=False).audio)
    assert torch.equal(both[0], both[1]) == (first % 200 == 0)
    codes = codec.encode(audio)
    stream = {**codec.decoder.cache_at(torch.tensor([first]))}
    passed = codec(audio, first_frame=first_frame[:1]).audio
    expected = codec.decode_frames(codes, stream)[..., codec.delay : codec.delay + 40 * HOP]
    torch.testing.assert_close(passed, expected, rtol=0, atol=1e-6)


def test_a_decoder_can_start_in_the_middle(codec):
    """With the frame's number in its cache it equals the whole after the receptive field has passed."""
    codes = codec.encode(noise(2, 1, 250 * HOP))
    whole = codec.decode_frames(codes)
    for start in (1, 77, 203):
        late = codec.decode_frames(codes[..., start:], codec.decoder.cache_at(torch.tensor([start, start])))
        looks_back = 30 * HOP
        expected = whole[..., start * HOP :]
        torch.testing.assert_close(late[..., looks_back:], expected[..., looks_back:], rtol=0, atol=1e-5)
        assert not torch.allclose(late[..., :HOP], expected[..., :HOP], rtol=0, atol=1e-5)
