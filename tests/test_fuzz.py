"""Fuzz of every reader: a damaged file gives a result or one CodecError of one line, in bounded time and memory.

The examples of CI are the same in every run. The long version draws new ones: `pytest -m fuzz_long tests/test_fuzz.py`.
"""

import io
import json
import shutil
import struct
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from audio_cases import tone
from bitstream_cases import make_bitstream, make_coder, make_header
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import noise, tiny_codec, tiny_tables
from safetensors.torch import load_file, save_file
from tiny_runs import tiny_recipe

from codec.audio.file import load_audio, save_audio
from codec.audio.manifest import list_items
from codec.bitstream import Bitstream, read_codes, write_codes
from codec.errors import CodecError
from codec.inference.compression import read_bitstream
from codec.inference.fingerprint import save_fingerprint, take_fingerprint
from codec.inference.pretrained import load_codec, save_codec
from codec.inference.streaming import StreamDecoder, StreamEncoder
from codec.recipe import load_recipe
from codec.train.checkpoint import read_index
from codec.train.progress import Progress
from codec.train.rundir import read_run, record_run
from codec.train.tracking import HistoryTracker

MAX_SECONDS, MAX_MB = 5, 300
SHORT = settings(max_examples=30, deadline=1000 * MAX_SECONDS, derandomize=True, database=None)
LONG = settings(max_examples=2000, deadline=1000 * MAX_SECONDS, print_blob=True)
SUPPRESSED = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
TOKENS = [
    b"9" * 5000,
    b"-1",
    b"1e999",
    b"NaN",
    b"null",
    b"[" * 2000,
    b"{}",
    b'"',
    b"\xff\xfe",
    b"\0",
    b"\t",
    b"\n",
    b"0",
]
MODEL = replace(make_header(num_quantizers=4), num_samples=0)


# ---- Mutations


PLACES = st.integers(0, 2**20)  # modulo the length of the file
EDITS = st.one_of(
    st.tuples(st.just("flip"), PLACES, st.integers(0, 7)),
    st.tuples(st.just("cut"), PLACES, st.none()),
    st.tuples(st.just("insert"), PLACES, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("replace"), PLACES, st.sampled_from(range(len(TOKENS)))),
    st.tuples(st.just("splice"), PLACES, PLACES),
)


def mutate(data, edits):
    """Apply edits one after the other: the strategy draws them, because a whole file is too long for its reports."""
    for kind, place, detail in edits:
        at = place % max(len(data), 1)
        before, after = data[:at], data[at:]
        if kind == "flip" and after:
            data = before + bytes([after[0] ^ 1 << detail]) + after[1:]
        elif kind == "cut":
            data = before
        elif kind == "insert":
            data = before + detail + after
        elif kind == "replace":
            data = before + TOKENS[detail] + after[1:]
        elif kind == "splice":
            start = detail % max(len(data), 1)
            data = before + data[start : start + place % 200] + after[detail % 200 :]
    return data


# ---- Readers: the name of a file, how it is written, and how it is read


def reseal(data):
    """Make the header's checksum right again: else nearly every mutant is refused for it alone."""
    return data[:74] + struct.pack("<I", zlib.crc32(data[:74])) + data[78:]


def as_npz(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("codes.npy", data)
    return file.getvalue()


CODER = make_coder(3, 32)


def read_codec_file(path):
    data = path.read_bytes()
    for salvage in (False, True):
        for each in (data, reseal(data)):
            try:
                Bitstream.from_bytes(each, salvage=salvage, coder=CODER)
                read_bitstream(path, salvage=salvage)
            except CodecError as error:
                assert_one_line(error)


def read_mutant_in_npz(path):
    path.with_suffix(".npz").write_bytes(as_npz(path.read_bytes()))
    read_codes(path.with_suffix(".npz"), MODEL)


def read_state(path):
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = {name: values[name] for name in Progress().to_json()}
    except (ValueError, KeyError, TypeError, RecursionError):
        return  # load_checkpoint refuses it
    Progress.from_json(found)


def read_history_file(path):
    HistoryTracker(path, 3).close()


def read_stream(path):
    try:
        state = load_file(path)
    except Exception:
        return  # the caller reads the file
    for kind in (StreamEncoder, StreamDecoder):
        try:
            kind.restore(tiny_codec(), state)
        except CodecError as error:
            assert_one_line(error)


def assert_one_line(error):
    assert "\n" not in str(error) and len(str(error)) < 3000


def write_audio_files(folder):
    for suffix, kind in ((".wav", "wav"), (".flac", "flac"), (".ogg", "ogg"), (".opus", "opus"), (".mp3", "mp3")):
        save_audio(folder / f"{kind}{suffix}", tone(2000, 16_000), 16_000)
        yield f"{kind}{suffix}", load_audio


def write_codes_files(folder):
    packed, coded = make_bitstream(9), make_bitstream(40, coder=CODER, frames_per_chunk=8)
    (folder / "packed.codec").write_bytes(packed.to_bytes())
    (folder / "coded.codec").write_bytes(coded.to_bytes())
    yield "packed.codec", read_codec_file
    yield "coded.codec", read_codec_file
    for suffix in (".npy", ".npz", ".jsonl"):
        write_codes(folder / f"codes{suffix}", packed)
        yield f"codes{suffix}", lambda path: read_codes(path, MODEL)
    shutil.copy(folder / "codes.npy", folder / "member.npy")
    yield "member.npy", read_mutant_in_npz


def write_model_files(folder):
    codec = tiny_codec()
    codec.entropy = tiny_tables(codec, noise(1, 1, 2_000))
    save_codec(codec, folder / "model")
    save_fingerprint(take_fingerprint(codec), folder / "model")
    for name in ("config.json", "entropy.safetensors", "fingerprint.json", "model.safetensors"):
        yield f"model/{name}", lambda path: load_codec(path.parent)


def write_stream(folder):
    encoder = StreamEncoder(tiny_codec())
    encoder.push(noise(1, 1, 107))
    save_file(encoder.state(), folder / "stream.safetensors")
    yield "stream.safetensors", read_stream


def write_run_files(folder):
    run = folder / "run"
    record_run(run, tiny_recipe(folder))
    (run / "checkpoints").mkdir()
    (run / "checkpoints/index.json").write_text('{"last": "step-00000002", "previous": "step-00000001"}')
    (run / "state.json").write_text(json.dumps(Progress(step=3, seconds=2.5).to_json()))
    (run / "history.jsonl").write_text("".join(f'{{"step": {step}, "loss/mel": 0.25}}\n' for step in range(6)))
    (run / "recipe.toml").write_text('name = "x"\nseed = 5\n[train]\nsteps = 7\n[codec.encoder]\nkind = "envelope"\n')
    (run / "MANIFEST.tsv").write_text("path\tsplit\tspeaker\tseconds\na.wav\ttrain\tA\t1.5\nb.wav\tvalid\tB\t2\n")
    yield "run/recipe.json", lambda path: read_run(path.parent)
    yield "run/recipe.toml", lambda path: load_recipe(str(path))
    yield "run/checkpoints/index.json", lambda path: (read_index(path.parents[1]), load_codec(path.parents[1]))
    yield "run/state.json", read_state
    yield "run/history.jsonl", read_history_file
    (run / "manifest.json").write_text('{"audio_filepath": "a.wav", "duration": 1.5, "offset": 0, "speaker": 7}\n' * 3)
    (run / "metadata.csv").write_text('file_name,speaker_id\n"a ""1"".wav",7\nb.wav,\n')
    (run / "wav.scp").write_text("anna-1 a.wav\nben-1 sub/b.flac\n")
    for name in ("MANIFEST.tsv", "manifest.json", "metadata.csv", "wav.scp"):
        yield f"run/{name}", lambda path: list_items(path.parent, Path(path.name), split="train")


NAMES = [
    *(
        "wav.wav",
        "flac.flac",
        "ogg.ogg",
        "opus.opus",
        "mp3.mp3",
        "packed.codec",
        "coded.codec",
        "codes.npy",
        "codes.npz",
    ),
    *("codes.jsonl", "member.npy", "model/config.json", "model/entropy.safetensors", "model/fingerprint.json"),
    *("model/model.safetensors", "run/recipe.json", "run/recipe.toml", "run/checkpoints/index.json", "run/state.json"),
    *("run/history.jsonl", "run/MANIFEST.tsv", "run/manifest.json", "run/metadata.csv", "run/wav.scp"),
    "stream.safetensors",
]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Path and reader by name; every file is valid."""
    folder = tmp_path_factory.mktemp("fuzz")
    parts = (write_audio_files, write_codes_files, write_model_files, write_run_files, write_stream)
    found = {name: (folder / name, read) for write in parts for name, read in write(folder)}
    assert set(found) == set(NAMES)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_mutant(readers, name):
    fuzz(*readers[name], SHORT)


@pytest.mark.fuzz_long
@pytest.mark.parametrize("name", NAMES)
def test_many_mutants(readers, name):
    fuzz(*readers[name], LONG)


def fuzz(path, read, profile):
    original = path.read_bytes()

    @settings(profile, suppress_health_check=SUPPRESSED)
    @given(st.lists(EDITS, min_size=1, max_size=4))
    def law(edits):
        path.write_bytes(mutate(original, edits))
        try:
            read(path)
        except CodecError as error:
            assert_one_line(error)

    reset_peak()
    before = memory("VmRSS")
    try:
        law()
    finally:
        path.write_bytes(original)
    assert memory("VmHWM") - before < MAX_MB


def memory(field):
    """A size of this process (MB)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
