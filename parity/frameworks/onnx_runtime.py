"""A case in ONNX Runtime: outputs only, in float32."""

from typing import Any

import numpy as np

from jaxrnn import convert

from ..backends.data import Data, beyond
from ..cases import Case
from ..criterion import Arrays
from .peers import named


STATES = ("h_n", "c_n")


def compute(case: Case, data: Data) -> Arrays:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    model = onnx_model(case, data).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    outputs: Any = session.run(None, {"x": data.inputs["x"]})
    y, *states = outputs
    count = len(states) // case.structure.num_layers
    states = [np.concatenate(states[i::count]) for i in range(count)]
    return named(y * ~beyond(case)[..., None], states)


def onnx_model(case: Case, data: Data) -> Any:
    """Makes a node for each layer; between layers, directions become features."""
    from onnx import helper, numpy_helper

    s = case.structure
    cells, directions = convert.cells(data.params), s.num_directions
    options: Any = {"hidden_size": s.hidden_size}
    options["direction"] = "bidirectional" if s.bidirectional else "forward"
    options |= {"linear_before_reset": 1} if s.kind == "gru" else {}
    tensors = {"flat": np.array([0, 0, directions * s.hidden_size])}
    lengths = [] if case.lengths is None else ["lengths"]
    tensors |= {name: np.array(case.lengths, np.int32) for name in lengths}
    nodes, outputs, x = [], [], "x"
    for layer in range(s.num_layers):
        weights = convert.to_onnx(cells[layer * directions : (layer + 1) * directions])
        tensors |= {f"{name}{layer}": np.asarray(a) for name, a in weights.items()}
        states = [f"{name}{layer}" for name in STATES[: 1 + (s.kind == "lstm")]]
        inputs = [x, *(f"{name}{layer}" for name in "WRB"), *lengths]
        nodes += [
            helper.make_node(s.kind.upper(), inputs, [f"both{layer}", *states], **options),
            helper.make_node("Transpose", [f"both{layer}"], [f"swapped{layer}"], perm=[0, 2, 1, 3]),
            helper.make_node("Reshape", [f"swapped{layer}", "flat"], [f"y{layer}"]),
        ]
        x, outputs = f"y{layer}", [*outputs, *states]
    dtype = helper.np_dtype_to_tensor_dtype(data.inputs["x"].dtype)
    value = lambda name: helper.make_tensor_value_info(name, dtype, [None] * 3)
    graph = helper.make_graph(
        nodes,
        case.group,
        [value("x")],
        [value(name) for name in (x, *outputs)],
        [numpy_helper.from_array(a, name) for name, a in tensors.items()],
    )
    # An older version than onnx's newest, which ONNX Runtime may not know yet.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
