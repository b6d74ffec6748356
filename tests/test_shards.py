"""Shards of codes: layout, round trips, reading by path, and every kind of damage."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import make_bitstream
from messages import one_line

from codec.bitstream import Bitstream
from codec.errors import BitstreamError, WriteError

pa = pytest.importorskip("pyarrow", reason="run  pip install pyarrow")
parquet = pytest.importorskip("pyarrow.parquet", reason="run  pip install pyarrow")

from codec.corpus import shards  # noqa: E402 - it can't be imported without pyarrow
from codec.corpus.shards import Row  # noqa: E402

STEREO = make_bitstream(9, num_channels=2, sample_rate=44100)
MONO = make_bitstream(5)
ROWS = [Row("a/stereo.wav", STEREO), Row("mono.flac", MONO)]


def write(path, rows=ROWS):
    shards.write_shard(path, shards.to_table(rows), rows[0].bitstream.header)
    return path


def assert_equal(found, expected):
    assert found.path == expected.path
    np.testing.assert_array_equal(found.bitstream.codes, expected.bitstream.codes)
    facts = replace(expected.bitstream.header, frames_per_chunk=0, payload_kind=0)
    assert replace(found.bitstream.header, frames_per_chunk=0) == facts


def test_a_shard_keeps_everything(tmp_path):
    for found, expected in zip(shards.read_shard(write(tmp_path / "s.parquet")), ROWS, strict=True):
        assert_equal(found, expected)


def test_layout_of_a_row(tmp_path):
    table = parquet.read_table(write(tmp_path / "s.parquet"))
    row = table.to_pylist()[0]
    codes = STEREO.codes
    assert row["codes"] == [codes[channel, level].tolist() for channel in range(2) for level in range(codes.shape[1])]
    assert row["crc"] == zlib.crc32(codes.astype("<u2").tobytes())
    facts = {name: row[name] for name in ("path", "channels", "levels", "frames", "samples", "sample_rate", "model")}
    header = STEREO.header
    assert facts == {
        "path": "a/stereo.wav",
        "channels": 2,
        "levels": codes.shape[1],
        "frames": codes.shape[2],
        "samples": header.num_samples,
        "sample_rate": 44100,
        "model": header.model_id.hex(),
    }
    described = json.loads(table.schema.metadata[b"codec"])
    assert described["version"] == 1 and described["frame_rate"] == header.model_sample_rate / header.hop_length


def test_recordings_are_found_by_path(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "CODES_PER_GROUP", 28)  # two rows of 14 codes on average
    rows = [Row(f"{number}.wav", make_bitstream(4 + number)) for number in range(7)]
    path = write(tmp_path / "s.parquet", rows)
    assert parquet.ParquetFile(path).num_row_groups == 4
    assert shards.read_paths(path) == [row.path for row in rows]
    found = list(shards.read_shard(path, {"5.wav", "0.wav", "none.wav"}))
    assert [row.path for row in found] == ["0.wav", "5.wav"]
    assert_equal(found[1], rows[5])


def test_the_model_of_a_shard(tmp_path):
    model = shards.read_model(write(tmp_path / "s.parquet"))
    expected = replace(MONO.header, sample_rate=MONO.header.model_sample_rate, num_samples=0, frames_per_chunk=0)
    assert replace(model, frames_per_chunk=expected.frames_per_chunk) == expected


def test_shards_are_listed_in_order_and_nothing_else(tmp_path):
    for name in ("tokens-00010.parquet", "tokens-00002.parquet", "tokens-x.parquet", "other.parquet", "tokens-1.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in shards.shard_paths(tmp_path)] == ["tokens-00002.parquet", "tokens-00010.parquet"]


def test_no_rows_are_a_table_too():
    assert shards.to_table([]).num_rows == 0


def test_a_shard_is_never_replaced(tmp_path):
    path = write(tmp_path / "s.parquet")
    with pytest.raises(WriteError, match="already there"):
        write(path)


def test_codes_beyond_uint16_are_refused():
    with pytest.raises(BitstreamError, match="65537 entries"):
        shards.to_table([Row("a", make_bitstream(4, codebook_size=2**16 + 1))])


def changed(tmp_path, **columns):
    """Write a shard in which columns have other values."""
    table = shards.to_table(ROWS)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, shards.SCHEMA.field(name), pa.array(values, shards.SCHEMA.field(name).type))
    shards.write_shard(tmp_path / "s.parquet", table, STEREO.header)
    return tmp_path / "s.parquet"


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"crc": [1, 2]}, "checksum"),
        ({"frames": [9, 6]}, "mono.flac has no 1 x"),
        ({"channels": [1, 1]}, "stereo.wav has no 1 x"),
        ({"model": ["00" * 32] * 2}, "another model"),
        ({"samples": [1, 1]}, "frames"),
    ],
)
def test_a_damaged_row_is_named(tmp_path, columns, reason):
    with pytest.raises(BitstreamError, match=one_line("s.parquet", reason)):
        list(shards.read_shard(changed(tmp_path, **columns)))


def test_codes_beyond_the_codebook_are_refused(tmp_path):
    wide = Bitstream(replace(MONO.header, codebook_size=2**16), MONO.codes + 2**15)
    shards.write_shard(tmp_path / "s.parquet", shards.to_table([Row("a", wide)]), MONO.header)
    with pytest.raises(BitstreamError, match=one_line("32772", "0..4")):
        list(shards.read_shard(tmp_path / "s.parquet"))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_shard_is_one_line(tmp_path, keep):
    path = write(tmp_path / "s.parquet")
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(BitstreamError, match=one_line("s.parquet", "can't be read as a shard")):
        shards.read_paths(path)


def test_other_parquet_is_no_shard(tmp_path):
    parquet.write_table(pa.table({"path": ["a"]}), tmp_path / "s.parquet")
    with pytest.raises(BitstreamError, match="no shard of codes"):
        shards.read_model(tmp_path / "s.parquet")


def test_a_later_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "VERSION", 2)
    path = write(tmp_path / "s.parquet")
    monkeypatch.undo()
    with pytest.raises(BitstreamError, match="version 2"):
        shards.read_model(path)


def test_damage_outside_the_codes_is_found_too(tmp_path):
    path = write(tmp_path / "s.parquet")
    column = parquet.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.dictionary_page_offset + column.total_compressed_size - 1] ^= 1  # of the paths
    path.write_bytes(data)
    with pytest.raises(BitstreamError, match=one_line("s.parquet", "can't be read")):
        shards.read_paths(path)
