"""Writes the PyTorch models that the ONNX import is tested with, by both of PyTorch's exporters.

    python export_onnx_models.py OUT_DIR [--mnist DIR] [--epochs 2] [--seed 4]

Small networks with the parts that real ones have. Their weights are random but not trivial (batch norms have statistics), except
for `mnist_cnn`, which is trained here on the four IDX files of MNIST and whose accuracy on the test images is printed; it is left
out without --mnist. `*_dynamo` comes from the exporter on torch.export, `*_script` from the TorchScript exporter. One model
keeps its weights in a second file. Versions and the seed are printed; they belong into OUT_DIR/README.md.
"""

import argparse
import gzip
import logging
import pathlib
import platform
import sys
import warnings

import numpy as np
import onnx
import onnxscript
import torch
from torch import nn


class ConvNet(nn.Module):
    """LeNet with batch norms, as trained on MNIST."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 16, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(16)
        self.pool = nn.MaxPool2d(2)
        self.drop = nn.Dropout(0.1)
        self.fc = nn.Linear(16 * 7 * 7, 10)

    def forward(self, x):
        x = self.pool(torch.relu(self.bn1(self.conv1(x))))
        x = self.pool(torch.relu(self.bn2(self.conv2(x))))
        return self.fc(self.drop(torch.flatten(x, 1)))


class Block(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.down = None
        if stride != 1 or c_in != c_out:
            self.down = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + (x if self.down is None else self.down(x)))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.Sequential(Block(6, 6, 1), Block(6, 10, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(10, 5)

    def forward(self, x):
        x = self.layers(torch.relu(self.stem(x)))
        return torch.softmax(self.fc(self.pool(x).flatten(1)), 1)


class Mobile(nn.Module):
    """Depthwise separable, inverted residual, relu6, hard-swish and squeeze-and-excitation."""

    def __init__(self):
        super().__init__()

        def conv(c_in, c_out, k, stride=1, groups=1, act=nn.ReLU6):
            return nn.Sequential(
                nn.Conv2d(c_in, c_out, k, stride, k // 2, groups=groups, bias=False), nn.BatchNorm2d(c_out), act()
            )

        self.stem = conv(3, 8, 3, 2, act=nn.Hardswish)
        self.expand = conv(8, 16, 1)
        self.depthwise = conv(16, 16, 3, 1, 16, nn.Hardswish)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid()
        )
        self.project = conv(16, 8, 1, act=nn.Identity)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x)
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.squeeze(y)) + x
        return self.head(y.mean([2, 3]))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 8, bias=False),
            nn.LeakyReLU(0.1), nn.Linear(8, 6), nn.GELU("tanh"), nn.Linear(6, 3), nn.Softmax(-1),
        )

    def forward(self, x):
        return self.layers(x)


class Recurrent(nn.Module):
    """Rows of an image, one a time step; the last output is classified."""

    def __init__(self, kind, **options):
        super().__init__()
        self.rnn = kind(7, 9, batch_first=True, **options)
        self.fc = nn.Linear(9 * (2 if options.get("bidirectional") else 1), 4)

    def forward(self, x):
        return self.fc(self.rnn(x.squeeze(1))[0][:, -1])


class Tokens(nn.Module):
    """Indices through an embedding and a recurrent layer whose last state is read."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(12, 5)
        self.rnn = nn.GRU(5, 6, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.rnn(self.table(x))[1][-1])


class Pools(nn.Module):
    """Pools and pads in all their modes, in one dimension too."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 6, (3, 5), (1, 2), (0, 1), (2, 1), bias=True)
        self.inside = nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        self.padded = nn.AvgPool2d(3, 2, 1, count_include_pad=True)
        self.ceil = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.prelu = nn.PReLU(6, 0.2)
        self.row = nn.Sequential(nn.Conv1d(6, 5, 3, padding=1), nn.BatchNorm1d(5), nn.ReLU(), nn.MaxPool1d(2), nn.AvgPool1d(2))
        self.fc = nn.Linear(5, 3)

    def forward(self, x):
        x = self.prelu(self.conv(nn.functional.pad(x, (1, 2, 0, 1))))
        x = self.inside(x) - self.padded(x) * 0.5
        x = self.ceil(torch.clamp(x, -0.5, 0.75))
        x = self.row(x.flatten(2))
        return self.fc(x.transpose(1, 2)).sum(1)


class Decoder(nn.Module):
    """Upsampling by both ways, a channel shuffle, a skip that is concatenated, an attention of one head."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 3, 2, 1)
        self.query = nn.Linear(8, 8)
        self.key = nn.Linear(8, 8)
        self.up1 = nn.ConvTranspose2d(8, 6, 3, 2, 1, 1)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")
        self.mix = nn.Conv2d(9, 4, 1)

    def forward(self, x):
        y = torch.relu(self.down(x))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        t = y.flatten(2).transpose(1, 2)
        a = torch.softmax(self.query(t) @ self.key(t).transpose(1, 2) / 8**0.5, -1)
        y = (a @ t).transpose(1, 2).reshape(n, c, h, w)
        left = self.up1(y)
        right = self.up2(y.chunk(2, 1)[1][:, :3])
        return torch.tanh(self.mix(torch.cat([left, right], 1)))


def images(folder, kind):
    read = lambda name, skip: np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=skip)
    x = read(f"{kind}-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28).astype(np.float32) / 255
    return torch.from_numpy(x), torch.from_numpy(read(f"{kind}-labels-idx1-ubyte.gz", 8).astype(np.int64))


def train(model, folder, epochs):
    x, y = images(folder, "train")
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for epoch in range(epochs):
        model.train()
        for batch in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            tx, ty = images(folder, "t10k")
            print(f"mnist_cnn epoch {epoch + 1}: {(model(tx).argmax(1) == ty).float().mean() * 100:.2f} % of the test images")


def settle(model):
    """Statistics and parameters of batch norms as if it had been trained."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def strip(path):
    """Removes what exporters note about the program that they read: traces with paths of the machine."""
    model = onnx.load(path, load_external_data=False)
    for part in [model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--mnist", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    print(f"python {platform.python_version()}, torch {torch.__version__}, onnx {onnx.__version__}, onnxscript {onnxscript.__version__}")
    print(f"command: {' '.join(sys.argv)}; seed {arguments.seed}")
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)

    def dynamo(name, model, x, opset=18, external=False, fixed=False):
        shapes = None if fixed else ({0: torch.export.Dim("batch")},)
        torch.onnx.export(
            model, (x,), arguments.out / f"{name}.onnx", dynamo=True, opset_version=opset, external_data=external,
            input_names=["x"], output_names=["y"], dynamic_shapes=shapes, verbose=False,
        )
        strip(arguments.out / f"{name}.onnx")

    def script(name, model, x, opset=13, fixed=False, preserve=False, inputs="input", outputs="logits"):
        training = torch.onnx.TrainingMode.PRESERVE if preserve else torch.onnx.TrainingMode.EVAL
        axes = None if fixed else {inputs: {0: "N"}, outputs: {0: "M"}}
        torch.onnx.export(
            model, (x,), arguments.out / f"{name}.onnx", dynamo=False, opset_version=opset, training=training,
            input_names=[inputs], output_names=[outputs], dynamic_axes=axes, do_constant_folding=not preserve,
        )
        strip(arguments.out / f"{name}.onnx")

    image = torch.randn(2, 3, 16, 16)
    residual, mobile, mlp, pools, decoder = (settle(net()) for net in (Residual, Mobile, Mlp, Pools, Decoder))
    dynamo("residual_dynamo", residual, image, external=True)
    script("residual_script", residual, image, preserve=True, opset=14)
    script("residual_script_opset7", residual, image, opset=7, fixed=False)
    dynamo("mobile_dynamo", mobile, image, opset=20)
    script("mobile_script", mobile, image, opset=11, preserve=True)
    script("mobile_script_opset17", mobile, torch.randn(1, 3, 16, 16), opset=17, fixed=True)
    dynamo("mlp_dynamo", mlp, torch.randn(2, 20), opset=20)
    script("mlp_script", mlp, torch.randn(2, 20), opset=13, preserve=True)
    rows = torch.randn(2, 1, 5, 7)
    lstm, gru = settle(Recurrent(nn.LSTM)), settle(Recurrent(nn.GRU, bidirectional=True, num_layers=2))
    dynamo("lstm_dynamo", lstm, rows)
    script("lstm_script", lstm, rows, opset=14)
    dynamo("gru_dynamo", gru, rows)
    script("gru_script", gru, torch.randn(1, 1, 5, 7), opset=13, fixed=True)
    script("rnn_script", settle(Recurrent(nn.RNN, nonlinearity="relu")), rows)
    tokens = settle(Tokens())
    indices = torch.randint(0, 12, (2, 6))
    dynamo("tokens_dynamo", tokens, indices)
    script("tokens_script", tokens, indices)
    dynamo("pools_dynamo", pools, torch.randn(2, 2, 17, 19))
    script("pools_script", pools, torch.randn(2, 2, 17, 19), opset=12)
    dynamo("decoder_dynamo", decoder, torch.randn(2, 3, 8, 8))
    script("decoder_script", decoder, torch.randn(2, 3, 8, 8), opset=13)
    if arguments.mnist:
        net = ConvNet()
        train(net, arguments.mnist, arguments.epochs)
        net.eval()
        dynamo("mnist_cnn_dynamo", net, torch.zeros(2, 1, 28, 28))
        script("mnist_cnn_script", net, torch.zeros(2, 1, 28, 28), preserve=True, inputs="image.1")


if __name__ == "__main__":
    main()
