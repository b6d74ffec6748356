"""Recordings of folders, manifests, tar archives and Parquet: the same names and bytes from each, and bad inputs."""

import tarfile

import fsspec
import pytest
from messages import one_line

from codec.errors import AudioError, ConfigError

pa = pytest.importorskip("pyarrow", reason="run  pip install pyarrow")

from corpus_cases import (  # noqa: E402 - it can't be imported without pyarrow
    LENGTHS,
    audio_bytes,
    sources_of,
    write_folder,
    write_manifest,
    write_parquet,
    write_tar,
)

from codec.corpus.listing import UNKNOWN_SECONDS, list_corpus  # noqa: E402
from codec.corpus.sources import OutageError, audio_file  # noqa: E402

FORMS = {
    "folder": lambda folder: write_folder(folder / "in"),
    "manifest": lambda folder: write_manifest(folder / "list.tsv"),
    "tar": lambda folder: write_tar(folder / "in.tar"),
    "parquet": lambda folder: write_parquet(folder / "in.parquet", row_group_size=2),
}


@pytest.fixture(params=FORMS)
def corpus(request, tmp_path):
    return FORMS[request.param](tmp_path)


def test_every_form_gives_the_same_recordings(corpus):
    sources = sources_of(corpus)
    assert sorted(source.name for source in sources) == sorted(LENGTHS)
    for source in sources:
        with audio_file(source) as path:
            assert path.read_bytes() == audio_bytes(source.name, LENGTHS[source.name])


def test_a_copy_is_removed(tmp_path):
    (source, *_) = sources_of(write_tar(tmp_path / "in.tar"))
    with audio_file(source) as path:
        assert path.suffix == ".wav"
    assert not path.parent.exists()


@pytest.mark.parametrize("url", ["file://{}", "memory://corpus{}"])
def test_urls(tmp_path, url):
    folder = url.format(write_folder(tmp_path / "in"))
    if folder.startswith("memory"):
        fs = fsspec.filesystem("memory")
        fs.put(str(tmp_path / "in"), folder, recursive=True)
    sources = list_corpus([folder])
    assert sorted(source.name for source in sources) == sorted(LENGTHS)
    with audio_file(sources[0]) as path:
        assert path.read_bytes() == audio_bytes(sources[0].name, LENGTHS[sources[0].name])


def test_containers_in_a_folder_and_patterns(tmp_path):
    write_tar(tmp_path / "x-0.tar", {"0.wav": 800})
    write_tar(tmp_path / "x-1.tar", {"1.wav": 800})
    write_parquet(tmp_path / "y.parquet", {"2.wav": 800})
    assert [source.name for source in sources_of(tmp_path)] == ["0.wav", "1.wav", "2.wav"]
    assert [source.name for source in sources_of(tmp_path / "x-*.tar")] == ["0.wav", "1.wav"]


def test_hidden_and_other_files_are_no_recordings(tmp_path):
    write_folder(tmp_path / "in", {"a.wav": 100, ".cache/b.wav": 100, "c/.d.wav": 100})
    (tmp_path / "in/note.txt").write_text("x")
    assert [source.name for source in sources_of(tmp_path / "in")] == ["a.wav"]


def test_expected_durations_order_recordings(tmp_path):
    sources = {source.name: source.seconds for source in sources_of(write_folder(tmp_path / "in"))}
    assert max(sources, key=sources.get) == "long.wav"
    manifest = sources_of(write_manifest(tmp_path / "list.tsv", {"a.wav": 1600}))
    assert manifest[0].seconds == 0.1
    (tmp_path / "bare.tsv").write_text("path\na.wav")
    assert sources_of(tmp_path / "bare.tsv")[0].seconds == UNKNOWN_SECONDS


def test_names_of_parquet_rows(tmp_path):
    data = audio_bytes("x.wav", 100)
    for name, table in {
        "column": pa.table({"path": ["p/q.wav"], "audio": [{"bytes": data, "path": "q.wav"}]}),
        "bare": pa.table({"audio": [data]}),
    }.items():
        pa.parquet.write_table(table, tmp_path / f"{name}.parquet")
    assert sources_of(tmp_path / "column.parquet")[0].name == "p/q.wav"
    assert sources_of(tmp_path / "bare.parquet")[0].name == "bare-000000"


def test_equal_names_are_refused_and_both_are_named(tmp_path):
    one, two = write_folder(tmp_path / "one", {"x.wav": 90}), write_tar(tmp_path / "two.tar", {"x.wav": 80})
    with pytest.raises(ConfigError, match=one_line(one / "x.wav", "x.wav in", two, "same name")):
        sources_of(one, two)


def test_bad_inputs_are_one_line(tmp_path):
    (tmp_path / "bad.tar").write_bytes(b"no archive" * 100)
    (tmp_path / "bad.parquet").write_bytes(b"no parquet" * 100)
    pa.parquet.write_table(pa.table({"sound": [1]}), tmp_path / "other.parquet")
    (tmp_path / "empty").mkdir()
    for name, fact in {
        "bad.tar": "bad.tar",
        "bad.parquet": "bad.parquet",
        "other.parquet": "no column audio",
        "empty": "no recordings",
        "gone": "no file or folder",
        "nope://x": "nope",
    }.items():
        with pytest.raises(ConfigError, match=one_line(fact)):
            list_corpus([name if "://" in name else str(tmp_path / name)])


def test_a_truncated_archive_is_refused(tmp_path):
    path = write_tar(tmp_path / "in.tar")
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(ConfigError, match=one_line("in.tar", "no intact tar")):
        sources_of(path)


def test_missing_and_empty_recordings_are_bad_and_an_archive_cut_later_too(tmp_path):
    gone, *_ = sources_of(write_folder(tmp_path / "in", {"a.wav": 90}))
    tar = write_tar(tmp_path / "in.tar")
    with tarfile.open(tar) as archive:
        end = archive.getmembers()[0].offset_data + 10
    member, *_ = sources_of(tar)
    tar.write_bytes(tar.read_bytes()[:end])
    pa.parquet.write_table(pa.table({"audio": [b""]}), tmp_path / "in.parquet")
    for source, fact in ((member, "truncated"), (sources_of(tmp_path / "in.parquet")[0], "empty")):
        with pytest.raises(AudioError, match=one_line(fact)), audio_file(source):
            pass
    url = gone._replace(url=f"file://{tmp_path}/gone.wav")
    with pytest.raises(AudioError, match=one_line("gone.wav")), audio_file(url):
        pass


def test_a_source_that_fails_for_all_is_no_bad_recording(tmp_path, monkeypatch):
    (source, *_) = sources_of(write_tar(tmp_path / "in.tar"))
    monkeypatch.setattr("fsspec.open", lambda *_: (_ for _ in ()).throw(TimeoutError("no answer")))
    with pytest.raises(OutageError, match="no answer"), audio_file(source):
        pass


def test_an_archive_that_is_cut_at_a_header_is_refused(tmp_path):
    path = write_tar(tmp_path / "in.tar")
    with tarfile.open(path) as archive:
        cut = archive.getmembers()[2].offset
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ConfigError, match=one_line("in.tar", "byte", cut)):
        sources_of(path)


def test_a_damaged_cell_is_a_bad_recording(tmp_path):
    path = write_parquet(tmp_path / "in.parquet", compression="zstd")
    column = pa.parquet.ParquetFile(path).metadata.row_group(0).column(0)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + 30 : start + column.total_compressed_size] = bytes(column.total_compressed_size - 30)
    (source, *_) = sources_of(path)
    path.write_bytes(data)
    with pytest.raises(AudioError, match=one_line("in.parquet", "is damaged")), audio_file(source):
        pass
