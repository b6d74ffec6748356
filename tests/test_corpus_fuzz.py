"""Fuzz of the readers of a corpus, as `test_fuzz` does it: shards, ledgers, and containers of audio."""

import shutil

import pytest
from bitstream_cases import make_bitstream
from test_fuzz import LONG, SHORT, fuzz

pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from corpus_cases import sources_of, write_parquet, write_tar

from codec.corpus import shards, webdataset
from codec.corpus.ledger import read_facts
from codec.corpus.sources import audio_file
from codec.errors import CodecError

ROWS = [shards.Row("a/stereo.wav", make_bitstream(9, num_channels=2)), shards.Row("mono.flac", make_bitstream(5))]


def read_parquet(path):
    for read in (shards.read_model, shards.read_paths, lambda path: list(shards.read_shard(path))):
        try:
            read(path)
        except CodecError as error:
            assert "\n" not in str(error)


def read_tar(path):
    for read in (webdataset.read_tar_model, webdataset.read_tar_paths, lambda path: list(webdataset.read_tar(path))):
        try:
            read(path)
        except CodecError as error:
            assert "\n" not in str(error)


def read_container(path):
    """List and read as a worker does; a copy, since Parquet files are kept open by their name."""
    read_container.count += 1
    copy = shutil.copy(path, path.with_stem(f"copy{read_container.count}"))
    for source in sources_of(copy):
        try:
            with audio_file(source):
                pass
        except CodecError as error:
            assert "\n" not in str(error)


read_container.count = 0
READERS = {
    "tokens-00000.parquet": read_parquet,
    "tokens-00000.tar": read_tar,
    "corpus.json": lambda path: read_facts(path.parent),
    "audio.tar": read_container,
    "audio.parquet": read_container,
}


@pytest.fixture
def folder(tmp_path):
    table, model = shards.to_table(ROWS), ROWS[0].bitstream.header
    shards.write_shard(tmp_path / "tokens-00000.parquet", table, model)
    webdataset.write_tar(tmp_path / "tokens-00000.tar", table, model)
    (tmp_path / "corpus.json").write_text('{"version": 1, "corpus": "ab", "format": "parquet", "beam": 1}')
    write_tar(tmp_path / "audio.tar", {"a.wav": 300})
    write_parquet(tmp_path / "audio.parquet", {"a.wav": 300})
    return tmp_path


@pytest.mark.parametrize("name", READERS)
def test_a_mutant(folder, name):
    fuzz(folder / name, READERS[name], SHORT)


@pytest.mark.fuzz_long
@pytest.mark.parametrize("name", READERS)
def test_many_mutants(folder, name):
    fuzz(folder / name, READERS[name], LONG)
