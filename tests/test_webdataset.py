"""Shards as WebDataset archives: their members, round trips and damage."""

import io
import json
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import make_bitstream
from messages import one_line

from codec.errors import BitstreamError

pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from codec.corpus import shards, webdataset
from codec.corpus.shards import Row

ROWS = [
    Row("a/stereo.wav", make_bitstream(9, num_channels=2, sample_rate=44100)),
    Row("mono.flac", make_bitstream(5)),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "tokens-00003.tar"
    webdataset.write_tar(path, shards.to_table(ROWS), ROWS[0].bitstream.header)
    return path


def test_an_archive_keeps_everything(path):
    for found, expected in zip(webdataset.read_tar(path), ROWS, strict=True):
        assert found.path == expected.path
        np.testing.assert_array_equal(found.bitstream.codes, expected.bitstream.codes)
        facts = replace(expected.bitstream.header, frames_per_chunk=0)
        assert replace(found.bitstream.header, frames_per_chunk=0) == facts
    assert [row.path for row in webdataset.read_tar(path, {"mono.flac"})] == ["mono.flac"]
    assert webdataset.read_tar_paths(path) == [row.path for row in ROWS]
    assert shards.describe(webdataset.read_tar_model(path)) == shards.describe(ROWS[0].bitstream.header)


def test_members_have_the_keys_of_webdataset(path):
    with tarfile.open(path) as tar:
        members = {member.name: tar.extractfile(member).read() for member in tar}
    assert list(members) == ["0000300000.npy", "0000300000.json", "0000300001.npy", "0000300001.json"]
    codes = np.load(io.BytesIO(members["0000300000.npy"]))
    assert codes.dtype == np.uint16
    np.testing.assert_array_equal(codes, ROWS[0].bitstream.codes)
    assert json.loads(members["0000300001.json"])["path"] == "mono.flac"


def test_damage_is_named(path):
    data = path.read_bytes()
    at = data.index(ROWS[0].bitstream.codes.astype("<u2").tobytes())
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(BitstreamError, match=one_line("tokens-00003.tar", "a/stereo.wav are damaged")):
        list(webdataset.read_tar(path))


@pytest.mark.parametrize("keep", [0, 100, 600, 1200])
def test_a_truncated_archive_is_one_line(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BitstreamError, match=one_line("tokens-00003.tar")):
        list(webdataset.read_tar(path))


def test_codes_without_facts_are_missing(path, tmp_path):
    with tarfile.open(path) as tar, tarfile.open(tmp_path / "x.tar", "w") as other:
        for member in tar.getmembers()[1:]:
            other.addfile(member, tar.extractfile(member))
    with pytest.raises(BitstreamError, match=one_line("codes of a/stereo.wav are missing")):
        list(webdataset.read_tar(tmp_path / "x.tar"))


def test_another_archive_is_no_shard(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(BitstreamError, match=one_line("x.tar", "no shard")):
        webdataset.read_tar_model(tmp_path / "x.tar")


def test_codes_of_another_recording_are_not_taken(path, tmp_path):
    with tarfile.open(path) as tar, tarfile.open(tmp_path / "x.tar", "w") as other:
        for member in tar.getmembers():
            if member.name != "0000300001.npy":
                other.addfile(member, tar.extractfile(member))
    with pytest.raises(BitstreamError, match=one_line("codes of mono.flac are missing")):
        list(webdataset.read_tar(tmp_path / "x.tar"))
