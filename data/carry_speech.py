"""Pack speech for a machine without network: Opus files up to a size, and a manifest of them.

    python data/carry_speech.py DATA/MANIFEST.tsv carried --mebibytes 40

Takes random training files, speakers in proportion to their files, until the size is reached, and a few of the held-out
ones, all as mono Ogg Opus at 16 kHz. Opus has no bitrate to set in libsndfile, but a compression level: 0.9 is about 33
kbit/s on speech, so 40 MiB hold three hours; 0.8 about 59, 0.95 about 20.
"""

import argparse
import csv
import random
from pathlib import Path

import soundfile as sf
from tqdm import tqdm

from codec.audio.file import load_audio

SAMPLE_RATE = 16_000
COLUMNS = ("path", "split", "kind", "speaker", "sample_rate", "seconds")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path, help="TSV with columns path, split, kind, speaker")
    parser.add_argument("folder", type=Path, help="where the files and their MANIFEST.tsv go; must not exist")
    parser.add_argument("--mebibytes", type=float, default=40.0, help="size of all files (default: 40)")
    parser.add_argument("--level", type=float, default=0.9, help="compression, 0 to 1, more is smaller (default: 0.9)")
    parser.add_argument("--kind", default="speech", help="rows to take (default: speech)")
    parser.add_argument("--num-valid", type=int, default=4, help="held-out files among them (default: 4)")
    options = parser.parse_args()
    with options.manifest.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["kind"] == options.kind]
    chosen = random.Random(0)
    chosen.shuffle(rows)
    valid = [row for row in rows if row["split"] == "valid"][: options.num_valid]
    train = [row for row in rows if row["split"] == "train"]
    options.folder.mkdir(parents=True)
    pack(valid + train, options.manifest.parent, options.folder, round(options.mebibytes * 2**20), options.level)


def pack(rows: list[dict[str, str]], root: Path, folder: Path, num_bytes: int, level: float) -> None:
    """Write files in the order of `rows` until `num_bytes` are reached, the manifest included."""
    packed: list[dict[str, str | int | float]] = []
    total, seconds = 0, 0.0
    with tqdm(total=num_bytes, unit="B", unit_scale=True, desc="packing") as progress:
        for number, row in enumerate(rows):
            audio = load_audio(root / row["path"], SAMPLE_RATE)[0].mean(dim=0).numpy()
            path = folder / f"{number:05d}.opus"
            sf.write(path, audio, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=level)
            size = path.stat().st_size + 64  # and its line in the manifest
            if total + size > num_bytes:
                path.unlink()
                break
            total, seconds = total + size, seconds + len(audio) / SAMPLE_RATE
            facts = {name: row.get(name, "") for name in ("split", "kind", "speaker")}
            packed.append({"path": path.name, **facts, "sample_rate": SAMPLE_RATE, "seconds": len(audio) / SAMPLE_RATE})
            progress.update(size)
    with (folder / "MANIFEST.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(packed)
    bitrate = 8 * total / seconds / 1000
    print(f"{len(packed)} files, {seconds / 3600:.2f} hours, {total / 2**20:.1f} MiB, {bitrate:.1f} kbit/s")


if __name__ == "__main__":
    main()
