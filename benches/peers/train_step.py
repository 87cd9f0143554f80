#!/usr/bin/env python3
"""Times training steps of this workspace and of PyTorch on the same networks, in turns, and prints the ratios.

    python benches/peers/train_step.py [--rounds 5] [--batch 64] [--repeats 8] [--nets lenet,resnet8,resnet20] [--ours PROGRAM]

The Python that runs it has PyTorch. A step is forward, cross entropy, backward and Adam, on random images, with two threads. Ours is the
benchmark `train_step` of the package `qat-train`, which is built where no program is named; its modes are the network as a Burn module,
as a `QatModel` in float, and quantized, with batch norm by the statistics of two convolutions and of a single
one, and frozen. PyTorch trains in float, and quantized by FX
graph mode (`prepare_qat_fx` with the default mapping of `x86`). Each runs in a process of its own; a round times every mode of every
network once, one process after the other, and keeps the fastest of the repeats. Medians over the rounds are printed, and the medians of
the ratios of each round, above 1 where ours is faster.
"""

import argparse
import json
import pathlib
import platform
import statistics
import subprocess
import sys
import time

OURS = ("module", "float", "qat", "single", "frozen")
THEIRS = ("torch-float", "torch-fx-qat")


def serve():
    """PyTorch's side: obeys the lines that the benchmark `train_step` obeys."""
    import torch
    from torch import nn
    from torch.ao.quantization import get_default_qat_qconfig_mapping
    from torch.ao.quantization.quantize_fx import prepare_qat_fx

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

    nets = {
        "lenet": (LeNet, (1, 28, 28)),
        "resnet8": (lambda: ResNet(1, True), (3, 32, 32)),
        "resnet20": (lambda: ResNet(3, False), (3, 32, 32)),
    }

    def seconds(net, mode, batch, repeats):
        make, shape = nets[net]
        torch.manual_seed(1)
        model, images = make().train(), torch.rand(batch, *shape)
        targets = torch.arange(batch) % 10
        if mode == "torch-fx-qat":
            model = prepare_qat_fx(model, get_default_qat_qconfig_mapping("x86"), (images,))
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)
        fastest = float("inf")
        for _ in range(repeats + 2):
            start = time.perf_counter()
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()
            fastest = min(fastest, time.perf_counter() - start)
        return fastest

    for line in sys.stdin:
        _, net, mode, batch, repeats = line.split()
        print(int(1e9 * seconds(net, mode, int(batch), int(repeats))), flush=True)


class Side:
    """A process that times steps."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def milliseconds(self, net, mode, batch, repeats):
        self.process.stdin.write(f"time {net} {mode} {batch} {repeats}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline().strip()
        if not line:
            sys.exit(f"error: {mode}: expected a time, found the end of its output")
        return None if line == "none" else int(line) * 1e-6


def build():
    """Builds the benchmark program and gives its path."""
    command = ["cargo", "bench", "--workspace", "--bench", "train_step", "--no-run", "--message-format", "json"]
    built = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=pathlib.Path(__file__).parents[2])
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return [message["executable"] for message in messages if message.get("target", {}).get("name") == "train_step"][-1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--nets", default="lenet,resnet8,resnet20")
    parser.add_argument("--ours")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    ours = Side([options.ours or build(), "--serve"])
    theirs = Side([sys.executable, __file__, "--serve"])
    print(f"{platform.processor() or platform.machine()}, batch {options.batch}, {options.rounds} rounds, milliseconds a step")
    for net in options.nets.split(","):
        rounds = []
        for _ in range(options.rounds):
            times = {mode: ours.milliseconds(net, mode, options.batch, options.repeats) for mode in OURS}
            if None not in times.values():
                times |= {mode: theirs.milliseconds(net, mode, options.batch, options.repeats) for mode in THEIRS}
                rounds.append(times)
        if not rounds:
            print(f"{net}: not in the zoo")
            continue
        print(net, *(f"{mode} {statistics.median(r[mode] for r in rounds):.1f}" for mode in OURS + THEIRS))
        for name, over, under in (
            ("qat / float", "qat", "float"),
            ("single / float", "single", "float"),
            ("frozen / float", "frozen", "float"),
            ("torch fx qat / torch float", "torch-fx-qat", "torch-float"),
            ("float, faster than torch float by", "torch-float", "float"),
            ("qat, faster than torch fx qat by", "torch-fx-qat", "qat"),
            ("qat, faster than torch float by", "torch-float", "qat"),
            ("single, faster than torch fx qat by", "torch-fx-qat", "single"),
            ("single, faster than torch float by", "torch-float", "single"),
        ):
            print(f"  {name}: {statistics.median(r[over] / r[under] for r in rounds):.2f}")


if __name__ == "__main__":
    main()
