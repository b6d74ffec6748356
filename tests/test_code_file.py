"""Facts of `.codec` files: of intact ones they are those of the writer, of damaged ones they name what is lost."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bitstream_cases import (
    CHUNK_OVERHEAD,
    HEADER_BYTES,
    chunk_ends,
    make_bitstream,
    make_coder,
    make_header,
    peak_bytes,
)
from messages import one_line

from codec.bitstream import Header
from codec.errors import BitstreamError
from codec.eval.inspection.code_file import file_to_json, inspect_file
from codec.eval.inspection.text import format_file

CODER = make_coder()
kinds = pytest.mark.parametrize("coder", [None, CODER], ids=["packed", "entropy-coded"])


@pytest.fixture
def facts_of(tmp_path):
    def inspect(data, coder=CODER):
        path = tmp_path / "talk.codec"
        path.write_bytes(data)
        return inspect_file(path, coder)

    return inspect


@kinds
@pytest.mark.parametrize("num_channels", [1, 2])
@pytest.mark.parametrize("num_frames", [1, 4, 10])  # one frame, a whole chunk, two and a half chunks
def test_an_intact_file(facts_of, coder, num_channels, num_frames):
    original = make_bitstream(num_frames, coder=coder, num_channels=num_channels)
    data = original.to_bytes()
    facts = facts_of(data)
    assert (facts.header, facts.num_bytes, facts.damage, facts.lost) == (original.header, len(data), "", ())
    assert facts.is_closed and facts.has_index and facts.other_bytes == 0
    assert np.cumsum([HEADER_BYTES, *facts.chunk_bytes]).tolist()[1:] == chunk_ends(data)
    assert HEADER_BYTES + sum(facts.chunk_bytes) + facts.index_bytes == len(data)
    size = original.header.codebook_size
    for level in range(original.header.num_quantizers):
        expected = np.bincount(original.codes[:, level].flatten(), minlength=size)
        assert facts.counts[level].tolist() == expected.tolist()
        share = expected[expected > 0] / expected.sum()
        assert facts.health.entropy[level] == pytest.approx(-(share * np.log2(share)).sum())
    assert facts.bitrate == pytest.approx(8 * len(data) / original.header.duration_s)


@kinds
def test_every_flipped_byte_after_the_header_is_damage(facts_of, coder):
    original = make_bitstream(10, coder=coder)
    data, ends = original.to_bytes(), chunk_ends(original.to_bytes())
    for at in range(HEADER_BYTES, len(data)):
        facts = facts_of(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
        number = sum(end <= at for end in ends)
        lost = ((4 * number, min(4 * number + 4, 10)),) if number < 3 else ()
        assert (facts.lost, facts.has_index) == (lost, number < 3)
        assert len(facts.chunk_bytes) == 3 - len(lost)
        assert facts.damage and facts.is_closed
        assert facts.other_bytes == len(data) - HEADER_BYTES - sum(facts.chunk_bytes) - facts.index_bytes > 0


@kinds
def test_a_file_that_is_cut_off_holds_its_first_chunks(facts_of, coder):
    original = make_bitstream(10, coder=coder)
    data, ends = original.to_bytes(), chunk_ends(original.to_bytes())
    for length in range(HEADER_BYTES, len(data)):
        facts = facts_of(data[:length])
        intact = sum(end <= length for end in ends)
        assert len(facts.chunk_bytes) == intact and not facts.has_index and facts.damage
        assert facts.counts[0].sum() == min(4 * intact, 10)
        assert (facts.health is None) == (intact == 0)


def test_a_file_that_was_never_closed(facts_of):
    original = make_bitstream(8)
    header = replace(original.header, num_samples=0)
    facts = facts_of(header.to_bytes() + original.to_bytes()[HEADER_BYTES : chunk_ends(original.to_bytes())[-1]])
    assert not facts.is_closed and not facts.lost and "never closed" in facts.damage
    assert facts.header.num_frames == 8 and len(facts.chunk_bytes) == 2


def test_bytes_that_follow_the_file_are_said(facts_of):
    facts = facts_of(make_bitstream(10).to_bytes() + b"tail")
    assert facts.other_bytes >= 4 and facts.damage and not facts.lost


def test_without_the_tables_the_checksums_are_read_and_the_codes_are_not(facts_of):
    data = make_bitstream(10, coder=CODER).to_bytes()
    known, unknown = facts_of(data), facts_of(data, None)
    assert unknown.counts is None and unknown.health is None
    assert unknown._replace(counts=known.counts) == known
    damaged = data[: HEADER_BYTES + CHUNK_OVERHEAD] + b"\xff" + data[HEADER_BYTES + CHUNK_OVERHEAD + 1 :]
    assert facts_of(damaged, None).lost == facts_of(damaged).lost == ((0, 4),)
    assert facts_of(make_bitstream(10).to_bytes(), None).counts is not None  # packed codes need no tables


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"RIFF" + bytes(100), ("RIFF",)), (b"CODC\x01", (5, HEADER_BYTES)), (b"", ("not a .codec file",))],
)
def test_what_is_no_codec_file_is_refused(facts_of, data, words):
    with pytest.raises(BitstreamError, match=one_line(*words)):
        facts_of(data)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(BitstreamError, match=one_line("can't read", "talk.codec")):
        inspect_file(tmp_path / "talk.codec")


def test_a_header_that_claims_much_takes_little_memory(facts_of):
    header = make_header(10, num_quantizers=60_000, codebook_size=2**31, frames_per_chunk=1)
    huge = replace(header, num_samples=2**30)
    assert peak_bytes(lambda: facts_of(huge.to_bytes() + bytes(100))) < 5e6
    facts = facts_of(huge.to_bytes())
    assert facts.counts is None and facts.chunk_bytes == [] and facts.lost == ((0, huge.num_frames),)


def test_json_has_every_field_of_the_header(facts_of):
    facts = facts_of(make_bitstream(10, coder=CODER, num_channels=2).to_bytes())
    values = json.loads(json.dumps(file_to_json(facts, "mine"), allow_nan=False))
    names = set(Header.__dataclass_fields__) - {"model_id", "payload_kind"}
    assert {name: values[name] for name in names} == {name: getattr(facts.header, name) for name in names}
    assert values["model"] == {"identity": facts.header.model_id.hex(), "name": "mine"}
    assert values["payload"] == "entropy-coded" and len(values["levels"]["usage"]) == 3
    parts = ("header_bytes", "index_bytes", "other_bytes")
    assert sum(values[part] for part in parts) + sum(values["chunk_bytes"]) == values["num_bytes"]


def test_text_says_what_is_there_and_what_is_lost(facts_of):
    data = make_bitstream(10, num_channels=2).to_bytes()
    text = format_file(facts_of(data), "mine")
    for words in ("packed", "(mine)", "2 channels", "2 levels of 5", "3 of 0.08 s, all intact", "index    intact"):
        assert words in text
    assert "damage" not in text and text.count("%") == 2
    text = format_file(facts_of(data[:-30]), "mine")
    assert "damaged or missing" in text and "no codes are lost" in text
    broken = data[: HEADER_BYTES + CHUNK_OVERHEAD] + b"\xff" + data[HEADER_BYTES + CHUNK_OVERHEAD + 1 :]
    assert "2 intact, 1 lost" in format_file(facts_of(broken), "mine")
    assert "%" not in format_file(facts_of(data[: HEADER_BYTES + 5]), "mine")
