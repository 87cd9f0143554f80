"""Reads a run's event files as TensorBoard does and compares them with its metrics.csv.

    python tests/peers/tensorboard_events.py RUN
"""

import csv
import pathlib
import struct
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def single(text):
    """A decimal as float32, which events hold."""
    return struct.unpack("f", struct.pack("f", float(text)))[0]


def main():
    run = pathlib.Path(sys.argv[1])
    scalars = {}
    for split in ("train", "valid"):
        events = EventAccumulator(str(run / "tensorboard" / split), size_guidance={"scalars": 0})
        events.Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                assert (split, tag, event.step) not in scalars, (split, tag, event.step)
                scalars[split, tag, event.step] = event.value
    rows = 0
    with open(run / "metrics.csv", newline="") as file:
        for row in csv.DictReader(file):
            for name in ("loss", "accuracy", "learning_rate"):
                if row[name]:
                    key = row["split"], f"{row['phase']}/{name}", int(row["step"])
                    assert scalars.pop(key) == single(row[name]), key
            rows += 1
    with open(run / "ranges.csv", newline="") as file:
        for row in csv.DictReader(file):
            for end in ("min", "max"):
                key = "valid", f"{row['phase']}/ranges/{row['quantizer']}/{end}", int(row["step"])
                assert scalars.pop(key) == single(row[end]), key
    assert not scalars, scalars
    print(f"{rows} rows agree")


main()
