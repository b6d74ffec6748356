"""Codes as .npy, .npz and .jsonl: round trips, generated tokens, and every bad input."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import MODEL_ID, make_bitstream, make_header, peak_bytes
from messages import one_line

from codec.bitstream import (
    ENTROPY_CODED,
    Bitstream,
    count_recordings,
    plain,
    read_codes,
    read_recordings,
    write_codes,
)
from codec.errors import BitstreamError, WriteError

MODEL = replace(make_header(num_quantizers=4), num_samples=0)


@pytest.mark.parametrize("codebook_size", [5, 2**16])
@pytest.mark.parametrize("suffix", [".npz", ".jsonl"])
def test_plain_forms_keep_everything(tmp_path, suffix, codebook_size):
    original = make_bitstream(9, num_channels=2, sample_rate=44100, codebook_size=codebook_size)
    path = tmp_path / f"talk{suffix}"
    write_codes(path, original)
    found = read_codes(path, replace(MODEL, codebook_size=codebook_size))
    np.testing.assert_array_equal(found.codes, original.codes)
    assert replace(found.header, frames_per_chunk=4) == original.header


def test_what_is_read_can_be_packed_without_the_tables_of_the_model(tmp_path):
    original = make_bitstream(9)
    write_codes(tmp_path / "talk.npz", original)
    found = read_codes(tmp_path / "talk.npz", replace(MODEL, payload_kind=ENTROPY_CODED))
    assert Bitstream.from_bytes(found.to_bytes()).header == found.header


def test_npy_takes_its_metadata_from_the_model(tmp_path):
    original = make_bitstream(9, num_channels=2)
    write_codes(tmp_path / "talk.npy", original)
    assert np.load(tmp_path / "talk.npy").dtype == np.int16
    found = read_codes(tmp_path / "talk.npy", MODEL)
    np.testing.assert_array_equal(found.codes, original.codes)
    assert found.header.num_samples == 9 * 320 - 80
    write_codes(tmp_path / "wide.npy", make_bitstream(9, codebook_size=2**15 + 1))
    assert np.load(tmp_path / "wide.npy").dtype == np.int32


def test_layout_of_jsonl_and_npz(tmp_path):
    original = make_bitstream(9)
    write_codes(tmp_path / "a.jsonl", original)
    facts = {
        "sample_rate": 16000,
        "num_samples": 9 * 320 - 80,
        "model_sample_rate": 16000,
        "hop_length": 320,
        "delay": 80,
        "num_quantizers": 2,
        "codebook_size": 5,
        "model_id": MODEL_ID.hex(),
    }
    (line,) = (tmp_path / "a.jsonl").read_text().splitlines()
    assert json.loads(line) == {"codes": original.codes[0].tolist()} | facts
    stereo = make_bitstream(9, num_channels=2)
    write_codes(tmp_path / "b.jsonl", stereo)
    (line,) = (tmp_path / "b.jsonl").read_text().splitlines()
    assert json.loads(line) == {"codes": stereo.codes.tolist()} | facts
    write_codes(tmp_path / "a.npz", original)
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert {name: arrays[name].item() for name in arrays if name != "codes"} == facts


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_generated_tokens_without_metadata(tmp_path, suffix):
    codes = [[1, 2, 3], [4, 0, 1]]
    path = tmp_path / f"generated{suffix}"
    if suffix == ".npy":
        np.save(path, np.array(codes, np.uint16))
    else:
        path.write_text("\n" + json.dumps({"codes": codes}) + "\n\n")
    found = read_codes(path, MODEL)
    np.testing.assert_array_equal(found.codes, [codes])
    assert (found.header.num_samples, found.header.sample_rate) == (3 * 320 - 80, 16000)


def test_jsonl_that_begins_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"codes": [[1, 2, 3]]}), encoding="utf-8-sig")
    np.testing.assert_array_equal(read_codes(tmp_path / "a.jsonl", MODEL).codes, [[[1, 2, 3]]])


def test_channels_of_jsonl_come_in_any_order(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"channel": 1, "codes": [[1, 1]]}\n{"channel": 0, "codes": [[2, 2]]}\n')
    np.testing.assert_array_equal(read_codes(path, MODEL).codes, [[[2, 2]], [[1, 1]]])


def test_recordings_of_jsonl_are_read_line_by_line(tmp_path):
    """With the name of a path or the number of the line; a bad line stops nothing. Concatenated files are one."""
    path = tmp_path / "all.jsonl"
    stereo = make_bitstream(9, num_channels=2)
    write_codes(tmp_path / "b.jsonl", stereo)
    lines = [
        '{"codes": [[1, 2]]}',
        "",
        '{"path": "in/a b.wav", "codes": [[1], [2]]}',
        '{"file": "a b.flac", "codes": [[3]]}',
        '{"path": "../..", "codes": [[9]]}',
        '{"path": 7, "codes": [["x"]]}',
        "{",
        (tmp_path / "b.jsonl").read_text().strip(),
    ]
    path.write_text("\n".join(lines) + "\n")
    assert count_recordings(path) == 7
    found = list(read_recordings(path, MODEL))
    assert [name for name, _ in found] == ["1", "a_b", "a_b.4", "..", "6", "7", "8"]
    bad = {number for number, (_, each) in enumerate(found) if isinstance(each, BitstreamError)}
    assert bad == {3, 4, 5}
    assert all(re.search(one_line(path), str(found[number][1])) for number in bad)
    np.testing.assert_array_equal(found[1][1].codes, [[[1], [2]]])
    np.testing.assert_array_equal(found[6][1].codes, stereo.codes)
    (tmp_path / "channels.jsonl").write_text('{"channel": 0, "codes": [[1]]}\n{"channel": 1, "codes": [[2]]}\n')
    assert count_recordings(tmp_path / "channels.jsonl") == 1
    assert read_codes(tmp_path / "channels.jsonl", MODEL).header.num_channels == 2
    (tmp_path / "empty.jsonl").touch()
    assert count_recordings(tmp_path / "empty.jsonl") == 0


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ('{"codes": [[1, 5]]}', (5, "0..4")),
        ('{"codes": [[1, -3]]}', (-3, "0..4")),
        ('{"codes": [[18446744073709551615]]}', ("0..4",)),
        ('{"codes": [[1, 1e3]]}', ("float64",)),
        ('{"codes": [[1, NaN]]}', ("float64",)),
        ('{"codes": [[1, null]]}', ("object",)),
        ('{"codes": [["1", "2"]]}', ("K lists", "F integers")),
        ('{"codes": [[1, 36893488147419103232]]}', ("object",)),
        ('{"codes": [[1, 2], [1]]}', ("length",)),
        ('{"codes": [1, 2]}', ("[2]",)),
        ('{"codes": []}', ("K lists",)),
        ('{"codes": [[]]}', ("K lists",)),
        ('{"codes": [[1], [1], [1], [1], [1]]}', ("5 levels", 4)),
        ('{"tokens": [[1]]}', ("line 1", "object", "'codes'")),
        ("[[1]]", ("line 1", "object", "'codes'")),
        ("{", ("read", ".jsonl")),
        ("[" * 100_000, ("read", ".jsonl")),
        ("", ("left out",)),
        ('{"channel": 1, "codes": [[1]]}', ("left out",)),
        ('{"channel": "0", "codes": [[1]]}', ("channel", "integer")),
        ('{"channel": 0, "codes": [[1]]}\n{"channel": 0, "codes": [[1]]}', ("line 2", "channel 0")),
        ('{"channel": 0, "codes": [[1]]}\n{"channel": 1, "codes": [[1, 2]]}', ("shapes",)),
        ('{"channel": 0, "codes": [[1]]}\n{"channel": 1, "codes": [[1]], "sample_rate": 8000}', ("metadata",)),
        ('{"channel": 0, "codes": [[1]]}\n{"codes": [[1]]}', ("line 2", "read_recordings")),
        ('{"codes": [[1]]}\n{"codes": [[1]]}', ("line 2", "read_recordings")),
        ('{"codes": [[[[1]]]]}', ("K lists", "F integers")),
        ('{"codes": [[1]], "hop_length": 160}', ("hop_length", 160, 320)),
        ('{"codes": [[1]], "model_id": "ab"}', ("model_id", "'ab'", "model")),
        ('{"codes": [[1]], "codebook_size": 1024}', ("codebook_size", 1024, 5)),
        ('{"codes": [[1]], "num_quantizers": 2}', ("num_quantizers", 2, 1)),
        ('{"codes": [[1]], "num_samples": 0}', ("1 frames", "num_samples", 0)),
        ('{"codes": [[1]], "num_samples": 5000}', ("1 frames", "num_samples", 5000)),
        ('{"codes": [[1]], "sample_rate": "8000"}', ("sample_rate", "'8000'", "integer")),
    ],
)
def test_bad_jsonl_is_refused(tmp_path, text, facts):
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(BitstreamError, match=one_line(path, *facts)):
        read_codes(path, MODEL)


@pytest.mark.parametrize(
    ("array", "facts"),
    [
        (np.zeros((1, 2, 3), np.float32), ("float32",)),
        (np.zeros((1, 2, 3), bool), ("bool",)),
        (np.zeros(3, int), ("[3]",)),
        (np.zeros((1, 1, 2, 3), int), ("[1, 1, 2, 3]",)),
        (np.zeros((1, 2, 0), int), ("[1, 2, 0]",)),
        (np.full((1, 2, 3), 9), (9, "0..4")),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_bad_arrays_are_refused(tmp_path, suffix, array, facts):
    path = tmp_path / f"bad{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        np.savez(path, codes=array)
    with pytest.raises(BitstreamError, match=one_line(path, *facts)):
        read_codes(path, MODEL)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_pickled_objects_are_refused(tmp_path, suffix):
    path, array = tmp_path / f"bad{suffix}", np.array([[{}]], object)
    if suffix == ".npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, codes=array)
    with pytest.raises(BitstreamError, match=r"bad\.np[yz].*[Oo]bject"):
        read_codes(path, MODEL)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl"])
@pytest.mark.parametrize("data", [b"", b"\x93NUMPY", b"PK\x03\x04junk", bytes(range(256))])
def test_files_of_another_kind_are_refused(tmp_path, suffix, data):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(data)
    with pytest.raises(BitstreamError, match=one_line(path)):
        read_codes(path, MODEL)


def test_an_npy_file_under_the_name_of_an_npz(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((1, 2, 3), int))
    path = (tmp_path / "a.npy").rename(tmp_path / "a.npz")
    with pytest.raises(BitstreamError, match=one_line(path, "zip archive")):
        read_codes(path, MODEL)


def test_an_npy_file_that_claims_more_than_it_holds_allocates_nothing(tmp_path):
    path = tmp_path / "huge.npy"
    np.save(path, np.zeros((1, 2, 300), np.int16))
    path.write_bytes(path.read_bytes().replace(b"(1, 2, 300)", b"(9999, 9999, 9999)").replace(b" " * 7, b"", 1))

    def read():
        with pytest.raises(BitstreamError, match=one_line(path)):
            read_codes(path, MODEL)

    assert peak_bytes(read) < 2**20


def test_npz_without_codes_or_of_another_model(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, tokens=np.zeros((1, 2, 3), int))
    with pytest.raises(BitstreamError, match=one_line(path, "'codes'")):
        read_codes(path, MODEL)
    write_codes(path, make_bitstream(9), overwrite=True)
    with pytest.raises(BitstreamError, match=one_line("delay", 80, 0)):
        read_codes(path, replace(MODEL, delay=0))


def test_a_line_that_could_not_be_read_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(plain, "_MAX_LINE", 300)
    write_codes(tmp_path / "short.jsonl", make_bitstream(4))
    assert read_codes(tmp_path / "short.jsonl", MODEL).codes.shape == (1, 2, 4)
    with pytest.raises(BitstreamError, match=one_line("line", "characters", ".npz")):
        write_codes(tmp_path / "long.jsonl", make_bitstream(90))
    assert [path.name for path in tmp_path.iterdir()] == ["short.jsonl"]


def test_compressed_npz_and_the_order_of_fortran_are_read(tmp_path):
    codes = make_bitstream(9).codes
    np.savez_compressed(tmp_path / "a.npz", codes=np.asfortranarray(codes))
    np.save(tmp_path / "a.npy", np.asfortranarray(codes.astype(">i4")))
    for name in ("a.npz", "a.npy"):
        np.testing.assert_array_equal(read_codes(tmp_path / name, MODEL).codes, codes)


def test_missing_files_and_other_suffixes(tmp_path):
    with pytest.raises(BitstreamError, match="No such file"):
        read_codes(tmp_path / "none.npy", MODEL)
    (tmp_path / "a.npy").touch()
    with pytest.raises(WriteError, match=r"a\.npy is already there"):
        write_codes(tmp_path / "a.npy", make_bitstream())
    write_codes(tmp_path / "a.npy", make_bitstream(), overwrite=True)
    with pytest.raises(WriteError, match="can't write"):
        write_codes(tmp_path / "a.npy" / "b.npy", make_bitstream())
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    for call in (lambda: read_codes("a.txt", MODEL), lambda: write_codes("a.txt", make_bitstream())):
        with pytest.raises(BitstreamError, match=one_line("'.txt'", ".npy", ".npz", ".jsonl")):
            call()
