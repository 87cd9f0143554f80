"""Writes python.onnx, a model made by the onnx package, for tests/python_onnx.rs.

Made with onnx 1.22.0: python make_python_onnx.py python.onnx
"""

import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

weight = np.arange(-4, 4, dtype=np.int8).reshape(2, 4)
axes = helper.make_tensor("shape", TensorProto.INT64, [2], [0, -1])  # typed field, packed
scale = numpy_helper.from_array(np.array([0.5, 0.25], np.float32), "weight_scale")
int4 = helper.make_tensor("int4", TensorProto.INT4, [3], [-8, 7, 1])
identity = helper.make_node("Identity", ["w"], ["t"])
then = helper.make_graph([identity], "then", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 4])])
graph = helper.make_graph(
    [
        helper.make_node("DequantizeLinear", ["weight", "weight_scale"], ["w"], name="dq", axis=0),
        helper.make_node("Reshape", ["x", "shape"], ["r"], allowzero=0),
        helper.make_node("Gemm", ["r", "w", ""], ["y"], alpha=0.5, transB=1),
        helper.make_node("If", ["cond"], ["z"], then_branch=then, else_branch=then),
        helper.make_node("LSTM", ["a", "b", "c"], ["", "h"], activations=["Tanh", "Relu", "Sigmoid"], hidden_size=3),
    ],
    "graph",
    [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 2]),
        helper.make_tensor_value_info("u", TensorProto.FLOAT, None),
        helper.make_tensor_value_info("cond", TensorProto.BOOL, []),
        *(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3, 3, 3]) for name in "abc"),
    ],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
    [numpy_helper.from_array(weight, "weight"), scale, axes, int4],
    value_info=[helper.make_tensor_value_info("r", TensorProto.FLOAT, [None, 4])],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=10)
helper.set_model_props(model, {"first": "1"})
with open(sys.argv[1], "wb") as file:
    file.write(model.SerializeToString(deterministic=True))
print(f"onnx {onnx.__version__}, numpy {np.__version__}: wrote {sys.argv[1]}")
