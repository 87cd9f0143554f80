//! Rounding to the nearest integer, ties to even, with the gradient of the identity.

use burn::tensor::Tensor;

/// `round_half_even(x)`; the gradient is straight-through: `dx = dy` (Q7).
///
/// ±∞ stays what it is where no gradient is asked for, and becomes NaN where one is.
///
/// The value is exact: for `|x| ≥ 0.5`, `round(x) − x` is exact by Sterbenz's lemma, and below it is `−x`.
pub fn round_ste<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if !x.device().is_autodiff() {
        return x.round();
    }
    let detached = x.clone().detach();
    x + (detached.clone().round() - detached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn ties_go_to_even_and_the_gradient_is_the_identity() {
        let device = Device::flex().autodiff();
        let x = Tensor::<1>::from_floats([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 126.50001, 1e9], &device).require_grad();
        let y = round_ste(x.clone());
        y.clone().into_data().assert_eq(&[-2.0f32, -2.0, 0.0, 0.0, 2.0, 2.0, 0.0, 127.0, 1e9].into(), true);
        let gradients = (y * 3.0).sum().backward();
        x.grad(&gradients).unwrap().into_data().assert_eq(&[3.0f32; 9].into(), true);
    }

    #[test]
    fn without_a_gradient_the_value_is_the_same() {
        let values = [-2.5f32, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 126.50001, 1e9, 8_388_607.5, f32::MAX, 1e-45];
        let round = |device: Device| round_ste(Tensor::<1>::from_floats(values, &device)).into_data();
        round(Device::flex()).assert_eq(&round(Device::flex().autodiff()), true);
    }
}
