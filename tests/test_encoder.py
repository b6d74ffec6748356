"""The encoder: which samples a frame sees, streams, and the level of the signal."""

import pytest
import torch
from models import noise

from codec.model.encoder import Encoder
from codec.model.layers import ConvNeXtBlock

SHAPES = {
    "spectral": ((4, 5), (8, 12), (1, 1)),
    "one_stage": ((20,), (16,), (2,)),
    "two_stages": ((4, 5), (8, 12), (1, 1)),
    "three": ((2, 5, 2), (4, 8, 8), (0, 2, 1)),
}


@pytest.fixture(params=SHAPES)
def encoder(request):
    strides, channels, num_blocks = SHAPES[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Encoder(
            front="stft" if request.param == "spectral" else "filterbank",
            strides=strides,
            channels=channels,
            num_blocks=num_blocks,
            kernel_size=3,
            expansion=2.0,
            latent_dim=10,
        ).requires_grad_(False)


def test_frames_of_a_hop(encoder):
    assert encoder.hop_length == 20
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
def test_a_stream_gives_what_the_whole_gives(encoder, blocks):
    audio = noise(2, 1, 240)
    cache = {}
    parts = [encoder(block, cache) for block in audio.split([20 * length for length in blocks], dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), encoder(audio), rtol=1e-5, atol=1e-6)


def test_nothing_between_waveform_and_latents_is_normalised(encoder):
    """With residual branches and biases switched off, latents scale with the audio."""
    for module in encoder.modules():
        if isinstance(module, ConvNeXtBlock):
            module.scale.zero_()
        if getattr(module, "bias", None) is not None:
            module.bias.zero_()
    audio = noise(1, 1, 200)
    latents = encoder(audio)
    assert latents.abs().max() > 0
    assert torch.equal(encoder(audio / 1024), latents / 1024)


def test_a_spectral_front_begins_as_the_filterbank_begins():
    facts = {
        "strides": (20,),
        "channels": (24,),
        "num_blocks": (0,),
        "kernel_size": 3,
        "expansion": 2.0,
        "latent_dim": 24,
    }
    audio = noise(1, 1, 200)
    expected = Encoder(**facts)(audio)
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(Encoder(front="stft", **facts)(audio), expected, rtol=0, atol=1e-5)
