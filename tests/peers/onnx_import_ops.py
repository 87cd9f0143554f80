"""Writes small float models of one or a few operators each, and what ONNX Runtime makes of them, for the test of the import.

    python onnx_import_ops.py OUT_DIR [--seed 4]

Each model has one input and one output; attributes, shapes and operator sets are those that exporters write, and the corners of what
the import takes. Input and output are beside each model as raw float32, NAME.x and NAME.y, for a batch of 2, or of 1 where the name ends
in `_fixed`. Versions and the seed are printed.
"""

import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


class Writer:
    def __init__(self, out, seed):
        self.out = out
        self.draw = np.random.default_rng(seed)
        self.count = 0

    def weight(self, *shape):
        return self.draw.uniform(-1, 1, shape).astype(np.float32)

    def model(self, name, opset, shape, nodes, constants=(), fixed=False, rank=None):
        """nodes: (op, inputs, outputs, attributes); the last output is the model's."""
        self.count += 1
        name = f"{name}_{opset}" + ("_fixed" if fixed else "")
        batch = 1 if fixed else "N"
        graph_nodes = [
            helper.make_node(op, inputs, outputs, name=f"{op.lower()}{index}", **attributes)
            for index, (op, inputs, outputs, attributes) in enumerate(nodes)
        ]
        initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in dict(constants).items()]
        graph = helper.make_graph(
            graph_nodes, name, [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *shape])],
            [helper.make_tensor_value_info(nodes[-1][2][0], TensorProto.FLOAT, None)], initializers,
        )
        ir = 4 if opset < 10 else 7 if opset < 15 else 9
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
        path = self.out / f"{name}.onnx"
        onnx.save(model, path)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        x = self.draw.uniform(-2, 2, (1 if fixed else 2, *shape)).astype(np.float32)
        [y] = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]).run(None, {"x": x})
        x.tofile(self.out / f"{name}.x")
        y.astype(np.float32).tofile(self.out / f"{name}.y")


def i64(*values):
    return np.array(values, np.int64)


def convolutions(w):
    image = (4, 9, 11)
    for index, attributes in enumerate([
        dict(pads=[1, 1, 1, 1]), dict(pads=[0, 0, 1, 1], strides=[2, 2]), dict(auto_pad="SAME_UPPER", strides=[2, 3]),
        dict(auto_pad="SAME_LOWER", strides=[2, 2]), dict(auto_pad="VALID"), dict(dilations=[2, 1], pads=[2, 1, 0, 3]),
        dict(group=2, pads=[1, 0, 1, 0]), dict(group=4, strides=[1, 2]),
    ]):
        group = attributes.get("group", 1)
        constants = {"w": w.weight(8, 4 // group, 3, 3), "b": w.weight(8)}
        w.model(f"conv{index}", [7, 11, 18][index % 3], image, [("Conv", ["x", "w", "b"], ["y"], attributes)], constants, fixed=index == 3)
    w.model("conv_row", 13, (3, 12), [("Conv", ["x", "w"], ["y"], dict(kernel_shape=[3], pads=[0, 2], strides=[2]))], {"w": w.weight(5, 3, 3)})
    norm = {"g": w.weight(6) + 1.5, "o": w.weight(6), "m": w.weight(6), "v": np.abs(w.weight(6)) + 0.5}
    for opset in [7, 9, 14, 15]:
        w.model("conv_norm", opset, image, [
            ("Conv", ["x", "w", "b"], ["c"], dict(pads=[1, 1, 1, 1])), ("BatchNormalization", ["c", "g", "o", "m", "v"], ["n"], dict(epsilon=1e-3)),
            ("Relu", ["n"], ["y"], {}),
        ], {"w": w.weight(6, 4, 3, 3), "b": w.weight(6), **norm})
    w.model("conv_row_norm", 13, (3, 12), [("Conv", ["x", "w"], ["c"], {}), ("BatchNormalization", ["c", "g", "o", "m", "v"], ["y"], {})],
            {"w": w.weight(6, 3, 3), **norm})
    w.model("norm_alone", 13, (6, 5), [("BatchNormalization", ["x", "g", "o", "m", "v"], ["y"], {})], norm)
    w.model("gemm_norm", 13, (4,), [("Gemm", ["x", "w"], ["c"], dict(transB=1)), ("BatchNormalization", ["c", "g", "o", "m", "v"], ["y"], {})],
            {"w": w.weight(6, 4), **norm})
    w.model("norms_share_zeros", 13, image, [
        ("Identity", ["z"], ["z2"], {}), ("Conv", ["x", "w"], ["c"], {}), ("BatchNormalization", ["c", "g", "z", "z", "v"], ["n"], {}),
        ("Conv", ["n", "u"], ["d"], {}), ("BatchNormalization", ["d", "g", "z2", "z2", "v"], ["y"], {}),
    ], {"w": w.weight(6, 4, 3, 3), "u": w.weight(6, 6, 1, 1), "z": np.zeros(6, np.float32), "g": norm["g"], "v": norm["v"]})
    w.model("conv_affine", 13, image, [
        ("Conv", ["x", "w"], ["c"], {}), ("Mul", ["c", "g"], ["d"], {}), ("Add", ["o", "d"], ["e"], {}), ("Sub", ["e", "s"], ["y"], {}),
    ], {"w": w.weight(6, 4, 3, 3), "g": w.weight(6, 1, 1), "o": w.weight(1, 6, 1, 1), "s": np.float32(0.25)})
    for index, attributes in enumerate([
        dict(strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]), dict(strides=[2, 3], pads=[0, 1, 1, 0]), dict(group=2, strides=[2, 1]),
        dict(strides=[2, 2], auto_pad="SAME_UPPER"), dict(strides=[2, 2], output_shape=[18, 22]), dict(dilations=[2, 2]),
    ]):
        group = attributes.get("group", 1)
        w.model(f"conv_transpose{index}", 13, image, [("ConvTranspose", ["x", "w", "b"], ["y"], attributes)],
                {"w": w.weight(4, 6 // group, 3, 3), "b": w.weight(6)})
    w.model("conv_transpose_affine", 13, image, [("ConvTranspose", ["x", "w"], ["c"], dict(group=2)), ("Mul", ["c", "g"], ["y"], {})],
            {"w": w.weight(4, 3, 3, 3), "g": w.weight(6, 1, 1)})
    w.model("conv_transpose_row", 13, (4, 7), [("ConvTranspose", ["x", "w"], ["y"], dict(strides=[2], pads=[1, 0]))], {"w": w.weight(4, 3, 3)})


def products(w):
    w.model("gemm_scaled", 7, (5,), [("Gemm", ["x", "w", "b"], ["y"], dict(alpha=0.5, beta=2.0))], {"w": w.weight(5, 3), "b": w.weight(1, 3)})
    w.model("gemm_scalar_bias", 13, (5,), [("Gemm", ["x", "w", "b"], ["y"], dict(transB=1))], {"w": w.weight(3, 5), "b": w.weight(1)})
    w.model("gemm_shared", 13, (4,), [("Gemm", ["x", "w"], ["a"], dict(transB=1)), ("Relu", ["a"], ["r"], {}), ("MatMul", ["r", "w"], ["y"], {})],
            {"w": w.weight(4, 4)})
    w.model("matmul_bias", 9, (3, 5), [("MatMul", ["x", "w"], ["a"], {}), ("Add", ["b", "a"], ["y"], {})], {"w": w.weight(5, 4), "b": w.weight(4)})
    w.model("matmul_left", 13, (5, 6), [("MatMul", ["w", "x"], ["y"], {})], {"w": w.weight(4, 5)})
    w.model("attention", 13, (4, 6), [
        ("Transpose", ["x"], ["t"], dict(perm=[0, 2, 1])), ("MatMul", ["x", "t"], ["a"], {}), ("Div", ["a", "d"], ["s"], {}),
        ("Softmax", ["s"], ["p"], {}), ("MatMul", ["p", "x"], ["y"], {}),
    ], {"d": np.float32(2.5)})


def pools(w):
    image = (3, 10, 13)
    modes = [
        dict(kernel_shape=[2, 2], strides=[2, 2]), dict(kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]),
        dict(kernel_shape=[3, 2], strides=[2, 3], ceil_mode=1), dict(kernel_shape=[2, 2], strides=[3, 3], ceil_mode=1),
        dict(kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"), dict(kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        dict(kernel_shape=[2, 3], strides=[2, 2], auto_pad="SAME_LOWER"), dict(kernel_shape=[3, 3], strides=[3, 3], pads=[1, 0, 0, 1], ceil_mode=1),
    ]
    for index, attributes in enumerate(modes):
        w.model(f"max_pool{index}", 12, image, [("MaxPool", ["x"], ["y"], attributes)])
        opset = 19 if attributes.get("ceil_mode") else 11
        w.model(f"avg_pool{index}", opset, image, [("AveragePool", ["x"], ["y"], attributes)])
        if not attributes.get("ceil_mode") and "auto_pad" not in attributes:
            w.model(f"avg_pool_padded{index}", 11, image, [("AveragePool", ["x"], ["y"], dict(count_include_pad=1, **attributes))])
    w.model("max_pool_dilated", 12, image, [("MaxPool", ["x"], ["y"], dict(kernel_shape=[2, 3], dilations=[3, 2]))])
    w.model("max_pool_row", 12, (3, 11), [("MaxPool", ["x"], ["y"], dict(kernel_shape=[3], strides=[2], ceil_mode=1))])
    w.model("global_max", 12, image, [("GlobalMaxPool", ["x"], ["y"], {})])
    w.model("global_mean_row", 12, (3, 11), [("GlobalAveragePool", ["x"], ["y"], {})])
    w.model("reduce_mean", 13, image, [("ReduceMean", ["x"], ["y"], dict(axes=[2, -1], keepdims=0))])
    w.model("reduce_mean", 18, image, [("ReduceMean", ["x", "a"], ["y"], dict(keepdims=1))], {"a": i64(-1, 1)})
    w.model("reduce_sum", 13, image, [("ReduceSum", ["x", "a"], ["y"], dict(keepdims=0))], {"a": i64(1)})
    w.model("reduce_max", 12, image, [("ReduceMax", ["x"], ["y"], dict(axes=[2, 3]))])


def functions(w):
    row = (7,)
    one = lambda op, **attributes: [(op, ["x"], ["y"], attributes)]
    for name, opset, nodes in [
        ("relu", 7, one("Relu")), ("sigmoid", 13, one("Sigmoid")), ("tanh", 7, one("Tanh")), ("leaky", 7, one("LeakyRelu", alpha=0.3)),
        ("hard_sigmoid", 7, one("HardSigmoid")), ("hard_sigmoid_alpha", 7, one("HardSigmoid", alpha=0.3, beta=0.4)),
        ("hard_swish", 14, one("HardSwish")), ("gelu", 20, one("Gelu")), ("gelu_tanh", 20, one("Gelu", approximate="tanh")),
        ("clip", 7, one("Clip", min=-0.5, max=1.0)), ("clip_open", 9, one("Clip", max=1.0)), ("neg", 7, one("Neg")),
        ("softmax", 9, one("Softmax")), ("softmax", 13, one("Softmax", axis=1)), ("identity", 13, [("Identity", ["x"], ["i"], {}), *[("Relu", ["i"], ["y"], {})]]),
    ]:
        w.model(name, opset, row, nodes)
    number = np.float32
    w.model("clip_inputs", 13, row, [("Clip", ["x", "", "b"], ["y"], {})], {"b": number(0.5)})
    w.model("max_min", 13, row, [("Max", ["x", "a"], ["m"], {}), ("Min", ["b", "m"], ["y"], {})], {"a": number(-1), "b": number(1)})
    w.model("prelu", 9, (3, 4, 4), [("PRelu", ["x", "s"], ["y"], {})], {"s": w.weight(3, 1, 1)})
    w.model("prelu_one", 9, (3, 4, 4), [("PRelu", ["x", "s"], ["y"], {})], {"s": w.weight(1)})
    for index, (left, right) in enumerate([("x", "g"), ("g", "x")]):
        w.model(f"gelu_erf{index}", 13, row, [
            ("Div", ["x", "r"], ["a"], {}), ("Erf", ["a"], ["e"], {}), ("Add", ["e", "one"], ["g"], {}), ("Mul", [left, right], ["p"], {}),
            ("Mul", ["p", "h"], ["y"], {}),
        ], {"r": number(np.sqrt(2)), "one": number(1), "h": number(0.5)})
    w.model("gelu_half_first", 13, row, [
        ("Mul", ["x", "r"], ["a"], {}), ("Erf", ["a"], ["e"], {}), ("Add", ["one", "e"], ["g"], {}), ("Mul", ["x", "h"], ["p"], {}), ("Mul", ["p", "g"], ["y"], {}),
    ], {"r": number(np.sqrt(0.5)), "one": number(1), "h": number(0.5)})
    w.model("hard_swish_pieces", 11, row, [
        ("Add", ["x", "three"], ["a"], {}), ("Clip", ["a", "zero", "six"], ["c"], {}), ("Div", ["c", "six"], ["d"], {}), ("Mul", ["x", "d"], ["y"], {}),
    ], {"three": number(3), "zero": number(0), "six": number(6)})
    w.model("hard_swish_product", 11, row, [
        ("Add", ["x", "three"], ["a"], {}), ("Clip", ["a", "zero", "six"], ["c"], {}), ("Mul", ["x", "c"], ["d"], {}), ("Div", ["d", "six"], ["y"], {}),
    ], {"three": number(3), "zero": number(0), "six": number(6)})
    w.model("silu", 13, row, [("Sigmoid", ["x"], ["s"], {}), ("Mul", ["x", "s"], ["y"], {})])
    for opset, axis in [(11, 1), (11, 2), (13, 1), (13, -1)]:
        w.model(f"softmax_axis{axis % 3}", opset, (4, 5), [("Softmax", ["x"], ["y"], dict(axis=axis))])
    w.model("powers", 13, row, [("Pow", ["x", "two"], ["a"], {}), ("Pow", ["x", "three"], ["b"], {}), ("Sum", ["a", "b", "x"], ["y"], {})],
            {"two": number(2), "three": number(3)})


def arithmetic(w):
    image = (3, 4, 5)
    for index, shape in enumerate([(3, 1, 1), (1, 3, 1, 1), (5,), (1,), (), (4, 5), (1, 1, 4, 1), (3, 4, 5)]):
        for op in ["Add", "Sub", "Mul", "Div"]:
            value = w.weight(*shape) if shape else np.float32(0.7)
            value = np.where(np.abs(value) < 0.2, 0.5, value).astype(np.float32)
            w.model(f"{op.lower()}_constant{index}", 13, image, [(op, ["x", "c"], ["y"], {})], {"c": value})
            if op != "Div":
                w.model(f"constant{index}_{op.lower()}", 7, image, [(op, ["c", "x"], ["y"], {})], {"c": value})
    w.model("stretch", 13, image, [("ReduceMean", ["x"], ["m"], dict(axes=[2, 3])), ("Sub", ["x", "m"], ["s"], {}), ("Mul", ["m", "s"], ["y"], {})])


def movements(w):
    image = (4, 6, 8)
    w.model("transpose", 13, image, [("Transpose", ["x"], ["y"], dict(perm=[0, 2, 3, 1]))])
    w.model("batch_moves", 13, (3, 4), [
        ("Transpose", ["x"], ["t"], dict(perm=[1, 0, 2])), ("Relu", ["t"], ["r"], {}), ("Add", ["r", "c"], ["a"], {}), ("Slice", ["a", "s", "e"], ["u"], {}),
        ("Concat", ["u", "r"], ["v"], dict(axis=0)), ("Transpose", ["v"], ["y"], dict(perm=[1, 2, 0])),
    ], {"c": w.weight(3, 1, 4), "s": i64(1), "e": i64(3)})
    w.model("slice_attributes", 9, image, [("Slice", ["x"], ["y"], dict(starts=[1, -3], ends=[3, 9999], axes=[1, 3]))])
    w.model("slice_steps", 13, image, [("Slice", ["x", "s", "e", "a", "t"], ["y"], {})], {"s": i64(0, 7), "e": i64(6, -999), "a": i64(2, -1), "t": i64(2, -3)})
    w.model("split", 11, image, [("Split", ["x"], ["a", "b"], dict(axis=1, split=[1, 3])), ("Concat", ["b", "a"], ["y"], dict(axis=1))])
    w.model("split", 13, image, [("Split", ["x", "s"], ["a", "b"], dict(axis=-1)), ("Concat", ["b", "a"], ["y"], dict(axis=3))], {"s": i64(5, 3)})
    w.model("split", 18, image, [("Split", ["x"], ["a", "b", "c"], dict(axis=2, num_outputs=3)), ("Sum", ["c", "a", "b"], ["y"], {})])
    w.model("gather_one", 13, image, [("Gather", ["x", "i"], ["y"], dict(axis=2))], {"i": np.int64(-2)})
    w.model("gather_some", 13, image, [("Gather", ["x", "i"], ["y"], dict(axis=1))], {"i": i64(3, 0, 0)})
    w.model("concat_constant", 13, (2, 3), [("Concat", ["c", "x"], ["y"], dict(axis=1))], {"c": w.weight(1, 4, 3)}, fixed=True)
    w.model("pad", 10, image, [("Pad", ["x"], ["y"], dict(pads=[0, 0, 1, 2, 0, 1, 0, 3]))])
    w.model("pad", 13, image, [("Pad", ["x", "p"], ["y"], {})], {"p": i64(0, 0, 1, -2, 0, 0, -1, 3)})
    w.model("pad", 18, image, [("Pad", ["x", "p", "", "a"], ["y"], {})], {"p": i64(1, 2, 3, 0), "a": i64(-1, 1)})
    w.model("upsample", 7, image, [("Upsample", ["x"], ["y"], dict(scales=[1.0, 1.0, 2.0, 3.0]))])
    w.model("upsample", 9, image, [("Upsample", ["x", "s"], ["y"], {})], {"s": np.array([1, 1, 3, 1], np.float32)})
    w.model("resize", 10, image, [("Resize", ["x", "s"], ["y"], {})], {"s": np.array([1, 1, 2, 2], np.float32)})
    for index, attributes in enumerate([
        dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor"), dict(coordinate_transformation_mode="half_pixel"),
        dict(coordinate_transformation_mode="asymmetric", nearest_mode="round_prefer_floor"),
    ]):
        factor = 2 if index == 2 else 3
        w.model(f"resize_scales{index}", 13, image, [("Resize", ["x", "", "s"], ["y"], attributes)], {"s": np.array([1, 1, factor, factor], np.float32)})
    w.model("resize_sizes", 13, image, [
        ("Shape", ["x"], ["s"], {}), ("Slice", ["s", "zero", "two"], ["h"], {}), ("Concat", ["h", "n"], ["z"], dict(axis=0)),
        ("Resize", ["x", "", "", "z"], ["y"], dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    ], {"zero": i64(0), "two": i64(2), "n": i64(12, 24)})
    w.model("resize_row", 13, (4, 6), [("Resize", ["x", "", "s"], ["y"], dict(coordinate_transformation_mode="asymmetric", nearest_mode="floor"))],
            {"s": np.array([1, 1, 2], np.float32)})


def shapes(w):
    image = (4, 6, 5)
    w.model("flatten", 7, image, [("Flatten", ["x"], ["y"], {})])
    w.model("flatten_fixed", 13, image, [("Reshape", ["x", "s"], ["y"], {})], {"s": i64(1, 120)}, fixed=True)
    w.model("reshape_zero", 13, image, [("Reshape", ["x", "s"], ["y"], {})], {"s": i64(0, 2, -1)})
    w.model("reshape_allowzero", 18, image, [("Reshape", ["x", "s"], ["y"], dict(allowzero=1))], {"s": i64(-1, 120)})
    w.model("shape_arithmetic", 13, image, [
        ("Shape", ["x"], ["s"], {}), ("Gather", ["s", "i0"], ["n"], {}), ("Gather", ["s", "i1"], ["c"], {}), ("Gather", ["s", "i2"], ["h"], {}),
        ("Mul", ["c", "h"], ["p"], {}), ("Unsqueeze", ["n", "z"], ["n1"], {}), ("Unsqueeze", ["p", "z"], ["p1"], {}), ("Cast", ["p1"], ["p2"], dict(to=7)),
        ("Concat", ["n1", "p2", "m"], ["t"], dict(axis=0)), ("Reshape", ["x", "t"], ["y"], {}),
    ], {"i0": np.int64(0), "i1": np.int64(1), "i2": np.int64(-2), "z": i64(0), "m": i64(-1)})
    w.model("samples_of_steps", 13, (3, 4), [
        ("Reshape", ["x", "s"], ["r"], {}), ("Gemm", ["r", "w", "b"], ["g"], {}), ("Relu", ["g"], ["u"], {}), ("Reshape", ["u", "t"], ["y"], {}),
    ], {"s": i64(-1, 4), "w": w.weight(4, 2), "b": w.weight(2), "t": i64(-1, 3, 2)})
    w.model("squeeze", 11, (4, 1, 5), [("Squeeze", ["x"], ["s"], dict(axes=[2])), ("Unsqueeze", ["s"], ["y"], dict(axes=[1, -1]))])
    w.model("squeeze", 13, (4, 1, 5), [("Squeeze", ["x", "a"], ["s"], {}), ("Unsqueeze", ["s", "b"], ["y"], {})], {"a": i64(-2), "b": i64(1)})
    w.model("constants", 13, (6,), [
        ("Constant", [], ["s"], dict(value_ints=[2])), ("ConstantOfShape", ["s"], ["z"], dict(value=numpy_helper.from_array(np.array([3], np.float32)))),
        ("Concat", ["z", "z", "z"], ["c"], dict(axis=0)), ("Constant", [], ["h"], dict(value_float=0.5)), ("Mul", ["c", "h"], ["d"], {}),
        ("Sqrt", ["d"], ["e"], {}), ("Add", ["x", "e"], ["y"], {}),
    ])
    w.model("expand", 13, (1, 5), [
        ("Shape", ["x"], ["s"], {}), ("Expand", ["c", "s"], ["e"], {}), ("Add", ["x", "e"], ["y"], {}),
    ], {"c": w.weight(5)})


def recurrent(w):
    steps, width, hidden = 5, 4, 3
    to_sequence = ("Transpose", ["x"], ["t"], dict(perm=[1, 0, 2]))
    for kind, gates in [("LSTM", 4), ("GRU", 3), ("RNN", 1)]:
        for directions, direction in [(1, "forward"), (1, "reverse"), (2, "bidirectional")]:
            constants = {"w": w.weight(directions, gates * hidden, width), "r": w.weight(directions, gates * hidden, hidden), "b": w.weight(directions, 2 * gates * hidden)}
            attributes = dict(hidden_size=hidden, direction=direction)
            if kind == "GRU":
                attributes["linear_before_reset"] = directions - 1
            w.model(f"{kind.lower()}_{direction}", 14, (steps, width), [
                to_sequence, (kind, ["t", "w", "r", "b"], ["s", "h"], attributes), ("Transpose", ["s"], ["u"], dict(perm=[2, 0, 1, 3])),
                ("Reshape", ["u", "shape"], ["y"], {}),
            ], {**constants, "shape": i64(0, steps, -1)})
            w.model(f"{kind.lower()}_{direction}_state", 11, (steps, width), [
                to_sequence, (kind, ["t", "w", "r", "b", "", "i"], ["", "h"], attributes), ("Transpose", ["h"], ["u"], dict(perm=[1, 0, 2])),
                ("Flatten", ["u"], ["y"], {}),
            ], {**constants, "i": w.weight(directions, 1, hidden)}, fixed=True)
    w.model("gru_reset_after", 14, (steps, width), [
        to_sequence, ("GRU", ["t", "w", "r"], ["", "h"], dict(hidden_size=hidden, linear_before_reset=1)), ("Squeeze", ["h", "z"], ["y"], {}),
    ], {"w": w.weight(1, 9, width), "r": w.weight(1, 9, hidden), "z": i64(0)})
    w.model("lstm_cell", 14, (steps, width), [
        to_sequence, ("LSTM", ["t", "w", "r"], ["", "", "c"], dict(hidden_size=hidden)), ("Squeeze", ["c", "z"], ["y"], {}),
    ], {"w": w.weight(1, 12, width), "r": w.weight(1, 12, hidden), "z": i64(0)})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, numpy {np.__version__}, seed {arguments.seed}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    writer = Writer(arguments.out, arguments.seed)
    for family in [convolutions, products, pools, functions, arithmetic, movements, shapes, recurrent]:
        family(writer)
    print(f"{writer.count} models")


if __name__ == "__main__":
    main()
