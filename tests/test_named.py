"""Data sets known by name: torchaudio's own classes on small trees of their layout, and their download."""

import tarfile
import zipfile
from pathlib import Path

import pytest
from audio_cases import tone
from messages import one_line

from codec.audio.file import save_audio
from codec.audio.manifest import Item, list_items, list_paths
from codec.audio.named import list_named
from codec.cli.messages import message
from codec.config import from_dict
from codec.errors import AudioError, ConfigError, WriteError
from codec.recipe import Recipe
from codec.train.data.files import find_audio, list_split

LIBRISPEECH = ("84/121123/84-121123-0000.flac", "84/121550/84-121550-0003.flac", "1272/135031/1272-135031-0001.flac")
LIBRITTS = ("1034/121119/1034_121119_000005_000001.wav", "84/121123/84_121123_000007_000000.wav")
LJSPEECH = ("LJ001-0001", "LJ050-0278")
VCTK = ("p225/p225_001", "p280/p280_001", "s5/s5_400")


def save(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_audio(path, tone(round(16_000 * seconds), 16_000), 16_000)


def librispeech(root, part="dev-clean"):
    for name in LIBRISPEECH:
        save(root / "LibriSpeech" / part / name)


def libritts(root, part="train-clean-100", names=LIBRITTS):
    for name in names:
        save(root / "LibriTTS" / part / name)
        (root / "LibriTTS" / part / name).with_suffix(".normalized.txt").write_text("Hello")


def ljspeech(root):
    for name in LJSPEECH:
        save(root / f"LJSpeech-1.1/wavs/{name}.wav")
    lines = [f'{name}|Dr. "Who|Doctor "Who\n' for name in LJSPEECH]
    (root / "LJSpeech-1.1/metadata.csv").write_text("".join(lines), encoding="utf-8")


def vctk(root, top="VCTK-Corpus-0.92"):
    for name in VCTK:
        for microphone in ("mic1", "mic2") if "p280" not in name else ("mic1",):
            save(root / top / f"wav48_silence_trimmed/{name}_{microphone}.flac")
        text = root / top / f"txt/{name}.txt"
        text.parent.mkdir(parents=True)
        text.write_text("Please call Stella.")


def test_librispeech(tmp_path):
    librispeech(tmp_path)
    folder = tmp_path / "LibriSpeech/dev-clean"
    items = list_items(tmp_path, "LIBRISPEECH:dev-clean", split="valid")
    assert sorted(items) == sorted(Item(folder / name, name.split("/")[0], None) for name in LIBRISPEECH)
    assert all(item.path.is_file() for item in items)


def test_libritts_and_several_parts(tmp_path):
    libritts(tmp_path)
    libritts(tmp_path, "dev-other", LIBRITTS[:1])
    items = list_items(tmp_path, "LIBRITTS:dev-other,train-clean-100", split="train")
    parts = [("dev-other", LIBRITTS[0]), ("train-clean-100", LIBRITTS[0]), ("train-clean-100", LIBRITTS[1])]
    assert items == [Item(tmp_path / "LibriTTS" / part / name, name.split("/")[0], None) for part, name in parts]
    assert all(item.path.is_file() for item in items)


def test_ljspeech(tmp_path):
    ljspeech(tmp_path)
    items = list_items(tmp_path, "LJSPEECH", split="train")
    assert items == [Item(tmp_path / f"LJSpeech-1.1/wavs/{name}.wav", "LJ", None) for name in LJSPEECH]
    assert all(item.path.is_file() for item in items)


@pytest.mark.parametrize(
    ("source", "speakers"),
    [
        ("VCTK_092", ("p225", "s5")),
        ("VCTK_092:mic1", ("p225", "p280", "s5")),
        ("VCTK_092:mic1,mic2", ("p225", "p280", "s5", "p225", "s5")),
    ],
)
def test_vctk(tmp_path, source, speakers):
    vctk(tmp_path)
    items = list_items(tmp_path, source, split="train")
    assert tuple(item.speaker for item in items) == speakers
    assert all(item.path.is_file() and item.path.stem[-4:] in source + "mic2" for item in items)


def recipe(root, **data):
    return from_dict(Recipe, {"name": "x", "data": {"root": str(root), **data}}).data


def test_a_recipe_names_its_splits(tmp_path):
    libritts(tmp_path)
    libritts(tmp_path, "dev-clean", LIBRITTS[:1])
    files = find_audio(recipe(tmp_path, train="LIBRITTS:train-clean-100", valid="LIBRITTS:dev-clean"))
    assert [(item.speaker, item.seconds) for item in files.train] == [("1034", 1.0), ("84", 1.0)]
    assert [item.path.parts[-4] for item in files.valid] == ["dev-clean"]


def test_a_named_set_is_a_corpus(tmp_path, monkeypatch):
    pytest.importorskip("fsspec", reason="run  pip install fsspec")
    from codec.corpus.listing import list_corpus

    libritts(tmp_path, "dev-clean", LIBRITTS[:1])
    monkeypatch.chdir(tmp_path)
    assert [source.name for source in list_corpus(["LIBRITTS:dev-clean"])] == [f"LibriTTS/dev-clean/{LIBRITTS[0]}"]
    assert list_paths([Path("LIBRITTS:dev-clean")], split="valid") == [Path("LibriTTS/dev-clean", LIBRITTS[0])]


def test_a_file_that_is_missing_is_named(tmp_path):
    ljspeech(tmp_path)
    (tmp_path / "LJSpeech-1.1/wavs/LJ050-0278.wav").unlink()
    with pytest.raises(AudioError, match=one_line("LJ050-0278.wav")):
        find_audio(recipe(tmp_path, train="LJSPEECH"))


@pytest.mark.parametrize("source", ["LIBRISPEECH:dev-clean", "LIBRITTS:dev-clean", "LJSPEECH", "VCTK_092"])
def test_missing_data_names_the_option_that_downloads(tmp_path, source):
    with pytest.raises(ConfigError, match=one_line(source, tmp_path, "data.root", "data.download")) as caught:
        list_split(recipe(tmp_path, train=source), "train")
    assert message(caught.value).endswith("give --data.root or --data.download")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "fact"),
    [
        *(("LIBRITTS", "dev-clean"), ("LIBRITTS:", "dev-clean"), ("LIBRITTS:dev-clean,", "dev-clean")),
        ("LIBRITTS:http://127.0.0.1:9/x.tar.gz", "test-other"),
        *(("VCTK_092:mic3", "mic2"), ("LJSPEECH:train", "all")),
    ],
)
def test_an_unknown_part_is_refused_before_anything_is_downloaded(tmp_path, source, fact):
    (tmp_path / "LibriTTS/dev-clean").mkdir(parents=True)
    libritts(tmp_path, "dev-clean")
    with pytest.raises(ConfigError, match=one_line("no part", fact)):
        list_items(tmp_path, source, split="train", download=True)


def test_a_folder_of_that_name_is_a_folder(tmp_path):
    save(tmp_path / "LJSPEECH/a.wav")
    assert list_items(tmp_path, "LJSPEECH", split="train") == [Item(tmp_path / "LJSPEECH/a.wav", "", None)]


def test_an_empty_or_damaged_part_is_refused(tmp_path):
    (tmp_path / "LibriTTS/dev-clean").mkdir(parents=True)
    with pytest.raises(ConfigError, match=one_line("LibriTTS/dev-clean", "no files", "download")):
        list_items(tmp_path, "LIBRITTS:dev-clean", split="train")
    (tmp_path / "LibriTTS/dev-clean/a/b").mkdir(parents=True)
    (tmp_path / "LibriTTS/dev-clean/a/b/nameless.wav").touch()
    with pytest.raises(ConfigError, match=one_line("LIBRITTS:dev-clean", "listed")):
        list_items(tmp_path, "LIBRITTS:dev-clean", split="train")
    ljspeech(tmp_path)
    (tmp_path / "LJSpeech-1.1/metadata.csv").write_bytes(b"\xff\x00")
    with pytest.raises(ConfigError, match=one_line("LJSPEECH:all", "listed")):
        list_items(tmp_path, "LJSPEECH", split="train")


def place_archive(root, name, part):
    """Put an archive where an interrupted download left it, so that torchaudio only unpacks it."""
    hidden, source = root / f".{name}-{part}.partial", root.parent / "source"
    hidden.mkdir(parents=True)
    if name == "VCTK_092":
        vctk(source, top=".")
        with zipfile.ZipFile(hidden / "VCTK-Corpus-0.92.zip", "w") as archive:
            for path in source.rglob("*"):
                archive.write(path, path.relative_to(source))
        return
    (ljspeech if name == "LJSPEECH" else libritts)(source)
    file, mode = ("LJSpeech-1.1.tar.bz2", "w:bz2") if name == "LJSPEECH" else (f"{part}.tar.gz", "w:gz")
    with tarfile.open(hidden / file, mode) as archive:
        for path in source.iterdir():
            archive.add(path, path.name)


unpacks = pytest.mark.filterwarnings("ignore:.*extraction filters:DeprecationWarning")  # Python 3.12 and 3.13


@unpacks
@pytest.mark.parametrize(
    ("name", "part", "count"), [("LIBRITTS", "train-clean-100", 2), ("LJSPEECH", "all", 2), ("VCTK_092", "mic2", 2)]
)
def test_a_download_is_unpacked_and_moved_to_its_place(tmp_path, name, part, count):
    root = tmp_path / "data"
    place_archive(root, name, part)
    items = list_items(root, f"{name}:{part}", split="train", download=True)
    assert len(items) == count and all(item.path.is_file() for item in items)
    assert sorted(path.name for path in root.iterdir()) == sorted(
        [f".{name}-{part}.lock", {"LIBRITTS": "LibriTTS", "LJSPEECH": "LJSpeech-1.1"}.get(name, "VCTK-Corpus-0.92")]
    )
    assert list_items(root, f"{name}:{part}", split="train", download=True) == items  # nothing left to download


@unpacks
def test_an_interrupted_unpacking_is_not_taken_for_the_data(tmp_path):
    root = tmp_path / "data"
    place_archive(root, "LIBRITTS", "train-clean-100")
    save(root / ".LIBRITTS-train-clean-100.partial/LibriTTS/train-clean-100/1/2/1_2_000000_000000.wav")
    found = list_named(root, "LIBRITTS:train-clean-100", download=True)
    assert sorted(speaker for _, speaker in found) == ["1034", "84"]


def test_a_failed_download_leaves_no_data(tmp_path):
    root = tmp_path / "data"
    hidden = root / ".LIBRITTS-dev-clean.partial"
    hidden.mkdir(parents=True)
    (hidden / "dev-clean.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ConfigError, match=one_line("LIBRITTS:dev-clean", "downloaded")):
        list_named(root, "LIBRITTS:dev-clean", download=True)
    assert not (root / "LibriTTS").exists()


def test_a_root_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=one_line("LJSpeech-1.1")):
        list_named(tmp_path / "file", "LJSPEECH", download=True)
