//! A relu, relu6 or clamp that could not be fused into the operation before it.

use burn::module::Module;
use burn::tensor::Tensor;

use crate::clamp::Clamp;
use crate::tensor::QuantTensor;

/// `min(max(x, a), b)`. Its output stays on the grid of its input, and so do its bounds, `s · rne(a / s)`: a clamp of codes (Q61).
#[derive(Module, Debug)]
pub struct QuantClamp {
    #[module(skip)]
    clamp: Clamp,
}

impl QuantClamp {
    /// A clamp with these bounds.
    pub fn new(clamp: Clamp) -> Self {
        Self { clamp }
    }

    /// Applies it.
    pub fn forward<const D: usize>(&self, input: QuantTensor<D>) -> QuantTensor<D> {
        let Clamp { min, max } = self.clamp;
        let on_every_grid = |bound: f32| bound == 0.0 || bound.is_infinite();
        match &input.scale {
            Some(scale) if !(on_every_grid(min) && on_every_grid(max)) => {
                let scale = scale.clone();
                input.map(|x| clamp_on_grid(x, self.clamp, scale))
            }
            _ => input.map(|x| self.clamp.apply(x)),
        }
    }

    /// The bounds.
    pub fn bounds(&self) -> Clamp {
        self.clamp
    }
}

fn clamp_on_grid<const D: usize>(x: Tensor<D>, clamp: Clamp, scale: Tensor<1>) -> Tensor<D> {
    let shape = x.dims();
    let bound = |value: f32| ((scale.clone() * 0.0 + value) / scale.clone()).round() * scale.clone();
    let bound = |value: f32| bound(value).reshape([1; D]).expand(shape);
    let mut y = x;
    if clamp.min > f32::NEG_INFINITY {
        let low = bound(clamp.min);
        y = y.clone().mask_where(y.lower(low.clone()), low);
    }
    if clamp.max < f32::INFINITY {
        let high = bound(clamp.max);
        y = y.clone().mask_where(y.greater(high.clone()), high);
    }
    y
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn bounds_lie_on_the_grid() {
        let device = Device::flex();
        let scale = Tensor::<1>::from_floats([0.7], &device);
        let x = QuantTensor {
            tensor: Tensor::<1>::from_floats([-2.0, -1.0, 0.0, 1.0, 9.0, 10.0], &device) * scale.clone(),
            scale: Some(scale),
        };
        let y = QuantClamp::new(Clamp::RELU6).forward(x.clone()).tensor;
        // 6 / 0.7 = 8.57, so 6 counts as 9 steps.
        y.into_data().assert_eq(&[0.0f32, 0.0, 0.0, 0.7, 9.0 * 0.7, 9.0 * 0.7].into(), true);
        let y = QuantClamp::new(Clamp { min: -1.2, max: f32::INFINITY }).forward(x).tensor;
        y.into_data().assert_eq(&[-1.4f32, -0.7, 0.0, 0.7, 9.0 * 0.7, 10.0 * 0.7].into(), true);
    }
}
