"""A `Weighted` problem as a TFLite file of one operator (and a PAD where TFLite has no padding of that shape)."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as tfl

from .weighted import Weighted

TYPES = {np.dtype(np.int8): tfl.TensorType.INT8, np.dtype(np.int16): tfl.TensorType.INT16}
TYPES |= {np.dtype(np.int32): tfl.TensorType.INT32, np.dtype(np.int64): tfl.TensorType.INT64}
NARROW = {4: tfl.TensorType.INT4, 2: tfl.TensorType.INT2}


def pack(codes: np.ndarray, bits: int) -> np.ndarray:
    """Two's complement fields of `bits`, the first code in the lowest bits; the last byte is filled with zeros."""
    per_byte = 8 // bits
    flat = codes.reshape(-1).astype(np.uint8) & ((1 << bits) - 1)
    flat = np.pad(flat, (0, -len(flat) % per_byte)).reshape(-1, per_byte)
    return (flat << (np.arange(per_byte, dtype=np.uint8) * bits)).sum(axis=1, dtype=np.uint8)


class File:
    """A model under construction: one subgraph, buffers without sharing."""

    def __init__(self):
        self.model, self.graph = tfl.ModelT(), tfl.SubGraphT()
        self.model.version, self.model.description = 3, "one operator"
        self.model.buffers, self.model.operatorCodes, self.model.subgraphs = [tfl.BufferT()], [], [self.graph]
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []

    def tensor(self, shape, kind, data=None, scale=None, zero=None, axis=0) -> int:
        t = tfl.TensorT()
        t.shape, t.type, t.name, t.buffer = [int(n) for n in shape], kind, f"t{len(self.graph.tensors)}", 0
        if data is not None:
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        if scale is not None:
            t.quantization = tfl.QuantizationParametersT()
            t.quantization.scale = np.atleast_1d(np.asarray(scale, np.float32))
            zeros = np.zeros(len(t.quantization.scale), np.int64) if zero is None else np.atleast_1d(np.int64(zero))
            t.quantization.zeroPoint, t.quantization.quantizedDimension = zeros, axis
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(self, code: int, version: int, inputs, outputs, kind=0, options=None):
        entry, op = tfl.OperatorCodeT(), tfl.OperatorT()
        entry.deprecatedBuiltinCode, entry.builtinCode, entry.version = min(code, 127), code, version
        self.model.operatorCodes.append(entry)
        op.opcodeIndex, op.inputs, op.outputs = len(self.model.operatorCodes) - 1, list(inputs), list(outputs)
        op.builtinOptionsType, op.builtinOptions = kind, options
        self.graph.operators.append(op)

    def bytes(self, inputs, outputs) -> bytes:
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def nhwc(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes.transpose(0, 2, 3, 1)) if codes.ndim == 4 else codes


def nchw(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes.transpose(0, 3, 1, 2)) if codes.ndim == 4 else codes


def same_padding(size: int, kernel: int, stride: int, dilation: int) -> tuple:
    """(before, after) of SAME."""
    total = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def build(p: Weighted, y_shape) -> bytes:
    """The file; `y_shape` is the shape of the result in the problem's layout. Graph inputs are the activations."""
    f, a = File(), p.attributes
    code, op = TYPES[p.x.dtype], tfl.BuiltinOperator
    x = f.tensor(nhwc(p.x).shape, code, scale=p.x_scale, zero=p.x_zero)
    inputs = [x]
    y_nhwc = (y_shape[0], y_shape[2], y_shape[3], y_shape[1]) if len(y_shape) == 4 else y_shape

    def weight(codes, axis):
        kind = NARROW.get(p.bits, tfl.TensorType.INT8)
        return f.tensor(codes.shape, kind, pack(codes, p.bits) if p.bits < 8 else codes, p.weight_scale, axis=axis)

    def bias():
        scale = (p.x_scale * p.weight_scale).astype(np.float32)
        return f.tensor(p.bias.shape, TYPES[p.bias.dtype], p.bias, scale)

    def finish(options):
        options.fusedActivationFunction = tfl.ActivationFunctionType.RELU if p.relu else tfl.ActivationFunctionType.NONE
        return f.tensor(y_nhwc, code, scale=p.y_scale, zero=p.y_zero)

    if p.op in ("conv1d", "conv2d"):
        size, kernel, stride, dilation = p.x.shape[2:], a["kernel"], a["stride"], a["dilation"]
        sides = [same_padding(*axis) for axis in zip(size, kernel, stride, dilation)]
        same = [sides[0][0], sides[1][0], sides[0][1], sides[1][1]]
        if any(a["padding"]) and a["padding"] != same:
            top, left, bottom, right = a["padding"]
            amounts = f.tensor((4, 2), tfl.TensorType.INT32, np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
            n, h, w, c = nhwc(p.x).shape
            padded = f.tensor((n, h + top + bottom, w + left + right, c), code, scale=p.x_scale, zero=p.x_zero)
            f.operator(op.PAD, 2, [x, amounts], [padded], tfl.BuiltinOptions.PadOptions, tfl.PadOptionsT())
            x = padded
        # SAME and VALID are told apart only where SAME would pad.
        is_same = any(a["padding"]) and a["padding"] == same
        depthwise = a["groups"][0] == p.x.shape[1] and a["groups"][0] > 1
        options = tfl.DepthwiseConv2DOptionsT() if depthwise else tfl.Conv2DOptionsT()
        options.padding = tfl.Padding.SAME if is_same else tfl.Padding.VALID
        options.strideH, options.strideW = stride
        options.dilationHFactor, options.dilationWFactor = dilation
        y = finish(options)
        if depthwise:
            options.depthMultiplier = p.weight.shape[0] // p.x.shape[1]
            w = weight(np.ascontiguousarray(p.weight.transpose(1, 2, 3, 0)), 3)
            kind = (op.DEPTHWISE_CONV_2D, 3, [x, w, bias()], [y], tfl.BuiltinOptions.DepthwiseConv2DOptions, options)
        else:
            w = weight(np.ascontiguousarray(p.weight.transpose(0, 2, 3, 1)), 0)
            kind = (op.CONV_2D, 3, [x, w, bias()], [y], tfl.BuiltinOptions.Conv2DOptions, options)
        f.operator(*kind)
    elif p.op == "transpose_conv2d":
        options = tfl.TransposeConvOptionsT()
        options.padding = tfl.Padding.SAME if a["same"][0] else tfl.Padding.VALID
        options.strideH, options.strideW = a["stride"]
        y = finish(options)
        shape = f.tensor((4,), tfl.TensorType.INT32, np.array(y_nhwc, np.int32))
        w = weight(np.ascontiguousarray(p.weight.transpose(1, 2, 3, 0)), 0)
        f.operator(op.TRANSPOSE_CONV, 3, [shape, w, x, bias()], [y], tfl.BuiltinOptions.TransposeConvOptions, options)
    elif p.op == "linear":
        options = tfl.FullyConnectedOptionsT()
        options.keepNumDims = len(p.x.shape) > 2
        y = finish(options)
        operands = [x, weight(p.weight, 0), bias() if p.bias is not None else -1]
        f.operator(op.FULLY_CONNECTED, 9, operands, [y], tfl.BuiltinOptions.FullyConnectedOptions, options)
    else:
        b = f.tensor(p.weight.shape, TYPES[p.weight.dtype], scale=p.weight_scale, zero=p.weight_zero)
        y = f.tensor(y_shape, code, scale=p.y_scale, zero=p.y_zero)
        f.operator(op.BATCH_MATMUL, 3, [x, b], [y], tfl.BuiltinOptions.BatchMatMulOptions, tfl.BatchMatMulOptionsT())
        inputs.append(b)
    return f.bytes(inputs, [y])


def operands(p: Weighted) -> list:
    """What to feed, in the order of the graph's inputs."""
    return [nhwc(p.x)] + ([p.weight] if p.op == "matmul" else [])
