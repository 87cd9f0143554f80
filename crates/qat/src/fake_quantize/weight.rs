//! Symmetric fake quantization of weights and biases, whose scales follow the values.
//!
//! `ŵ = s · clamp(round_half_even(w / s), quant_min, quant_max)` with `s = max|w| / quant_max` for each output channel or for the
//! whole tensor (Q4, Q5). Gradient: straight-through inside the range, which is everywhere since the range is that of the
//! weight; `s` gets none (Q7).

use burn::tensor::Tensor;

use super::round::round_ste;
use crate::format::{Granularity, IntegerFormat};
use crate::ops::{Grid, fake_quantize};

/// The steps of a weight, detached, of shape `[1, …, c_out, …, 1]` with the channels on `channel_axis` (Q4).
///
/// With [`Granularity::PerTensor`], all channels have the same step, and the shape is still per channel.
pub fn weight_scale<const D: usize>(
    weight: Tensor<D>,
    channel_axis: usize,
    format: IntegerFormat,
    granularity: Granularity,
) -> Tensor<D> {
    let weight = weight.detach();
    let others: Vec<usize> = (0..D).filter(|axis| *axis != channel_axis).collect();
    let mut abs_max = weight.max_abs_dims(&others);
    if granularity == Granularity::PerTensor {
        let shape = abs_max.dims();
        abs_max = abs_max.max_dim(channel_axis).expand(shape);
    }
    (abs_max / format.quant_max() as f32).clamp_min(format.min_scale())
}

/// The weight on the grid of `scale`, a shape that broadcasts to the weight's (Q5).
pub fn fake_quantize_weight<const D: usize>(weight: Tensor<D>, scale: Tensor<D>, format: IntegerFormat) -> Tensor<D> {
    let axis = (0..D).find(|axis| scale.dims()[*axis] != 1);
    let steps: usize = scale.dims().iter().product();
    let grid = Grid::new(format.quant_min() as f32, format.quant_max() as f32);
    fake_quantize(weight, scale.reshape([steps]), None, axis, grid)
}

/// The bias on the grid of the accumulator, `scale = s_in · s_w[c]` of shape `[c_out]` (Q11).
///
/// Codes are int32 and their sums stay far below 2³¹, so nothing is clamped.
pub fn fake_quantize_bias(bias: Tensor<1>, scale: Tensor<1>) -> Tensor<1> {
    round_ste(bias / scale.clone()) * scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qparams::{QParams, quantize};
    use burn::tensor::Device;

    const FORMAT: IntegerFormat = IntegerFormat::INT8_NARROW;

    #[test]
    fn each_channel_has_its_own_step_and_equals_the_host() {
        let device = Device::flex();
        let rows = [[0.3f32, -1.27, 0.005], [0.0, 0.0, 0.0], [2.5e-3, 1e-3, -2e-3]];
        let weight = Tensor::<2>::from_floats(rows, &device);
        let scale = weight_scale(weight.clone(), 0, FORMAT, Granularity::PerChannel);
        let values: Vec<f32> = fake_quantize_weight(weight, scale, FORMAT).into_data().try_to_vec().unwrap();
        for (row, got) in rows.iter().zip(values.chunks(3)) {
            let scale = QParams::symmetric_scale(row.iter().fold(0.0f32, |m, w| m.max(w.abs())), FORMAT);
            for (w, got) in row.iter().zip(got) {
                assert_eq!(*got, quantize(*w, scale, 0, FORMAT) as f32 * scale);
            }
        }
    }

    #[test]
    fn per_tensor_takes_the_largest_channel() {
        let device = Device::flex();
        let weight = Tensor::<2>::from_floats([[1.0, -2.54], [0.1, 0.2]], &device);
        let scale = weight_scale(weight, 0, FORMAT, Granularity::PerTensor);
        assert_eq!(scale.dims(), [2, 1]);
        scale.into_data().assert_eq(&[[2.54f32 / 127.0], [2.54 / 127.0]].into(), true);
    }

    #[test]
    fn the_gradient_of_a_weight_is_straight_through() {
        let device = Device::flex().autodiff();
        let weight = Tensor::<2>::from_floats([[0.3, -1.27], [0.4, 0.1]], &device).require_grad();
        let scale = weight_scale(weight.clone(), 0, FORMAT, Granularity::PerChannel);
        let gradients = (fake_quantize_weight(weight.clone(), scale, FORMAT) * 2.0).sum().backward();
        for g in weight.grad(&gradients).unwrap().into_data().iter::<f32>() {
            assert!((g - 2.0).abs() < 1e-5, "gradient {g}");
        }
    }
}
