"""The identity of a model depends on all that decoding needs, and on nothing else."""

import pytest
import torch
from models import assert_same_state, noise, state_of, tiny_codec, tiny_config, tiny_tables

from codec.config import QuantizerConfig
from codec.inference.pretrained import load_codec, save_codec
from codec.model.builder import build_codec
from codec.model.digest import inference_tensors, model_identity, with_identity


@pytest.fixture
def folder(tmp_path):
    save_codec(tiny_codec(), tmp_path / "model")
    return tmp_path / "model"


def test_identity_is_of_every_tensor_and_survives_a_round_trip(folder):
    codec = load_codec(folder)
    identity = model_identity(codec)
    assert len(identity) == 32
    assert model_identity(tiny_codec()) == identity
    for key, tensor in codec.state_dict().items():
        if key in ("quantizer.codebooks.counts", "quantizer.codebooks.sums"):
            continue
        before = tensor.clone()
        tensor.view(-1)[-1] += 1e-3
        assert model_identity(codec) != identity, key
        tensor.copy_(before)
    assert model_identity(codec) == identity


def test_identity_is_of_the_lengths_and_not_of_training(tmp_path):
    codec = tiny_codec()
    identity = model_identity(codec)
    codec.quantizer.codebooks.counts += 1.0
    codec.quantizer.codebooks.sums += 1.0
    codec.train().requires_grad_(True)
    before = state_of(codec)
    assert model_identity(codec) == identity
    assert_same_state(codec, before)
    assert model_identity(tiny_codec(lookahead=1)) != identity
    assert model_identity(tiny_codec(sample_rate=8_000)) != identity
    dropout = QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=6, quantizer_dropout=0.1)
    assert model_identity(tiny_codec(quantizer=dropout)) == identity


def test_identity_is_of_every_entropy_table():
    codec = tiny_codec()
    seen = {model_identity(codec)}
    codec.entropy = tiny_tables(tiny_codec(), noise(1, 1, 2_000))
    seen.add(model_identity(codec))
    for tensor in codec.entropy.tensors().values():
        tensor.view(-1)[-1:] = 9
        seen.add(model_identity(codec))
    assert len(seen) == 7


def test_a_codec_with_identity_shares_the_modules_and_keeps_the_identity():
    codec = tiny_codec("variable_bitrate")
    codec.entropy = tiny_tables(codec, noise(1, 1, 2_000))
    identity, same = model_identity(codec), with_identity(codec)
    assert with_identity(same) is same and codec.identity is None
    assert (same.entropy, same.training) == (codec.entropy, False)
    assert same.encoder is codec.encoder and same.allocation is codec.allocation
    codec.encoder.state_dict()["skip.weight"].add_(1.0)
    assert same.identity == model_identity(same) == identity != model_identity(codec)


def test_identity_never_changes():
    """Old files name their model by it: renaming a tensor or hashing it differently would make them undecodable."""
    codec = build_codec(tiny_config())
    for tensor in inference_tensors(codec).values():  # they share the model's memory
        tensor.copy_(torch.arange(tensor.numel()).view_as(tensor) / 64)
    assert model_identity(codec).hex() == "a1e105836536496733b15cd5ad7838c19836fb77b984c9e2211a4d6278137d08"
