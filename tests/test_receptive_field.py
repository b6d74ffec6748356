"""The measured receptive field is that of the layers, by hand, and that of the responses to a single change."""

import pytest
import torch
from models import HOP, PARTS, noise, tiny_codec

from codec.config import (
    HarmonicNoiseDecoderConfig,
    IdentityDecoderConfig,
    IdentityEncoderConfig,
    UpsampleDecoderConfig,
)
from codec.eval.inspection.receptive_field import measure_receptive_field


def test_strided_layers_by_hand():
    """Strides 4 and 5, kernels of two strides, ConvNeXt kernels of 3; upwards kernels of 7, dilations 1, 3 and 9."""
    field = measure_receptive_field(tiny_codec("upsample"))
    # Last layer first: 3 frames of 20, then 10 of 4 (two strides of 5), 3 of 4, and 8 samples (two strides of 4).
    frames = 3
    fourths = 5 * (frames - 1) + 10  # of 4 samples, seen through stride 5
    fourths += 3 - 1
    assert field.encoder_samples == 4 * (fourths - 1) + 8 == 92
    back = (7 - 1) + 6 * (1 + 3 + 9)  # samples back from the first sample of a frame
    fourths = -(-back // 4) + 1 + 6 * (1 + 3 + 9)  # and one of the upsampling
    frames = -(-fourths // 5) + 1 + (7 - 1)
    assert field.decoder_frames == 1 + frames == 28
    assert field.total_samples == 92 + 27 * HOP and field.allocation_samples == 0


@pytest.mark.parametrize("name", PARTS)
def test_a_change_reaches_just_as_far(name):
    """In float64, where even a weak influence shows: the first frame or sample that a change does not reach."""
    codec = tiny_codec(name).double()
    field = measure_receptive_field(codec)
    assert codec.decoder.context_frames == field.decoder_frames - 1  # counted from the layers
    audio, frames = noise(1, 1, 200 * HOP).double(), 100
    for back, reaches in ((field.encoder_samples, True), (field.encoder_samples + 1, False)):
        changed = audio.clone()
        changed[..., (frames + 1) * HOP - back] += 0.5
        pair = [codec.encoder(each)[..., frames] for each in (audio, changed)]
        assert torch.equal(*pair) != reaches
    quantized = noise(1, codec.config.latent_dim, 200).double()
    for back, reaches in ((field.decoder_frames - 1, True), (field.decoder_frames, False)):
        changed = quantized.clone()
        changed[..., frames - back] += 1.0
        pair = [codec.decoder(each)[..., frames * HOP : (frames + 1) * HOP] for each in (quantized, changed)]
        assert torch.equal(*pair) != reaches


@pytest.mark.parametrize(
    "decoder",
    [
        HarmonicNoiseDecoderConfig(channels=16, num_blocks=3, kernel_size=5),
        UpsampleDecoderConfig(strides=(2, 10), channels=8),
        UpsampleDecoderConfig(strides=(20,), channels=8),
    ],
)
def test_decoders_count_the_frames_that_they_look_back(decoder):
    codec = tiny_codec(
        "harmonic_noise" if isinstance(decoder, HarmonicNoiseDecoderConfig) else "upsample", decoder=decoder
    )
    assert codec.decoder.context_frames == measure_receptive_field(codec).decoder_frames - 1


def test_the_choice_of_levels_looks_two_seconds_back():
    codec = tiny_codec(
        "variable_bitrate", sample_rate=1000, bands={"cutoff": 100.0, "num_bands": 2, "num_low_bands": 2}
    )
    field = measure_receptive_field(codec)
    assert field.allocation_samples == 2 * 1000 + HOP
    audio, frame = 1e-3 * noise(1, 1, 300 * HOP), 200
    for back, reaches in ((field.allocation_samples, True), (field.allocation_samples + 1, False)):
        loud = audio.clone()
        loud[..., : (frame + 1) * HOP - back + 1] *= 1000
        pair = [codec.levels_of_frames(each)[0, frame] for each in (audio, loud)]
        assert (pair[0] != pair[1]) == reaches


def test_identities_look_at_their_own_frame():
    identities = {"encoder": IdentityEncoderConfig(), "decoder": IdentityDecoderConfig()}
    codec = tiny_codec(latent_dim=12, **identities)
    field = measure_receptive_field(codec)
    assert codec.decoder.context_frames == 0
    assert field == (12, 0, 1, 12) and field.total_samples == 12
