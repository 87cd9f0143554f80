#!/usr/bin/env python3
"""Times our integer engine and ONNX Runtime on the same networks, in turns, and prints the ratios.

    python benches/peers/compare.py [--rounds 9] [--seconds 0.2] [--busy] [--engine PROGRAM]

The program is the benchmark `engine` of the package `qat-runtime`, which is built where none is named. It describes its networks,
LeNet, ResNet-8 and ResNet-20 with random weights, and this script writes each as an ONNX QDQ graph: uint8 activations with the int8
code + 128, int8 weights for each channel, int32 biases. Both take codes and give codes, and their outputs are compared before
anything is timed. ONNX Runtime runs its default session with one and two threads, its input and output bound beforehand;
what a call costs in Python is measured on a network that copies its input, and taken off.

A round times each of the two runtimes for about --seconds on every cell, one after the other, and keeps the fastest call of
each. The medians over the rounds are printed, and the median of the ratios of each round: ours / theirs, below 1 where ours is
faster. On a machine that does other work at the same time no call of some milliseconds runs undisturbed; --busy then counts, where
one thread is used, only the time that it is on a processor, and takes the mean.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

NETS = ("lenet", "resnet8", "resnet20")
BATCHES = (1, 64)
THREADS = (1, 2)


class Engine:
    """The benchmark program, obeying lines."""

    def __init__(self, path):
        self.process = subprocess.Popen([path, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit("error: engine: expected an answer, found the end of its output")
        return line.rstrip("\n")

    def describe(self, name):
        self.ask("model", name)
        lines = []
        while (line := self.line()) != "end":
            lines.append(line)
        return lines

    def run(self, name, samples):
        self.ask("run", name, samples)
        return tuple(np.frombuffer(bytes.fromhex(self.line()), np.int8) for _ in range(2))

    def seconds(self, name, samples, threads, repeats):
        """Of one run, the fastest, and what the mean run takes of a processor."""
        self.ask("time", name, samples, threads, repeats)
        return [int(number) * 1e-9 for number in self.line().split()]


def build():
    """Builds the benchmark program and gives its path."""
    command = ["cargo", "bench", "-p", "qat-runtime", "--bench", "engine", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=pathlib.Path(__file__).parents[2])
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return [message["executable"] for message in messages if message.get("target", {}).get("name") == "engine"][-1]


def fields(words):
    return dict(word.split("=", 1) for word in words if "=" in word)


def integers(text):
    return [int(number) for number in text.split(",") if number]


def qdq_model(lines):
    """The QDQ graph of a described network and the shape of a sample of its input."""
    nodes, constants, values, input_, output = [], [], [], None, None

    def constant(name, array):
        constants.append(numpy_helper.from_array(array, name))
        return name

    def quantized(index, name):
        """Names of scale and zero point of a value."""
        scale, zero_point, _ = values[index]
        return constant(f"{name}.scale", scale), constant(f"{name}.zero_point", np.uint8(zero_point + 128))

    def read(index, place):
        name = f"v{index}.real{place}"
        nodes.append(helper.make_node("DequantizeLinear", [f"v{index}", *quantized(index, name)], [name]))
        return name

    for line in lines:
        word, *words = line.split()
        if word == "input":
            input_ = int(words[0])
        elif word == "output":
            output = int(words[0])
        elif word == "value":
            f = fields(words)
            values.append((np.frombuffer(bytes.fromhex(f["scale"]), np.float32)[0], int(f["zero_point"]), integers(f["shape"])))
        else:
            kind, f = words[0], fields(words[1:])
            inputs, y = integers(f["inputs"]), int(f["output"])
            operands = [read(index, f"{y}.{place}") for place, index in enumerate(inputs)]
            real = f"v{y}.result"
            if kind in ("conv2d", "linear"):
                codes = np.frombuffer(bytes.fromhex(f["weight"]), np.int8)
                scale = np.frombuffer(bytes.fromhex(f["weight_scale"]), np.float32)
                bias = np.frombuffer(bytes.fromhex(f["bias"]), np.int32)
                c_out, c_in = int(f["c_out"]), values[inputs[0]][2][0]
                kernel = integers(f.get("kernel", ""))
                codes = codes.reshape([c_out, c_in, *kernel])
                for tensor, array, step in (("w", codes, scale), ("b", bias, scale * values[inputs[0]][0])):
                    names = [constant(f"{tensor}{y}", array), constant(f"{tensor}{y}.scale", step)]
                    names.append(constant(f"{tensor}{y}.zero_point", np.zeros(c_out, array.dtype)))
                    nodes.append(helper.make_node("DequantizeLinear", names, [f"{tensor}{y}.real"], axis=0))
                    operands.append(f"{tensor}{y}.real")
            if kind == "conv2d":
                attributes = {"kernel_shape": kernel, "strides": integers(f["stride"]), "pads": integers(f["padding"])}
                nodes.append(helper.make_node("Conv", operands, [real], group=1, dilations=[1, 1], **attributes))
            elif kind == "linear":
                nodes.append(helper.make_node("Gemm", operands, [real], transB=1))
            elif kind == "add":
                nodes.append(helper.make_node("Add", operands, [real]))
            elif kind == "max_pool2d":
                kernel, strides = integers(f["kernel"]), integers(f["stride"])
                nodes.append(helper.make_node("MaxPool", operands, [real], kernel_shape=kernel, strides=strides))
            elif kind == "avg_pool2d":
                nodes.append(helper.make_node("GlobalAveragePool", operands, [real]))
            elif kind == "reshape":
                nodes.append(helper.make_node("Flatten", operands, [real], axis=1))
            else:
                sys.exit(f"error: node {kind}: expected an operation that this script knows")
            nodes.append(helper.make_node("QuantizeLinear", [real, *quantized(y, f"v{y}.q")], [f"v{y}"]))
    info = lambda index: helper.make_tensor_value_info(f"v{index}", TensorProto.UINT8, ["N", *values[index][2]])
    graph = helper.make_graph(nodes, "net", [info(input_)], [info(output)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model, values[input_][2]


class Session:
    """A session with its input and output bound."""

    def __init__(self, model, codes, threads):
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.binding = self.session.io_binding()
        self.binding.bind_ortvalue_input(self.session.get_inputs()[0].name, ort.OrtValue.ortvalue_from_numpy(codes))
        self.run()
        result = self.binding.get_outputs()[0]
        self.binding.bind_ortvalue_output(self.session.get_outputs()[0].name, result)
        self.run()
        self.result = result.numpy()

    def run(self):
        name = self.session.get_outputs()[0].name
        if not self.binding.get_outputs():
            self.binding.bind_output(name, "cpu")
        self.session.run_with_iobinding(self.binding)

    def seconds(self, repeats):
        """As the engine's."""
        best, busy = float("inf"), time.thread_time()
        for _ in range(repeats):
            start = time.perf_counter()
            self.session.run_with_iobinding(self.binding)
            best = min(best, time.perf_counter() - start)
        return [best, (time.thread_time() - busy) / repeats]


def identity(codes):
    """A network that copies its input."""
    shape = ["N", *codes.shape[1:]]
    infos = [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", infos[:1], infos[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", action="store_true", help="count, with one thread, only time on a processor")
    parser.add_argument("--engine", help="the benchmark program")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.2)
    arguments = parser.parse_args()

    engine = Engine(arguments.engine or build())
    cells = []
    for name in NETS:
        model, shape = qdq_model(engine.describe(name))
        for batch in BATCHES:
            ours_in, ours_out = engine.run(name, batch)
            codes = (ours_in.astype(np.int16) + 128).astype(np.uint8).reshape([batch, *shape])
            for threads in THREADS:
                session, empty = Session(model, codes, threads), Session(identity(codes[:1, :1]), codes[:1, :1], threads)
                differ = np.count_nonzero(session.result.reshape(-1).astype(np.int16) - 128 != ours_out)
                cells.append({"cell": (name, batch, threads), "session": session, "empty": empty, "differ": differ, "times": []})

    for _ in range(arguments.rounds):
        for cell in cells:
            name, batch, threads = cell["cell"]
            repeats = max(3, round(arguments.seconds / max(cell["session"].seconds(2)[0], 1e-6)))
            which = 1 if arguments.busy and threads == 1 else 0
            theirs = cell["session"].seconds(repeats)[which] - cell["empty"].seconds(repeats)[which]
            ours = engine.seconds(name, batch, threads, repeats)[which]
            cell["times"].append((ours, theirs))

    print(f"python {platform.python_version()} onnxruntime {ort.__version__} onnx {onnx.__version__} numpy {np.__version__}")
    print(f"{arguments.rounds} rounds; microseconds of a batch; outputs that differ among all outputs of the batch\n")
    print("| network | batch | threads | ours | ONNX Runtime | ours / ONNX Runtime | differ |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for cell in cells:
        ours, theirs = (statistics.median(times) * 1e6 for times in zip(*cell["times"]))
        ratio = statistics.median(ours / theirs for ours, theirs in cell["times"])
        name, batch, threads = cell["cell"]
        print(f"| {name} | {batch} | {threads} | {ours:.1f} | {theirs:.1f} | {ratio:.2f} | {cell['differ']} |")


if __name__ == "__main__":
    main()
