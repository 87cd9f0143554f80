"""Checks that the parity matrix finds what it is there to find, on made-up answers: no runtime is run.

    python parity_selftest.py
"""

import numpy as np

import parity
import parity_claims as claims


def matrix(*results, op="add", width="8", engine="litert", flags=()):
    """The matrix of one cell, from (compared, different, largest) or words, one for each kind of scales."""
    found = []
    for kind, result in zip(("random", "ties", "saturating"), results):
        case = {"op": op, "granularity": "", "width": width, "kind": kind}
        found.append(claims.Result(case, engine, **result) if isinstance(result, dict) else claims.Result(case, engine, *result))
    return claims.Matrix(found, list(flags))


def main():
    codes = np.arange(-20, 20).reshape(4, 10)
    changed = codes.copy()
    changed[2, 3] += 2
    assert parity.compare(codes, codes) == (40, 0, 0)
    assert parity.compare(changed, codes) == (40, 1, 2)
    assert "shape" in parity.compare(codes[:2], codes)
    assert parity.compare("refused", codes) == "refused"

    equal, one = (4000, 0, 0), (4000, 1, 1)
    assert not matrix(equal, equal).broken()
    assert "found 1 of 8000 different by up to 1" in matrix(equal, one).broken()[0]
    assert "it broke" in matrix(equal, {"failed": "it broke"}).broken()[0]
    # A file that should be there, and one that should not.
    assert "expected a file, found none" in matrix({"refused": "no"}, equal).broken()[0]
    assert "expected no file, found one" in matrix(equal, op="max_pool2d_dilated").broken()[0]
    assert not matrix({"refused": "no"}, op="max_pool2d_dilated").broken()
    # Near cells have bounds too.
    near = {"op": "gelu", "width": "16"}
    assert not matrix(one, equal, **near).broken()
    assert matrix((4000, 1, 2), equal, **near).broken()
    assert matrix((4000, 50, 1), equal, **near).broken()
    # On a machine whose sums have another order, a last bit may differ.
    sums = {"op": "conv2d", "width": "16×8", "engine": "onnx-qdq"}
    assert not matrix(one, **sums).broken() and matrix(one, **sums, flags=["avx512f"]).broken()

    case = {"op": "LeNet", "granularity": "channel", "width": "8×8"}
    assert not claims.broken_answers([(case, 10, {"litert": 10}, {"litert": (9, 10, 0, 0, 80)})])
    assert "found it for 9" in claims.broken_answers([(case, 10, {"litert": 9}, {})])[0]
    assert "distinct" in claims.broken_answers([(case, 10, {}, {"litert": (1, 10, 0, 0, 3)})])[0]
    print("the matrix finds changed codes, missing files and other answers")


if __name__ == "__main__":
    main()
