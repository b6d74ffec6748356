"""The parity check finds errors of an engine, and tolerates flips at near-ties."""

import pytest
import torch
from messages import one_line
from models import HOP, noise, tiny_codec

from codec.config import FSQConfig, QuantizerConfig
from codec.errors import ModelError
from codec.model.codec import Codec
from codec.onnx.check import NEAR_TIE, largest_deviation, tie_margin


class Engine(Codec):
    """The model itself; tests replace parts of it."""

    def __init__(self, codec):
        super().__init__(codec.encoder, codec.quantizer, codec.decoder, codec.config)


class Forgetful(Engine):
    def encode_frames(self, audio, num_quantizers=None, cache=None, *, beam=1):
        return super().encode_frames(audio, num_quantizers, beam=beam)


class ForgetfulDecoder(Engine):
    def decode_frames(self, codes, cache=None):
        return super().decode_frames(codes)


class Loud(Engine):
    def decode_frames(self, codes, cache=None):
        return 1.0003 * super().decode_frames(codes, cache)


class OfOneItem(Engine):
    def decode_frames(self, codes, cache=None):
        return super().decode_frames(codes[:1].expand_as(codes), cache)


class Broken(Engine):
    def decode_frames(self, codes, cache=None):
        return super().decode_frames(codes, cache) * float("nan")


class Short(Engine):
    def decode_frames(self, codes, cache=None):
        return super().decode_frames(codes, cache)[..., :-1]


class OfAllLevels(Engine):
    def decode_frames(self, codes, cache=None):
        levels = self.quantizer.num_quantizers - codes.shape[1]
        return super().decode_frames(torch.cat([codes, codes[:, :1].repeat(1, levels, 1)], dim=1), cache)


class OtherCodes(Engine):
    def encode_frames(self, audio, num_quantizers=None, cache=None, *, beam=1):
        codes = super().encode_frames(audio, num_quantizers, cache, beam=beam)
        codes[-1, -1, -1] = (codes[-1, -1, -1] + 1) % self.quantizer.codebook_size
        return codes


class Twins(Engine):
    def encode_frames(self, audio, num_quantizers=None, cache=None, *, beam=1):
        return (super().encode_frames(audio, num_quantizers, cache, beam=beam) + 8) % 16


class OfOtherShape(Engine):
    def encode_frames(self, audio, num_quantizers=None, cache=None, *, beam=1):
        return super().encode_frames(audio, 1, cache, beam=beam)


def test_pytorch_in_blocks_passes_the_check():
    codec = tiny_codec()
    assert largest_deviation(codec, Engine(codec)) <= 1e-6


@pytest.mark.parametrize("kind", [Forgetful, OtherCodes, OfOtherShape])
def test_wrong_codes_fail_the_check(kind):
    codec = tiny_codec()
    with pytest.raises(ModelError, match=one_line("codes", "engine", "differ")):
        largest_deviation(codec, kind(codec))


@pytest.mark.parametrize("kind", [OtherCodes, OfOtherShape])
def test_wrong_codes_of_a_beam_fail_the_check(kind):
    codec = tiny_codec()
    assert largest_deviation(codec, Engine(codec), beam=4) <= 1e-6
    with pytest.raises(ModelError, match=one_line("codes", "engine", "differ")):
        largest_deviation(codec, kind(codec), beam=4)


def test_near_ties_do_not_excuse_most_frames():
    """Every frame of this model has a tie: each codeword exists twice."""
    codec = tiny_codec()
    codec.quantizer.codebooks.table[:, 8:] = codec.quantizer.codebooks.table[:, :8]
    with pytest.raises(ModelError, match=one_line("codes", "engine", "differ")):
        largest_deviation(codec, Twins(codec), beam=4)


@pytest.mark.parametrize("kind", [ForgetfulDecoder, Loud, OfOneItem, Broken, Short, OfAllLevels])
def test_wrong_audio_fails_the_check(kind):
    codec = tiny_codec()
    with pytest.raises(ModelError, match=one_line("audio", "engine", "differs", 0.0001)):
        largest_deviation(codec, kind(codec))


def vectors(**facts):
    return QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=8, **facts)


@pytest.mark.parametrize("structure", ["residual", "product"])
@pytest.mark.parametrize("normalize", [False, True])
def test_two_equal_codewords_are_a_tie(structure, normalize):
    codec = tiny_codec(quantizer=vectors(structure=structure, normalize=normalize))
    audio = noise(2, 1, 20 * HOP)
    codec.quantizer.codebooks.table[1, 8:] = codec.quantizer.codebooks.table[1, :8]
    codes = codec.encode_frames(audio)
    others = codes.clone()
    others[:, 1] = (codes[:, 1] + 8) % 16
    others[:, 2:] = (codes[:, 2:] + 5) % 16  # after a tie all later levels may differ
    assert tie_margin(codec, audio, codes, others) <= 1e-12
    others[1, 0, 19] = (codes[1, 0, 19] + 1) % 16
    assert tie_margin(codec, audio, codes, others) > 100 * NEAR_TIE


def test_codewords_of_one_direction_are_a_tie_where_only_that_counts():
    margins = {}
    for normalize in (True, False):
        codec = tiny_codec(quantizer=vectors(normalize=normalize))
        codec.quantizer.codebooks.table[2, 8:] = 1.5 * codec.quantizer.codebooks.table[2, :8]
        audio = noise(2, 1, 20 * HOP)
        codes = codec.encode_frames(audio)
        others = codes.clone()
        others[:, 2] = (codes[:, 2] + 8) % 16
        margins[normalize] = tie_margin(codec, audio, codes, others)
    assert margins[True] <= 1e-6 < 100 * NEAR_TIE < margins[False]


def test_equal_codes_have_no_tie():
    codec = tiny_codec()
    audio = noise(2, 1, 20 * HOP)
    codes = codec.encode_frames(audio)
    assert tie_margin(codec, audio, codes, codes) == 0


def test_the_edge_of_a_cell_is_a_tie():
    codec = tiny_codec(quantizer=FSQConfig(steps=(4, 3)))
    codec.quantizer.project_in.weight.zero_()  # zero: on the edge of the second and third of four cells
    audio = noise(1, 1, 5 * HOP)
    codes = codec.encode_frames(audio)
    assert codes.unique().tolist() == [6]  # cell 2 of the first value, cell 1 of the second
    assert tie_margin(codec, audio, codes, codes - 1) <= 1e-12
    assert tie_margin(codec, audio, codes, codes + 1) > 100 * NEAR_TIE
