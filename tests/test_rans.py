"""The entropy coder: exact for all tables and codes, near the ideal length, and bytes that never change."""

import numpy as np
import pytest
import torch
from bitstream_cases import make_bitstream, make_coder, make_header, make_tables
from hypothesis import given, settings
from hypothesis import strategies as st
from messages import one_line

from codec.bitstream import Bitstream, EntropyCoder
from codec.bitstream.payload import EntropyCodedPayloads, PackedPayloads
from codec.bitstream.rans import TOTAL
from codec.errors import BitstreamError, ModelError
from codec.model import entropy_tables as model_entropy
from codec.model.entropy_tables import EntropyTables


def uniform_coder(num_quantizers, codebook_size):
    return EntropyCoder(
        np.full((1, codebook_size), TOTAL // codebook_size),
        np.zeros((num_quantizers, codebook_size + 1), int),
        np.zeros((num_quantizers, codebook_size + 1), int),
        np.zeros((num_quantizers, 1, 1), int),
    )


def draw_codes(tables, shape, seed=0):
    """Codes [C, K, f] drawn by the tables, and the length of an ideal code for them (bit)."""
    rng = np.random.default_rng(seed)
    codes, bits = np.zeros(shape, np.int64), 0.0
    none = tables["frequencies"].shape[1]
    for channel, level, frame in ((c, k, f) for f in range(shape[2]) for c in range(shape[0]) for k in range(shape[1])):
        before = codes[channel, level, frame - 1] if frame else none
        lower = codes[channel, level - 1, frame] if level else none
        row = tables["rows"][level, tables["previous"][level, before], tables["below"][level, lower]]
        share = tables["frequencies"][row] / TOTAL
        code = codes[channel, level, frame] = rng.choice(none, p=share)
        bits -= np.log2(share[code])
    return codes, bits


# ---- Laws


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 20)),
    st.integers(0, 2),
    st.integers(2, 300),
    st.floats(0.01, 1),
    st.integers(0, 2**32 - 1),
)
def test_round_trip_of_any_tables_and_codes(shape, more_levels, codebook_size, decay, seed):
    coder = make_coder(shape[1] + more_levels, codebook_size, seed=seed, decay=decay)
    codes = np.random.default_rng(seed).integers(0, codebook_size, shape)
    payload = coder.encode(codes)
    assert len(payload) <= 2 * codes.size
    for padded in (payload, bytes(5) + payload):
        found = coder.decode(padded, shape)
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, codes)


@pytest.mark.parametrize("decay", [0.1, 0.9, 0.999])
@pytest.mark.parametrize("shape", [(1, 3, 200), (2, 12, 40)])
def test_the_length_is_the_ideal_one_of_the_tables(shape, decay):
    """Within 0.1% and three bytes: the small state at the start is coarse, and the end is rounded up to bytes."""
    tables = make_tables(shape[1], 64, 4, 4, decay=decay)
    codes, bits = draw_codes(tables, shape)
    assert bits / 8 - 1 <= len(EntropyCoder(**tables).encode(codes)) <= 1.001 * bits / 8 + 3


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 12)))
def test_any_payload_gives_codes_in_range_or_a_bitstream_error(payload, shape):
    coder = make_coder(3, 7)
    try:
        codes = coder.decode(payload, shape)
    except BitstreamError:
        return
    assert codes.shape == shape and ((codes >= 0) & (codes < 7)).all()
    assert coder.encode(codes) == payload.lstrip(b"\0")  # the payload is unique


def test_a_code_depends_on_lower_levels_and_earlier_frames_only():
    """Contexts do not depend on higher levels or later frames."""
    tables = make_tables(4, 9)
    coder = EntropyCoder(**tables)
    codes = np.random.default_rng(0).integers(0, 9, (1, 4, 10))
    first_levels = EntropyCoder(**tables | {name: tables[name][:2] for name in ("previous", "below", "rows")})
    assert coder.encode(codes[:, :2]) == first_levels.encode(codes[:, :2])
    np.testing.assert_array_equal(coder._contexts(codes)[:, :2, :6], coder._contexts(codes[:, :2, :6]))


# ---- Known bytes


def test_uniform_tables_are_a_number_in_base_n():
    """With 256 equally frequent codes each takes one byte, the last code first; the lowest byte stays 0."""
    codes = np.array([[[1, 3], [2, 4]]])  # in order: 1 2 3 4
    assert uniform_coder(2, 256).encode(codes) == bytes([4, 3, 2, 1, 0])


@pytest.mark.parametrize("num_zeros", [47, 48, 49, 50, 80, 81, 200])
def test_a_state_of_exactly_64_bits_loses_no_word(num_zeros):
    """With two equally frequent codes a 0 doubles the number. It reaches the limit of the state, 2^63, exactly."""
    coder = uniform_coder(1, 2)
    codes = np.array([[[0] * num_zeros + [1]]])
    payload = coder.encode(codes)
    assert int.from_bytes(payload) == 2 ** (15 + num_zeros)
    np.testing.assert_array_equal(coder.decode(payload, codes.shape), codes)


def test_bytes_never_change():
    """Old files depend on them. The tables are made by a formula, the payload has more than one word."""
    order = np.arange(8)
    frequencies = np.stack([TOTAL // 2 ** (np.roll(order, shift) + 1) for shift in range(4)])
    frequencies[:, 7] += TOTAL - frequencies.sum(axis=1)
    classes = np.stack([np.arange(9) % 3, np.arange(9) // 3])
    coder = EntropyCoder(frequencies, classes, classes[::-1], np.arange(18).reshape(2, 3, 3) % 4)
    codes = (np.arange(40) ** 2 // 3 % 8).reshape(1, 2, 20)
    assert coder.encode(codes).hex() == "30400771480e5142022000c50011860ee5480e20f12800e30000"


# ---- Payloads of a file


def test_a_payload_is_never_longer_than_a_packed_one_and_its_length_tells():
    coder = make_coder(3, 256, decay=0.8)
    header = make_header(coder=coder)
    payloads, packed = EntropyCodedPayloads(header, coder), PackedPayloads(header)
    rng = np.random.default_rng(0)
    for most in (1, 20, 256):
        codes = rng.integers(0, most, (1, 3, 50))
        payload = payloads.encode(codes)
        assert len(payload) in payloads.sizes(50)
        np.testing.assert_array_equal(payloads.decode(payload, 50), codes)
        assert (payload == packed.encode(codes)) == (most == 256)


def test_codes_that_cost_nothing_still_take_a_bit_each():
    coder = make_coder(1, 4, decay=0.001)
    payload = EntropyCodedPayloads(make_header(coder=coder), coder).encode(np.zeros((1, 1, 800), int))
    assert len(coder.encode(np.zeros((1, 1, 800), int))) < 10
    assert len(payload) == 100


@pytest.mark.parametrize("frames_per_chunk", [1, 4, 50])
@pytest.mark.parametrize("num_channels", [1, 2])
def test_files_come_back_and_are_cut_without_a_trace(num_channels, frames_per_chunk):
    coder = make_coder(4, 64, decay=0.9)
    original = make_bitstream(31, coder=coder, num_channels=num_channels, frames_per_chunk=frames_per_chunk)
    data = original.to_bytes()
    found = Bitstream.from_bytes(data, coder=coder)
    assert found.header == original.header
    np.testing.assert_array_equal(found.codes, original.codes)
    assert found.num_bytes == original.num_bytes == len(data) <= original.header.num_bytes
    assert found.to_bytes() == data
    kept = found.keep_quantizers(2)
    direct = Bitstream(kept.header, original.codes[:, :2], coder=coder)
    assert kept.to_bytes() == direct.to_bytes()
    np.testing.assert_array_equal(Bitstream.from_bytes(kept.to_bytes(), coder=coder).codes, original.codes[:, :2])


def test_entropy_coding_saves_what_the_tables_promise():
    tables = make_tables(4, 64, decay=0.9)
    codes, bits = draw_codes(tables, (1, 4, 1000))
    coder = EntropyCoder(**tables)
    header = make_header(1000, coder=coder, frames_per_chunk=200)
    coded = Bitstream(header, codes, coder=coder)
    rest = header.num_bytes - 4000 * 6 // 8  # besides the payloads
    assert rest + bits / 8 <= coded.num_bytes <= rest + 1.001 * bits / 8 + 5 * 3


def test_a_coder_is_needed_and_must_fit():
    coder = make_coder(2, 5)
    original = make_bitstream(10, coder=coder)
    data = original.to_bytes()
    for use in (lambda: Bitstream.from_bytes(data), Bitstream(original.header, original.codes).to_bytes):
        with pytest.raises(BitstreamError, match=one_line("entropy-coded", "tables", "model 000102030405")):
            use()
    for other in (make_coder(1, 5), make_coder(2, 6)):
        with pytest.raises(BitstreamError, match=one_line("2 levels", "5 codewords", "tables")):
            Bitstream.from_bytes(data, coder=other)
    assert Bitstream.from_bytes(make_bitstream(10).to_bytes(), coder=coder).codes.shape == (1, 2, 10)  # packed


# ---- The tables of a model


def torch_tables():
    types = {"frequencies": torch.uint16, "previous": torch.uint8, "below": torch.uint8, "rows": torch.uint16}
    tables = {name: torch.from_numpy(array).to(types[name]) for name, array in make_tables(2, 5).items()}
    return tables | {"bits_per_frame": torch.tensor([2.0, 3.5])}


def test_model_and_coder_agree_on_the_total():
    assert model_entropy.TOTAL == TOTAL
    EntropyTables(**torch_tables()).check(2, 5)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tables: {name: tensor.long() for name, tensor in tables.items()},
        lambda tables: {"frequencies": tables["frequencies"][:, :-1]},
        lambda tables: {"frequencies": tables["frequencies"][:0]},
        lambda tables: {"frequencies": tables["frequencies"].flip(0)[:1]},
        lambda tables: {"frequencies": torch.zeros_like(tables["frequencies"])},
        lambda tables: {"previous": tables["previous"][:1]},
        lambda tables: {"previous": tables["previous"] + 3},
        lambda tables: {"below": tables["below"][:, :-1]},
        lambda tables: {"below": tables["below"] + 2},
        lambda tables: {"rows": tables["rows"][:1]},
        lambda tables: {"rows": torch.full_like(tables["rows"], 6)},
        lambda tables: {"bits_per_frame": torch.tensor([2.0])},
        lambda tables: {"bits_per_frame": torch.tensor([2.0, 2.0])},
        lambda tables: {"bits_per_frame": torch.tensor([2.0, torch.inf])},
    ],
)
def test_tables_that_do_not_fit_are_refused(damage):
    tables = torch_tables()
    with pytest.raises(ModelError, match=one_line("2 levels", "5 codewords")):
        EntropyTables(**tables | damage(tables)).check(2, 5)


def test_a_frequency_of_zero_is_refused():
    tables = torch_tables()
    row = tables["frequencies"][0].long()
    row[1] += row[4]
    row[4] = 0
    tables["frequencies"][0] = row.to(torch.uint16)
    with pytest.raises(ModelError, match=one_line("2 levels", "5 codewords")):
        EntropyTables(**tables).check(2, 5)
