"""The files of a report: what they hold, that nothing breaks out of them, and that they need no network."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import soundfile as sf
import torch
from messages import one_line
from report_cases import CODEBOOK_SIZE, HOSTILE, PATHS, RATE, SECONDS, decodes, evaluation, original, write_report

from codec.audio.flac import flac_bytes
from codec.errors import AudioError
from codec.eval.page.clip import Decode, clip_script
from codec.eval.page.level import matching_gain_db
from codec.eval.page.page import ReportPage

SVG_NAME = "http://www.w3.org/2000/svg"  # a name, which nothing fetches


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_report(tmp_path_factory.mktemp("report"))


def read_clip(path):
    """Facts and payload of a clip."""
    return parse(path.read_text(encoding="ascii"))


def parse(script):
    head, facts, payload, tail = script.splitlines()
    assert (head, facts[-1], tail) == ("report.clips.arrive(", ",", ");")
    return json.loads(facts[:-1]), json.loads(payload)


def embedded(text):
    """The data of a page."""
    (data,) = re.findall(r'<script type="application/json" id="evaluation">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


def test_audio_of_a_clip_is_the_original_to_16_bits():
    samples = torch.from_numpy(np.random.default_rng(0).integers(-32768, 32768, (2, 4000))) / 32768
    facts, payload = parse(clip_script(1, "a.wav", RATE, samples, [Decode("ours", "x", samples * 3)]))
    pcm, rate = sf.read(io.BytesIO(base64.b64decode(payload["audio"][0])), dtype="int16")
    assert rate == RATE and facts["seconds"] == 0.25
    np.testing.assert_array_equal(pcm.T, (samples * 32768).numpy())
    clipped, _ = sf.read(io.BytesIO(base64.b64decode(payload["audio"][1])), dtype="int16")
    np.testing.assert_array_equal(clipped.T, (samples * 3 * 32768).clip(-32768, 32767).numpy())


def test_codes_of_a_clip_are_kept(folder):
    facts, payload = read_clip(folder / "clips" / "001.js")
    codes = np.frombuffer(base64.b64decode(payload["codes"][0]), "<u2").reshape(facts["decodes"][0]["codes"]["shape"])
    np.testing.assert_array_equal(codes, decodes(original(1))[0].codes)
    assert facts["decodes"][0]["codes"]["size"] == CODEBOOK_SIZE
    assert payload["codes"][1] is None and "codes" not in facts["decodes"][1]


def test_gain_makes_a_decode_as_loud_as_the_original(folder):
    facts, _ = read_clip(folder / "clips" / "001.js")
    assert facts["decodes"][0]["gain_db"] == pytest.approx(20 * math.log10(4), abs=0.02)
    noise = torch.randn(1, RATE, generator=torch.Generator().manual_seed(0)) / 50
    assert matching_gain_db(noise, 10 * noise, RATE) == pytest.approx(20, abs=1e-3)
    assert matching_gain_db(noise / 300, noise, RATE) == 0  # below the gate: silence stays silent
    assert matching_gain_db(noise / 30, noise, RATE) == 20  # no more than this
    assert matching_gain_db(noise[:, :100] / 2, noise[:, :100], RATE) == pytest.approx(6.02, abs=0.01)
    assert matching_gain_db(torch.zeros(2, 100), torch.zeros(2, 100), RATE) == 0


def test_the_pages_hold_the_evaluation(folder):
    data = embedded((folder / "index.html").read_text(encoding="utf-8"))
    expected = evaluation()
    assert data["means"] == expected["means"] and data["metrics"] == expected["metrics"]
    assert [row["path"] for row in data["rows"]] == [row["path"] for row in expected["rows"]]
    assert "bands" not in data["rows"][0]
    assert [clip["name"] for clip in data["clips"]] == PATHS[:3]


def test_names_and_titles_are_text_and_never_markup(folder):
    for path in folder.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert "<img" not in text and "crashed</b>" not in text
    assert "<h1>Ours &amp; &lt;others&gt;</h1>" in (folder / "index.html").read_text(encoding="utf-8")
    assert read_clip(folder / "clips" / "001.js")[0]["name"].endswith(HOSTILE)


def test_names_that_utf8_cannot_hold_are_written(tmp_path):
    name = "caf\udce9.wav"  # a byte of Latin-1 in the name of a file, as Python reads it
    data = evaluation() | {"about": {"file": name}}
    data["rows"] = [data["rows"][5] | {"path": name}]
    page = ReportPage(tmp_path, name)
    page.add_clip(1, name, RATE, original(1), decodes(original(1)))
    page.finish(data)
    text = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<h1>caf\\udce9.wav</h1>" in text and embedded(text)["clips"][0]["name"] == name


def test_nothing_is_fetched_from_elsewhere(folder):
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert len(paths) > 25
    for path in paths:
        text = path.read_text(encoding="utf-8").replace(SVG_NAME, "")
        assert not re.search(r"(https?:)?//[\w-]+\.\w|@import|url\(|\bfetch\(|XMLHttpRequest|\bimport\(", text), path
    for path in folder.glob("*.html"):
        for address in re.findall(r'(?:src|href)="([^"#]+)"', path.read_text(encoding="utf-8")):
            assert address == "data:," or (folder / address).is_file(), address


def test_pages_load_no_audio_by_themselves(folder):
    for path in folder.glob("*.html"):
        assert 'src="clips/' not in path.read_text(encoding="utf-8")
    assert (folder / "index.html").stat().st_size < 40_000


def test_every_script_and_style_is_used(folder):
    pages = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.html"))
    assert all(f'"page/{path.name}"' in pages for path in (folder / "page").iterdir())


def test_the_listening_test_does_not_show_the_title(folder):
    assert "Ours" not in (folder / "listening.html").read_text(encoding="utf-8")


def test_a_report_is_the_same_each_time(folder, tmp_path):
    again = write_report(tmp_path / "again")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(again) for path in again.rglob("*") if path.is_file())
    assert all((folder / file).read_bytes() == (again / file).read_bytes() for file in files)


def test_a_run_that_was_cut_off_goes_on(tmp_path):
    first = ReportPage(tmp_path, "x")
    first.add_clip(1, PATHS[0], RATE, original(1), decodes(original(1)))
    first.add_clip(2, "of an older run.wav", RATE, original(2), [])
    (tmp_path / "clips" / "003.js").write_text("half a cl", encoding="utf-8")
    ReportPage(tmp_path, "x").finish(evaluation())
    assert [clip["number"] for clip in embedded((tmp_path / "index.html").read_text())["clips"]] == [1]


def test_numbers_that_json_does_not_have_are_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        ReportPage(tmp_path, "x").finish(evaluation() | {"edges_hz": [0.0, math.nan]})
    assert not (tmp_path / "index.html").exists()


def test_a_decode_of_another_length_is_refused(tmp_path):
    page, audio = ReportPage(tmp_path, "x"), original(1)
    with pytest.raises(AudioError, match=one_line("opus", "6 kbit/s", "a.wav", len(audio[0]) - 1, len(audio[0]))):
        page.add_clip(1, "a.wav", RATE, audio, [Decode("opus", "6 kbit/s", audio[:, :-1])])
    assert not (tmp_path / "clips").exists()


@pytest.mark.parametrize(
    ("shape", "rate", "fact"),
    [((0, 9), 16000, 0), ((1, 0), 16000, 0), ((9, 9), 16000, 8), ((9,), 16000, 9), ((1, 9), 700_000, 700_000)],
)
def test_audio_that_flac_does_not_take_is_refused(shape, rate, fact):
    with pytest.raises(AudioError, match=one_line(fact)):
        flac_bytes(np.zeros(shape, np.float32), rate)


def test_nan_is_no_audio():
    with pytest.raises(AudioError, match=one_line("finite")):
        flac_bytes(np.full((1, 9), np.nan, np.float32), RATE)


def test_clip_is_about_as_large_as_its_flac_files(folder):
    audio = sum(
        len(flac_bytes(samples.numpy(), RATE)) for samples in (original(1), *(d.audio for d in decodes(original(1))))
    )
    assert (folder / "clips" / "001.js").stat().st_size < audio * 4 / 3 + 2000
    assert read_clip(folder / "clips" / "001.js")[0]["seconds"] == SECONDS
