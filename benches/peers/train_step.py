#!/usr/bin/env python3
"""Times training steps of this workspace, PyTorch and TensorFlow on the same networks, in turns, and prints tables of times and ratios.

    python benches/peers/train_step.py [--torch PYTHON] [--tensorflow PYTHON] [--compile] [--busy] [--rounds 5]
        [--batch 64] [--repeats 8] [--nets lenet,resnet8,resnet20] [--ours PROGRAM] [--device wgpu] [--torch-device cuda]

A step is forward, cross entropy, backward and Adam, on random images, with two threads. Networks are `lenet`, `resnet8`, `resnet20` and
`mobilenet-v1-025`. Ours is the benchmark `train_step` of the
package `qat-train`, which is built where no program is named; its modes are the network as a Burn module, as a `QatModel` in float, and
quantized: as it is by default, with a second convolution for the statistics of batch norm (`two`), and with batch norm frozen.

`--torch` is a Python with PyTorch, the running one where it is not given: float (`--compile`: by `torch.compile`, too, which takes
minutes to begin with), quantized by FX graph mode (`prepare_qat_fx`, default mapping of `x86`) and, where the Python has torchao, by PT2E
(`prepare_qat_pt2e`, default configuration of `X86InductorQuantizer`). `--tensorflow` is a Python with TensorFlow: float and, where it has
tensorflow-model-optimization and tf-keras, `quantize_model` of that; networks are Keras 2 models, channels last, and the step is one
`tf.function`. TensorFlow 2.21.0, tensorflow-model-optimization 0.8.1 and tf-keras 2.21.0 run together. ResNet-20 is left out there: its
shortcuts pad channels, which `quantize_model` refuses.

With `--device NAME` ours runs on another device than `flex`, built with the feature of that name, and with `--torch-device NAME` PyTorch on
one of its own (there without PT2E, whose quantizer is one for processors). A GPU's steps are timed by the eight, after which it has done
its work.

`--busy` is for a machine on which other programs run: PyTorch's threads, which wait for each other by spinning, then wait asleep.

Each runs in a process of its own; a round times every mode of every network once, one after the other, and keeps the fastest of the
repeats. Medians over the rounds are printed, and the medians of the ratios of each round.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

OURS = ("module", "float", "qat", "two", "frozen")
TORCH = ("torch-float", "torch-compile", "torch-fx-qat", "torch-pt2e-qat")
TENSORFLOW = ("tf-float", "tf-qat")
# A step over a step, and what it says.
COSTS = (
    ("qat / float", "qat", "float"),
    ("two / float", "two", "float"),
    ("frozen / float", "frozen", "float"),
    ("PyTorch FX QAT / float", "torch-fx-qat", "torch-float"),
    ("PyTorch PT2E QAT / float", "torch-pt2e-qat", "torch-float"),
    ("TensorFlow QAT / float", "tf-qat", "tf-float"),
)
# Theirs over ours: above 1 where ours is faster.
SPEEDS = (
    ("float, PyTorch float", "torch-float", "float"),
    ("float, PyTorch compiled", "torch-compile", "float"),
    ("float, TensorFlow float", "tf-float", "float"),
    ("qat, PyTorch FX QAT", "torch-fx-qat", "qat"),
    ("qat, PyTorch PT2E QAT", "torch-pt2e-qat", "qat"),
    ("qat, TensorFlow QAT", "tf-qat", "qat"),
    ("qat, PyTorch float", "torch-float", "qat"),
    ("qat, PyTorch compiled", "torch-compile", "qat"),
)


def serve(make_step, wait=None):
    """Obeys the lines that the benchmark `train_step` obeys; `make_step` gives a step of a network, or None where there is none.

    Where steps are queued, `wait` returns when the device has done them.
    """
    together = 8 if wait else 1
    steps = {}
    for line in sys.stdin:
        _, net, mode, batch, repeats = line.split()
        key = (net, mode, int(batch))
        if key not in steps:
            steps[key] = make_step(*key)
        if steps[key] is None:
            print("none", flush=True)
            continue
        fastest = float("inf")
        for _ in range(int(repeats) + 2):
            start = time.perf_counter()
            for _ in range(together):
                steps[key]()
            if wait:
                wait()
            fastest = min(fastest, (time.perf_counter() - start) / together)
        print(int(1e9 * fastest), flush=True)


def serve_torch(device):
    import warnings

    import torch
    from torch import nn
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

    warnings.filterwarnings("ignore")
    torch.set_num_threads(2)

    class LeNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 12, 5), nn.Conv2d(12, 24, 5)
            self.pool = nn.MaxPool2d(2)
            self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
            self.fc1, self.fc2 = nn.Linear(384, 128), nn.Linear(128, 10)

        def forward(self, x):
            x = self.pool(self.relu1(self.conv1(x)))
            x = self.pool(self.relu2(self.conv2(x)))
            return self.fc2(self.relu3(self.fc1(x.flatten(1))))

    class Block(nn.Module):
        def __init__(self, c_in, c_out, stride, convolves):
            super().__init__()
            self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
            self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
            self.bn1, self.bn2 = nn.BatchNorm2d(c_out), nn.BatchNorm2d(c_out)
            self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
            self.grows, self.convolves = c_in != c_out, convolves
            if self.grows and convolves:
                self.shortcut = nn.Conv2d(c_in, c_out, 1, stride)
            self.pad = (c_out - c_in) // 2

        def forward(self, x):
            y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
            if self.grows:
                x = self.shortcut(x) if self.convolves else nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))
            return self.relu2(y + x)

    class ResNet(nn.Module):
        def __init__(self, blocks, convolves):
            super().__init__()
            self.conv, self.bn, self.relu = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
            widths = [(16, 16)] + [(16, 16)] * (blocks - 1) + [(16, 32)] + [(32, 32)] * (blocks - 1)
            widths += [(32, 64)] + [(64, 64)] * (blocks - 1)
            self.blocks = nn.Sequential(*(Block(a, b, b // a, convolves) for a, b in widths))
            self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(64, 10)

        def forward(self, x):
            return self.fc(self.pool(self.blocks(self.relu(self.bn(self.conv(x))))).flatten(1))

    def norm_relu(conv):
        return [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU()]

    def separable(c_in, c_out, stride):
        depthwise = nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False)
        return [*norm_relu(depthwise), *norm_relu(nn.Conv2d(c_in, c_out, 1, bias=False))]

    def mobilenet():
        layers, c_in = norm_relu(nn.Conv2d(3, 8, 3, 2, 1, bias=False)), 8
        for c_out, stride in ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2), (256, 1)):
            layers += separable(c_in, c_out, stride)
            c_in = c_out
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))

    nets = {
        "lenet": (LeNet, (1, 28, 28)),
        "resnet8": (lambda: ResNet(1, True), (3, 32, 32)),
        "resnet20": (lambda: ResNet(3, False), (3, 32, 32)),
        "mobilenet-v1-025": (mobilenet, (3, 32, 32)),
    }

    def pt2e(model, images):
        try:
            import torchao.quantization.pt2e as torchao
            from torchao.quantization.pt2e.quantize_pt2e import prepare_qat_pt2e
            from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
        except ImportError:
            return None
        quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
        model = prepare_qat_pt2e(torch.export.export(model, (images,)).module(), quantizer)
        torchao.move_exported_model_to_train(model)
        return model

    def make_step(net, mode, batch):
        make, shape = nets[net]
        torch.manual_seed(1)
        model, images = make().train().to(device), torch.rand(batch, *shape).to(device)
        targets = (torch.arange(batch) % 10).to(device)
        if mode == "torch-compile":
            model = torch.compile(model)
        elif mode == "torch-fx-qat":
            model = prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (images,)).to(device)
        elif mode == "torch-pt2e-qat":
            model = pt2e(model, images) if device == "cpu" else None
            if model is None:
                return None
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)

        def step():
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()

        return step

    wait = None if device == "cpu" else lambda: torch.accelerator.synchronize()
    serve(make_step, wait)


def serve_tensorflow():
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf
    import tf_keras as keras

    tf.config.threading.set_intra_op_parallelism_threads(2)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    layers = keras.layers

    def lenet():
        images = layers.Input((28, 28, 1))
        x = layers.MaxPool2D()(layers.Conv2D(12, 5, activation="relu")(images))
        x = layers.MaxPool2D()(layers.Conv2D(24, 5, activation="relu")(x))
        x = layers.Dense(128, activation="relu")(layers.Flatten()(x))
        return keras.Model(images, layers.Dense(10)(x))

    def convolution(x, channels, stride):
        x = layers.Conv2D(channels, 3, stride, "same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    def block(x, channels, stride):
        y = convolution(layers.ReLU()(convolution(x, channels, stride)), channels, 1)
        if stride > 1:
            x = layers.Conv2D(channels, 1, stride, "same")(x)
        return layers.ReLU()(layers.Add()([y, x]))

    def resnet8():
        images = layers.Input((32, 32, 3))
        x = layers.ReLU()(convolution(images, 16, 1))
        for channels, stride in ((16, 1), (32, 2), (64, 2)):
            x = block(x, channels, stride)
        return keras.Model(images, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))

    nets = {"lenet": (lenet, (28, 28, 1)), "resnet8": (resnet8, (32, 32, 3))}

    def make_step(net, mode, batch):
        if net not in nets:
            return None
        make, shape = nets[net]
        tf.random.set_seed(1)
        model, images, targets = make(), tf.random.uniform((batch, *shape)), tf.range(batch) % 10
        if mode == "tf-qat":
            try:
                from tensorflow_model_optimization.quantization.keras import quantize_model
            except ImportError:
                return None
            model = quantize_model(model)
        optimizer = keras.optimizers.Adam(1e-4)
        objective = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def step():
            with tf.GradientTape() as tape:
                loss = objective(targets, model(images, training=True))
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            return loss

        return lambda: step().numpy()

    serve(make_step)


class Side:
    """A process that times steps."""

    def __init__(self, command, modes, is_busy):
        environment = os.environ | {"RAYON_NUM_THREADS": "2"} | ({"OMP_WAIT_POLICY": "passive"} if is_busy else {})
        self.modes = modes
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def milliseconds(self, net, mode, batch, repeats):
        self.process.stdin.write(f"time {net} {mode} {batch} {repeats}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"error: {mode}: expected a time, found the end of its output")
        return None if line == "none" else int(line) * 1e-6


def build(device):
    """Builds the benchmark program, with what a device needs, and gives its path."""
    feature = device.split(":")[0]
    features = ["--features", f"qat-train/{feature}"] if feature in ("wgpu", "cuda") else []
    command = ["cargo", "bench", "--workspace", *features, "--bench", "train_step", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=pathlib.Path(__file__).parents[2])
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return [message["executable"] for message in messages if message.get("target", {}).get("name") == "train_step"][-1]


def table(title, columns, rows):
    """Prints rows of cells under columns, without those columns in which no row has a cell."""
    kept = [index for index in range(len(columns)) if any(cells[index] is not None for _, cells in rows)]
    print(f"\n{title}\n")
    print("| network |", " | ".join(columns[index] for index in kept), "|")
    print("| --- |" + " ---: |" * len(kept))
    for net, cells in rows:
        print(f"| {net} |", " | ".join("–" if cells[index] is None else cells[index] for index in kept), "|")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch", metavar="PYTHON")
    parser.add_argument("--tensorflow", metavar="PYTHON")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--nets", default="lenet,resnet8,resnet20")
    parser.add_argument("--ours", metavar="PROGRAM")
    parser.add_argument("--device", default="flex")
    parser.add_argument("--torch-device", default="cpu")
    parser.add_argument("--serve", choices=("torch", "tensorflow"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve_torch(options.torch_device) if options.serve == "torch" else serve_tensorflow()

    ours = [options.ours or build(options.device), "--serve", "--device", options.device]
    sides = [Side(ours, OURS, options.busy)]
    torch = options.torch or (None if options.tensorflow else sys.executable)
    if torch:
        modes = TORCH if options.compile else tuple(mode for mode in TORCH if mode != "torch-compile")
        command = [torch, __file__, "--serve", "torch", "--torch-device", options.torch_device]
        sides.append(Side(command, modes, options.busy))
    if options.tensorflow:
        sides.append(Side([options.tensorflow, __file__, "--serve", "tensorflow"], TENSORFLOW, options.busy))
    modes = [mode for side in sides for mode in side.modes]
    nets = options.nets.split(",")
    rounds = {net: [] for net in nets}
    for index in range(options.rounds):
        for net in nets:
            print(f"round {index + 1} of {options.rounds}: {net}", file=sys.stderr)
            times = {mode: side.milliseconds(net, mode, options.batch, options.repeats) for side in sides for mode in side.modes}
            rounds[net].append(times)

    def median(net, value):
        found = [value(times) for times in rounds[net]]
        return None if None in found else statistics.median(found)

    def ratios(names):
        def ratio(over, under):
            return lambda times: times[over] / times[under] if times.get(over) and times.get(under) else None

        def cell(net, over, under):
            found = median(net, ratio(over, under))
            return None if found is None else f"{found:.2f}"

        return [(net, [cell(net, over, under) for _, over, under in names]) for net in nets]

    def milliseconds(net, mode):
        found = median(net, lambda times: times[mode])
        return None if found is None else f"{found:.1f}"

    machine = platform.processor() or platform.machine()
    print(f"{time.strftime('%Y-%m-%d')}, {machine}, {options.device}, PyTorch on {options.torch_device}, medians of {options.rounds} rounds")
    table(f"Milliseconds of a step, batch {options.batch}, two threads:", modes, [(n, [milliseconds(n, m) for m in modes]) for n in nets])
    table("Times of a step over another:", [name for name, *_ in COSTS], ratios(COSTS))
    table("How many times as fast ours is as theirs:", [name for name, *_ in SPEEDS], ratios(SPEEDS))


if __name__ == "__main__":
    main()
