#!/usr/bin/env python3
"""Copies the integer quantization cases of the ONNX node tests out of the installed onnx wheel, byte for byte.

    python tests/peers/vendor_onnx_node.py        write crates/runtime/tests/onnx-node/

The wheel must be onnx 1.22.0: later ones do not carry the files. Cases of 8-bit and 4-bit floats are left out.
"""

import pathlib
import re
import shutil

import onnx

TARGET = pathlib.Path(__file__).resolve().parents[2] / "crates" / "runtime" / "tests" / "onnx-node"
SOURCE = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
WANTED = re.compile(r"test_(de|dynamic)?quantizelinear.*|test_qlinear(conv|matmul).*|test_(matmul|conv)integer.*")
FLOATS = re.compile(r"e4m3|e5m2|float4")


def main():
    if onnx.__version__ != "1.22.0":
        raise SystemExit(f"onnx: expected version 1.22.0, found {onnx.__version__}")
    names = [folder.name for folder in sorted(SOURCE.iterdir()) if WANTED.fullmatch(folder.name) and not FLOATS.search(folder.name)]
    for name in names:
        shutil.rmtree(TARGET / name, ignore_errors=True)
        (TARGET / name).mkdir(parents=True)
        shutil.copyfile(SOURCE / name / "model.onnx", TARGET / name / "model.onnx")
        for file in sorted((SOURCE / name / "test_data_set_0").iterdir()):
            shutil.copyfile(file, TARGET / name / file.name)
    size = sum(file.stat().st_size for file in TARGET.rglob("*") if file.is_file())
    print(f"{len(names)} cases, {size} bytes")


if __name__ == "__main__":
    main()
