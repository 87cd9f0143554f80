"""Small files of weights, as PyTorch writes them, and what the network they belong to computes.

Usage: python tests/peers/pytorch_weights.py crates/train/tests/goldens/weights

Needs torch, numpy and safetensors. Writes
  zip.pt              state_dict of a network, today's container
  legacy.pth          a checkpoint of the same network under DataParallel, with its optimizer, the container of before 1.6
  half.safetensors    the same weights in float16
  outputs.txt         versions, then the network's outputs for the input 0, 1/64, 2/64, … (one image a line)
"""

import pathlib
import sys

import numpy
import safetensors.torch
import torch
from torch import nn

SEED = 20261124


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, stride=2, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1))
        self.fc = nn.Linear(4 * 3 * 3, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer1(x).flatten(1))


def main(folder):
    torch.manual_seed(SEED)
    net = Tiny()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.003, momentum=0.9)
    for _ in range(3):  # Statistics and momenta that are not those of the beginning.
        optimizer.zero_grad()
        net(torch.rand(8, 1, 8, 8)).square().sum().backward()
        optimizer.step()
    net.eval()
    torch.save(net.state_dict(), folder / "zip.pt")
    checkpoint = {
        "epoch": 3,
        "state_dict": nn.DataParallel(net).state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(checkpoint, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    half = {key: value.half() for key, value in net.state_dict().items() if value.is_floating_point()}
    safetensors.torch.save_file(half, folder / "half.safetensors", {"format": "pt"})
    with torch.no_grad():
        outputs = net((torch.arange(2 * 64).reshape(2, 1, 8, 8) % 64) / 64 + torch.arange(2).reshape(2, 1, 1, 1))
    lines = [f"# pytorch_weights.py, torch {torch.__version__}, safetensors {safetensors.__version__}, numpy {numpy.__version__}, seed {SEED}"]
    lines += [" ".join(f"{value:.9g}" for value in row) for row in outputs.tolist()]
    (folder / "outputs.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
