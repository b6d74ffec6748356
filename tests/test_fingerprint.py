"""Fingerprints: a model that computes differently is refused when it is loaded, rounding is not."""

import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from messages import one_line
from models import PARTS, noise, seeded, tiny_codec, tiny_tables

from codec.errors import ModelError
from codec.inference import fingerprint
from codec.inference.fingerprint import (
    FINGERPRINT_FILE,
    MAX_AUDIO_DEVIATION,
    MAX_DEVIATION,
    check_fingerprint,
    check_identity,
    fingerprint_signal,
    measure_deviation,
    save_fingerprint,
    sign_model,
    take_fingerprint,
)
from codec.model import layers
from codec.model.digest import inference_tensors, model_identity
from codec.model.encoder import START


def trained_codec(name="harmonic_noise"):
    """A model whose residual branches matter, as after training; their initial scale is small."""
    codec = tiny_codec(name)
    for key, tensor in codec.state_dict().items():
        if key.endswith(".scale"):
            tensor.fill_(1.0)
        if key.endswith("coder.project_out.weight"):
            tensor.div_(START)
        if key.endswith(".norm.bias"):
            tensor.fill_(0.1)
    return codec


def perturbed(codec, share):
    """The model with every weight changed at random by `share` of its size."""
    generator = seeded(1)
    for tensor in codec.state_dict().values():
        if tensor.is_floating_point():
            tensor.mul_(1 + share * torch.randn(tensor.shape, generator=generator))
    return codec


@pytest.fixture
def folder(tmp_path):
    save_fingerprint(take_fingerprint(trained_codec()), tmp_path)
    return tmp_path


def refusal(codec, folder):
    with pytest.raises(ModelError) as error:
        check_fingerprint(codec, folder)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- What is the same


@pytest.mark.parametrize("name", PARTS)
def test_a_model_has_its_own_fingerprint(tmp_path, name):
    save_fingerprint(take_fingerprint(trained_codec(name)), tmp_path)
    check_fingerprint(trained_codec(name), tmp_path)
    assert json.loads((tmp_path / FINGERPRINT_FILE).read_text())["torch_version"] == torch.__version__


def test_a_model_without_fingerprint_passes(tmp_path):
    check_fingerprint(tiny_codec(), tmp_path)


def test_rounding_passes(folder):
    check_fingerprint(perturbed(trained_codec(), 1e-6), folder)


@pytest.mark.parametrize("name", PARTS)
def test_float32_is_within_a_tenth_of_the_tolerance(name):
    """Compared with float64. Another device may deviate as much in the other direction."""
    expected = take_fingerprint(trained_codec(name))
    precise = trained_codec(name)
    precise.encoder.double()
    precise.decoder.double()
    deviation = measure_deviation(precise, expected)
    assert 0 < deviation.latents < MAX_DEVIATION / 10
    assert 0 < deviation.audio < MAX_AUDIO_DEVIATION / 10


def test_a_near_tie_passes(folder):
    """A frame whose first code flips has other codes at all levels, and other audio is decoded from them."""
    codec = trained_codec()
    check_fingerprint(codec, with_flipped_frames(codec, 2, folder))


def with_flipped_frames(codec, num_frames, folder):
    """The folder with a fingerprint whose first codes differ from the model's."""
    codes = torch.tensor(take_fingerprint(codec).codes)[None]
    codes[..., :num_frames] = (codes[..., :num_frames] + 1) % codec.quantizer.codebook_size
    stored = dataclasses.replace(take_fingerprint(codec, codes), codes=tuple(map(tuple, codes[0].tolist())))
    save_fingerprint(stored, folder)
    return folder


# ---- What is not


def test_too_many_different_codes_are_refused(folder):
    codec = trained_codec()
    message = refusal(codec, with_flipped_frames(codec, 20, folder))
    assert re.search(one_line("5%", "level 1", "1%"), message)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_changed_weight_is_noticed(folder, part):
    for key, tensor in trained_codec().state_dict().items():
        if key.startswith(f"{part}.") and tensor.is_floating_point():
            codec = trained_codec()
            codec.state_dict()[key].view(-1)[0] += 0.05 * float(tensor.abs().max())
            message = refusal(codec, folder)
            assert ("latents differ" if part == "encoder" else "decoded samples differ") in message, key


@pytest.mark.parametrize("level", range(4))
def test_a_shuffled_codebook_is_noticed(folder, level):
    codec = trained_codec()
    table = codec.quantizer.codebooks.table
    table[level] = table[level].roll(1, dims=0)
    assert f"100% of the codes of level {level + 1} differ" in refusal(codec, folder)


def test_weights_in_the_wrong_byte_order_are_noticed(folder):
    codec = trained_codec()
    for tensor in inference_tensors(codec).values():
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(tensor.numpy().byteswap()).nan_to_num(0.0))
    assert "latents differ by" in refusal(codec, folder)


def test_another_gelu_is_noticed(folder, monkeypatch):
    exact = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x: exact(x, approximate="tanh"))
    assert "latents differ by" in refusal(trained_codec(), folder)


def test_another_padding_is_noticed(folder, monkeypatch):
    def replicate(module, x, length, cache):
        return F.pad(x, (length, 0), mode="replicate")

    monkeypatch.setattr(layers, "with_left_context", replicate)
    assert "latents differ by" in refusal(trained_codec(), folder)


def test_products_in_tf32(folder, monkeypatch):
    """Ten bits of mantissa, as if `full_precision` no longer switched it off."""
    linear = F.linear

    def tf32(x):
        return (x.contiguous().view(torch.int32) + 0x1000 & ~0x1FFF).view(torch.float32)

    monkeypatch.setattr(F, "linear", lambda x, weight, bias=None: linear(tf32(x), tf32(weight), bias))
    assert "latents differ by" in refusal(trained_codec(), folder)


def test_a_delay_of_one_sample_is_noticed(folder, monkeypatch):
    monkeypatch.setattr(fingerprint, "fingerprint_signal", lambda rate: fingerprint_signal(rate).roll(1))
    assert "latents differ by" in refusal(trained_codec(), folder)


def test_a_model_that_gives_nan_is_noticed(folder):
    codec = trained_codec()
    codec.decoder.state_dict()["skip.weight"].fill_(torch.nan)
    assert "decoded samples differ by nan" in refusal(codec, folder)


@pytest.mark.parametrize(("frame", "expected"), [(0, 0.1 / 4), (1, 0.1 / 0.5)])
def test_a_deviation_is_relative_to_its_frame_or_to_a_quarter_of_the_mean_size(frame, expected):
    """Sizes are 4, 0, 0 and 0, their root mean square is 2."""
    stored = np.zeros((4, fingerprint.NUM_SUMS))
    stored[0] = 4.0
    found = stored.copy()
    found[frame] += 0.1
    assert fingerprint._relative(found, stored) == pytest.approx(expected)


# ---- The message


def test_the_remedy_is_the_version_it_was_made_with(folder):
    path = folder / FINGERPRINT_FILE
    path.write_text(json.dumps(json.loads(path.read_text()) | {"torch_version": "2.11.0+cpu"}))
    message = refusal(perturbed(trained_codec(), 1e-2), folder)
    assert re.search(one_line(folder, "torch 2.11.0+cpu", torch.__version__, "cpu", "torch==2.11.0"), message)


def test_with_the_same_version_the_remedy_is_another_device(folder):
    assert re.search(one_line("another device"), refusal(perturbed(trained_codec(), 1e-2), folder))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text[:-5], "Expecting|Unterminated|delimiter"),
        (lambda text: "[1]", "should be a dictionary"),
        (lambda text: text.replace('"latents"', '"latent"'), "latents: Field required"),
        (lambda text: json.dumps(json.loads(text) | {"codes": [[1, 2], [3]]}), "4 levels and 402 frames"),
        (lambda text: json.dumps(json.loads(text) | {"latents": [[0.0] * 16]}), "4 levels and 402 frames"),
        (lambda text: json.dumps(json.loads(text) | {"audio": [[0.0]] * 402}), "4 levels and 402 frames"),
        (lambda text: json.dumps(json.loads(text) | {"codes": [[99] * 402] * 4}), "0 .. 15"),
        (lambda text: text + "\xff", "can't decode|codec"),
    ],
)
def test_a_damaged_fingerprint_is_refused(folder, change, reason):
    path = folder / FINGERPRINT_FILE
    path.write_bytes(change(path.read_text()).encode("latin-1"))
    with pytest.raises(ModelError, match=rf"fit.*both.*({reason})") as error:
        check_fingerprint(trained_codec(), folder)
    assert "\n" not in str(error.value)


# ---- The signal


def test_the_signal_never_changes():
    """All stored fingerprints depend on this signal and these signs."""
    pcm = (fingerprint_signal(16_000) * 2**15).to(torch.int16)
    assert len(pcm) == 8000
    assert (
        hashlib.sha256(pcm.numpy().astype("<i2").tobytes()).hexdigest()
        == "d99c6022218568f7a577f503185f9ca679147ccb51a0d023911aaf646bdcbeef"
    )
    sums = [fingerprint._signed_sums(row)[0] for row in torch.eye(4)[:, None]]
    signs = ["".join("+" if number > 0 else "-" for number in row) for row in sums]
    assert signs == ["-++++---+---+---", "+--+----++-+-++-", "+----+++++++----", "+----+-+--+--++-"]


def test_the_signal_is_loud_and_does_not_clip():
    for rate in (8000, 16_000, 44_100):
        signal = fingerprint_signal(rate)
        assert signal.dtype == torch.float32
        assert 0.05 < signal.square().mean().sqrt() < 0.3
        assert signal.abs().max() < 1


def test_sums_depend_on_every_element():
    frames = noise(50, 320)
    sums = torch.tensor(fingerprint._signed_sums(frames))
    assert sums.shape == (50, 16)
    assert sums.square().mean().sqrt() == pytest.approx(0.3, rel=0.1)  # of 800 numbers whose deviation is 0.3
    for row, column in ((0, 0), (17, 200), (49, 319)):
        changed = frames.clone()
        changed[row, column] += 1
        moved = torch.tensor(fingerprint._signed_sums(changed)) - sums
        assert moved[row].abs() == pytest.approx(320**-0.5, rel=1e-5)
        assert not moved[torch.arange(50) != row].any()


# ---- The identity beside it


def test_a_signed_model_is_known_by_its_identity(tmp_path):
    codec = trained_codec()
    sign_model(codec, tmp_path)
    stored = json.loads((tmp_path / FINGERPRINT_FILE).read_text())
    assert stored["identity"] == model_identity(codec).hex()
    check_identity(codec, tmp_path)
    check_fingerprint(codec, tmp_path)
    codec.decoder.state_dict()["skip.weight"].view(-1)[0].add_(1e-6)  # no result differs by more than rounding
    check_fingerprint(codec, tmp_path)
    with pytest.raises(ModelError, match=one_line(tmp_path, model_identity(codec).hex()[:12], stored["identity"][:12])):
        check_identity(codec, tmp_path)


def test_tables_of_another_model_are_found(tmp_path):
    codec = trained_codec()
    codec.entropy = tiny_tables(codec, noise(2, 1, 2000))
    sign_model(codec, tmp_path)
    codec.entropy = tiny_tables(codec, noise(2, 1, 2000, seed=1))
    check_fingerprint(codec, tmp_path)  # it says nothing of tables
    with pytest.raises(ModelError, match=one_line(tmp_path, "another model", "anew")):
        check_identity(codec, tmp_path)


def test_a_fingerprint_without_identity_says_nothing_of_it(folder, tmp_path):
    check_identity(tiny_codec(seed=5), folder)
    check_identity(tiny_codec(), tmp_path / "nothing")
