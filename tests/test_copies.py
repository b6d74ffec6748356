"""A model that is copied or sent to another process gives the same codes, files and audio."""

import copy
import io
import multiprocessing
import pickle

import pytest
import torch
from models import noise, tiny_codec, tiny_tables

from codec.inference.compression import compress
from codec.inference.decompression import decompress
from codec.model.digest import model_identity, with_identity

AUDIO = noise(1, 1, 500)


def through_torch_save(model):
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "deepcopy": copy.deepcopy,
    "torch.save": through_torch_save,
}


@pytest.fixture(scope="module")
def model():
    """A model with everything that a released one has: entropy tables and a known identity."""
    codec = tiny_codec("variable_bitrate")
    codec.entropy = tiny_tables(codec, noise(1, 1, 4000))
    return with_identity(codec)


def coded(model):
    return compress(model, AUDIO).to_bytes()


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_writes_and_reads_the_same_files(model, way):
    other = COPIES[way](model)
    assert other is not model
    assert model_identity(other) == model_identity(model)
    bitstream = compress(model, AUDIO)
    assert coded(other) == bitstream.to_bytes()
    assert torch.equal(decompress(other, bitstream), decompress(model, bitstream))


def test_a_model_goes_to_a_spawned_process(model):
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(coded, (model,)) == coded(model)
