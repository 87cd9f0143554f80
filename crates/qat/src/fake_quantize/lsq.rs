//! Learned step size quantization: what the step of a grid learns by (Esser et al. 2020).
//!
//! With codes `n … p` relative to the zero point, `y = s · clamp(round(x / s), n, p)` (Q71):
//!
//! | x | dy/dx | dy/ds |
//! | --- | --- | --- |
//! | inside | 1 | round(x / s) − x / s |
//! | clipped above | 0 | p |
//! | clipped below | 0 | n |
//!
//! The gradient of `s` is multiplied by `g = 1 / √(N · p)`, where N is the number of weights that share the step, or of
//! activations of one sample: the step then moves by as large a part of itself as the weights do, whatever the layer's size and
//! the batch's. It is plain composition: rounding passes gradients straight through, and clamping stops them.
//!
//! The parameter is not `s` but its reach `r = p · s`, since Adam moves every parameter by about its rate: a reach is a number like
//! a weight or an activation, and a step of 8 bits would be gone after a few steps of training. The gradient of `r` is multiplied by
//! `g · p²`, which makes a step of gradient descent on `r` the paper's on `s`: `p · Δs = Δr`.

use burn::tensor::Tensor;

/// `step` itself, to the last bit; its gradient is multiplied by `factor`.
pub fn scale_gradient<const D: usize>(step: Tensor<D>, factor: Tensor<D>) -> Tensor<D> {
    if !step.device().is_autodiff() {
        return step;
    }
    let scaled = step.clone() * factor.detach();
    // The difference is exactly 0.
    step.detach() + (scaled.clone() - scaled.detach())
}

/// `highest² / √(elements · highest)`: the factor of a reach's gradient (Q71).
pub fn gradient_factor(elements: usize, highest: f32) -> f32 {
    highest.powf(1.5) / (elements.max(1) as f32).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn the_value_is_untouched_and_the_gradient_scaled() {
        let device = Device::flex().autodiff();
        for value in [0.1f32, 3.3e-7, 12345.678] {
            let step = Tensor::<1>::from_floats([value], &device).require_grad();
            let y = scale_gradient(step.clone(), Tensor::from_floats([0.017], &device));
            assert_eq!(y.clone().into_scalar::<f32>(), value);
            let gradient = step.grad(&(y * 3.0).backward()).unwrap().into_scalar::<f32>();
            assert!((gradient - 0.051).abs() < 1e-7, "{gradient}");
        }
        assert_eq!((gradient_factor(100, 1.0), gradient_factor(100, 4.0)), (0.1, 0.8));
    }
}
