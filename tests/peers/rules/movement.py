"""Operations that move codes: the same in every engine, with equal parameters of input and output."""

import numpy as np

from problem import Problem, draw_codes, draw_scale, draw_zero

OPS = ("concat", "pad", "slice", "split", "transpose", "reshape", "resize_nearest", "gather")


def draw(rng, op: str, kind: str, dtype: str, index: int) -> Problem:
    """One problem on `[1, H, W, C]`, or on three such tensors for concat."""
    params = draw_scale(rng, kind, 1e-3, 1.0), draw_zero(rng, dtype)
    shape = [1, 4, 6, 5]
    tensor = lambda: (draw_codes(rng, shape, dtype), *params)
    inputs, attributes = [tensor()], {}
    if op == "concat":
        axis = 1 + index % 3
        inputs = []
        for size in (2, 3, 1):
            shape[axis] = size
            inputs.append(tensor())
        attributes = dict(axis=axis)
    elif op == "pad":
        attributes = dict(padding=[[0, 0], *([[0, 2], [1, 0], [2, 3]], [[1, 1], [0, 0], [0, 1]])[index % 2]])
    elif op == "slice":
        begin = [0, *rng.integers(0, 3, 3)]
        attributes = dict(begin=begin, size=[1, *(int(rng.integers(1, n - b + 1)) for n, b in zip(shape[1:], begin[1:]))])
    elif op == "split":
        attributes = dict(axis=2, parts=3)
    elif op == "transpose":
        attributes = dict(permutation=[[0, 3, 1, 2], [0, 2, 1, 3], [0, 3, 2, 1]][index % 3])
    elif op == "reshape":
        attributes = dict(shape=[1, 24, 5])
    elif op == "resize_nearest":
        factor = [[2, 2], [3, 1], [1, 4]][index % 3]
        attributes = dict(size=[4 * factor[0], 6 * factor[1]], factor=factor, align_corners=False, half_pixel=False)
    elif op == "gather":
        attributes = dict(axis=1, indices=rng.integers(0, 4, 7))
    return Problem(f"{dtype}-{kind}-{index}", op, inputs, params, dtype, attributes=attributes)


def expect(p: Problem) -> list:
    """Output codes, one array for each output."""
    a, x = p.attributes, p.inputs[0][0]
    if p.op == "concat":
        return [np.concatenate([codes for codes, _, _ in p.inputs], a["axis"])]
    if p.op == "pad":
        return [np.pad(x, a["padding"], constant_values=p.inputs[0][2])]
    if p.op == "slice":
        return [x[tuple(slice(b, b + n) for b, n in zip(a["begin"], a["size"]))]]
    if p.op == "split":
        return np.split(x, a["parts"], a["axis"])
    if p.op == "transpose":
        return [x.transpose(a["permutation"])]
    if p.op == "reshape":
        return [x.reshape(a["shape"])]
    if p.op == "resize_nearest":
        return [x.repeat(a["factor"][0], 1).repeat(a["factor"][1], 2)]
    return [np.take(x, a["indices"], a["axis"])]
