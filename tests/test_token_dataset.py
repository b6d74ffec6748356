"""Tokens of a corpus for a language model: every channel once, the same crops everywhere, and damaged shards."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from bitstream_cases import make_bitstream, make_header
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import one_line
from torch.utils.data import DataLoader, DistributedSampler

import codec
from codec.bitstream import Bitstream
from codec.errors import BitstreamError, ConfigError

pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from codec.corpus import shards
from codec.corpus.dataset import TokenDataset

FRAMES = (9, 5, 1, 12, 7, 30, 4)


def write(path, rows):
    shards.write_shard(path, shards.to_table(rows), rows[0].bitstream.header)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Rows of three shards in row groups of one or two rows; every third recording is stereo. And their folder."""
    folder = tmp_path_factory.mktemp("corpus")
    rows = [
        shards.Row(f"{number}.wav", make_bitstream(FRAMES[number % 7], num_channels=1 + (number % 3 == 1)))
        for number in range(14)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "CODES_PER_GROUP", 40)
        for number, part in enumerate((rows[:6], rows[6:13], rows[13:])):
            write(folder / f"tokens-{number:05}.parquet", part)
    assert shards.parquet.ParquetFile(folder / "tokens-00001.parquet").num_row_groups > 2
    return rows, folder


def channels_of(rows):
    return [(path, number, codes) for path, bitstream in rows for number, codes in enumerate(bitstream.codes)]


def test_an_item_is_a_channel_of_a_recording(corpus):
    rows, folder = corpus
    dataset = TokenDataset(folder)
    expected = channels_of(rows)
    assert len(dataset) == len(expected) == 19
    for index in (*range(19), 18, 0, 7):  # in order, and back
        path, channel, codes = expected[index]
        item = dataset[index]
        assert (item.path, item.channel, item.first_frame) == (path, channel, 0)
        assert item.tokens.dtype == torch.int64
        np.testing.assert_array_equal(item.tokens.numpy(), codes)
    with pytest.raises(IndexError):
        dataset[19]
    with pytest.raises(IndexError):
        dataset[-1]


@pytest.mark.parametrize("pattern", ["parallel", "flat", "delay"])
def test_patterns_of_items_lead_back_to_the_codes(corpus, pattern):
    rows, folder = corpus
    dataset = TokenDataset(folder, pattern=pattern)
    shape = {"parallel": (2, 9), "flat": (18,), "delay": (2, 10)}[pattern]
    assert dataset[0].tokens.shape == shape
    for item, (_, _, codes) in zip(dataset, channels_of(rows), strict=True):
        np.testing.assert_array_equal(dataset.pattern.to_codes(item.tokens).numpy(), codes)


def test_the_public_names(corpus):
    dataset = codec.TokenDataset(corpus[1], pattern="flat")
    assert dataset.pattern == codec.FlatPattern(2, 5)
    assert {codec.DelayPattern(2, 5).vocabulary_size, codec.ParallelPattern(2, 5).vocabulary_size} == {6}


def test_crops_are_parts_of_the_recording(corpus):
    rows, folder = corpus
    for item, (_, _, codes) in zip(TokenDataset(folder, crop_frames=5), channels_of(rows), strict=True):
        length = min(5, codes.shape[1])
        assert item.tokens.shape == (2, length)
        np.testing.assert_array_equal(item.tokens.numpy(), codes[:, item.first_frame : item.first_frame + length])


def test_crops_start_everywhere_and_anew_in_every_epoch(corpus):
    dataset = TokenDataset(corpus[1], crop_frames=7)
    index = next(index for index, item in enumerate(dataset) if item.path == "0.wav")  # 9 frames: 3 starts
    starts = [dataset.at_epoch(epoch)[index].first_frame for epoch in range(40)]
    assert set(starts) == {0, 1, 2}
    assert dataset.epoch == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 2**40), epoch=st.integers(0, 100), order=st.permutations(range(19)))
def test_a_crop_depends_only_on_seed_epoch_and_index(corpus, seed, epoch, order):
    dataset = TokenDataset(corpus[1], crop_frames=4, seed=seed)
    starts = [item.first_frame for item in dataset.at_epoch(epoch)]
    dataset.at_epoch(epoch + 1)[0]
    assert [dataset.at_epoch(epoch)[index].first_frame for index in order] == [starts[index] for index in order]


def test_seeds_and_items_are_cropped_differently(corpus):
    found = {seed: [item.first_frame for item in TokenDataset(corpus[1], crop_frames=1, seed=seed)] for seed in (0, 1)}
    assert found[0] != found[1]
    alike = [index for index, item in enumerate(TokenDataset(corpus[1])) if item.tokens.shape[1] == 30]
    assert len(alike) == 2
    items = [TokenDataset(corpus[1], crop_frames=1).at_epoch(epoch) for epoch in range(9)]
    assert len({epoch[alike[0]].first_frame - epoch[alike[1]].first_frame for epoch in items}) > 3


def test_a_batch_is_padded_at_the_end(corpus):
    dataset = TokenDataset(corpus[1], pattern="delay")
    items = [dataset[0], dataset[1], dataset[4]]
    batch = dataset.collate(items)
    assert batch.tokens.shape == (3, 2, 13) and batch.mask.shape == (3, 13)
    assert batch.items == items
    for tokens, mask, item in zip(batch.tokens, batch.mask, items, strict=True):
        assert torch.equal(tokens[:, mask], item.tokens)
        assert (tokens[:, ~mask] == dataset.pattern.pad).all()
    flat = TokenDataset(corpus[1], pattern="flat")
    assert flat.collate([flat[0], flat[1]]).tokens.shape == (2, 18)


def test_workers_give_the_same_batches(corpus):
    dataset = TokenDataset(corpus[1], pattern="delay", crop_frames=6, seed=3)
    dataset[2]  # the shard is open when the workers start
    here = [
        dataset.collate([dataset[index] for index in range(first, min(first + 4, 19))]) for first in range(0, 19, 4)
    ]
    loader = DataLoader(dataset, 4, num_workers=2, collate_fn=dataset.collate)
    for batch, expected in zip(loader, here, strict=True):
        assert torch.equal(batch.tokens, expected.tokens) and torch.equal(batch.mask, expected.mask)
        assert [item.path for item in batch.items] == [item.path for item in expected.items]


def test_ranks_share_the_items(corpus):
    dataset = TokenDataset(corpus[1])
    seen = []
    for rank in range(2):
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True, seed=1, drop_last=True)
        loader = DataLoader(dataset, batch_size=3, sampler=sampler, collate_fn=dataset.collate)
        seen += [(item.path, item.channel) for batch in loader for item in batch.items]
    assert len(seen) == len(set(seen)) == 18


def test_a_pickled_copy_opens_the_shards_for_itself(corpus):
    dataset = TokenDataset(corpus[1])
    dataset[5]
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    assert torch.equal(pickle.loads(data)[5].tokens, dataset[5].tokens)


def test_shards_may_be_listed(corpus):
    folder = corpus[1]
    parts = [folder / "tokens-00002.parquet", str(folder / "tokens-00000.parquet")]
    assert [item.path for item in TokenDataset(parts)][:3] == ["13.wav", "13.wav", "0.wav"]
    assert len(TokenDataset(folder / "tokens-00002.parquet")) == 2


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"pattern": "Delay"}, ("no pattern 'Delay'", "parallel, flat, delay")),
        ({"crop_frames": 0}, ("crop_frames", "at least 1", "0")),
    ],
)
def test_wrong_options_are_named(corpus, options, facts):
    with pytest.raises(ConfigError, match=one_line(*facts)):
        TokenDataset(corpus[1], **options)


def test_a_source_without_shards_is_refused(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere", tmp_path / "tokens-00000.parquet"):
        with pytest.raises(ConfigError, match=one_line(source, "tokens-*.parquet", "codec-encode")):
            TokenDataset(source)
    with pytest.raises(ConfigError, match=one_line("no shards", "empty")):
        TokenDataset([])


def test_shards_of_two_models_are_refused(corpus, tmp_path):
    header = replace(make_header(3), model_id=bytes(32))
    other = write(tmp_path / "other.parquet", [shards.Row("a", Bitstream(header, make_bitstream(3).codes))])
    first = corpus[1] / "tokens-00000.parquet"
    with pytest.raises(ConfigError, match=one_line(first, other, "different models")):
        TokenDataset([first, other])


def test_damage_names_the_shard(corpus, tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no shard PAR1")
    with pytest.raises(BitstreamError, match=one_line(tmp_path / "a.parquet", "shard")):
        TokenDataset(tmp_path / "a.parquet")
    path = write(tmp_path / "tokens-00000.parquet", corpus[0])
    dataset = TokenDataset(path)
    path.unlink()
    with pytest.raises(BitstreamError, match=one_line(path, "No such file")):
        dataset[0]


def test_a_wrong_checksum_is_an_error_of_its_item_alone(corpus, tmp_path):
    table = shards.to_table(corpus[0][:4])
    crc = table["crc"].to_pylist()
    crc[2] ^= 1
    table = table.set_column(7, "crc", shards.pa.array(crc, shards.pa.uint32()))
    shards.write_shard(tmp_path / "tokens-00000.parquet", table, make_header())
    dataset = TokenDataset(tmp_path)
    assert [dataset[index].path for index in (0, 1, 2, 4)] == ["0.wav", "1.wav", "1.wav", "3.wav"]
    with pytest.raises(BitstreamError, match=one_line("tokens-00000.parquet", "2.wav", "damaged")):
        dataset[3]


def test_hugging_face_loads_the_same_codes(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="run  pip install datasets")
    rows, folder = corpus
    files = [str(path) for path in shards.shard_paths(folder)]
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path))
    for found, (path, bitstream) in zip(loaded, rows, strict=True):
        assert found["path"] == path
        shape = (found["channels"], found["levels"], found["frames"])
        np.testing.assert_array_equal(np.reshape(found["codes"], shape), bitstream.codes)
