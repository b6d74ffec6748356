"""Models pushed to the Hugging Face hub: whole, verified, with a card that the hub can read, in one commit."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from loopback_hub import TOKEN, connect, serve
from messages import one_line
from models import assert_same_state, noise, state_of, tiny_codec, tiny_tables
from tiny_runs import start, tiny_recipe, write_clips

import codec
from codec import cli
from codec.errors import ConfigError, ModelError
from codec.inference.pretrained import load_codec
from codec.model.digest import model_identity
from codec.release.metadata import metadata_block
from codec.release.release import release_codec

# The library uploads by an argument that the one below it has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FILES = {"config.json", "model.safetensors", "entropy.safetensors", "fingerprint.json", "README.md"}
REPORT = {
    "about": {"mode": "float32"},
    "seconds": 12.4,
    "means": [
        {
            "codec": "tiny",
            "setting": "3 levels",
            "condition": "as it is",
            "bitrate": 8123.4,
            "nominal_bitrate": 9600.0,
            "metrics": {"mel": {"mean": 0.71235}, "stoi": {"mean": 0.9}, "si_sdr": {"mean": None}},
        }
    ],
    "rows": [{"path": "a.wav"}, {"path": "b.wav"}],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    start(tiny_recipe(data), folder).fit()
    return folder


@pytest.fixture(scope="module")
def released(run, data, tmp_path_factory):
    """A release with figures; nothing may write to it."""
    folder = tmp_path_factory.mktemp("weights")
    about = {"about": REPORT["about"] | {"model": {"identity": model_identity(load_codec(run)).hex()}}}
    (folder / "report.json").write_text(json.dumps(REPORT | about))
    release_codec(run, folder / "tiny", tiny_recipe(data), about="Of our own, CC0.", figures=folder / "report.json")
    return folder / "tiny"


@pytest.fixture
def copy(released, tmp_path):
    return Path(shutil.copytree(released, tmp_path / "tiny"))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """An empty hub, and its owner's token."""
    import huggingface_hub

    with serve() as hub:
        connect(monkeypatch, hub, tmp_path / "home")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub
        huggingface_hub.close_session()


def pushed_files(hub, name="me/tiny", branch="main"):
    repository = hub.repositories[name]
    return repository.commits[repository.refs[branch]]


def parsed_card(text):
    """The card as `huggingface_hub` reads it."""
    from huggingface_hub import ModelCard

    return ModelCard(text)


# ---- What is pushed


def test_a_release_comes_back_as_it_was(hub, released):
    pushed = codec.push_to_hub(released, "me/tiny")
    assert set(pushed_files(hub)) == FILES
    for name in FILES - {"README.md"}:
        assert pushed_files(hub)[name] == (released / name).read_bytes(), name
    local, loaded = load_codec(released), load_codec("me/tiny")
    assert model_identity(loaded) == model_identity(local)
    audio = noise(1, 1, 2000)
    assert torch.equal(loaded.encode(audio), local.encode(audio))
    commit = hub.repositories["me/tiny"].refs["main"]
    assert pushed == (f"me/tiny@{commit}", f"{hub.url}/me/tiny/commit/{commit}")
    assert model_identity(load_codec(pushed.name)) == model_identity(local)


def test_only_the_files_of_the_model_are_pushed(hub, copy):
    (copy / "training.pt").write_bytes(b"pickle")
    (copy / "notes.md").write_text("mine")
    codec.push_to_hub(str(copy), "me/tiny")
    assert set(pushed_files(hub)) == FILES


def test_a_model_in_memory_comes_back_as_it_was(hub):
    model = tiny_codec()
    model.entropy = tiny_tables(model, noise(2, 1, 2000))
    before = state_of(model)
    codec.push_to_hub(model, "me/tiny")
    assert_same_state(model, before)
    loaded = load_codec("me/tiny")
    assert model_identity(loaded) == model_identity(model)
    assert loaded.entropy is not None
    card = pushed_files(hub)["README.md"].decode()
    assert "license" not in parsed_card(card).data.to_dict() and "Apache" not in card
    assert f"`{model_identity(model).hex()}`" in card and "did not say" in card and " in float32" in card


def test_a_first_release_gets_what_it_lacks(hub, copy):
    """Releases made before there was a hub have no metadata and no identity in their fingerprint."""
    fingerprint = json.loads((copy / "fingerprint.json").read_text())
    identity = fingerprint.pop("identity")
    (copy / "fingerprint.json").write_text(json.dumps(fingerprint))
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(card[card.index("# tiny") :])
    codec.push_to_hub(copy, "me/tiny")
    files = pushed_files(hub)
    assert json.loads(files["fingerprint.json"]) == fingerprint | {"identity": identity}
    assert parsed_card(files["README.md"].decode()).data.library_name == "codec"
    assert (copy / "README.md").read_text().startswith("# tiny"), "the release stays as it is"


def test_a_commit_replaces_the_files_of_another_model(hub, released):
    codec.push_to_hub(released, "me/tiny")
    first = hub.repositories["me/tiny"].refs["main"]
    hub.repositories["me/tiny"].commit(pushed_files(hub) | {"sample.wav": b"kept"})
    model = tiny_codec(seed=3)
    codec.push_to_hub(model, "me/tiny", message="another")
    assert set(pushed_files(hub)) == FILES - {"entropy.safetensors"} | {"sample.wav"}
    assert model_identity(load_codec("me/tiny")) == model_identity(model)
    assert model_identity(load_codec(f"me/tiny@{first}")) == model_identity(load_codec(released))
    assert len(hub.repositories["me/tiny"].commits) == 4  # the empty one, the release, the sample, the model


def test_a_branch_is_made_and_the_main_one_left(hub, released):
    codec.push_to_hub(released, "me/tiny@next")
    assert pushed_files(hub) == {}
    assert set(pushed_files(hub, branch="next")) == FILES
    assert model_identity(load_codec("me/tiny@next")) == model_identity(load_codec(released))


def test_a_private_repository(hub, released, monkeypatch):
    codec.push_to_hub(released, "me/tiny", private=True)
    assert hub.repositories["me/tiny"].private
    codec.push_to_hub(released, "me/tiny", private=True)  # it is there
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match=one_line("me/tiny", "private", "hf auth login")):
        load_codec("me/tiny")


# ---- The card


def test_the_hub_can_read_the_metadata(released):
    card = parsed_card((released / "README.md").read_text())
    data = card.data.to_dict()
    assert data["license"] == "apache-2.0"
    assert (data["library_name"], data["pipeline_tag"]) == ("codec", "audio-to-audio")
    assert (data["sample_rate"], data["frame_rate"]) == (16_000, 800)
    assert "neural-audio-codec" in data["tags"]
    assert card.text.startswith("# tiny")
    scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert scores == {"mel": 0.712, "stoi": 0.9}  # si_sdr has no value
    assert {result.dataset_name for result in card.data.eval_results} == {"2 files, 12 s"}
    assert card.data.eval_results[0].metric_name == "mel at 8123 bit/s"


def test_the_metadata_of_a_model_without_figures_and_licence():
    model = tiny_codec()
    data = parsed_card(metadata_block(model, "x", licence=None)).data.to_dict()
    assert set(data) == {"library_name", "pipeline_tag", "tags", "sample_rate", "frame_rate"}


def test_the_card_on_the_hub_says_how_to_load_it_from_there(hub, released):
    codec.push_to_hub(released, "me/tiny@next")
    card = pushed_files(hub, branch="next")["README.md"].decode()
    assert "\n    codec-encode talk.wav --model me/tiny\n    codec-decode talk.codec --model me/tiny\n" in card
    assert card.replace("--model me/tiny", "--model tiny") == (released / "README.md").read_text()


# ---- What is refused


def test_an_incomplete_release_is_not_pushed(hub, copy):
    (copy / "README.md").unlink()
    (copy / "fingerprint.json").unlink()
    with pytest.raises(ModelError, match=one_line(copy, "fingerprint.json", "README.md", "codec-release")):
        codec.push_to_hub(copy, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["model.safetensors", "entropy.safetensors"])
def test_a_damaged_release_is_not_pushed(hub, copy, name):
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(ModelError, match=one_line(copy, "was released", "damaged")):
        codec.push_to_hub(copy, "me/tiny")
    assert hub.requests == []


def test_a_release_that_gives_other_results_is_not_pushed(hub, copy):
    fingerprint = json.loads((copy / "fingerprint.json").read_text())
    fingerprint["latents"][0][0] += 1
    (copy / "fingerprint.json").write_text(json.dumps(fingerprint))
    with pytest.raises(ModelError, match=one_line(copy, "other results", "latents")):
        codec.push_to_hub(copy, "me/tiny")
    assert hub.requests == []


def test_the_card_of_another_model_is_not_pushed(hub, copy):
    card = (copy / "README.md").read_text()
    (copy / "README.md").write_text(re.sub(r"`[0-9a-f]{64}`", f"`{'0' * 64}`", card))
    with pytest.raises(ModelError, match=one_line(copy / "README.md", "another model")):
        codec.push_to_hub(copy, "me/tiny")
    assert hub.requests == []


@pytest.mark.parametrize("name", ["tiny", "me/ti ny", "me/tiny/x", "me/tiny@", ""])
def test_an_invalid_name(hub, released, name):
    with pytest.raises(ConfigError, match=one_line(repr(name), "owner/name")):
        codec.push_to_hub(released, name)
    assert hub.requests == []


def test_without_a_token(hub, released, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ModelError, match=one_line("nothing was pushed", f"{hub.url}/me/tiny", "hf auth login")):
        codec.push_to_hub(released, "me/tiny")
    assert hub.repositories == {}


def test_to_a_repository_of_somebody_else(hub, released):
    with pytest.raises(ModelError, match=one_line("nothing was pushed", "you/tiny", "hf auth login")):
        codec.push_to_hub(released, "you/tiny")


def test_a_public_repository_where_a_private_one_is_wanted(hub, released):
    hub.add("me/tiny", {})
    with pytest.raises(ConfigError, match=one_line("me/tiny", "public", "another name")):
        codec.push_to_hub(released, "me/tiny", private=True)
    assert pushed_files(hub) == {}


def test_without_network(hub, released):
    hub.broken = True
    with pytest.raises(ModelError, match=one_line("nothing was pushed", hub.url, "500")):
        codec.push_to_hub(released, "me/tiny")


def test_offline(hub, released, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=one_line("nothing was pushed", "HF_HUB_OFFLINE", "unset")):
        codec.push_to_hub(released, "me/tiny")


# ---- The command


def call(*words):
    """Exit code of codec-release."""
    with pytest.raises(SystemExit) as stop:
        cli.release_main([str(word) for word in words])
    return stop.value.code


def test_the_command_pushes_a_release(hub, released, capsys):
    assert call(released, "--push", "me/tiny", "--private", "--message", "the first") == 0
    commit = hub.repositories["me/tiny"].refs["main"]
    out, _ = capsys.readouterr()
    assert out == f"{hub.url}/me/tiny/commit/{commit}\nnext: codec-encode talk.wav --model me/tiny@{commit}\n"
    assert hub.repositories["me/tiny"].private
    assert hub.repositories["me/tiny"].messages[commit] == "the first"


def test_the_command_for_programs(hub, released, capsys):
    assert call(released, "--push", "me/tiny", "--json", "--progress", "off") == 0
    out, err = capsys.readouterr()
    commit = hub.repositories["me/tiny"].refs["main"]
    url = f"{hub.url}/me/tiny/commit/{commit}"
    assert json.loads(out) == {"output": f"me/tiny@{commit}", "url": url, "error": None}
    assert err == ""
    assert call(released, "--push", "me/other", "--progress", "on") == 0
    assert "Upload" in capsys.readouterr().err  # the bar of the library


def test_the_command_makes_a_release_and_pushes_it(hub, run, tmp_path, capsys):
    (tmp_path / "about.md").write_text("Of our own.")
    words = ("-o", tmp_path / "mine", "--about", tmp_path / "about.md", "--device", "cpu")
    assert call(run, *words, "--push", "me/mine") == 0
    identity = model_identity(load_codec(tmp_path / "mine"))
    assert model_identity(load_codec("me/mine")) == identity
    commit = hub.repositories["me/mine"].refs["main"]
    assert hub.repositories["me/mine"].messages[commit] == f"Model {identity.hex()[:12]}"


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        ((), ("-o DIR", "--push")),
        (("--push", "me/tiny", "--about", "about.md"), ("-o DIR", "--push")),
        (("--push", "me/tiny", "--data.root", "x"), ("-o DIR", "--push")),
        (("-o", "mine", "--private"), ("--private", "--push")),
        (("-o", "mine", "--message", "x"), ("--message", "--push")),
        (("-o", "mine", "--push", "tiny"), ("'tiny'", "owner/name")),
    ],
)
def test_a_mistake_is_one_line(hub, released, tmp_path, monkeypatch, capsys, words, facts):
    monkeypatch.chdir(tmp_path)
    assert call(released, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(one_line("codec-release", *facts), err.removesuffix("\n"))
    assert hub.requests == [] and not Path("mine").exists()
