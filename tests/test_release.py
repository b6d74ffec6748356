"""Releases: the rounded model with tables, fingerprint and card, made once and complete."""

import json
import re
from pathlib import Path

import pytest
import torch
from messages import one_line
from models import assert_same_state, tiny_codec
from safetensors.torch import load_file
from tiny_runs import start, tiny_recipe, write_clips

from codec import cli, config
from codec.audio.file import load_audio
from codec.errors import ConfigError, ModelError
from codec.inference.compression import compress
from codec.inference.fingerprint import check_fingerprint
from codec.inference.pretrained import load_codec, save_codec
from codec.model.digest import model_identity
from codec.recipe import GaussianConfig, find_recipe
from codec.release import release
from codec.release.card import header_comment
from codec.release.release import check_rounding, encode_files, release_codec, save_rounded

FILES = {"config.json", "model.safetensors", "entropy.safetensors", "fingerprint.json", "README.md"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_clips(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of a few steps."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    start(tiny_recipe(data), folder).fit()
    return folder


@pytest.fixture(scope="module")
def released(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    return folder, release_codec(run, folder, tiny_recipe(data), about="Buzzing, of our own, CC0.")


def call(*words):
    """Exit code of codec-release."""
    with pytest.raises(SystemExit) as stop:
        cli.release_main([str(word) for word in words])
    return stop.value.code


# ---- What is made


def test_a_release_is_the_rounded_model(released, run):
    folder, result = released
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]
    codec, original = load_codec(folder), load_codec(run)
    stored = load_file(folder / "model.safetensors")
    assert all(tensor.dtype == torch.float16 for tensor in stored.values())
    for name, tensor in original.state_dict().items():
        if name in stored:
            assert torch.equal(codec.state_dict()[name], tensor.half().float()), name
    assert result.identity == model_identity(codec) != model_identity(original)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}
    assert 1e-6 < result.rounding < 1e-2
    assert result.num_bytes == sum(path.stat().st_size for path in folder.iterdir())


def test_tables_are_of_the_codes_of_the_rounded_model(released, data):
    folder, _ = released
    codec = load_codec(folder)
    tables = release.learn_tables(list(encode_files(codec, sorted(data.iterdir()))), 16)
    for name, tensor in tables.tensors().items():
        assert torch.equal(codec.entropy.tensors()[name], tensor), name
    audio = load_audio(data / "clip_0.wav")
    coded = compress(codec, audio).to_bytes()
    codec.entropy = None
    assert len(coded) < len(compress(codec, audio).to_bytes())


def test_the_fingerprint_is_of_the_rounded_model(released):
    folder, _ = released
    check_fingerprint(load_codec(folder), folder)
    codec = load_codec(folder)
    codec.decoder.state_dict()["skip.weight"].mul_(1.01)
    with pytest.raises(ModelError, match=one_line("decoded samples")):
        check_fingerprint(codec, folder)


def test_a_release_repeats(released, run, data, tmp_path):
    folder, result = released
    assert release_codec(run, tmp_path / "tiny", tiny_recipe(data), about="Buzzing, of our own, CC0.") == result
    for name in FILES:
        assert (tmp_path / "tiny" / name).read_bytes() == (folder / name).read_bytes(), name


def test_a_release_loads_by_its_name(released, tmp_path, monkeypatch):
    folder, result = released
    (tmp_path / "codec" / "weights").mkdir(parents=True)
    (tmp_path / "codec" / "weights" / "buzz").symlink_to(folder)
    monkeypatch.setattr(config, "__file__", str(tmp_path / "codec" / "config.py"))
    assert model_identity(load_codec("buzz")) == result.identity


# ---- The card


def test_the_card_says_what_it_is(released, run):
    folder, result = released
    card = (folder / "README.md").read_text()
    assert card.startswith("---\n")
    assert (
        "\n---\n# tiny\n\nA neural audio codec for 16 kHz: 800 frames a second, 3 levels of 16 codes, 3.2 to\n9.6"
        in card
    )
    assert "2.8125 ms latency" in card
    assert f"`{result.identity.hex()}`" in card
    assert "| recipe | tiny, seed 0 |" in card
    assert re.search(r"\| last run \| 6 steps in 0\.\d\d hours, 0\.0 hours of audio heard \|", card)
    versions = json.loads((run / "versions.json").read_text())
    assert (
        f"| trained on | {versions['device']}, {versions['threads']} threads, torch {versions['packages']['torch']} |"
        in card
    )
    assert card.endswith(
        "## Data and licences\n\nBuzzing, of our own, CC0.\n\nThe weights are under Apache-2.0, like the code.\n"
    )
    assert "Figures" not in card


MEAN = {"codec": "x", "setting": "1 level", "condition": "as it is", "bitrate": 1.0, "nominal_bitrate": 1.0}
RESULTS = {
    "about": {"model": {"identity": "0"}, "mode": "x"},
    "seconds": 1,
    "means": [MEAN | {"metrics": {"mel": {"mean": 0.7}}}],
    "rows": [],
}


def test_figures_of_this_model_are_in_the_card(released, run, data, tmp_path):
    _, result = released
    report = {
        "about": {"model": {"identity": result.identity.hex()}, "mode": "float32"},
        "seconds": 12.4,
        "means": [
            {
                "codec": "tiny",
                "setting": "3 levels",
                "condition": "as it is",
                "bitrate": 8123.4,
                "nominal_bitrate": 9600.0,
                "metrics": {"mel": {"mean": 0.71235}, "si_sdr": {"mean": None}},
            }
        ],
        "rows": [{"path": "a.wav"}, {"path": "b.wav"}, {"path": "a.wav"}],
    }
    path = tmp_path / "results.json"
    path.write_text(json.dumps(report))
    release_codec(run, tmp_path / "a", tiny_recipe(data), about="x", figures=path)
    card = (tmp_path / "a" / "README.md").read_text()
    assert "Means over 2 files, 12 s of audio, measured by codec-eval in mode float32. bitrate is that" in card
    head = "| setting | bitrate | nominal bitrate | mel | si_sdr |\n|---|---|---|---|---|"
    assert f"{head}\n| 3 levels | 8123 | 9600 | 0.712 | - |\n" in card and "condition" not in card
    report["about"]["model"]["identity"] = model_identity(load_codec(run)).hex()
    report["means"].append(report["means"][0] | {"condition": "-20 dB"})
    report["means"].append(report["means"][0] | {"codec": "opus", "setting": "6 kbit/s"})
    path.write_text(json.dumps(report))
    release_codec(run, tmp_path / "b", tiny_recipe(data), about="x", figures=path)
    card = (tmp_path / "b" / "README.md").read_text()
    assert "in mode float32, before its weights were rounded." in card
    assert "| condition | setting |" in card and "| 6 kbit/s |" not in card
    assert "\n| as it is | 3 levels | 8123 |" in card and "\n| -20 dB | 3 levels | 8123 |" in card


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        (json.dumps(RESULTS), ("another model",)),
        ("{}", ("codec-eval",)),
        (json.dumps(RESULTS | {"means": []}), ("codec-eval",)),
        (json.dumps(RESULTS | {"means": [{"codec": "tiny", "bitrate": 9600}]}), ("codec-eval",)),
        (json.dumps(RESULTS | {"means": [{**MEAN, "metrics": {"mel": 0.7}}]}), ("codec-eval",)),
        ("[", ("line 1",)),
    ],
)
def test_figures_of_another_model_or_version_are_refused(run, data, tmp_path, text, facts):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(ConfigError, match=one_line(tmp_path / "results.json", *facts)):
        release_codec(run, tmp_path / "a", tiny_recipe(data), about="x", figures=tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_the_header_comment_of_a_recipe():
    comment = header_comment(find_recipe("speech_16khz"))
    assert comment.startswith("The shipped model, 16 kHz speech")
    assert "codec-train speech_16khz" in comment and "#" not in comment and "[codec]" not in comment


# ---- What is refused


def test_a_release_is_never_replaced(released, run, data):
    folder, _ = released
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ConfigError, match=one_line(folder, "never replaced", "another name")):
        release_codec(run, folder, tiny_recipe(data), about="x")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_weights_beyond_float16_are_refused(tmp_path):
    codec = tiny_codec()
    codec.decoder.state_dict()["skip.weight"].view(-1)[0] = -70_000
    with pytest.raises(ModelError, match=one_line("float16", 65504, "decoder.skip.weight", 70000)):
        save_rounded(codec, tmp_path / "a")


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_a_model_that_rounding_changes_is_refused(tmp_path, part):
    """Weights so small that float16 has few digits left for them, and others that make up for it."""
    codec = tiny_codec()
    codec.get_submodule(part).project_out.weight.zero_()
    if part == "encoder":
        codec.encoder.project_out.bias.zero_()
        codec.encoder.skip.weight.mul_(1e-7)
    else:
        codec.decoder.skip.weight.mul_(1e-6)
        codec.quantizer.project_out.weight.mul_(1e4)
        codec.quantizer.codebooks.table.mul_(1e2)
    save_rounded(codec, tmp_path)
    with pytest.raises(ModelError, match=one_line("float16", "1e-02")):
        check_rounding(codec, load_codec(tmp_path))


def test_rounding_changes_only_what_is_stored(tmp_path):
    codec = tiny_codec()
    before = {name: tensor.clone() for name, tensor in codec.state_dict().items()}
    save_rounded(codec, tmp_path)
    assert_same_state(codec, before)


def test_gaussian_vectors_make_no_model_to_release(run, data, tmp_path):
    recipe = tiny_recipe(data)
    object.__setattr__(recipe, "data", GaussianConfig())
    with pytest.raises(ConfigError, match=one_line("tiny", "vectors", "audio")):
        release_codec(run, tmp_path / "a", recipe, about="x")


def test_a_failed_release_leaves_nothing(run, data, tmp_path, monkeypatch):
    def fail(codes, codebook_size):
        raise ModelError("no tables")

    monkeypatch.setattr(release, "learn_tables", fail)
    with pytest.raises(ModelError, match="no tables"):
        release_codec(run, tmp_path / "a", tiny_recipe(data), about="x")
    assert not list(tmp_path.iterdir())


def test_files_of_a_killed_release_do_not_enter_the_next(run, data, tmp_path):
    (tmp_path / ".a.partial").mkdir()
    (tmp_path / ".a.partial" / "fingerprint.json").write_text("{}")
    (tmp_path / ".a.partial" / "other.txt").write_text("")
    release_codec(run, tmp_path / "a", tiny_recipe(data), about="x")
    assert {path.name for path in (tmp_path / "a").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


# ---- The command


def test_the_command(run, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("sources.md").write_text("Recorded by ourselves.\n")
    moved = tmp_path / "moved"
    data.rename(moved)  # the run was trained on data that lay elsewhere
    try:
        code = call(run, "-o", "weights/mine", "--about", "sources.md", "--data.root", moved, "--device", "cpu")
    finally:
        moved.rename(data)
    out, err = capsys.readouterr()
    assert code == 0, err  # which may hold a progress bar
    identity = model_identity(load_codec("weights/mine")).hex()[:16]
    assert re.fullmatch(
        rf"weights/mine  0\.\d MB, identity {identity}\.\.\., rounding moved latents and samples by \S+ at most\n"
        rf"next: codec-encode talk\.wav --model weights/mine\n",
        out,
    )
    assert "Recorded by ourselves." in Path("weights/mine/README.md").read_text()


def test_a_checkpoint_and_a_recipe_by_name(run, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (checkpoint,) = (run / "checkpoints").glob("step-*")
    words = ("--recipe", "quickstart", "--data.root", data, "--data.train", ".", "--device", "cpu")
    assert call(checkpoint, "-o", "mine", *words) == 0
    card = Path("mine/README.md").read_text()
    assert "| recipe | quickstart, seed 0 |" in card
    assert "```\n" + header_comment(find_recipe("quickstart")) + "\n```" in card


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (("--train.steps", "3"), ("--train.steps", "--data")),
        (("--data.train", "nowhere"), ("no data", "nowhere")),
        ((), ("data", "licences", "--about")),
        (("--about", "nowhere.md"), ("nowhere.md",)),
    ],
)
def test_a_mistake_is_one_line(run, tmp_path, monkeypatch, capsys, words, facts):
    monkeypatch.chdir(tmp_path)
    Path("a.md").write_text("a")
    about = ("--about", "a.md") if "--data.train" in words else ()
    assert call(run, "-o", "mine", "--device", "cpu", *about, *words) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.search(one_line("codec-release", *facts), err.removesuffix("\n"))
    assert not Path("mine").exists()


def test_a_model_outside_a_run_directory_needs_its_recipe(tmp_path, capsys):
    save_codec(tiny_codec(), tmp_path / "model")
    assert call(tmp_path / "model", "-o", tmp_path / "mine") == 2
    assert re.search(one_line("no run directory", "--recipe"), capsys.readouterr().err.removesuffix("\n"))
