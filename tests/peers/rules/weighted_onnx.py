"""A `Weighted` problem as an ONNX graph, QDQ or QOperator, and its run in ONNX Runtime's default session.

Activations are uint8 (or int16 as they are); a uint8 code is the problem's int8 code + 128. 4-bit weights are INT4 tensors.
"""

import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from .weighted import Weighted
from .weighted_engines import Refused

f32 = np.float32
NARROW = {4: TensorProto.INT4, 2: TensorProto.INT2}


def code_type(p: Weighted) -> tuple:
    """numpy type, ONNX type and offset of activation codes."""
    return (np.int16, TensorProto.INT16, 0) if p.wide else (np.uint8, TensorProto.UINT8, 128)


class Graph:
    """Nodes and constants under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, array, kind=None):
        array = np.asarray(array)
        if kind is None:
            self.constants.append(numpy_helper.from_array(array, name))
        else:
            self.constants.append(helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist()))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output


def spatial(p: Weighted) -> dict:
    """Attributes of a convolution; one row of height 1 becomes a 1-D convolution."""
    a = p.attributes
    axes = slice(1, 2) if p.op == "conv1d" else slice(0, 2)
    top, left, bottom, right = a["padding"]
    pads = [left, right] if p.op == "conv1d" else [top, left, bottom, right]
    found = dict(kernel_shape=a["kernel"][axes], strides=a["stride"][axes], pads=pads)
    found |= dict(dilations=a.get("dilation", [1, 1])[axes], group=a.get("groups", [1])[0])
    return found | (dict(output_padding=a["output_padding"][axes]) if "output_padding" in a else {})


def build(p: Weighted, operators: bool) -> onnx.ModelProto:
    """The graph of one problem: quantized operators, or a float operator between DequantizeLinear and QuantizeLinear."""
    g, (dtype, kind, offset) = Graph(), code_type(p)
    codes = p.x[:, :, 0] if p.op == "conv1d" else p.x
    inputs = [helper.make_tensor_value_info("x", kind, codes.shape)]
    x = ["x", g.constant("x_scale", f32(p.x_scale)), g.constant("x_zero", dtype(p.x_zero + offset))]
    y = [g.constant("y_scale", f32(p.y_scale)), g.constant("y_zero", dtype(p.y_zero + offset))]
    scale = p.weight_scale if len(p.weight_scale) > 1 else p.weight_scale[0]
    if p.op == "matmul":
        inputs.append(helper.make_tensor_value_info("w", kind, p.weight.shape))
        w = ["w", g.constant("w_scale", f32(scale)), g.constant("w_zero", dtype(p.weight_zero + offset))]
    else:
        weight = p.weight[:, :, 0] if p.op == "conv1d" else p.weight
        weight = weight.T if p.op == "linear" and operators else weight
        narrow = NARROW.get(p.bits)
        zeros = np.zeros(np.shape(scale), np.int8)
        w = [g.constant("w", weight, narrow), g.constant("w_scale", scale), g.constant("w_zero", zeros, narrow)]
    if operators:
        conv = p.op in ("conv1d", "conv2d")
        bias = [g.constant("b", p.bias)] if conv and p.bias is not None else []
        g.node("QLinearConv" if conv else "QLinearMatMul", [*x, *w, *y, *bias], "y", **(spatial(p) if conv else {}))
    else:
        per_channel = np.ndim(scale) > 0
        real = [g.node("DequantizeLinear", x, "x_real")]
        axis = dict(axis=1 if p.op == "transpose_conv2d" else 0) if per_channel else {}
        real.append(g.node("DequantizeLinear", w, "w_real", **axis))
        if p.bias is not None:
            bias_scale = (f32(p.x_scale) * np.asarray(scale, f32)).astype(f32)
            b = [g.constant("b", p.bias.astype(np.int32)), g.constant("b_scale", bias_scale)]
            b.append(g.constant("b_zero", np.zeros(np.shape(scale), np.int32)))
            real.append(g.node("DequantizeLinear", b, "b_real", **(dict(axis=0) if per_channel else {})))
        last = g.node(OPERATORS[p.op], real, "y_real", **ATTRIBUTES[p.op](p))
        last = g.node("Relu", [last], "y_relu") if p.relu else last
        g.node("QuantizeLinear", [last, *y], "y")
    graph = helper.make_graph(g.nodes, "problem", inputs, [helper.make_tensor_value_info("y", kind, None)], g.constants)
    # 4-bit tensors and int16 activations came with opset 21, 2-bit tensors with 25.
    opset = 25 if p.bits == 2 else 21 if p.bits == 4 or p.wide else 13
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset == 13 else 10)


OPERATORS = {"conv1d": "Conv", "conv2d": "Conv", "transpose_conv2d": "ConvTranspose", "linear": "Gemm", "matmul": "MatMul"}
ATTRIBUTES = {
    "conv1d": spatial,
    "conv2d": spatial,
    "transpose_conv2d": lambda p: {k: v for k, v in spatial(p).items()},
    "linear": lambda p: dict(transB=1),
    "matmul": lambda p: {},
}

# The node that must be left in the optimized graph where the rule is one of integers.
FUSED = {"conv1d": "QLinearConv", "conv2d": "QLinearConv", "linear": "QGemm", "matmul": "QLinearMatMul"}


def run(p: Weighted, operators: bool, threads: int = 1) -> tuple:
    """Output codes in the problem's type and layout, and the operators of the optimized graph."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    dtype, _, offset = code_type(p)
    feeds = {"x": p.x[:, :, 0] if p.op == "conv1d" else p.x} | ({"w": p.weight} if p.op == "matmul" else {})
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        try:
            model = build(p, operators).SerializeToString()
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own.
            raise Refused(str(error).strip().splitlines()[0]) from error
        kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    found = session.run(None, {k: (v.astype(np.int32) + offset).astype(dtype) for k, v in feeds.items()})[0]
    codes = (found.astype(np.int32) - offset).astype(p.x.dtype)
    return (codes[:, :, None] if p.op == "conv1d" else codes), kinds
