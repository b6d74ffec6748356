"""Models on the Hugging Face hub: loaded by name, revision and from the cache alone; what is refused, in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from loopback_hub import TOKEN, connect, serve
from messages import one_line
from models import noise, tiny_codec, tiny_tables

import codec
from codec import cli
from codec.audio.file import save_audio
from codec.errors import ModelError
from codec.inference import hub as hub_module
from codec.inference.fingerprint import sign_model
from codec.inference.hub import parse_name
from codec.inference.pretrained import find_model, load_codec, save_codec
from codec.model.digest import model_identity

MODEL_FILES = {"config.json", "model.safetensors", "entropy.safetensors", "fingerprint.json"}


def model_files(folder, *, seed=0):
    """Contents of a released model with entropy tables, by file."""
    model = tiny_codec(seed=seed)
    model.entropy = tiny_tables(model, noise(2, 1, 2000))
    save_codec(model, folder)
    sign_model(load_codec(folder), folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return model_files(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return model_files(tmp_path_factory.mktemp("other"), seed=1)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def hub(monkeypatch, tmp_path, home):
    """An empty hub; the process is in an empty folder."""
    import huggingface_hub

    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with serve() as hub:
        connect(monkeypatch, hub, home)
        yield hub
        huggingface_hub.close_session()


@pytest.fixture
def voice(hub, files):
    """A repository with a model, and more than a model."""
    extras = {"README.md": b"# voice\n", "training.bin": b"pickle", ".gitattributes": b"", "notes/a.json": b"{}"}
    return hub.add("me/voice", files | extras)


def go_offline(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def refused(name, *facts):
    with pytest.raises(ModelError, match=one_line(*facts)):
        load_codec(name)


def downloaded(hub):
    """Files that were asked for."""
    return {path.split("/resolve/")[1].partition("/")[2] for _, path in hub.requests if "/resolve/" in path}


def test_a_folder_that_transformers_loads_too(hub, tmp_path):
    model = tiny_codec()
    codec.save_for_transformers(model, tmp_path / "both")
    hub.add("me/both", {path.name: path.read_bytes() for path in (tmp_path / "both").iterdir()})
    assert model_identity(load_codec("me/both")) == model_identity(model)
    hub.add("me/none", {"config.json": b'{"model_type": "x", "codec_config": 3}', "model.safetensors": b""})
    refused("me/none", "me/none", "transformers")


# ---- Names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("me/voice", ("me/voice", None)),
        ("me/voice@v1.0", ("me/voice", "v1.0")),
        ("A-1/b.c_d@refs/pr/1", ("A-1/b.c_d", "refs/pr/1")),
        ("me/" + "x" * 93, ("me/" + "x" * 93, None)),
    ],
)
def test_a_name_has_an_owner_and_perhaps_a_revision(text, name):
    assert parse_name(text) == name
    assert str(parse_name(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("voice", "me/voice/x", "/me/voice", "me/", "me/voice@", "me/vo ice", "me/vo--ice", "me/../voice", "me/a..b"),
        *(
            "./voice",
            "me/voice@../x",
            "me/voice@a..b",
            "me/-voice",
            "me/voice.",
            "me/voice\n",
            "mé/voice",
            "me/" + "x" * 94,
            "a@b/c",
        ),
    ],
)
def test_other_texts_are_no_names(text, hub):
    assert parse_name(text) is None
    refused(text, repr(text), "owner/name[@revision]")
    assert hub.requests == []


# ---- Loading


def test_a_model_is_loaded_by_its_name(voice, files, hub, home, tmp_path):
    loaded = codec.load_codec("me/voice")
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    local = load_codec(tmp_path)
    assert model_identity(loaded) == model_identity(local)
    audio = noise(1, 1, 3000)
    assert torch.equal(loaded.encode(audio), local.encode(audio))
    assert downloaded(hub) == MODEL_FILES
    assert {path.name for path in (home / "hub").rglob("snapshots/*/*")} == MODEL_FILES


def test_from_pretrained_is_load_codec(voice):
    assert model_identity(codec.Codec.from_pretrained("me/voice")) == model_identity(load_codec("me/voice"))
    assert codec.Codec.from_pretrained("me/voice", device="cpu").device == torch.device("cpu")


def test_a_branch_a_tag_and_a_commit(voice, files, other):
    first = voice.refs["main"]
    second = voice.commit(other)
    voice.refs["v1"] = first
    voice.refs["try/this"] = second
    old, new = model_identity(tiny_with(files)), model_identity(tiny_with(other))
    assert old != new
    for revision, identity in ((None, new), ("v1", old), ("try/this", new), (first, old), (second, new)):
        name = "me/voice" if revision is None else f"me/voice@{revision}"
        assert model_identity(load_codec(name)) == identity, name


def tiny_with(files):
    """The model in these files."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            (Path(folder) / name).write_bytes(data)
        return load_codec(folder)


def test_a_new_commit_is_loaded_in_place_of_the_cached_one(voice, other):
    before = model_identity(load_codec("me/voice"))
    voice.commit(other)
    assert model_identity(load_codec("me/voice")) == model_identity(tiny_with(other)) != before


def test_a_cached_model_costs_one_request_and_none_by_its_commit(voice, hub):
    load_codec("me/voice")
    hub.requests.clear()
    load_codec("me/voice")
    assert hub.requests == [("GET", "/api/models/me/voice/revision/main")]
    hub.requests.clear()
    load_codec(f"me/voice@{voice.refs['main']}")
    assert hub.requests == []


def test_offline_the_cached_copy_is_loaded(voice, hub, monkeypatch):
    voice.refs["v1"] = voice.refs["main"]
    expected = model_identity(load_codec("me/voice"))
    load_codec("me/voice@v1")
    go_offline(monkeypatch)
    hub.requests.clear()
    for name in ("me/voice", "me/voice@v1", f"me/voice@{voice.refs['main']}"):
        assert model_identity(load_codec(name)) == expected
    assert hub.requests == []


def test_without_network_the_cached_copy_is_loaded(voice, hub):
    expected = model_identity(load_codec("me/voice"))
    hub.broken = True
    assert model_identity(load_codec("me/voice")) == expected


def test_a_private_model_is_loaded_with_a_token(voice, monkeypatch):
    voice.private = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert load_codec("me/voice").sample_rate == 16_000


def test_a_model_without_tables_and_fingerprint_is_loaded(hub, files):
    hub.add("me/bare", {name: files[name] for name in ("config.json", "model.safetensors")})
    assert load_codec("me/bare").entropy is None


def test_a_folder_here_comes_first(voice, hub, other, tmp_path):
    for name, data in other.items():
        Path("me/voice").mkdir(parents=True, exist_ok=True)
        (Path("me/voice") / name).write_bytes(data)
    assert model_identity(load_codec("me/voice")) == model_identity(tiny_with(other))
    assert hub.requests == []


def test_a_mistyped_run_is_not_looked_for_on_the_hub(hub, files):
    hub.add("runs/voice", files)
    Path("runs").mkdir()
    refused("runs/voice", "'runs/voice'", "owner is no folder here")
    assert hub.requests == []


def test_a_path_is_never_a_name_on_the_hub(voice, hub):
    refused(Path("me/voice"), "'me/voice'")
    assert hub.requests == []


# ---- What is refused


def test_no_such_repository(hub, monkeypatch):
    refused("me/voice", "me/voice", f"{hub.url}/me/voice", "check the name", "hf auth login")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    refused("me/voice", "me/voice", f"{hub.url}/me/voice", "check the name", "hf auth login")


def test_a_private_repository(voice, hub):
    voice.private = True
    refused("me/voice", f"{hub.url}/me/voice", "private", "hf auth login")


def test_a_gated_repository(voice, hub):
    voice.gated = True
    refused("me/voice", "me/voice is gated", f"{hub.url}/me/voice", "hf auth login")


def test_a_wrong_revision(voice, hub):
    refused("me/voice@v9", "me/voice has no revision 'v9'", "a tag", f"{hub.url}/me/voice")
    refused(f"me/voice@{'0' * 40}", "me/voice", "0" * 40)


def test_no_network(hub, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    refused("me/voice", "me/voice", "http://127.0.0.1:9", "can't be reached", "connection")


def test_a_hub_that_fails(hub):
    hub.broken = True
    refused("me/voice", hub.url, "can't be reached", "500")


def test_offline_without_a_copy(voice, hub, monkeypatch):
    go_offline(monkeypatch)
    refused("me/voice", "me/voice", "not in the cache", "HF_HUB_OFFLINE")


def test_offline_with_a_part_of_it(voice, home, monkeypatch):
    load_codec("me/voice")
    next((home / "hub").rglob("snapshots/*/model.safetensors")).unlink()
    go_offline(monkeypatch)
    refused("me/voice", "not in the cache", "HF_HUB_OFFLINE")


def test_a_download_that_breaks_off(voice, hub, files):
    hub.cut = "model.safetensors"
    refused("me/voice", "me/voice", "broke off", "try again", len(files["model.safetensors"]) // 2)
    hub.cut = ""
    assert load_codec("me/voice").sample_rate == 16_000


def test_a_cache_that_can_not_be_written(voice, tmp_path, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    refused("me/voice", "me/voice", tmp_path / "file" / "hub", "HF_HOME")


@pytest.mark.parametrize(
    "files_there",
    [
        {"pytorch_model.bin": b"x", "README.md": b""},
        {"config.json": b'{"model_type": "encodec"}', "pytorch_model.bin": b"x"},
        {"model.pt": b"x"},
        {"checkpoint/last.ckpt": b"x"},
    ],
)
def test_a_repository_of_pickles_only(hub, files_there):
    hub.add("me/old", files_there)
    pickled = next(name for name in files_there if name.endswith((".bin", ".pt", ".ckpt")))
    refused("me/old", "me/old", "pickle", pickled, "safetensors")
    assert downloaded(hub) <= {"config.json"}


def test_our_model_with_a_pickle_in_place_of_its_weights(hub, files):
    hub.add("me/old", {"config.json": files["config.json"], "model.bin": b"x"})
    refused("me/old", "me/old", "pickle", "model.bin", "safetensors")


def test_a_model_of_transformers(hub):
    config = json.dumps({"model_type": "mimi", "architectures": ["MimiModel"], "sampling_rate": 24_000}).encode()
    hub.add("kyu/mimi", {"config.json": config, "model.safetensors": b"x" * 100}, library="transformers")
    refused("kyu/mimi@main", "transformers (mimi)", "hf download kyu/mimi", "transformers:DIR")
    assert downloaded(hub) == {"config.json"}


@pytest.mark.parametrize(
    ("files_there", "library", "facts"),
    [
        ({"config.json": b'{"encoder_dim": 48}', "model.safetensors": b"x"}, None, ("no model of this library",)),
        ({"config.json": b'{"encoder_dim": 48}', "model.safetensors": b"x"}, "snac", ("a model of snac",)),
        ({"config.json": b"[", "model.safetensors": b"x"}, None, ("config.json",)),
        ({"config.json": b"[1]", "model.safetensors": b"x"}, None, ("config.json",)),
        ({"model.safetensors": b"x"}, None, ("no config.json",)),
        ({"model.onnx": b"x"}, None, ("no config.json",)),
        ({}, None, ("no config.json",)),
    ],
)
def test_a_model_of_another_library(hub, files_there, library, facts):
    hub.add("me/other", files_there, library=library)
    refused("me/other", "me/other", *facts, "codec-release --push")
    assert downloaded(hub) <= {"config.json"}


def test_a_missing_file_of_weights(hub, files):
    hub.add("me/half", {"config.json": files["config.json"], "weights.safetensors": b"x"})
    refused("me/half", "me/half", "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "entropy.safetensors"])
def test_a_file_of_another_model_is_found_by_the_identity(hub, files, other, name):
    hub.add("me/mixed", files | {name: other[name]})
    commit = hub.repositories["me/mixed"].refs["main"]
    was = json.loads(files["fingerprint.json"])["identity"][:12]
    refused("me/mixed", was, "was released", f"hf download me/mixed --revision {commit} --force-download")


def test_a_truncated_file_in_the_cache_is_found_and_got_anew(voice, home):
    load_codec("me/voice")
    path = next((home / "hub").rglob("snapshots/*/model.safetensors"))
    data = path.read_bytes()
    path.resolve().write_bytes(data[:-4])
    commit = voice.refs["main"]
    refused("me/voice", "can't read the weights", f"hf download me/voice --revision {commit} --force-download")
    import huggingface_hub

    huggingface_hub.snapshot_download("me/voice", revision=commit, force_download=True)
    assert load_codec("me/voice").sample_rate == 16_000


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused("me/voice", "no model me/voice here", "huggingface_hub", "pip install huggingface_hub")


def test_a_bug_is_not_taken_for_a_refusal(voice, monkeypatch):
    def fail(*_):
        raise AssertionError("of ours")

    monkeypatch.setattr(hub_module, "_is_ours", fail)
    with pytest.raises(AssertionError, match="of ours"):
        load_codec("me/voice")


# ---- The commands


def call(command, *words):
    with pytest.raises(SystemExit) as stop:
        getattr(cli, f"{command}_main")([str(word) for word in words])
    return stop.value.code


def test_the_commands_take_the_name(voice, capsys):
    save_audio(Path("a.wav"), noise(1, 1, 3000), 16_000)
    name = f"me/voice@{voice.refs['main']}"
    assert call("encode", "a.wav", "--model", "me/voice", "--device", "cpu") == 0
    assert call("decode", "a.codec", "--model", name, "--device", "cpu") == 0
    assert Path("a.decoded.wav").exists()
    capsys.readouterr()
    assert call("inspect", name) == 0
    assert name in capsys.readouterr().out
    assert call("inspect", "a.codec", "--model", name) == 0
    assert name in capsys.readouterr().out


def test_a_refusal_of_the_commands_is_one_line(hub, capsys):
    hub.add("me/old", {"pytorch_model.bin": b"x"})
    save_audio(Path("a.wav"), noise(1, 1, 3000), 16_000)
    assert call("encode", "a.wav", "--model", "me/old", "--device", "cpu") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "pytorch_model.bin" in err


def test_a_process_without_network_loads_from_the_cache(voice, home):
    """The library reads its variables when it is imported, so this is another process."""
    identity = model_identity(load_codec("me/voice")).hex()
    code = (
        "import codec; from codec.model.digest import model_identity; "
        "print(model_identity(codec.load_codec('me/voice')).hex())"
    )
    variables = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(codec.__file__).parents[1])}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    result = subprocess.run([sys.executable, "-c", code], env=kept | variables, capture_output=True, text=True)
    assert result.stdout.strip() == identity, result.stderr
    assert result.stderr == ""


def test_find_model_gives_the_folder_of_the_commit(voice):
    assert find_model("me/voice").name == voice.refs["main"]
    assert np.all([(find_model("me/voice") / name).is_file() for name in MODEL_FILES])
