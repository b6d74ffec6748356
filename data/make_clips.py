"""Make `clips/`: short clips of synthetic speech (espeak-ng) and synthesised music, and their manifest.

    python data/make_clips.py

The clips are in the repository; run this only to change them. The same versions of espeak-ng, numpy and
libFLAC make the same files. espeak-ng is a system package: apt-get install espeak-ng (or brew).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from codec.audio.file import load_audio, save_audio
from codec.audio.resampling import resample

CLIPS = Path(__file__).parent / "clips"
COLUMNS = ("path", "split", "kind", "speaker", "sample_rate", "seconds")
PEAK = 10 ** (-3 / 20)  # -3 dBFS

Samples = npt.NDArray[np.float64]


class Sentence(NamedTuple):
    """A sentence and how espeak-ng says it: language+variant, pitch 0 to 99, speed in words a minute."""

    split: str
    voice: str
    pitch: int
    speed: int
    text: str


SENTENCES = (
    Sentence("train", "en-us", 45, 160, "The harbor lights went out one by one, and nobody on the pier noticed."),
    Sentence("train", "en-us+f3", 60, 175, "Please leave the green folder on my desk before you go to lunch."),
    Sentence("train", "de+m3", 35, 150, "Am Morgen lag der erste Schnee auf den Dächern der kleinen Stadt."),
    Sentence(
        "train",
        "fr+f2",
        55,
        165,
        "Le boulanger ouvre sa boutique avant le lever du soleil, même en plein hiver.",
    ),
    Sentence("train", "es+m1", 40, 170, "Mañana vamos a cruzar el río por el puente viejo de piedra."),
    Sentence("train", "pt+f4", 65, 155, "O vento trouxe o cheiro do mar até a janela da cozinha."),
    Sentence("train", "hi+m2", 50, 145, "कल शाम बाज़ार में बहुत भीड़ थी और बारिश हो रही थी।"),
    Sentence("train", "ru+m4", 30, 150, "Старый трамвай медленно поднимался на холм мимо парка."),
    Sentence("train", "sw+f5", 58, 165, "Watoto wanacheza mpira karibu na mto kila siku jioni."),
    Sentence("valid", "en-gb+m7", 38, 165, "Seven grey geese flew slowly over the frozen lake at dusk."),
    Sentence("valid", "it+f1", 62, 160, "La vecchia radio suonava una canzone che nessuno ricordava."),
)


def speak(sentence: Sentence) -> torch.Tensor:
    """Let espeak-ng say a sentence; returns audio `[1, 1, T]` at 16 kHz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        options = ["-v", sentence.voice, "-p", str(sentence.pitch), "-s", str(sentence.speed)]
        subprocess.run(["espeak-ng", *options, "-w", str(path), sentence.text], check=True)
        return load_audio(path, 16_000)


def pluck(hz: float, seconds: float, sample_rate: int, generator: np.random.Generator) -> Samples:
    """Pluck a string: noise in a delay line with a two-point average (Karplus and Strong, CMJ 7(2), 1983)."""
    period = generator.uniform(-1, 1, round(sample_rate / hz))
    period -= period.mean()  # the average keeps a constant, which would sound on as an offset
    periods, before = [period], 0.0
    for _ in range(int(seconds * hz)):
        delayed = np.concatenate([[before], period[:-1]])
        before = period[-1]
        period = 0.5 * 0.998 * (period + delayed)
        periods.append(period)
    return np.concatenate(periods)


def mix_in(track: Samples, sound: Samples, start: int, gain: float = 1.0) -> None:
    """Add a sound to a track, cut off at the track's end."""
    sound = sound[: len(track) - start]
    track[start : start + len(sound)] += gain * sound


def arpeggio(sample_rate: int, seconds: float, seed: int) -> Samples:
    """Plucked strings, eight notes a bar, over four chords."""
    generator = np.random.default_rng(seed)
    track = np.zeros(round(seconds * sample_rate))
    chords = ((57, 60, 64, 69), (53, 57, 60, 65), (48, 55, 60, 64), (55, 59, 62, 67))  # MIDI notes: Am F C G
    step = len(track) // 32
    for index in range(32):
        note = chords[index // 8][(0, 1, 2, 3, 2, 1, 2, 1)[index % 8]]
        mix_in(track, pluck(midi_hz(note), 0.8, sample_rate, generator), index * step)
    return track


def chords_and_drums(sample_rate: int, seconds: float, seed: int) -> Samples:
    """Additive chords of eight harmonics with a slow attack, and noise bursts on every beat."""
    generator = np.random.default_rng(seed)
    track = np.zeros(round(seconds * sample_rate))
    bar = len(track) // 4
    time = np.arange(bar) / sample_rate
    for index, chord in enumerate(((50, 57, 62, 65), (46, 53, 58, 62), (53, 57, 60, 65), (48, 55, 60, 64))):
        envelope = np.minimum(time / 0.08, 1) * np.exp(-1.2 * time)
        for note in chord:
            for harmonic in range(1, 9):
                phase = 2 * np.pi * (harmonic * midi_hz(note) * time + generator.uniform())
                mix_in(track, envelope * np.sin(phase), index * bar, 0.12 / harmonic**1.3)
        for beat in range(4):
            burst = generator.standard_normal(round(0.15 * sample_rate))
            decay = np.exp(-np.arange(len(burst)) / sample_rate / (0.05 if beat % 2 else 0.015))
            mix_in(track, burst * decay, index * bar + beat * bar // 4, 0.25)
    return track


def stereo_mix(sample_rate: int, seconds: float, seed: int) -> Samples:
    """Arpeggio left of the centre, chords and drums right of it; `[2, T]`."""
    strings, band = arpeggio(sample_rate, seconds, seed), chords_and_drums(sample_rate, seconds, seed + 1)
    return np.stack([0.8 * strings + 0.3 * band, 0.3 * strings + 0.8 * band])


def midi_hz(note: int) -> float:
    """Frequency of a MIDI note in equal temperament, A4 = 69 = 440 Hz."""
    return 440.0 * 2 ** ((note - 69) / 12)


def music() -> dict[str, tuple[torch.Tensor, int]]:
    """Name, audio `[1, C, T]` and sample rate of every music clip."""
    # Synthesised at 48 kHz and resampled: a delay line of whole samples is in tune only at a high rate.
    mono = {
        "music_strings": arpeggio(48_000, 4.0, seed=1),
        "music_band": chords_and_drums(48_000, 4.0, seed=2),
    }
    clips = {
        name: (resample(torch.from_numpy(track)[None, None], 48_000, 16_000), 16_000) for name, track in mono.items()
    }
    clips["music_stereo"] = (torch.from_numpy(stereo_mix(44_100, 4.0, seed=3))[None], 44_100)
    return clips


def save_clip(name: str, split: str, kind: str, speaker: str, audio: torch.Tensor, sample_rate: int) -> str:
    """Save a clip with its peak at -3 dBFS and 10 ms fades; returns its line of the manifest."""
    fade = torch.linspace(0, 1, sample_rate // 100, dtype=audio.dtype)
    audio = audio.clone()
    audio[..., : len(fade)] *= fade
    audio[..., -len(fade) :] *= fade.flip(0)
    save_audio(CLIPS / f"{name}.flac", audio * (PEAK / audio.abs().max()), sample_rate, overwrite=True)
    seconds = audio.shape[-1] / sample_rate
    return "\t".join([f"{name}.flac", split, kind, speaker, str(sample_rate), f"{seconds:.3f}"])


def main() -> None:
    """Make every clip and the manifest."""
    if shutil.which("espeak-ng") is None:
        sys.exit("espeak-ng is not installed: run  apt-get install espeak-ng  (or brew install espeak-ng)")
    lines = ["\t".join(COLUMNS)]
    for sentence in SENTENCES:
        name = f"speech_{sentence.voice.replace('+', '_')}"
        speaker = f"espeak:{sentence.voice}"
        lines.append(save_clip(name, sentence.split, "speech", speaker, speak(sentence), 16_000))
    for name, (audio, sample_rate) in music().items():
        lines.append(save_clip(name, "train", "music", "synth", audio, sample_rate))
    (CLIPS / "MANIFEST.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
