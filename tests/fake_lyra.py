"""A stand-in for the runtime of TFLite and the three networks of Lyra V2, with the same names, shapes and types.

The encoder takes every fifth sample as a feature, level k of the quantizer codes feature k in steps of 1 / 7.5, and the
decoder repeats every feature five times. The first frame of an interpreter has 1 as its first feature, which shows
whether the state of a network is new.
"""

import sys
import types

import numpy as np

FILES = ("soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite")
SHAPES = {FILES[0]: ((1, 320), (1, 1, 64)), FILES[2]: ((1, 1, 64), (1, 320))}


class Interpreter:
    def __init__(self, model_content, num_threads):
        self.name = model_content.decode()
        if self.name not in FILES:
            raise ValueError("Model provided has model identifier 'abcd', should be\n'TFL3'")
        assert num_threads == 1
        self.num_runs = 0

    def allocate_tensors(self):
        pass

    def get_input_details(self):
        return [{"index": 7, "shape": np.array(SHAPES[self.name][0]), "dtype": np.float32}]

    def get_output_details(self):
        return [{"index": 9, "shape": np.array(SHAPES[self.name][1]), "dtype": np.float32}]

    def set_tensor(self, index, values):
        assert (index, values.shape, values.dtype) == (7, SHAPES[self.name][0], np.float32)
        self.values = values.copy()

    def invoke(self):
        self.num_runs += 1

    def get_tensor(self, index):
        assert index == 9
        if self.name == FILES[2]:
            return np.repeat(self.values.reshape(-1), 5).reshape(1, 320)
        features = self.values[0, ::5].copy()
        if self.num_runs == 1:
            features[0] = 1.0
        return features.reshape(1, 1, 64)

    def get_signature_runner(self, signature):
        assert self.name == FILES[1]
        return {"encode": Encode, "decode": Decode}[signature]()


class Encode:
    def get_input_details(self):
        return {"num_quantizers": {"shape": np.array([], np.int32)}, "input_frames": {"shape": np.array([1, 1, 64])}}

    def __call__(self, *, num_quantizers, input_frames):
        assert (num_quantizers.shape, num_quantizers.dtype) == ((), np.int32)
        assert (input_frames.shape, input_frames.dtype) == ((1, 1, 64), np.float32)
        indices = np.full((46, 1, 1), 5, np.int32)  # what the network leaves beyond the levels that were asked for
        used = int(num_quantizers)
        indices[:used, 0, 0] = np.rint((input_frames[0, 0, :used] + 1) * 7.5).clip(0, 15)
        return {"output_0": indices, "output_1": np.array(4, np.int32)}


class Decode:
    def __call__(self, *, encoding_indices):
        assert (encoding_indices.shape, encoding_indices.dtype) == ((46, 1, 1), np.int32)
        features = np.zeros((1, 1, 64), np.float32)
        indices = encoding_indices[:, 0, 0]
        features[0, 0, :46] = np.where(indices < 0, 0, indices / 7.5 - 1)
        return {"output_0": features}


def install(folder, monkeypatch):
    """Write the three files into `folder`, which is created, and put the stand-in in place of ai_edge_litert."""
    folder.mkdir(exist_ok=True)
    for name in FILES:
        (folder / name).write_text(name)
    package, module = types.ModuleType("ai_edge_litert"), types.ModuleType("ai_edge_litert.interpreter")
    module.Interpreter = Interpreter
    monkeypatch.setitem(sys.modules, package.__name__, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return folder
