"""The decoders: causal, the same in blocks as whole, late by what they say."""

import math

import pytest
import torch
from models import noise

from codec.model.decoder import ConvNeXtDecoder, ISTFTHead, MDCTHead, OverlapAddHead, UpsampleDecoder


def convnext(head):
    return ConvNeXtDecoder(latent_dim=6, channels=12, num_blocks=2, kernel_size=3, expansion=2.0, head=head)


PARTS = {  # and the delay each must have
    "overlap_add": (lambda: convnext(OverlapAddHead(12, frame_length=40, hop_length=20)), 20),
    "no_overlap": (lambda: convnext(OverlapAddHead(12, frame_length=20, hop_length=20)), 0),
    "mdct": (lambda: convnext(MDCTHead(12, frame_length=40, hop_length=20)), 20),
    "istft": (lambda: convnext(ISTFTHead(12, frame_length=80, hop_length=20)), 60),
    "upsample": (lambda: UpsampleDecoder(latent_dim=6, strides=(5, 2, 2), channels=16), 0),
}


@pytest.fixture(params=PARTS)
def decoder_and_delay(request):
    make, delay = PARTS[request.param]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make().requires_grad_(False), delay


def test_a_frame_makes_a_hop(decoder_and_delay):
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
def test_a_stream_gives_what_the_whole_gives(decoder_and_delay, blocks):
    decoder, _ = decoder_and_delay
    quantized = noise(2, 6, 12)
    cache = {}
    parts = [decoder(block, cache) for block in quantized.split(blocks, dim=-1)]
    torch.testing.assert_close(torch.cat(parts, dim=-1), decoder(quantized), rtol=1e-5, atol=1e-6)


def test_overlap_add_head_worked_by_hand():
    """Frame of 4, hop of 2: (1 2 3 4) x 1, then x 10, then x 0 make 1 2, 3 + 10, 4 + 20, 30 40."""
    head = OverlapAddHead(1, frame_length=4, hop_length=2).requires_grad_(False)
    head.frames.weight.copy_(torch.tensor([1.0, 2, 3, 4])[:, None, None])
    assert head(torch.tensor([[[1.0, 10, 0]]])).tolist() == [[[1, 2, 13, 24, 30, 40]]]


def test_istft_head_makes_the_sinusoid_that_its_spectrum_says():
    """A steady magnitude at one bin, its phase turning by a hop a frame, is a cosine where frames overlap fully."""
    frame_length, hop_length, bin_number = 40, 10, 3
    head = ISTFTHead(8, frame_length=frame_length, hop_length=hop_length).requires_grad_(False)
    turn = 2 * math.pi * bin_number / frame_length
    spectrum = torch.zeros(2, 21, 12)
    spectrum[0] = -100.0
    spectrum[0, bin_number] = math.log(frame_length / 2)
    spectrum[1, bin_number] = turn * hop_length * torch.arange(12)
    head.spectrum = FixedSpectrum(spectrum.view(1, 42, 12))
    audio = head(torch.zeros(1, 8, 12))[0, 0]
    expected = torch.cos(turn * torch.arange(120.0))
    torch.testing.assert_close(audio[30:], expected[30:], rtol=0, atol=1e-4)


class FixedSpectrum(torch.nn.Module):
    def __init__(self, spectrum):
        super().__init__()
        self.spectrum = spectrum

    def forward(self, x, cache=None):
        return self.spectrum


def test_istft_head_survives_a_wild_prediction():
    head = ISTFTHead(4, frame_length=40, hop_length=20)
    audio = head(torch.full((1, 4, 5), 1e6))
    assert torch.isfinite(audio).all()
    audio.sum().backward()
    assert torch.isfinite(head.spectrum.weight.grad).all()
