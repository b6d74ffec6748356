"""Use of the codebooks on audio: counts are those of the codes in files, vectors what each level chose from."""

import numpy as np
import pytest
import soundfile as sf
import torch
from models import noise, tiny_codec
from tiny_runs import buzz

from codec.config import FSQConfig, QuantizerConfig
from codec.errors import AudioError
from codec.eval.inspection import codebooks
from codec.eval.inspection.codebooks import measure_codebook_use
from codec.inference.compression import compress_source
from codec.model.quantizer.quantizer import codebook_health, count_codes

QUANTIZERS = {
    "residual": QuantizerConfig(num_quantizers=4, codebook_size=16, codebook_dim=6),
    "latents": QuantizerConfig(num_quantizers=2, codebook_size=16),
    "product": QuantizerConfig(structure="product", num_quantizers=3, codebook_size=16, codebook_dim=6),
    "split": QuantizerConfig(
        structure="split", split_at=2, part_of_level=(0, 1, 1), num_quantizers=3, codebook_size=16, codebook_dim=6
    ),
    "gradient": QuantizerConfig(update="gradient", num_quantizers=2, codebook_size=16, codebook_dim=6),
    "simvq": QuantizerConfig(update="simvq", num_quantizers=2, codebook_size=16, codebook_dim=6, dead_threshold=0),
    "fsq": FSQConfig(steps=(3, 4, 5)),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_a_code_is_the_codeword_nearest_to_what_its_level_saw(name):
    codec = tiny_codec(quantizer=QUANTIZERS[name])
    quantizer = codec.quantizer
    latents = codec.encoder(noise(2, 1, 50 * codec.hop_length, seed=3))
    codes = quantizer.encode(latents)
    codewords = quantizer.codewords()
    assert codewords.shape[:2] == (quantizer.num_quantizers, quantizer.codebook_size)
    seen = list(quantizer.inputs_of_levels(latents, codes))
    assert len(seen) == quantizer.num_quantizers
    for level, vectors in enumerate(seen):
        distances = torch.cdist(vectors.double(), codewords[level].double())
        chosen = distances.gather(1, codes[:, level].flatten()[:, None])[:, 0]
        torch.testing.assert_close(chosen, distances.amin(dim=1), rtol=1e-4, atol=1e-6)


def test_counts_of_codes_are_those_of_numpy():
    codes = torch.randint(0, 7, (3, 2, 11), generator=torch.Generator().manual_seed(0))
    expected = [np.bincount(codes[:, level].flatten(), minlength=9).tolist() for level in (0, 1)]
    assert count_codes(codes, 9).tolist() == expected


@pytest.fixture
def recordings(tmp_path):
    """Mono, stereo at another rate, and a single frame."""
    sf.write(tmp_path / "mono.wav", buzz(0.3, 150), 16_000)
    sf.write(tmp_path / "stereo.wav", np.stack([buzz(0.2, 110, 22_050), buzz(0.2, 230, 22_050)], axis=1), 22_050)
    sf.write(tmp_path / "short.wav", buzz(0.3, 90)[:1], 16_000)
    return sorted(tmp_path.iterdir())


def test_counts_are_those_of_files(recordings):
    codec = tiny_codec()
    use = measure_codebook_use(codec, recordings, progress=False)
    codes = [compress_source(codec, path).codes for path in recordings]
    expected = sum(count_codes(torch.from_numpy(each), 16) for each in codes)
    assert torch.equal(use.counts, expected)
    for found, right in zip(use.health, codebook_health(expected), strict=True):
        assert torch.equal(found, right)
    assert (use.num_files, use.unread) == (3, {}) and use.seconds == pytest.approx(0.5, abs=1e-3)
    num_frames = sum(each.shape[0] * each.shape[2] for each in codes)
    assert [len(vectors) for vectors in use.vectors] == 4 * [num_frames]
    assert np.array_equal(use.codewords, codec.quantizer.codebooks.table.numpy())


def test_vectors_are_evenly_spaced_frames(recordings, monkeypatch):
    codec = tiny_codec()
    every = measure_codebook_use(codec, recordings[:1], progress=False)
    monkeypatch.setattr(codebooks, "MAX_VECTORS", 50)
    some = measure_codebook_use(codec, recordings[:1], progress=False)
    step = -(-len(every.vectors[0]) // 50)
    assert step > 1 and torch.equal(some.counts, every.counts)
    for few, all_of_them in zip(some.vectors, every.vectors, strict=True):
        np.testing.assert_allclose(few, all_of_them[::step], atol=1e-6)
    assert len(some.vectors[0]) <= 50


def test_a_file_that_is_too_loud_is_named_and_the_others_are_used(recordings):
    codec = tiny_codec()
    sf.write(recordings[0], np.full(800, 5.0), 16_000, subtype="FLOAT")
    use = measure_codebook_use(codec, recordings, progress=False)
    assert list(use.unread) == [recordings[0]] and use.num_files == 2
    assert str(use.unread[recordings[0]]).startswith(f"{recordings[0]}: audio has a peak of 5")


def test_a_file_that_cannot_be_read_is_named_and_the_others_are_used(recordings):
    codec = tiny_codec()
    recordings[0].write_bytes(b"")
    use = measure_codebook_use(codec, recordings, progress=False)
    assert set(use.unread) == {recordings[0]} and use.num_files == 2
    assert torch.equal(use.counts, measure_codebook_use(codec, recordings[1:], progress=False).counts)
    with pytest.raises(AudioError):
        measure_codebook_use(codec, recordings[:1], progress=False)
