import pytest
import torch
from messages import one_line
from models import noise, tiny_codec, tiny_tables

from codec.bitstream import Bitstream
from codec.errors import AudioError, ConfigError
from codec.eval.systems.ours import OurCodec
from codec.inference.compression import compress, entropy_coder
from codec.inference.decompression import decompress
from codec.model.digest import with_identity

AUDIO = noise(2, 1999)


@pytest.mark.parametrize("has_tables", [False, True])
def test_it_codes_the_file_that_compress_makes(has_tables):
    codec = tiny_codec()
    if has_tables:
        codec.entropy = tiny_tables(codec, AUDIO[:, None])
    codec = with_identity(codec)
    coded = OurCodec("tiny", codec, 3, beam=2)(AUDIO)
    data = compress(codec, AUDIO[None], num_quantizers=3, beam=2).to_bytes()
    bitstream = Bitstream.from_bytes(data, coder=entropy_coder(codec))
    assert coded.num_bytes == len(data)
    assert torch.equal(coded.codes, torch.from_numpy(bitstream.codes)) and coded.codes.shape[1] == 3
    assert torch.equal(coded.audio, decompress(codec, bitstream)[0]) and coded.audio.shape == AUDIO.shape
    assert coded.nominal_bitrate == 2 * 3 * 800 * 4  # channels, levels, frames a second, bits


def test_its_setting_is_its_number_of_levels():
    codec = tiny_codec()
    assert [OurCodec("tiny", codec, levels).setting for levels in (1, 4)] == ["1 level", "4 levels"]
    assert OurCodec("tiny", codec, 1).sample_rate == 16_000


def test_what_a_model_refuses():
    with pytest.raises(ConfigError, match=one_line("5", "1", "4")):
        OurCodec("tiny", tiny_codec(), 5)(AUDIO)
    with pytest.raises(AudioError, match=one_line("NaN")):
        OurCodec("tiny", tiny_codec(), 1)(torch.full((1, 100), torch.nan))
