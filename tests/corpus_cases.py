"""Small corpora in every form, and a tiny model to tokenise them."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import soundfile as sf
from models import tiny_codec
from pyarrow import parquet

from codec.corpus.listing import list_corpus
from codec.corpus.outputs import SHARD_FORMATS, Shards
from codec.corpus.tokenizer import Settings
from codec.inference.compression import describe_codes
from codec.inference.pretrained import save_codec
from codec.model.digest import with_identity

RATE = 16_000
SETTINGS = Settings(num_quantizers=4, beam=1, mode="float32", batch_seconds=1.0)
LENGTHS = {"a/one.wav": 3000, "a/two.flac": 3100, "b/one.wav": 900, "long.wav": 40_000, "stereo.wav": 2900}


def make_codec():
    return with_identity(tiny_codec())


def save_model(folder):
    save_codec(tiny_codec(), folder)
    return folder


def samples(num_samples, num_channels=1, seed=0):
    noise = np.random.default_rng(num_samples + seed).uniform(-0.5, 0.5, (num_samples, num_channels))
    return noise * np.linspace(0.1, 1, num_samples)[:, None]


def audio_bytes(name, num_samples):
    """An audio file in the format of its name; one named stereo has two channels and another rate."""
    stereo = "stereo" in name
    file = io.BytesIO()
    form = "FLAC" if name.endswith(".flac") else "WAV"
    sf.write(file, samples(num_samples, 1 + stereo), 22_050 if stereo else RATE, format=form)
    return file.getvalue()


def write_folder(folder, lengths=LENGTHS):
    for name, length in lengths.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(audio_bytes(name, length))
    return folder


def write_tar(path, lengths=LENGTHS):
    with tarfile.open(path, "w") as tar:
        for name, length in lengths.items():
            for member, data in ((name, audio_bytes(name, length)), (f"{name}.txt", b"words")):
                info = tarfile.TarInfo(member)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def write_parquet(path, lengths=LENGTHS, **options):
    """As Hugging Face writes audio."""
    cells = [{"bytes": audio_bytes(name, length), "path": name} for name, length in lengths.items()]
    parquet.write_table(pa.table({"audio": cells, "text": ["words"] * len(cells)}), path, **options)
    return path


def write_manifest(path, lengths=LENGTHS):
    write_folder(path.parent, lengths)
    rows = [
        f"{name}\t{length / RATE}\t{split}" for (name, length), split in zip(lengths.items(), "abcde", strict=False)
    ]
    path.write_text("\n".join(["path\tseconds\tsplit", *rows]))
    return path


def make_shards(folder, codec, form="parquet", seconds=1e9):
    folder.mkdir(exist_ok=True, parents=True)
    return Shards(folder, SHARD_FORMATS[form], describe_codes(codec, SETTINGS.num_quantizers), seconds)


def sources_of(*inputs):
    return list_corpus([str(path) for path in inputs])
