import sys

import pytest
import torch
from messages import one_line
from models import tiny_codec

from codec.audio.file import read_info
from codec.bench.memory import RESET, _code_file, _write_noise, forget_peak, measure_memory, peak_memory
from codec.bench.timing import using_threads
from codec.errors import ModelError
from codec.inference.pretrained import save_codec


def test_memory_is_measured_for_every_file_length():
    files = []
    rows = measure_memory(tiny_codec(), [1.0, 30.0, 120.0], on_file=lambda: files.append(1))
    assert [row.file_s for row in rows] == [1.0, 30.0, 120.0]
    assert len(files) == 3
    for row in rows:
        assert 50e6 < row.loaded_bytes <= row.peak_bytes < 5e9  # Python and torch alone take more than 50 MB
        assert row.encode_times_real_time > 0 < row.decode_times_real_time
    # Until its blocks are the longest that there are, a longer file takes more: a block of ten seconds is 8000 frames
    # of this model, and the search keeps eight paths of each. Measured: 92 to 104 MB, and 103 to 122 MB for 180 s.
    assert rows[1].peak_bytes - rows[1].loaded_bytes < 150e6
    assert rows[2].peak_bytes - rows[1].peak_bytes < 50e6


@pytest.mark.parametrize(
    ("script", "reason"),
    [("echo first >&2; echo 'AudioError: no audio' >&2; exit 1", "AudioError: no audio"), ("exit 3", "exit code 3")],
)
def test_a_process_that_fails_is_one_line(script, reason, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(ModelError, match=one_line("1 s", reason)):
        measure_memory(tiny_codec(), [1.0])


@pytest.mark.skipif(not RESET.exists(), reason="needs a Linux that can reset the peak of a process")
def test_the_peak_includes_memory_that_was_freed():
    forget_peak()
    before = peak_memory()
    torch.ones(50_000_000)  # 200 MB, given back at once
    assert before + 150e6 < peak_memory() < before + 300e6
    forget_peak()
    assert peak_memory() < before + 100e6


@pytest.mark.skipif(not RESET.exists(), reason="needs a Linux that can reset the peak of a process")
def test_the_baseline_excludes_the_peak_of_loading(tmp_path):
    save_codec(tiny_codec(), tmp_path / "model")
    _write_noise(tmp_path / "in.wav", 16_000, 0.5)
    forget_peak()
    torch.ones(50_000_000)
    before = peak_memory()
    with using_threads(torch.get_num_threads()):
        loaded, peak, *_ = _code_file(str(tmp_path / "model"), tmp_path / "in.wav", tmp_path)
    assert loaded <= peak < before - 50e6


def test_the_file_has_its_length(tmp_path):
    _write_noise(tmp_path / "a.wav", 100, 25.01)
    info = read_info(tmp_path / "a.wav")
    assert (info.num_samples, info.sample_rate, info.num_channels) == (2501, 100, 1)
