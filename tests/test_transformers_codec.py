"""Codecs of transformers: the same as calling the library, and what of our laws they keep."""

import json
import pickle

import pytest
import torch
from messages import one_line
from models import noise
from tiny_transformers import FRAMES, KINDS, save_tiny, their_codes

from codec.adapters import transformers_codec
from codec.adapters.transformers_codec import load_transformers
from codec.errors import AudioError, BitstreamError, ConfigError, ModelError
from codec.model.codec import Codec

pytestmark = pytest.mark.filterwarnings("default")  # of transformers, which is not ours
pytest.importorskip("transformers")

every_family = pytest.mark.parametrize("family", KINDS)
_models = {}


@pytest.fixture
def models(family, tmp_path_factory):
    """The model of the library and ours from its folder, loaded once for all tests."""
    if family not in _models:
        folder = tmp_path_factory.mktemp(family)
        _models[family] = save_tiny(family, folder), load_transformers(folder)
    return _models[family]


@every_family
def test_sizes(family, models):
    _, codec = models
    num_quantizers, hop_length = FRAMES[family]
    rate = {"xcodec": 16_000, "xcodec2": 16_000, "higgs_audio_v2_tokenizer": 24_000}.get(family, 8000)
    size = 65_536 if family == "xcodec2" else 16
    found = codec.sample_rate, codec.num_quantizers, codec.hop_length, codec.codebook_size
    assert found == (rate, num_quantizers, hop_length, size)
    assert codec.bitrate_per_level == rate / hop_length * (16 if family == "xcodec2" else 4)
    assert codec.device.type == "cpu" and not codec.training and not isinstance(codec, Codec)


@every_family
def test_codes_and_audio_are_those_of_the_library(family, models):
    """By its own feature extractor, at every length around whole frames."""
    reference, codec = models
    hop = codec.hop_length
    seen = set()
    for num_samples in (1, 2, hop - 1, hop, hop + 1, 2 * hop, 9 * hop + hop // 2):
        audio = noise(num_samples, seed=num_samples)
        codes = codec.encode(audio[None, None])
        assert torch.equal(codes, their_codes(family, reference, [audio])), num_samples
        assert codes.shape == (1, codec.num_quantizers, codec.num_frames(num_samples))
        seen |= set(codes.flatten().tolist())
        given = {"audio_codes": codes[None], "audio_scales": [None]} if family == "encodec" else {"audio_codes": codes}
        with torch.no_grad():
            theirs = reference.decode(**given).audio_values.reshape(1, 1, -1)[..., :num_samples]
        decoded = codec.decode(codes, num_samples)
        assert decoded.shape == (1, 1, num_samples) and decoded.dtype == torch.float32
        torch.testing.assert_close(decoded[..., : theirs.shape[-1]], theirs, rtol=1e-5, atol=1e-6)
    assert len(seen) > 4 and decoded.abs().max() > 1e-3


@every_family
def test_the_number_of_frames(family, models):
    """ceil(T / hop_length); X-Codec2 appends a sample first."""
    _, codec = models
    hop, tail = codec.hop_length, family == "xcodec2"
    for num_samples, frames in ((1, 1), (hop - 1, 1), (hop, 1 + tail), (hop + 1, 2), (3 * hop, 3 + tail)):
        assert codec.num_frames(num_samples) == codec.encode(noise(1, 1, num_samples)).shape[-1] == frames


@pytest.mark.parametrize("family", ["encodec", "dac", "mimi", "xcodec", "higgs_audio_v2_tokenizer"])
def test_the_first_levels_do_not_depend_on_how_many_there_are(family, models):
    _, codec = models
    audio = noise(1, 1, 12 * codec.hop_length)
    codes = codec.encode(audio)
    for levels in range(1, codec.num_quantizers + 1):
        assert torch.equal(codec.encode(audio, levels), codes[:, :levels])
        assert codec.decode(codes[:, :levels], 1).shape == (1, 1, 1)


@pytest.mark.parametrize(("family", "bandwidth"), [("encodec", 4.0), ("xcodec", 0.4)])
def test_levels_that_are_not_wanted_are_not_computed(family, bandwidth, models, monkeypatch):
    _, codec = models
    seen = []
    encode = codec.model.encode
    monkeypatch.setattr(codec.model, "encode", lambda *given, **how: seen.append(how) or encode(*given, **how))
    codec.encode(noise(1, 1, 100), 1)
    codec.encode(noise(1, 1, 100))
    assert [how["bandwidth"] for how in seen] == [bandwidth, max(codec.model.config.target_bandwidths)]


@every_family
def test_channels_are_a_batch(family, models):
    _, codec = models
    audio = noise(2, 1, 7 * codec.hop_length)
    codes = codec.encode(audio)
    assert torch.equal(codes, torch.cat([codec.encode(channel[None]) for channel in audio]))


# Of a recording that the library pads behind, so many of the last frames may change; None: all.
CHANGED_BY_PADDING = {
    "encodec": 1,
    "dac": 4,
    "mimi": 1,
    "wavtokenizer": 8,
    "xcodec": None,
    "higgs_audio_v2_tokenizer": None,
    "xcodec2": 8,
}


@every_family
def test_a_batch_of_theirs_changes_the_end_of_a_recording(family, models):
    """Why our commands encode one recording at a time: docs/transformers.md has the table."""
    reference, codec = models
    hop, frames = codec.hop_length, 24
    first_changed = frames
    for seed in range(6):
        audio = noise(frames * hop - codec.delay - (hop // 2 - 1) * (seed % 2), seed=seed)
        alone = their_codes(family, reference, [audio])
        batch = their_codes(family, reference, [audio, noise(40 * hop, seed=9)])[:1, :, :frames]
        assert alone.shape[-1] == frames
        changed = (alone != batch).any(dim=1)[0].nonzero().flatten()
        first_changed = min(first_changed, *changed.tolist(), frames)
    few = CHANGED_BY_PADDING[family]
    assert first_changed < frames // 2 if few is None else frames - few <= first_changed < frames


@pytest.mark.parametrize("family", ["dac"])
def test_a_model_with_odd_strides_decodes_to_zeros_at_the_end(family, tmp_path):
    """DAC for 16 and 24 kHz: a transposed convolution of stride 5 makes a sample less, and the strides behind it 8."""
    save_tiny(family, tmp_path, downsampling_ratios=[2, 4, 5])
    codec = load_transformers(tmp_path)
    decoded = codec.decode(codec.encode(noise(1, 1, 400)))
    assert codec.hop_length == 40 and decoded.shape == (1, 1, 400)
    assert (decoded[..., 392:] == 0).all() and (decoded[..., 380:392] != 0).any()


def loaded(tmp_path, family="dac", **changes):
    save_tiny(family, tmp_path / "model", **changes)
    return load_transformers(tmp_path / "model")


def test_what_it_refuses_to_code(tmp_path):
    codec = loaded(tmp_path)
    with pytest.raises(AudioError, match=one_line("[B, 1, T]")):
        codec.encode(noise(1, 2, 100))
    with pytest.raises(AudioError, match=one_line("NaN")):
        codec.encode(torch.full((1, 1, 100), torch.nan))
    with pytest.raises(AudioError, match=one_line("32768")):
        codec.encode(noise(1, 1, 100, scale=10_000))
    with pytest.raises(ConfigError, match=one_line("4", "1 .. 3")):
        codec.encode(noise(1, 1, 100), 4)
    with pytest.raises(BitstreamError, match=one_line("0 .. 15", "16")):
        codec.decode(torch.full((1, 3, 2), 16))
    with pytest.raises(BitstreamError, match=one_line("2", "1 .. 16", "17")):
        codec.decode(torch.zeros(1, 3, 2, dtype=torch.int64), 17)


def test_an_error_of_the_library_is_one_line(tmp_path, monkeypatch):
    codec = loaded(tmp_path)

    def fail(*given, **how):
        raise RuntimeError("out\nof memory")

    for action in ("encode", "decode"):
        monkeypatch.setattr(codec.model, action, fail)
    with pytest.raises(ModelError, match=one_line("model", "encode", "out of memory")):
        codec.encode(noise(1, 1, 100))
    with pytest.raises(ModelError, match=one_line("model", "decode", "out of memory")):
        codec.decode(torch.zeros(1, 3, 2, dtype=torch.int64))


def test_a_model_of_another_length_than_its_family(tmp_path, monkeypatch):
    codec = loaded(tmp_path)
    codes = codec.encode(noise(1, 1, 80))
    codec.hop_length = 40
    with pytest.raises(ModelError, match=one_line("[1, 3, 10]", "[1, 3, 2]")):
        codec.encode(noise(1, 1, 80))
    with pytest.raises(ModelError, match=one_line("10 frames", "80 samples")):
        codec.decode(codes)


def test_it_is_loaded_again_in_another_process(tmp_path):
    """From its folder: EnCodec with its weight normalisation can't be pickled."""
    codec = loaded(tmp_path, "encodec")
    received = pickle.loads(pickle.dumps(codec))
    audio = noise(1, 1, 100)
    assert received.identity == codec.identity and torch.equal(received.encode(audio), codec.encode(audio))
    sent = pickle.dumps(codec)
    save_tiny("dac", tmp_path / "model")
    with pytest.raises(ModelError, match=one_line(tmp_path / "model", "another model")):
        pickle.loads(sent)


def test_progress_bars_of_the_library_are_hidden_while_it_loads_only(tmp_path, capsys):
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    enable_progress_bars()
    save_tiny("dac", tmp_path / "model")  # shows a bar of its own
    capsys.readouterr()
    load_transformers(tmp_path / "model")
    assert not are_progress_bars_disabled() and "%" not in capsys.readouterr().err


def test_the_weights_are_float32_whatever_the_file_holds(tmp_path):
    save_tiny("dac", tmp_path).half().save_pretrained(tmp_path)
    codec = load_transformers(tmp_path)
    assert {weight.dtype for weight in codec.parameters()} == {torch.float32}
    assert not any(weight.requires_grad for weight in codec.parameters())


def test_folders_that_hold_no_codec(tmp_path):
    with pytest.raises(ConfigError, match=one_line(tmp_path / "none", "save_pretrained")):
        load_transformers(tmp_path / "none")
    with pytest.raises(ModelError, match=one_line(tmp_path, "config.json")):
        load_transformers(tmp_path)
    config = tmp_path / "config.json"
    for text, facts in {
        '{"model_type": "bert"}': ("bert", "encodec, dac, mimi"),
        '{"model_type": "neucodec"}': ("neucodec", "encodec, dac, mimi"),
        '{"sample_rate": 16000}': ("no model of transformers", "transformers:"),
        '{"model_type": "neural_codec", "codec_config": {}}': ("this toolkit", "transformers:"),
    }.items():
        config.write_text(text)
        with pytest.raises(ConfigError, match=one_line(tmp_path, *facts)):
            load_transformers(tmp_path)


def test_encodec_for_48_khz(tmp_path):
    save_tiny("encodec", tmp_path, chunk_length_s=1.0, overlap=0.01, normalize=True)
    with pytest.raises(ConfigError, match=one_line(tmp_path, "chunks", "24 kHz")):
        load_transformers(tmp_path)


def test_a_model_of_two_channels(tmp_path):
    save_tiny("mimi", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"audio_channels": 2}))
    with pytest.raises(ConfigError, match=one_line(tmp_path, "2 channels", "mono")):
        load_transformers(tmp_path)


def test_weights_that_are_missing_are_not_drawn_at_random(tmp_path):
    from safetensors.torch import load_file, save_file

    save_tiny("dac", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["quantizer.quantizers.0.codebook.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=one_line("lacks 1 weights", "quantizer.quantizers.0.codebook.weight")):
        load_transformers(tmp_path)


def test_damaged_weights(tmp_path):
    save_tiny("dac", tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(ModelError, match=one_line(tmp_path)):
        load_transformers(tmp_path)


def test_without_transformers(tmp_path, monkeypatch):
    save_tiny("dac", tmp_path)

    def absent(package, extra):
        raise ConfigError(f"{package} of {extra}")

    monkeypatch.setattr(transformers_codec, "require", absent)
    with pytest.raises(ConfigError, match=r"^transformers of transformers$"):
        load_transformers(tmp_path)
