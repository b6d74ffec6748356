import math

import pytest
import torch

from codec.eval.evaluate import Evaluation
from codec.eval.report import finite_or_null, format_evaluation
from codec.model.quantizer.quantizer import codebook_health

EDGES_HZ = [0.0, 250.0, 500.0, 4000.0]


def mean(levels, *, gain_db=0.0, energy=(0.0, 0.0, 0.0), left_out=(0, 0, 0), **scores):
    bands = {"snr": [10.0, 5.25, math.nan], "energy": list(energy), "power_error": [1.0, 2.0, math.nan]}
    return {
        "gain_db": gain_db,
        "num_quantizers": levels,
        "bitrate": 700.0 * levels,
        "nominal_bitrate": 750.0 * levels,
        "mel": 1.23456,
        **scores,
        "bands": bands,
        "left_out": {"stoi": 3} | {"bands": list(left_out)} if "stoi" in scores else {"bands": list(left_out)},
    }


def formatted(*means):
    return format_evaluation(Evaluation([], list(means), codebook_health(torch.ones(1, 2)), 1.0, None, EDGES_HZ, {}))


def test_means_and_bands_are_aligned_tables():
    text = formatted(mean(1, stoi=math.nan), mean(16, stoi=0.5, energy=(-3.5, 0.0, 1.0), left_out=(0, 0, 2)))
    assert text.splitlines() == [
        "num_quantizers  bitrate  nominal_bitrate    mel  stoi",
        "             1      700              750  1.235   nan",
        "            16    11200            12000  1.235   0.5",
        "1 level: files without a finite value, left out of the mean: 3 of stoi",
        "16 levels: files without a finite value, left out of the mean: 3 of stoi",
        "",
        "1 level, 0.70 kbit/s (nominal 0.75), by band",
        "              Hz  0-250  250-500  500-4000",
        "        SNR (dB)   10.0      5.2         -",
        "     energy (dB)    0.0      0.0       0.0",
        "power error (dB)    1.0      2.0         -",
        "",
        "16 levels, 11.20 kbit/s (nominal 12), by band",
        "              Hz  0-250  250-500  500-4000",
        "        SNR (dB)   10.0      5.2         -",
        "     energy (dB)   -3.5      0.0       1.0",
        "power error (dB)    1.0      2.0         -",
        "  files left out      0        0         2",
        "Too quiet: 0-250 Hz by 3.5 dB",
    ]


@pytest.mark.parametrize(
    ("energy", "notes"),
    [
        ((-3.0, 3.0, math.nan), []),
        ((-3.1, -10.0, 3.2), ["Too quiet: 0-500 Hz by 3.1 to 10.0 dB", "Too loud: 500-4000 Hz by 3.2 dB"]),
        ((-4.0, 0.0, -5.0), ["Too quiet: 0-250 Hz by 4.0 dB, 500-4000 Hz by 5.0 dB"]),
    ],
)
def test_an_energy_that_is_far_off_is_told_in_words(energy, notes):
    assert [line for line in formatted(mean(1, energy=energy)).splitlines() if line.startswith("Too")] == notes


def test_every_gain_has_its_tables():
    lines = formatted(mean(1), mean(2), mean(1, gain_db=-20.0), mean(2, gain_db=-20.0)).splitlines()
    headings = [line for line in lines if line.startswith(("Gain", "num_")) or line.endswith("by band")]
    one = ["num_quantizers  bitrate  nominal_bitrate    mel"]
    one += ["1 level, 0.70 kbit/s (nominal 0.75), by band", "2 levels, 1.40 kbit/s (nominal 1.5), by band"]
    assert headings == ["Gain 0 dB", *one, "Gain -20 dB", *one]
    assert formatted(mean(1, gain_db=-20.0)).startswith("Gain -20 dB\n")


def test_json_has_no_nan_and_no_infinity():
    value = {"a": [1.5, math.nan, {"b": -math.inf}], "c": "nan", "d": 3, "e": True, "f": None}
    assert finite_or_null(value) == {"a": [1.5, None, {"b": None}], "c": "nan", "d": 3, "e": True, "f": None}
