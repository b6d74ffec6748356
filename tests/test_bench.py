import inspect
import json
import re
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from messages import one_line
from models import tiny_codec

import codec.bench.bench
from codec.bench.bench import Plan, describe_machine, run_benchmark
from codec.bench.figure import speed_figure
from codec.bench.memory import FileMemory
from codec.bench.peers import PEERS, Peer
from codec.bench.speed import PartSpeed
from codec.bench.table import format_benchmark
from codec.bench.timing import Spread
from codec.cli import bench_main
from codec.cli.bench import NO_PEERS
from codec.cli.options import BenchOptions, Mode, PeerName
from codec.errors import ConfigError
from codec.inference.modes import MODES
from codec.inference.pretrained import save_codec
from codec.jsonfile import plain

PLAN = Plan(
    modes=["float32", "onnx"],
    peers=["mimi", "snac"],
    threads=[1, 2],
    seconds=0.2,
    block_ms=20.0,
    num_rounds=2,
    num_blocks=5,
    file_s=[0.2],
    product_size=32,
    batch_size=2,
    budget_s=0.0,
)


@pytest.fixture(scope="module")
def benchmark():
    def load(name):
        if name == "snac":
            raise ConfigError("snac is not installed")
        return Peer(name, "a stand-in", 8000, 7, lambda audio: audio, lambda codes: codes)

    def speed_up(model, mode):
        if mode != "float32":
            raise ConfigError(f"{mode} is not installed")
        return model

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(codec.bench.bench, "load_peer", load)
        patch.setattr(codec.bench.bench, "speed_up", speed_up)
        patch.setattr(codec.bench.bench, "measure_memory", lambda *_, **__: [FileMemory(0.2, 10, 20, 3.0, 4.0)])
        return run_benchmark(tiny_codec(), "tiny", PLAN, progress=False)


def test_every_setting_of_threads_is_measured(benchmark):
    for rows in (benchmark.offline, benchmark.peak_shares, benchmark.streams, benchmark.peers):
        assert {row.num_threads for row in rows} == {1, 2}
    assert len(benchmark.memory) == 1
    assert {row.peer for row in benchmark.peers} == {"mimi"}


def test_what_is_not_there_is_named(benchmark):
    notes = dict(benchmark.unavailable)
    if not benchmark.residual:  # an optional package
        assert "pip install" in notes.pop("quantizer beside vector-quantize-pytorch")
    assert notes == {"mode onnx": "onnx is not installed", "peer snac": "snac is not installed"}


def test_no_mode_at_all_is_an_error(monkeypatch):
    def refuse(model, mode):
        raise ConfigError(f"no {mode}")

    monkeypatch.setattr(codec.bench.bench, "speed_up", refuse)
    with pytest.raises(ConfigError, match=one_line("no float32", "no onnx")):
        run_benchmark(tiny_codec(), "tiny", PLAN, progress=False)


def test_json_keeps_names_and_numbers(benchmark):
    value = json.loads(json.dumps(plain(benchmark), allow_nan=False))
    assert value["model"]["flop_per_s_of_audio"] == benchmark.model.flop_per_s_of_audio._asdict()
    assert value["offline"][0]["times_real_time"]["median"] == benchmark.offline[0].times_real_time.median
    assert value["plan"]["file_s"] == [0.2]
    assert value["model"]["latency_ms"] == 1000 * 45 / 16_000
    assert value["machine"]["versions"]["torch"] == describe_machine().versions["torch"] is not None


def test_the_table_tells_everything(benchmark):
    text = format_benchmark(benchmark)
    for word in ("mimi", "a stand-in", "float32", "encoder 0.", "snac is not installed", "Peak memory"):
        assert word in text
    assert all(len(line) <= 180 for line in text.splitlines())


@pytest.mark.parametrize(
    ("speed", "text"),
    [
        (Spread(1234.4, 1000.2, 1500.6, 2), "1234 [1000-1501]"),
        (Spread(12.34, 9.96, 15.0, 2), "12.3 [10.0-15.0]"),
        (Spread(0.543, 0.5, 0.6, 2), "0.54 [0.50-0.60]"),
    ],
)
def test_a_cell_has_three_digits(benchmark, speed, text):
    lines = format_benchmark(benchmark._replace(offline=[PartSpeed(2, "onnx", "decode", speed)])).splitlines()
    row = lines[next(number for number, line in enumerate(lines) if line.startswith("Whole signals")) + 2]
    assert row.split() == ["2", "onnx", "-", "-", "-", "-", "-", *text.split(), "-"]


def test_the_figure_is_not_blank(benchmark):
    figure = speed_figure(benchmark)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    speed, stream, memory = figure.axes
    assert [label.get_text() for label in speed.get_yticklabels()] == ["this codec, float32", "mimi"]
    widths = [bar.get_width() for bar in speed.patches]
    expected = [
        row.times_real_time.median for row in [*benchmark.offline, *benchmark.peers] if row.part == "round trip"
    ]
    assert widths == pytest.approx(expected)
    assert len(stream.get_yticklabels()) == 2
    assert memory.lines[0].get_ydata() == pytest.approx([row.peak_bytes / 1e6 for row in benchmark.memory])
    pixels = np.asarray(canvas.buffer_rgba())
    assert len(np.unique(pixels.reshape(-1, 4), axis=0)) > 20


class TestCommand:
    @pytest.fixture
    def model(self, tmp_path):
        save_codec(tiny_codec(), tmp_path / "model")
        return str(tmp_path / "model")

    def test_files_and_table(self, model, tmp_path, capsys):
        words = ["--quick", "--peers", "none", "--file-seconds", "0.2", "--rounds", "1", "--seconds", "0.2"]
        report, picture = tmp_path / "bench.json", tmp_path / "bench.png"
        assert _run([model, *words, "-o", str(report), "--plot", str(picture)]) == 0
        assert "Whole signals of 0.2 s" in capsys.readouterr().out
        value = json.loads(report.read_text())
        assert value["model"]["name"] == model
        assert (value["plan"]["num_rounds"], value["plan"]["modes"], value["peers"]) == (1, [MODES[0]], [])
        assert picture.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            (["--peers", "snac", "encodek"], ("peers.1", *map(repr, PEERS), "'none'", "'encodek'")),
            (["--modes", "bf61"], ("modes.0", *map(repr, MODES), "'bf61'")),
            (["--threads", "none"], ("threads", "'none'", "1 ..")),
            (["--seconds", "0"], ("seconds", 0.1, "'0'")),
            (["--file-seconds", "5", "nan"], ("file_seconds.1", "finite", "'nan'")),
            (["--rounds", "0"], ("rounds", "greater than 0", "'0'")),
            (["--recipe", "speech"], ("'speech'", "'speech_16khz'")),
            (["--recipe", "gaussian_vq"], ("gaussian_vq", "vectors", "audio")),
            (["nowhere"], ("'nowhere'",)),
            (["nowhere", "--recipe", "quickstart"], ("nowhere", "quickstart")),
            (["-o", "bench.txt"], ("bench.txt", ".json")),
            (["--plot", "bench.json"], ("bench.json", ".png")),
        ],
    )
    def test_a_mistake_is_one_line_before_anything_is_measured(self, words, facts, monkeypatch, capsys):
        monkeypatch.setattr(codec.bench.bench, "run_benchmark", None)
        assert _run(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert re.search(one_line("codec-bench", *facts), err.removesuffix("\n"))

    @pytest.mark.parametrize(("option", "name"), [("-o", "bench.json"), ("--plot", "bench.png")])
    def test_nothing_is_overwritten(self, option, name, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(codec.bench.bench, "run_benchmark", None)
        path = tmp_path / name
        path.write_text("mine")
        assert _run([option, str(path)]) == 2
        assert f"{path} is already there" in capsys.readouterr().err
        assert path.read_text() == "mine"

    def test_help_has_an_example_and_loads_no_torch(self):
        code = (
            "import sys; from codec.cli import bench_main\n"
            "try: bench_main(['--help'])\n"
            "except SystemExit: print('torch' in sys.modules)"
        )
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.endswith("False\n")
        assert "codec-bench --quick" in result.stdout

    def test_the_help_names_all_modes_and_peers(self):
        text = " ".join(inspect.getsource(BenchOptions).split())
        assert f"{' '.join(MODES)}." in text
        assert f"{' '.join(PEERS)}, or none" in text
        assert get_args(Mode) == MODES
        assert get_args(PeerName) == (*PEERS, NO_PEERS)


def _run(words):
    with pytest.raises(SystemExit) as stop:
        bench_main(words)
    return stop.value.code
