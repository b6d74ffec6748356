"""The encoders: causality, streams, and their initial weights."""

import pytest
import torch
from models import noise

from codec.dsp.spectral import lapped_transform
from codec.model.encoder import Encoder, EnvelopeEncoder, start_map
from codec.model.layers import ConvNeXtBlock
from codec.model.signal_model import SignalModel

SHAPES = {
    "one_stage": ((20,), (16,), (2,)),
    "two_stages": ((4, 5), (8, 12), (1, 1)),
    "three": ((2, 5, 2), (4, 8, 8), (0, 2, 1)),
}
NETWORK = {"kernel_size": 3, "expansion": 2.0}


def envelope_encoder(latent_dim=10):
    model = SignalModel(16_000, 20, 1600.0, 2, 2)
    return EnvelopeEncoder(model, channels=8, num_blocks=2, latent_dim=latent_dim, **NETWORK)


def conv_encoder(name):
    strides, channels, num_blocks = SHAPES[name]
    return Encoder(strides=strides, channels=channels, num_blocks=num_blocks, latent_dim=10, **NETWORK)


@pytest.fixture(params=["envelope", *SHAPES])
def encoder(request):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = envelope_encoder() if request.param == "envelope" else conv_encoder(request.param)
    return made.requires_grad_(False)


def test_each_hop_becomes_one_frame(encoder):
    assert (encoder.hop_length, encoder.latent_dim) == (20, 10)
    assert encoder(noise(2, 1, 140)).shape == (2, 10, 7)


def test_a_frame_sees_its_own_hop_and_what_came_before(encoder):
    audio = noise(1, 1, 200)
    before = encoder(audio)
    for at in (0, 19, 20, 77, 199):
        changed = audio.clone()
        changed[..., at] += 0.1
        differs = (encoder(changed) != before).any(dim=1)[0]
        assert not differs[: at // 20].any()
        assert differs[at // 20]


@pytest.mark.parametrize("blocks", [[1] * 12, [2] * 6, [3] * 4, [7, 5], [1, 6, 2, 3]], ids=str)
def test_a_stream_equals_the_whole(encoder, blocks):
    audio = noise(2, 1, 240)
    cache = {}
    parts = [encoder(block, cache) for block in audio.split([20 * length for length in blocks], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), encoder(audio), rtol=1e-5, atol=1e-5)


def without_network(encoder):
    for module in encoder.modules():
        if isinstance(module, ConvNeXtBlock):
            module.scale.zero_()
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
    return encoder


@pytest.mark.parametrize("name", SHAPES)
def test_nothing_between_waveform_and_latents_is_normalised(name):
    """With residual branches and biases switched off, latents of the convolutional encoder scale with the audio."""
    encoder = without_network(conv_encoder(name).requires_grad_(False))
    audio = noise(1, 1, 200)
    latents = encoder(audio)
    assert latents.abs().max() > 0
    assert torch.equal(encoder(audio / 1024), latents / 1024)


def test_a_new_convolutional_encoder_is_a_lapped_transform():
    encoder = Encoder(strides=(20,), channels=(24,), num_blocks=(0,), latent_dim=24, **NETWORK)
    audio = noise(1, 1, 200)
    frames = torch.nn.functional.pad(audio[:, 0], (20, 0)).unfold(-1, 40, 20)
    expected = (frames @ lapped_transform(24, 20).T).mT
    torch.testing.assert_close(encoder(audio), expected, rtol=0, atol=1e-5)


def test_a_new_envelope_encoder_passes_the_features_and_little_more():
    encoder = envelope_encoder(latent_dim=14).requires_grad_(False)
    audio = noise(1, 1, 2000)
    features = encoder.analysis(audio)
    passed = start_map(encoder.analysis.model, 14) @ features
    latents = encoder(audio)
    assert 0 < (latents - passed).square().mean() < 0.1 * passed.square().mean()
    encoder.project_out.weight.zero_()
    encoder.project_out.bias.zero_()
    torch.testing.assert_close(encoder(audio), passed)
    torch.testing.assert_close(encoder.skip.weight[..., 0].T @ encoder(audio), features, rtol=0, atol=1e-5)


def test_in_bfloat16_the_fixed_transforms_stay_float32():
    encoder = envelope_encoder()
    for weight in encoder.parameters():
        weight.data = weight.data.bfloat16()
    assert all(buffer.dtype == torch.float32 for buffer in encoder.buffers())
    audio = noise(1, 1, 200)
    assert encoder.analysis(audio).dtype == torch.float32
    assert torch.equal(encoder.analysis(audio), envelope_encoder().analysis(audio))
    assert encoder(audio).dtype == torch.bfloat16
