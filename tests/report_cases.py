"""A small evaluation in plain JSON and clips whose facts are known; the names would break a careless page."""

import itertools

import torch

from codec.eval.page.clip import Decode
from codec.eval.page.page import ReportPage

RATE = 16000
SECONDS = 1.5
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\">.wav"
PATHS = [f"data/{HOSTILE}", "data/second & third.wav", "data/silent.wav", "data/not in the page.wav"]
SYSTEMS = [("ours", "2 levels"), ("ours", "4 levels"), ("opus", "6 kbit/s"), ("opus", "12 kbit/s")]
CONDITIONS = ["as it is", "-20 dB"]
EDGES_HZ = [0.0, 1000.0, 2000.0, 4000.0, 8000.0]
METRICS = {
    "pesq_wb": {"label": "PESQ-WB", "unit": "", "better": "higher"},
    "mel_distance": {"label": "Mel distance", "unit": "neper", "better": "lower"},
    "loudness": {"label": "Loudness difference", "unit": "dB", "better": "zero"},
}
CODEBOOK_SIZE = 1024


def original(number, num_channels=1):
    """A tone whose pitch tells the clip, silent in its last third `[C, T]`."""
    time = torch.arange(int(SECONDS * RATE)) / RATE
    tone = 0.3 * torch.sin(2 * torch.pi * 400 * number * time) * (time < SECONDS * 2 / 3)
    return tone.repeat(num_channels, 1)


def decodes(audio):
    """The first has codes and is 12 dB too quiet, the second is noisy."""
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(CODEBOOK_SIZE, (len(audio), 3, 75), generator=generator)
    noise = 0.02 * torch.randn(audio.shape, generator=generator)
    return [Decode("ours", "4 levels", audio / 4, codes, CODEBOOK_SIZE), Decode("opus", "6 kbit/s", audio + noise)]


def row(path, system, condition, value):
    """A row; the metrics are told apart by their size."""
    codec, setting = SYSTEMS[system]
    facts = {
        "path": path,
        "codec": codec,
        "setting": setting,
        "condition": condition,
        "gain_db": 0.0,
        "seconds": SECONDS,
    }
    facts |= {
        "channels": 1,
        "bitrate": 3000.0 * (system + 1),
        "bands": {"energy": [0.0] * 4},
        "notes": {},
        "error": None,
    }
    return facts | {"pesq_wb": value, "mel_distance": value / 10, "loudness": value - 3}


def mean(system, condition):
    codec, setting = SYSTEMS[system]
    values = {
        name: {"mean": 2.0 + system / 4, "low": 1.9 + system / 4, "high": 2.2 + system / 4, "num": 4}
        for name in METRICS
    }
    energy = [0.1, -0.4, -9.5, -11.0] if (codec, setting) == ("ours", "4 levels") else [0.0, 0.2, -0.5, -1.0]
    facts = {
        "codec": codec,
        "setting": setting,
        "condition": condition,
        "num_files": 4,
        "num_failed": 0,
        "seconds": 6.0,
    }
    facts |= {"bitrate": 3000.0 * (system + 1), "nominal_bitrate": None, "encode_speed": 20.0, "decode_speed": 40.0}
    return facts | {"metrics": values, "bands": {"snr": [1.0] * 4, "energy": energy, "power_error": [1.0] * 4}}


def evaluation():
    cases = list(itertools.product(PATHS, range(len(SYSTEMS)), CONDITIONS))
    rows = [row(*case, 1 + number / 10) for number, case in enumerate(cases)]
    rows[0] |= {"pesq_wb": None, "notes": {"pesq_wb": "no speech found"}}
    rows[1] |= {"error": "opusenc <b>crashed</b>", "pesq_wb": None, "mel_distance": None, "loudness": None}
    rate = {
        "codec": "ours",
        "reference": "opus",
        "metric": "pesq_wb",
        "percent": -42.0,
        "low": -50.0,
        "high": -31.0,
        "note": "",
    }
    return {
        "title": "A title",
        "about": {"model": {"name": HOSTILE}, "versions": ["codec 1", "torch 2"], "command": "codec-eval <b>"},
        "metrics": METRICS,
        "edges_hz": EDGES_HZ,
        "means": [mean(system, condition) for condition in CONDITIONS for system in range(len(SYSTEMS))],
        "rows": rows,
        "bd_rate": [rate],
        "usage": {"ours": [0.9, 0.5, 0.25]},
    }


def write_report(folder, title="Ours & <others>"):
    """A report of three clips, all but the last of `PATHS`."""
    page = ReportPage(folder, title)
    for number, path in enumerate(PATHS[:3], start=1):
        audio = original(number) if number < 3 else torch.zeros(1, int(SECONDS * RATE))
        page.add_clip(number, path, RATE, audio, decodes(audio))
    page.finish(evaluation())
    return folder
