//! A relu, relu6 or clamp that is part of the operation before it.
//!
//! Rounding is monotone, so `fq(clamp(x, a, b)) = clamp(fq(x), fq(a), fq(b))` on any grid: clamping real numbers before they are
//! quantized is clamping codes after it (Q61). That is why an integer layer needs no step of its own for it.

use burn::tensor::{Tensor, activation};

/// Real bounds of an output; either may be infinite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clamp {
    /// Lowest value, −∞ for none.
    pub min: f32,
    /// Highest value, +∞ for none.
    pub max: f32,
}

impl Clamp {
    /// No bounds.
    pub const NONE: Self = Self { min: f32::NEG_INFINITY, max: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { min: 0.0, max: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { min: 0.0, max: 6.0 };

    /// Applies it.
    pub fn apply<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match (self.min == f32::NEG_INFINITY, self.max == f32::INFINITY) {
            (true, true) => x,
            (false, true) if self.min == 0.0 => activation::relu(x),
            (false, true) => x.clamp_min(self.min),
            (true, false) => x.clamp_max(self.max),
            (false, false) => x.clamp(self.min, self.max),
        }
    }

    /// This one, then another: again a clamp.
    pub fn then(self, next: Self) -> Self {
        let bound = |x: f32| x.max(next.min).min(next.max);
        Self { min: bound(self.min), max: bound(self.max) }
    }

    /// Whether no result is below 0.
    pub fn is_non_negative(self) -> bool {
        self.min >= 0.0
    }

    /// Its name in listings: `relu`, `relu6`, or `clamp` with its bounds; `None` for no bounds.
    pub fn name(self) -> Option<String> {
        match self {
            Self::NONE => None,
            Self::RELU => Some("relu".into()),
            Self::RELU6 => Some("relu6".into()),
            Self { min, max } => Some(format!("clamp({min}, {max})")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn bounds_apply_and_follow_each_other() {
        let x = || Tensor::<1>::from_floats([-7.0, -0.5, 0.0, 2.5, 9.0], &Device::flex());
        let values = |clamp: Clamp| clamp.apply(x()).into_data().iter::<f32>().collect::<Vec<_>>();
        assert_eq!(values(Clamp::NONE), [-7.0, -0.5, 0.0, 2.5, 9.0]);
        assert_eq!(values(Clamp::RELU), [0.0, 0.0, 0.0, 2.5, 9.0]);
        assert_eq!(values(Clamp::RELU6), [0.0, 0.0, 0.0, 2.5, 6.0]);
        assert_eq!(values(Clamp { min: -1.0, max: f32::INFINITY }), [-1.0, -0.5, 0.0, 2.5, 9.0]);
        assert_eq!(values(Clamp { min: f32::NEG_INFINITY, max: 1.0 }), [-7.0, -0.5, 0.0, 1.0, 1.0]);
        let upper = Clamp { min: f32::NEG_INFINITY, max: 6.0 };
        assert_eq!(Clamp::RELU.then(upper), Clamp::RELU6);
        assert_eq!(Clamp { min: -3.0, max: -2.0 }.then(Clamp::RELU), Clamp { min: 0.0, max: 0.0 });
        assert_eq!(Clamp::NONE.then(Clamp::RELU).name().as_deref(), Some("relu"));
    }
}
