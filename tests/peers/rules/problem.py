"""One operation on integer tensors as a value, and draws of its numbers: ties, near ties, random and saturating scales."""

from dataclasses import dataclass, field

import numpy as np

f32 = np.float32

# `near-ties` has decimal steps: ratios such as 0.3 / 0.2 put real values on ties that f32 misses by one rounding or another.
KINDS = ("ties", "near-ties", "random", "saturating")

LIMITS = {"int8": (-128, 127), "int16": (-32768, 32767)}


@dataclass
class Problem:
    """An operation; images are `[N, H, W, C]`. Codes are signed; a graph with uint8 codes holds code + 128."""

    name: str
    op: str
    inputs: list  # [(codes, scale f32, zero_point)]
    output: tuple  # (scale f32, zero_point)
    dtype: str = "int8"
    output_dtype: str = ""
    attributes: dict = field(default_factory=dict)

    def __post_init__(self):
        self.output_dtype = self.output_dtype or self.dtype

    @property
    def limits(self) -> tuple:
        """Lowest and highest output code."""
        return LIMITS[self.output_dtype]

    def clamp(self, codes) -> np.ndarray:
        """Whole numbers as output codes."""
        return np.clip(codes, *self.limits).astype(self.output_dtype)


def decimal(scale: float) -> np.float32:
    """The nearest number with one significant decimal digit."""
    return f32(float(f"{scale:.0e}"))


def power_of_two(scale: float) -> np.float32:
    """The nearest power of two."""
    return f32(2.0 ** np.round(np.log2(scale)))


def draw_scale(rng, kind: str, low: float, high: float) -> np.float32:
    """A step in [low, high], log-uniform; a power of two for `ties`, one decimal digit for `near-ties`."""
    scale = np.exp(rng.uniform(np.log(low), np.log(high)))
    return {"ties": power_of_two, "near-ties": decimal}.get(kind, f32)(scale)


def draw_codes(rng, shape, dtype: str = "int8") -> np.ndarray:
    """Half uniform, a quarter near zero, a quarter extreme."""
    low, high = LIMITS[dtype]
    uniform = rng.integers(low, high + 1, shape)
    near = rng.integers(-3, 4, shape)
    extreme = rng.choice([low, low + 1, high - 1, high], shape)
    which = rng.integers(0, 4, shape)
    return np.where(which < 2, uniform, np.where(which == 2, near, extreme)).astype(dtype)


def draw_zero(rng, dtype: str = "int8") -> int:
    """A zero point, often an extreme one; 16-bit codes are symmetric."""
    if dtype == "int16":
        return 0
    return int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))
