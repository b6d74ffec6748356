"""Smaller ONNX files: weights that are exact in float16 are stored as such and cast to float32 when they are loaded.

A released model has float16 weights, so a page that loads it has half the bytes to load. Nothing is rounded.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from codec.errors import require

MIN_BYTES = 4096
"""Smaller tensors stay as they are."""
_CONSTANT, _VALUE = "Constant", "value"


def compact(model: bytes) -> bytes:
    """Store the large float32 tensors of an ONNX file in float16 where this is exact.

    Raises:
        ConfigError: The package onnx is not installed.
    """
    onnx = require("onnx", "export")
    proto = onnx.load_from_string(model)
    graph = proto.graph
    casts = [_halve(onnx, tensor, tensor.name) for tensor in graph.initializer if _is_exact(onnx, tensor)]
    nodes = [*casts, *_with_casts(onnx, graph.node)]
    del graph.node[:]
    graph.node.extend(nodes)
    result: bytes = proto.SerializeToString()
    return result


def _with_casts(onnx: Any, nodes: Iterable[Any]) -> Iterator[Any]:
    """The nodes in order, with a cast behind each constant that was halved."""
    for node in nodes:
        yield node
        tensors = [item.t for item in node.attribute if node.op_type == _CONSTANT and item.name == _VALUE]
        for tensor in tensors:
            if _is_exact(onnx, tensor):
                cast = _halve(onnx, tensor, node.output[0])
                node.output[0] = cast.input[0]
                yield cast


def _is_exact(onnx: Any, tensor: Any) -> bool:
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    values = onnx.numpy_helper.to_array(tensor)
    with np.errstate(over="ignore"):
        return values.nbytes >= MIN_BYTES and bool((values.astype(np.float16) == values).all())


def _halve(onnx: Any, tensor: Any, name: str) -> Any:
    """Store a tensor in float16, and return the node that casts it to float32 under its former name."""
    values = onnx.numpy_helper.to_array(tensor).astype(np.float16)
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, f"{name}.half"))
    return onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT)
