"""Compares two arrays of 8-bit codes.

    python compare_codes.py A.npy B.npy [--allow N]

An int8 array and a uint8 array are compared as the same codes 128 apart. Prints how many codes there are, how many differ, and by
how much at most. Exit code 1 if more than N differ (default: 0) or the shapes do.
"""

import argparse
import sys

import numpy as np


def codes(path):
    """The codes as int8 values."""
    array = np.load(path)
    if array.dtype == np.uint8:
        return array.astype(np.int32) - 128
    if array.dtype == np.int8:
        return array.astype(np.int32)
    sys.exit(f"error: codes, {path}: expected int8 or uint8, found {array.dtype}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a")
    parser.add_argument("b")
    parser.add_argument("--allow", type=int, default=0, metavar="N", help="how many codes may differ (default: 0)")
    arguments = parser.parse_args()

    a, b = codes(arguments.a), codes(arguments.b)
    if a.shape != b.shape:
        sys.exit(f"error: shape, {arguments.b}: expected {a.shape}, found {b.shape}")
    difference = np.abs(a - b)
    different = int(np.count_nonzero(difference))
    print(f"{a.size} compared, {different} different, at most {int(difference.max(initial=0))} LSB")
    sys.exit(1 if different > arguments.allow else 0)


if __name__ == "__main__":
    main()
