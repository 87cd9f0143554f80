"""Runs the code of docs/deploy.md on a run directory and compares every digit with the engine's.

    python run_docs.py RUN [--bin FOLDER] [--images N]

RUN is a run directory of a network for MNIST's images; FOLDER has the programs `qat` and `deployed` (default: target/release of the
repository). Sections are run in order in an empty folder with RUN as runs/mnist and an image of the test set as image.bin, a section's
blocks in order:

    console    lines that begin with `$ `, by sh
    python     by this Python, or by the one that QAT_TFLM_PYTHON names where tflite_micro is imported; skipped without it
    c, rust    a first line that names a file under examples/ says where the lines must stand, another one what file they become;
               blocks that name none are parts of programs, and not run here

The last line that a section prints is the image's digit; the block that printed it is run again for the other images.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from images_to_npy import images

ROOT = Path(__file__).resolve().parents[2]
# Sections that end with something other than a digit.
WITHOUT_DIGIT = ["By hand: the numbers"]


class Skipped(Exception):
    """What a section needs is not here."""


def sections(text):
    """Headings with their blocks, each a language and a text."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)[1:]
    for heading, body in zip(parts[::2], parts[1::2]):
        yield heading, re.findall(r"^```(\S+)\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)


def run(command, folder, environment):
    """What a program prints; it must end well."""
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"error: {command}: expected exit code 0, found {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def execute(language, text, folder, environment):
    """What a block prints, or None where there is nothing to run."""
    if language == "console":
        lines = [line[2:] for line in text.splitlines() if line.startswith("$ ")]
        return run(["sh", "-ec", "\n".join(lines)], folder, environment)
    if language == "python":
        python = os.environ.get("QAT_TFLM_PYTHON") if "tflite_micro" in text else sys.executable
        if not python:
            raise Skipped("QAT_TFLM_PYTHON is not set")
        return run([python, "-c", text], folder, environment)
    named = re.match(r"(?:// |/\* )(\S+)(?: \*/)?\n", text)
    if named:
        check_or_write(named[1], text[named.end() :], folder)
    return None


def check_or_write(name, text, folder):
    """Looks for the lines in a file of the repository, or makes them a file."""
    if not name.startswith("examples/"):
        (folder / name).write_text(text)
        return
    there = [line.strip() for line in (ROOT / name).read_text().splitlines()]
    lines = [line.strip() for line in text.splitlines()]
    if not any(there[at : at + len(lines)] == lines for at in range(len(there))):
        sys.exit(f"error: docs/deploy.md: expected lines of {name}, found\n{text}")


def digits(pixels, contract, folder, environment):
    """The engine's digits."""
    np.save(folder / "pixels.npy", pixels.astype(np.float32) / np.float32(255))
    contract = ["--contract", contract] if contract else []
    command = ["qat", "run", "runs/mnist", "--mode", "integer", *contract, "--input", "pixels.npy", "--output", "scores.npy"]
    run(command, folder, environment)
    return np.load(folder / "scores.npy").reshape(len(pixels), -1).argmax(axis=1)


def distinct(pixels, labels, count):
    """The first images of that many classes."""
    _, first = np.unique(labels, return_index=True)
    return pixels[np.sort(first)[:count]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--bin", type=Path, default=ROOT / "target/release", metavar="FOLDER")
    parser.add_argument("--images", type=int, default=3, metavar="N", help="of classes that differ, at most 10")
    arguments = parser.parse_args()
    environment = {**os.environ, "PATH": f"{arguments.bin.resolve()}{os.pathsep}{os.environ['PATH']}"}

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "src").mkdir()
        (folder / "runs").mkdir()
        (folder / "runs/mnist").symlink_to(arguments.run.resolve())
        pixels = images(ROOT / "datasets/mnist/t10k-images-idx3-ubyte.gz")[:100]
        pixels = distinct(pixels, digits(pixels, None, folder, environment), arguments.images)
        expected = {contract: digits(pixels, contract, folder, environment) for contract in ["fp32-rne", "gemmlowp"]}
        for heading, blocks in sections((ROOT / "docs/deploy.md").read_text()):
            micro = any(re.search(r"--target (tflm|rust)", text) for _, text in blocks)
            found = []
            try:
                for image in pixels:
                    image.tofile(folder / "image.bin")
                    printed = [(block, execute(*block, folder, environment)) for block in blocks]
                    blocks, printed = zip(*[(block, text) for block, text in printed if text][-1:])
                    found.append(printed[0].splitlines()[-1])
            except Skipped as reason:
                print(f"SKIPPED: {heading}: {reason}")
                continue
            if heading in WITHOUT_DIGIT:
                print(f"ran: {heading}: {found[0]}"[:100])
                continue
            digit = [str(digit) for digit in expected["gemmlowp" if micro else "fp32-rne"]]
            if found != digit:
                sys.exit(f"error: {heading}: expected the digits {digit} of the engine, found {found}")
            print(f"ran: {heading}: {' '.join(found)}")


if __name__ == "__main__":
    main()
