"""Images as the float32 array that `qat run --input` takes: values in [0, 1], [N, C, H, W].

    images_to_npy.py t10k-images-idx3-ubyte.gz x.npy      an IDX file of images, gzip or not
    images_to_npy.py test_batch.bin x.npy                 a file of CIFAR-10 records
"""

import gzip
import sys

import numpy as np


def images(path):
    """The images of a file as bytes, [N, C, H, W]."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if data[:4] == b"\x00\x00\x08\x03":
        count, height, width = (int(size) for size in np.frombuffer(data, ">u4", 3, 4))
        return np.frombuffer(data, np.uint8, offset=16).reshape(count, 1, height, width)
    if len(data) % 3073 == 0:
        return np.frombuffer(data, np.uint8).reshape(-1, 3073)[:, 1:].reshape(-1, 3, 32, 32)
    sys.exit(f"error: images, {path}: expected an IDX file or CIFAR-10 records, found neither")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    pixels = images(sys.argv[1])
    np.save(sys.argv[2], pixels.astype(np.float32) / np.float32(255))
    print(f"{sys.argv[2]}: {list(pixels.shape)}")


if __name__ == "__main__":
    main()
