"""Files of a folder of save_pretrained: which are read, and what the identity depends on."""

import json

import pytest
import torch
from messages import one_line
from safetensors.torch import save_file

from codec.adapters.folder import folder_identity, read_config, weight_files
from codec.errors import ModelError

CONFIG = {"model_type": "dac", "hop_length": 8, "inner": {"dtype": "float32", "sizes": [{"a": 1}]}}
WEIGHTS = {"a": torch.arange(4.0), "b": torch.ones(2, 2, dtype=torch.bfloat16)}


def write(folder, weights=WEIGHTS, name="model.safetensors"):
    folder.mkdir(exist_ok=True)
    save_file(weights, folder / name)
    return [folder / name]


def test_the_identity_is_that_of_the_configuration_and_the_tensors(tmp_path):
    files = write(tmp_path)
    identity = folder_identity(CONFIG, files)
    assert len(identity) == 32 and folder_identity(CONFIG, write(tmp_path / "again")) == identity
    others = [
        CONFIG | {"hop_length": 16},
        CONFIG | {"inner": {"sizes": [{"a": 2}]}},
        {key: value for key, value in CONFIG.items() if key != "hop_length"},
    ]
    seen = {identity, *(folder_identity(config, files) for config in others)}
    for number, weights in enumerate(
        (
            WEIGHTS | {"a": torch.arange(4.0) + 1},
            WEIGHTS | {"a": torch.arange(4.0)[None]},
            WEIGHTS | {"a": torch.arange(4.0).double()},
            {"a": WEIGHTS["a"], "c": WEIGHTS["b"]},
        )
    ):
        seen.add(folder_identity(CONFIG, write(tmp_path / f"{number}", weights)))
    assert len(seen) == 8


def test_the_identity_does_not_depend_on_library_place_or_type(tmp_path):
    files = write(tmp_path)
    renamed = {"transformers_version": "9", "_name_or_path": "x", "architectures": ["X"], "dtype": "float16"}
    inner = {"transformers_version": "9", "sizes": [{"a": 1, "torch_dtype": "float16"}]}
    assert folder_identity(CONFIG | renamed | {"inner": inner}, files) == folder_identity(CONFIG, files)


def test_the_identity_of_several_files_is_that_of_one(tmp_path):
    whole = write(tmp_path / "whole")
    parts = tmp_path / "parts"
    write(parts, {"b": WEIGHTS["b"]}, "model-1.safetensors")
    write(parts, {"a": WEIGHTS["a"]}, "model-2.safetensors")
    index = {"weight_map": {"b": "model-1.safetensors", "a": "model-2.safetensors"}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    files = weight_files(parts)
    assert [file.name for file in files] == ["model-1.safetensors", "model-2.safetensors"]
    assert folder_identity(CONFIG, files) == folder_identity(CONFIG, whole)


def test_pickled_weights_are_not_read(tmp_path):
    with pytest.raises(ModelError, match=one_line(tmp_path, "model.safetensors", "save_pretrained")) as error:
        weight_files(tmp_path)
    assert "run code" not in str(error.value)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=one_line(tmp_path, "model.safetensors", "pickled", "run code")):
        weight_files(tmp_path)


@pytest.mark.parametrize("index", ["[]", "{", '{"weight_map": 3}', '{"weight_map": {"a": ["x"]}}'])
def test_a_damaged_index(tmp_path, index):
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=one_line(tmp_path / "model.safetensors.index.json")):
        weight_files(tmp_path)


@pytest.mark.parametrize("name", ["none.safetensors", "../whole/model.safetensors"])
def test_an_index_that_names_files_elsewhere(tmp_path, name):
    write(tmp_path / "whole")
    write(tmp_path / "parts", name="other.safetensors")
    index = tmp_path / "parts" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ModelError, match=one_line(index, name.rpartition("/")[2], "not there")):
        weight_files(tmp_path / "parts")


def test_weights_and_configurations_that_can_not_be_read(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"abc")
    with pytest.raises(ModelError, match=one_line(tmp_path / "x.safetensors")):
        folder_identity(CONFIG, [tmp_path / "x.safetensors"])
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(ModelError, match=one_line(tmp_path)):
            read_config(tmp_path)
