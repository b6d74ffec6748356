"""Beam search: exact rules on tiny quantizers, smaller errors on larger ones, and that every encoder passes it on."""

import itertools

import pytest
import torch
from einops import rearrange
from messages import one_line
from models import HOP, assert_beam_codes_equal, make_quantizer, noise, seeded, tiny_codec

from codec.audio.file import save_audio
from codec.config import FILE_BEAM, FSQConfig, QuantizerConfig
from codec.errors import ConfigError
from codec.inference.batching import Recording, compress_batch
from codec.inference.compression import compress, compress_file, compress_source, read_bitstream
from codec.inference.streaming import StreamEncoder
from codec.model.quantizer import residual as vector_quantizers
from codec.model.quantizer.beam import MAX_BEAM, Extension, extend, keep_unless, slice_length
from codec.model.quantizer.initialization import Initialization
from codec.onnx.check import NEAR_TIE, tie_margin
from codec.onnx.engine import OnnxCodec, load_onnx
from codec.onnx.graphs import trace_graphs

STRUCTURES = {
    "residual": {},
    "split": {"structure": "split", "split_at": 2, "part_of_level": (0, 1, 0, 1)},
    "normalize": {"normalize": True},
    "simvq": {"update": "simvq", "dead_threshold": 0},
}


def quantizer_of(name="residual", *, seed=0, **facts):
    """A quantizer of 12 latent channels in six dimensions, with codebooks from k-means, and latents."""
    facts = {"num_quantizers": 4, "codebook_size": 16, "codebook_dim": 6} | STRUCTURES[name] | facts
    codec = tiny_codec(seed=seed, quantizer=QuantizerConfig(**facts))
    return codec.quantizer, codec.encoder(noise(3, 1, 40 * HOP, seed=seed + 7))


def vectors_of(quantizer, latents):
    return rearrange(quantizer.project_in(latents), "b d f -> (b f) d")


def errors(quantizer, latents, codes):
    """Squared error of each vector of code space, `[M]`."""
    found = quantizer._lookup(rearrange(codes, "b k f -> k (b f)"))
    return (vectors_of(quantizer, latents) - found).square().sum(-1)


def reference(vector, table, beam):
    """Codes of one vector by brute force: all extensions in order, the best few by a stable sort."""
    paths = [()]
    for level, codebook in enumerate(table):
        extended = [(*path, index) for path in paths for index in range(len(codebook))]
        sums = [sum(table[place][index] for place, index in enumerate(path)) for path in extended]
        distances = [float((vector - found).square().sum()) for found in sums]
        order = sorted(range(len(extended)), key=distances.__getitem__)
        paths = [extended[place] for place in order[: 1 if level + 1 == len(table) else beam]]
    return list(paths[0])


# ---- Exact rules


@pytest.mark.parametrize("name", STRUCTURES)
def test_one_path_is_the_greedy_search(name, monkeypatch):
    quantizer, latents = quantizer_of(name)
    expected = quantizer.encode(latents)
    monkeypatch.setattr(vector_quantizers, "extend", None)  # no beam search can be used
    assert torch.equal(quantizer.encode(latents, beam=1), expected)
    assert torch.equal(quantizer.encode(latents, 3, beam=1), expected[:, :3])


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("beam", [2, 3, 8])
def test_codes_equal_a_reference_search(name, beam):
    """The reference computes errors in float64; these vectors have no near-ties."""
    quantizer, latents = quantizer_of(name)
    latents = latents[:1, :, :12]
    table = quantizer.codebooks.table.detach().double()
    expected = [reference(vector, table, beam) for vector in vectors_of(quantizer, latents).double()]
    assert quantizer.encode(latents, beam=beam)[0].T.tolist() == expected


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_beam_that_keeps_all_paths_finds_the_best_sum(name):
    quantizer, latents = quantizer_of(
        name, num_quantizers=3, codebook_size=4, **({"part_of_level": (0, 1, 0)} if name == "split" else {})
    )
    every = torch.tensor(list(itertools.product(range(4), repeat=3))).T
    sums = quantizer._lookup(every).double()
    best = (vectors_of(quantizer, latents).double()[:, None] - sums).square().sum(-1).amin(-1)
    found = errors(quantizer, latents, quantizer.encode(latents, beam=16))
    torch.testing.assert_close(found.double(), best, rtol=1e-4, atol=1e-7)
    assert errors(quantizer, latents, quantizer.encode(latents)).mean() > found.mean()


@pytest.mark.parametrize("groups", [False, True])
def test_of_equal_paths_the_first_wins(groups):
    """Every codeword is there more than once; all numbers are small integers, and no rounding breaks a tie."""
    size, num_frames = 256, 300 if groups else 3
    quantizer = make_quantizer(num_quantizers=3, codebook_size=size, latent_dim=2, codebook_dim=2)
    half = torch.randint(-9, 10, (3, size // 2), generator=seeded(0)).float()
    quantizer.codebooks.table.zero_()
    quantizer.codebooks.table[..., 0] = half.repeat(1, 2)  # of one dimension: norms are integers
    latents = torch.randint(-12, 13, (1, 2, num_frames), generator=seeded(1)).float()
    codes = quantizer.encode(latents, beam=4)
    assert (codes < size // 2).all()
    table = quantizer.codebooks.table.double()
    for frame in range(min(num_frames, 12)):
        assert codes[0, :, frame].tolist() == reference(latents[0, :, frame].double(), table, 4)
    zeros = torch.zeros(1, 2, num_frames)
    quantizer.codebooks.table.zero_()
    assert (quantizer.encode(zeros, beam=4) == 0).all()


@pytest.mark.parametrize(("num_vectors", "size"), [(2, 256), (100, 256), (100, 250)])
@pytest.mark.parametrize("num_kept", [1, 5, 64])
def test_an_extension_is_a_stable_sort_of_all(num_vectors, size, num_kept):
    """Small integers of one dimension: many are equal, the best of a column too, and all errors are exact."""
    residual = torch.randint(-60, 61, (num_vectors, 3, 1), generator=seeded(0)).float()
    codebook = torch.randint(-60, 61, (size, 1), generator=seeded(1)).float()
    scores = (residual - codebook.T).square().flatten(1)
    order = scores.sort(dim=1, stable=True).indices[:, :num_kept]
    found = extend(residual, residual.flatten(0, 1), codebook, codebook.square().sum(-1), num_kept)
    assert torch.equal(found.paths * size + found.indices, order)


@pytest.mark.parametrize("name", STRUCTURES)
def test_the_slice_length_does_not_change_codes(name, monkeypatch):
    quantizer, latents = quantizer_of(name, codebook_size=256)
    whole = quantizer.encode(latents, beam=4)
    for length in (1, 7, 90, 119):
        monkeypatch.setattr(vector_quantizers, "slice_length", lambda *_, length=length: length)
        found = quantizer.encode(latents, beam=4)
        assert (found == whole).all(dim=1).double().mean() > 0.97
        assert torch.isclose(*(errors(quantizer, latents, codes).mean() for codes in (found, whole)), rtol=1e-3)


def test_every_slice_has_the_levels_of_its_own_vectors(monkeypatch):
    quantizer, latents = quantizer_of()
    quantizer.codebooks.table[1:, 0] = 0.0
    num_active = 1 + torch.arange(3 * 40).view(3, 40) % 4
    expected = quantizer.encode(latents, beam=4, num_active=num_active)
    monkeypatch.setattr(vector_quantizers, "slice_length", lambda *_: 7)
    assert torch.equal(quantizer.encode(latents, beam=4, num_active=num_active), expected)


def test_a_vector_that_does_not_use_a_level_keeps_its_paths_in_their_order():
    """The best path of the level before need not have the best extension."""
    found = Extension(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[5, 6], [7, 8]]))
    kept = keep_unless(torch.tensor([True, False]), found)
    assert kept.paths.tolist() == [[1, 0], [0, 1]]
    assert kept.indices.tolist() == [[5, 6], [0, 0]]


def test_a_slice_of_scores_fits_the_memory_limit():
    for device, limit in (("cpu", 4e6), ("meta", 64e6)):
        for num_paths, size in ((2, 1024), (64, 1024), (8, 2)):
            length = slice_length(num_paths, size, torch.device(device))
            assert limit / 2 < 4 * length * num_paths * size <= 1.05 * limit
    assert slice_length(64, 65536, torch.device("cpu")) == 1


# ---- Smaller errors


@pytest.mark.parametrize("name", ["residual", "split", "normalize"])
def test_wider_beams_have_smaller_errors(name):
    quantizer, latents = quantizer_of(name, codebook_size=64)
    found = [float(errors(quantizer, latents, quantizer.encode(latents, beam=beam)).mean()) for beam in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[3] < (0.995 if name == "split" else 0.95) * found[0]  # two levels of a part leave little to choose


def test_random_codebooks_gain_a_quarter_from_a_beam_of_eight():
    quantizer = make_quantizer(num_quantizers=8, codebook_size=256, latent_dim=16, codebook_dim=16)
    quantizer.codebooks.table.mul_(0.7 ** torch.arange(8.0)[:, None, None])
    latents = noise(1, 16, 400, scale=1.0)
    found = [float(errors(quantizer, latents, quantizer.encode(latents, beam=beam)).mean()) for beam in (1, 2, 4, 8)]
    assert found == sorted(found, reverse=True)
    assert found[3] < 0.75 * found[0]


# ---- Levels


def test_the_first_levels_of_a_beam_decode():
    quantizer, latents = quantizer_of()
    codes = quantizer.encode(latents, beam=8)
    found = [float(errors(quantizer, latents, codes[:, :levels]).mean()) for levels in (1, 2, 3, 4)]
    assert found == sorted(found, reverse=True)
    two = sum(quantizer.codebooks.table[level, codes[:, level]] for level in range(2))
    torch.testing.assert_close(quantizer.decode(codes[:, :2]), quantizer.project_out(two.mT))


def test_a_beam_over_two_levels_beats_the_first_two_of_four():
    quantizer, latents = quantizer_of()
    two, four = quantizer.encode(latents, 2, beam=8), quantizer.encode(latents, beam=8)
    assert errors(quantizer, latents, two).mean() < errors(quantizer, latents, four[:, :2]).mean()
    assert torch.equal(quantizer.encode(latents, 1, beam=8), quantizer.encode(latents, 1))


@pytest.mark.parametrize(
    "config",
    [
        FSQConfig(steps=(5, 4, 3)),
        QuantizerConfig(structure="product", num_quantizers=4, codebook_size=16),
        QuantizerConfig(num_quantizers=1, codebook_size=64),
    ],
    ids=["fsq", "product", "one level"],
)
def test_the_beam_changes_nothing_without_residual_levels(config, monkeypatch):
    codec = tiny_codec(quantizer=config)
    monkeypatch.setattr(vector_quantizers, "extend", None)
    audio = noise(2, 1, 500)
    assert torch.equal(codec.encode(audio, beam=8), codec.encode(audio))
    with pytest.raises(ConfigError, match=one_line("beam", 0)):
        codec.encode(audio, beam=0)


def test_gradient_codebooks_give_codes_without_gradient():
    quantizer = make_quantizer("gradient")
    codes = quantizer.encode(noise(2, 10, 20).requires_grad_(), beam=4)
    assert codes.dtype == torch.int64 and not codes.requires_grad


# ---- Every way to encode


def test_every_way_to_encode_gives_the_codes_of_the_beam():
    codec, audio = tiny_codec(), noise(2, 1, 5_001)
    latents = codec.encoder(codec.pad(audio))
    codes = codec.encode(audio, beam=8)
    greedy, found = (errors(codec.quantizer, latents, each).mean() for each in (codec.encode(audio), codes))
    assert found < greedy
    stream = StreamEncoder(codec, beam=8)
    blocks = [*map(stream.push, audio.split([1, 700, 3, 4_297], dim=-1)), stream.flush()]
    assert_beam_codes_equal(codec, torch.cat(blocks, dim=-1), codes, codec.pad(audio), 8)
    singly = torch.cat([codec.encode(each[None], beam=8) for each in audio])
    assert_beam_codes_equal(codec, singly, codes, codec.pad(audio), 8)
    (together,) = compress_batch(codec, [Recording(audio[:, 0], 16_000, 5_001)], beam=8)
    for bitstream in (compress(codec, audio.transpose(0, 1), beam=8), together):
        assert_beam_codes_equal(codec, torch.from_numpy(bitstream.codes), codes, codec.pad(audio), 8)


def test_files_are_searched_by_their_own_beam_unless_another_is_asked_for(tmp_path):
    codec, path = tiny_codec(), tmp_path / "a.wav"
    save_audio(path, noise(1, 1, 3_000).clamp(-1, 1), 16_000)
    for beam, facts in ((FILE_BEAM, {}), (1, {"beam": 1}), (3, {"beam": 3})):
        compress_file(codec, path, tmp_path / "a.codec", overwrite=True, **facts)
        bitstream = compress_source(codec, path, beam=beam)
        assert bitstream.to_bytes() == read_bitstream(tmp_path / "a.codec").to_bytes()
    assert bitstream.to_bytes() != compress_source(codec, path, beam=1).to_bytes()


@pytest.mark.parametrize("beam", [0, -1, MAX_BEAM + 1])
def test_a_beam_out_of_range_is_refused(beam, tmp_path):
    codec, audio = tiny_codec(), noise(1, 1, 500)
    calls = [
        lambda: codec.quantizer.encode(codec.encoder(codec.pad(audio)), beam=beam),
        lambda: codec.encode(audio, beam=beam),
        lambda: StreamEncoder(codec, beam=beam),
        lambda: compress(codec, audio, beam=beam),
        lambda: compress_batch(codec, [Recording(audio[0], 16_000, 500)], beam=beam),
    ]
    for each in calls:
        with pytest.raises(ConfigError, match=one_line("beam", beam, 1, MAX_BEAM)):
            each()


def test_a_stream_goes_on_with_its_beam():
    codec, audio = tiny_codec(), noise(1, 1, 40 * HOP)
    encoder = StreamEncoder(codec, beam=8)
    encoder.push(audio[..., : 10 * HOP + 3])
    state = encoder.state()
    restored = StreamEncoder.restore(codec, state)
    assert restored.beam == 8
    residual = audio[..., 10 * HOP + 3 :]
    assert torch.equal(restored.push(residual), encoder.push(residual))
    for wrong in (0, 65):
        with pytest.raises(ConfigError, match=one_line("beam", wrong, 1, MAX_BEAM)):
            StreamEncoder.restore(codec, state | {"beam": torch.tensor(wrong)})


# ---- ONNX


@pytest.mark.parametrize("name", STRUCTURES)
def test_a_graph_with_a_beam_gives_the_codes_of_pytorch(name):
    codec = tiny_codec(quantizer=QuantizerConfig(**{"num_quantizers": 4, "codebook_size": 16} | STRUCTURES[name]))
    engine = OnnxCodec(codec, trace_graphs(codec, beam=4))
    codec.encode_frames = None  # the graph alone
    for batch, num_frames in ((1, 1), (2, 7), (3, 40)):
        audio = noise(batch, 1, num_frames * HOP, seed=num_frames)
        expected = tiny_codec(quantizer=codec.config.quantizer).encode_frames(audio, beam=4)
        assert_beam_codes_equal(codec, engine._encode(audio, None), expected, audio, 4)
        assert torch.equal(engine.encode_frames(audio, beam=4), engine._encode(audio, None))


@pytest.fixture(scope="module")
def codec_and_engines():
    """A codec, and its engines with a greedy search and with a beam of 4 in the graph."""
    codec = tiny_codec()
    return codec, (load_onnx(codec), OnnxCodec(codec, trace_graphs(codec, beam=4)))


@pytest.mark.parametrize("beam", [1, 4, 8])
@pytest.mark.parametrize("levels", [None, 2, 1])
def test_the_engine_searches_by_the_beam_of_each_call(codec_and_engines, beam, levels):
    codec, engines = codec_and_engines
    audio = noise(2, 1, 40 * HOP)
    expected = codec.encode(audio, levels, beam=beam)
    for engine in engines:
        found = engine.encode(audio, levels, beam=beam)
        assert_beam_codes_equal(codec, found, expected, codec.pad(audio), beam)
        stream = StreamEncoder(engine, levels, beam=beam)
        blocks = [*map(stream.push, audio.split([33, 7 * HOP, 33 * HOP - 33], dim=-1)), stream.flush()]
        assert_beam_codes_equal(codec, torch.cat(blocks, dim=-1), expected, codec.pad(audio), beam)


def test_the_tie_margin_of_a_wrong_code_is_large():
    codec, audio = tiny_codec(), noise(2, 1, 20 * HOP)
    codes = codec.encode_frames(audio, beam=4)
    others = codes.clone()
    others[0, -1, 5] = (others[0, -1, 5] + 1) % 16
    assert tie_margin(codec, audio, codes, codes, beam=4) == 0
    assert tie_margin(codec, audio, codes, others, beam=4) > 10 * NEAR_TIE


def test_two_equal_codewords_are_a_tie_of_paths():
    codec, audio = tiny_codec(), noise(2, 1, 20 * HOP)
    codec.quantizer.codebooks.table[3, 8:] = codec.quantizer.codebooks.table[3, :8]
    codes = codec.encode_frames(audio, beam=4)
    others = codes.clone()
    others[:, 3] = (codes[:, 3] + 8) % 16
    assert tie_margin(codec, audio, codes, others, beam=4) <= 1e-12


def test_two_equal_sums_are_a_tie_of_paths_that_parted_early():
    codec, audio = tiny_codec(quantizer=QuantizerConfig(num_quantizers=2, codebook_size=16)), noise(2, 1, 20 * HOP)
    table = codec.quantizer.codebooks.table
    table[:, 2:] += 100.0
    table[0, 1] = -table[0, 0]
    table[1, 0], table[1, 1] = -table[0, 0], table[0, 0]  # codes 0, 0 and codes 1, 1 are both zero
    codes = codec.encode_frames(audio, beam=4)
    equal = codes[:, 0] == codes[:, 1]
    assert equal.any()
    others = torch.where(equal[:, None], 1 - codes, codes)
    assert tie_margin(codec, audio, codes, others, beam=4) <= 1e-12
    assert tie_margin(codec, audio, codes, others) > NEAR_TIE


def test_a_beam_finds_sums_of_codewords_that_the_greedy_search_misses():
    quantizer = make_quantizer(num_quantizers=2, codebook_size=16, latent_dim=6, codebook_dim=6)
    quantizer.initialize(noise(4, 6, 200), initialization=Initialization(iterations=5), generator=seeded(0))
    codes = torch.randint(0, 16, (1, 2, 50), generator=seeded(1))
    latents = quantizer.decode(codes)
    assert errors(quantizer, latents, quantizer.encode(latents, beam=16)).max() < 1e-9
    assert errors(quantizer, latents, quantizer.encode(latents)).max() > 1e-4
