"""The page of `codec-export --web`: its folder, its graphs, where its runtime comes from; no browser runs here."""

import base64
import functools
import gzip
import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from messages import one_line
from models import noise, tiny_codec, tiny_tables
from static_server import served

import codec.web.page
import codec.web.runtime
from codec import cli
from codec.errors import ConfigError, ModelError, WriteError
from codec.inference.pretrained import save_codec
from codec.model.digest import model_identity
from codec.onnx.check import NEAR_TIE, tie_margin
from codec.onnx.engine import GraphSession
from codec.onnx.graphs import trace_rated_graphs
from codec.web.check import check_rated_graphs, codes_of_rates
from codec.web.compact import compact
from codec.web.page import DATA_FILES, PAGE_FILES, write_page
from codec.web.runtime import BUNDLE, Runtime, find_runtime

WASM = b"\0asm of another version"
WEB = BUNDLE.parents[2] / "web"


@pytest.fixture(scope="module")
def tiny():
    return tiny_codec("variable_bitrate")


@pytest.fixture(scope="module")
def graphs(tiny):
    return trace_rated_graphs(tiny, (2, 4))


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    """An npm package whose file is the one that the page needs."""
    folder = tmp_path / "node_modules" / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    (folder / "dist" / "ort.wasm").write_bytes(WASM)
    expected = Runtime("9.8.7", "ort.wasm", hashlib.sha256(WASM).hexdigest())
    monkeypatch.setattr(codec.web.runtime, "expected_runtime", lambda: expected)
    return folder


@pytest.fixture
def quick(tiny, graphs, runtime, monkeypatch):
    """A model that is traced once, and the words to write its page with."""
    monkeypatch.setattr(codec.web.page, "trace_rated_graphs", lambda *_: graphs)
    rates = tuple(codec.web.page.Rate(1000 * levels, levels) for levels in (2, 4))
    monkeypatch.setattr(codec.web.page, "_rates", lambda _: rates)
    return functools.partial(write_page, tiny, name="tiny", runtime=str(runtime))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def value(folder, key):
    """What a script hands to the page."""
    text = re.fullmatch(rf'codecPage\.put\("{key}", (.*)\);\n', (folder / f"{key}.js").read_text())[1]
    return json.loads(text) if key == "facts" else gzip.decompress(base64.b64decode(json.loads(text)))


@pytest.mark.parametrize("name", ["harmonic_noise", "variable_bitrate"])
def test_one_pair_of_graphs_serves_all_rates(name):
    model = tiny_codec(name)
    graphs = trace_rated_graphs(model, (1, 2, 4))
    audio = noise(1, 1, 40 * model.hop_length) * torch.logspace(0, -2, 40 * model.hop_length)
    result = GraphSession(graphs.encoder)(audio, None)
    assert result.shape == (1, 4 + 3, 40)
    batch = codes_of_rates(result, (1, 2, 4))
    decoded = GraphSession(graphs.decoder)(batch, None)
    for index, levels in enumerate((1, 2, 4)):
        codes = batch[index : index + 1, :levels].clamp_min(0)
        assert tie_margin(model, audio, model.encode_frames(audio, levels), codes) <= NEAR_TIE
        torch.testing.assert_close(decoded[index : index + 1], model.decode_frames(codes), rtol=0, atol=1e-5)
    if name == "variable_bitrate":
        assert len(result[0, -1].unique()) > 1


def test_graphs_of_another_model_are_noticed(tiny, graphs):
    assert check_rated_graphs(tiny, graphs, (2, 4)) < 1e-5
    with pytest.raises(ModelError, match=one_line("encoder", "differ")):
        check_rated_graphs(tiny_codec("variable_bitrate", seed=1), graphs, (2, 4))


def test_a_decoder_that_gives_no_numbers_is_noticed(tiny, graphs):
    broken = tiny_codec("variable_bitrate")
    with torch.no_grad():
        for weight in broken.decoder.parameters():
            weight.fill_(torch.nan)
    mixed = graphs._replace(decoder=trace_rated_graphs(broken, (2, 4)).decoder)
    with pytest.raises(ModelError, match=one_line("decoder", "inf")):
        check_rated_graphs(tiny, mixed, (2, 4))


class TestCompact:
    def graph(self, weights, constant):
        from onnx import helper, numpy_helper

        nodes = [
            helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(constant)),
            helper.make_node("MatMul", ["x", "w"], ["y"]),
            helper.make_node("Add", ["y", "c"], ["z"]),
        ]
        puts = [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
            for name, size in (("x", weights.shape[0]), ("z", weights.shape[1]))
        ]
        graph = helper.make_graph(nodes, "g", puts[:1], puts[1:], [numpy_helper.from_array(weights, "w")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return model.SerializeToString()

    def run(self, model, x):
        return onnxruntime.InferenceSession(model).run(None, {"x": x})[0]

    def test_exact_weights_take_half_the_bytes_and_give_the_same(self):
        generator = np.random.default_rng(0)
        weights = generator.standard_normal((64, 2000)).astype(np.float16).astype(np.float32)
        constant = generator.standard_normal(2000).astype(np.float16).astype(np.float32)
        model, x = self.graph(weights, constant), generator.standard_normal((1, 64)).astype(np.float32)
        small = compact(model)
        assert len(small) < 0.51 * len(model)
        assert np.array_equal(self.run(small, x), self.run(model, x))

    def test_weights_that_would_be_rounded_stay(self):
        weights = np.full((64, 2000), 0.1, np.float32)
        large = np.full(2000, 1e6, np.float32)  # beyond float16
        model = self.graph(weights, large)
        assert compact(model) == model


class TestRuntime:
    def test_it_is_found_where_npm_puts_it(self, runtime, tmp_path, monkeypatch):
        for place in (".", "web"):
            (tmp_path / "at" / place).mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(tmp_path)
        assert find_runtime() == WASM
        (tmp_path / "web").mkdir()
        (tmp_path / "node_modules").rename(tmp_path / "web" / "node_modules")
        assert find_runtime() == WASM

    def test_a_folder_a_file_and_a_url(self, runtime):
        file = runtime / "dist" / "ort.wasm"
        assert find_runtime(str(runtime)) == find_runtime(str(file)) == WASM
        with served(file.parent) as url:
            assert find_runtime(f"{url}/ort.wasm") == WASM
            with pytest.raises(ConfigError, match=one_line("fetch", f"{url}/nothing", "404")):
                find_runtime(f"{url}/nothing")
        with pytest.raises(ConfigError, match=one_line("fetch", url)):
            find_runtime(url)

    def test_another_version_is_refused(self, runtime):
        (runtime / "dist" / "ort.wasm").write_bytes(b"older")
        with pytest.raises(ConfigError, match=one_line(runtime, "npm install onnxruntime-web@9.8.7")):
            find_runtime(str(runtime))

    def test_without_it(self, runtime, tmp_path, monkeypatch):
        monkeypatch.setattr(codec.web.runtime, "__file__", str(tmp_path / "a" / "b" / "c.py"))
        monkeypatch.chdir(tmp_path / "node_modules")
        facts = ("onnxruntime-web", "npm install onnxruntime-web@9.8.7", "--onnxruntime-web", "URL")
        with pytest.raises(ConfigError, match=one_line(*facts)):
            find_runtime()
        with pytest.raises(ConfigError, match=one_line("can't read", "nowhere")):
            find_runtime("nowhere")


class TestFolder:
    def test_what_it_holds(self, quick, tiny, graphs, tmp_path):
        folder = tmp_path / "new" / "page"
        page = quick(folder)
        assert sorted(contents(folder)) == sorted((*PAGE_FILES, *DATA_FILES))
        assert page.num_bytes == sum(map(len, contents(folder).values()))
        assert value(folder, "runtime") == WASM
        assert value(folder, "encoder") == compact(graphs.encoder.model)
        assert value(folder, "demo")[:4] == b"fLaC"
        assert value(folder, "entropy") == b""
        facts = value(folder, "facts")
        assert facts["model_identity"] == model_identity(tiny).hex()
        assert facts["rates"] == [{"bitrate": 2000, "levels": 2}, {"bitrate": 4000, "levels": 4}]
        assert facts["entropy"] is None

    def test_tables_of_the_entropy_coder(self, quick, tiny, tmp_path):
        model = tiny_codec("variable_bitrate")
        model.entropy = tiny_tables(model, noise(1, 1, 400 * model.hop_length))
        codec.web.page.write_page(model, tmp_path / "page", name="tiny", runtime=quick.keywords["runtime"])
        tables = {name: tensor.numpy() for name, tensor in model.entropy.coding_tables().items()}
        assert value(tmp_path / "page", "entropy") == b"".join(table.tobytes() for table in tables.values())
        shapes = {name: list(table.shape) for name, table in tables.items()}
        assert value(tmp_path / "page", "facts")["entropy"] == shapes

    def test_rates_are_those_that_the_model_reaches(self):
        model = tiny_codec()  # 800 frames of 4 levels of 4 bit a second: 3200 bit/s a level
        assert [tuple(rate) for rate in codec.web.page._rates(model)] == [(6000, 1)]
        faster = tiny_codec("upsample", sample_rate=48_000)  # 9600 bit/s a level
        assert [tuple(rate) for rate in codec.web.page._rates(faster)] == [(4 * 9600, 4)]

    def test_nothing_is_overwritten_unasked(self, quick, tmp_path):
        quick(tmp_path / "page")
        (tmp_path / "page" / "index.html").write_text("mine")
        with pytest.raises(WriteError, match=one_line("page", "already there", "overwrite=True")):
            quick(tmp_path / "page")
        assert contents(tmp_path / "page")["index.html"] == b"mine"
        quick(tmp_path / "page", overwrite=True)
        assert contents(tmp_path / "page")["index.html"] == (BUNDLE / "index.html").read_bytes()

    def test_a_folder_of_other_things_stays(self, quick, tmp_path):
        (tmp_path / "page").mkdir()
        (tmp_path / "page" / "encoder.onnx").write_text("")
        with pytest.raises(WriteError, match=one_line("encoder.onnx", "another folder")):
            quick(tmp_path / "page", overwrite=True)
        assert contents(tmp_path / "page") == {"encoder.onnx": b""}


class TestCommand:
    def call(self, capfd, *words):
        with pytest.raises(SystemExit) as stop:
            cli.export_main([str(word) for word in words])
        return stop.value.code, *capfd.readouterr()

    def test_one_line(self, capfd, tmp_path, runtime, tiny):
        save_codec(tiny, tmp_path / "model")
        code, out, err = self.call(capfd, tmp_path / "model", "--web", tmp_path / "page", "--onnxruntime-web", runtime)
        assert (code, err) == (0, "")
        size = sum(map(len, contents(tmp_path / "page").values())) / 1e6
        assert out.startswith(f"{tmp_path / 'page'}  {size:.1f} MB, 6 kbit/s  ") and out.count("\n") == 1
        assert value(tmp_path / "page", "facts")["name"] == "model"
        words = (tmp_path / "model", "--web", tmp_path / "page", "--onnxruntime-web", runtime, "--overwrite", "--json")
        code, out, err = self.call(capfd, *words)
        found = json.loads(out)
        assert (code, found["error"], found["output"]) == (0, None, str(tmp_path / "page"))
        assert found["rates"] == value(tmp_path / "page", "facts")["rates"] == [{"bitrate": 6000, "levels": 1}]
        assert found["model"]["identity"] == value(tmp_path / "page", "facts")["model_identity"]

    @pytest.mark.parametrize(
        ("words", "facts"),
        [
            ([], ("--output", "--web")),
            (["-o", "onnx", "--web", "page"], ("either", "--output", "--web")),
            (["--web", "page", "--beam", "4"], ("--beam",)),
        ],
    )
    def test_mistakes(self, capfd, tmp_path, monkeypatch, words, facts):
        monkeypatch.chdir(tmp_path)
        code, out, err = self.call(capfd, *words)
        assert (code, out) == (2, "")
        assert re.search(one_line("codec-export", *facts), err.removesuffix("\n"))
        assert list(tmp_path.iterdir()) == []


class TestBundle:
    def test_it_is_small_and_names_its_runtime(self):
        assert sum(path.stat().st_size for path in BUNDLE.iterdir()) < 1_000_000
        pinned = json.loads((WEB / "package.json").read_text())["devDependencies"]["onnxruntime-web"]
        assert json.loads((BUNDLE / "runtime.json").read_text())["version"] == pinned
        assert b"file:///" not in (BUNDLE / "page.js").read_bytes()  # no path of the machine that built it

    def test_the_lock_names_no_registry(self):
        packages = json.loads((WEB / "package-lock.json").read_text())["packages"]
        assert not [name for name, package in packages.items() if "resolved" in package]
        assert all(package.get("integrity") for name, package in packages.items() if name)

    def test_it_is_what_web_builds(self, tmp_path):
        if shutil.which("npx") is None or not (WEB / "node_modules").is_dir():
            pytest.skip("no Vite: npm ci in web/")
        words = ["npx", "vite", "build", "--outDir", str(tmp_path / "bundle"), "--logLevel", "error"]
        built = subprocess.run(words, cwd=WEB, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
        assert contents(tmp_path / "bundle") == contents(BUNDLE), "run  npm run build  in web/"
