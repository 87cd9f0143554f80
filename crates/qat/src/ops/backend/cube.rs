//! Fake quantization on wgpu and CUDA, where Burn's fusion puts operations off: forward and gradients are queued as one operation each,
//! and nothing waits for them.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Cube, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::Operand;
use super::fake_quantize::{FakeQuantizeGradients, FakeQuantizeOps, FakeQuantizeState};
use crate::ops::cube::fake_quantize as kernels;
use crate::ops::grid::{Channels, Grid};

impl Operand<CubeBackend> {
    fn tensor(self) -> Option<CubeTensor> {
        match self {
            Self::Given(tensor) => Some(tensor),
            Self::Absent => None,
        }
    }
}

impl FakeQuantizeOps for CubeBackend {
    fn training_fake_quantize(
        x: CubeTensor,
        scale: CubeTensor,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> CubeTensor {
        kernels::fake_quantize(x, scale, zero.tensor(), channels, grid)
    }
}

/// The gradients of [`FakeQuantizeOps`] as an operation that can be queued.
#[backend_extension(Cube, Fusion)]
trait QueuedGradients: Backend {
    /// Gradients of the numbers, of each channel's step and of its zero point.
    #[fusion(meta = |x, _dy, _scale, _zero, channels, _grid| specs(x, *channels))]
    fn training_fake_quantize_gradients(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// Of the gradients of the numbers, the steps and the zero points.
fn specs(x: &TensorSpec, channels: Channels) -> (TensorSpec, TensorSpec, TensorSpec) {
    let of_channels = TensorSpec::new(Shape::new([channels.count]), DType::F32);
    (x.clone(), of_channels.clone(), of_channels)
}

impl QueuedGradients for CubeBackend {
    fn training_fake_quantize_gradients(
        x: CubeTensor,
        dy: CubeTensor,
        scale: CubeTensor,
        zero: Operand<Self>,
        channels: Channels,
        grid: Grid,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        kernels::fake_quantize_gradients(x, dy, scale, zero.tensor(), channels, grid).into()
    }
}

impl FakeQuantizeGradients for Cube {
    fn fake_quantize_gradients(state: FakeQuantizeState<Self>, dy: FloatTensor<Self>) -> [FloatTensor<Self>; 3] {
        let FakeQuantizeState { x, scale, zero, channels, grid } = state;
        Self::training_fake_quantize_gradients(x, dy, scale, zero, channels, grid).into()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use burn_cubecl::CubeDevice;

    use crate::clamp::Clamp;
    use crate::ops::grid::Grid;
    use crate::ops::tests::{Draws, SEED, distance, values};
    use crate::ops::{fake_quantize, reference};

    /// The result, and the gradients of the numbers, the steps and the zero points.
    type Found = Vec<Vec<f32>>;

    #[test]
    fn kernels_are_the_compositions_amid_operations_that_burn_fuses() {
        let device = Device::new(CubeDevice::default()).autodiff();
        for (number, clamp) in [Clamp::NONE, Clamp::RELU, Clamp::RELU6].into_iter().enumerate() {
            for axis in [None, Some(0), Some(1), Some(3)] {
                for has_zero in [false, true] {
                    let seed = SEED + number as u64;
                    let grid = Grid::new(-8.0, 7.0).after(clamp);
                    let run = |fake_quantize: &dyn Fn(Tensor<4>, Tensor<1>, Option<Tensor<1>>) -> Tensor<4>| -> Found {
                        let mut draws = Draws(seed);
                        let shape = [4, 6, 5, 3];
                        let channels = axis.map_or(1, |axis: usize| shape[axis]);
                        let x = draws.scaled(shape, 4.0, 0.0, &device).require_grad();
                        let scale = draws.scaled([channels], 0.1, 0.5, &device).require_grad();
                        let zero = has_zero.then(|| draws.scaled([channels], 3.0, 0.0, &device).round().require_grad());
                        // Before and behind it stand operations of Burn, in another order of axes too.
                        let before = (x.clone() * 1.5 + 0.25).permute([0, 2, 3, 1]).permute([0, 3, 1, 2]);
                        let y = fake_quantize(before, scale.clone(), zero.clone()) * 0.5;
                        let weights = draws.tensor(shape, &device);
                        let gradients = (y.clone() * weights).sum().backward();
                        let mut found =
                            vec![values(&y), values(&x.grad(&gradients).unwrap()), values(&scale.grad(&gradients).unwrap())];
                        found.extend(zero.map(|zero| values(&zero.grad(&gradients).unwrap())));
                        found
                    };
                    let kernel = run(&|x, scale, zero| fake_quantize(x, scale, zero, axis, grid));
                    let composed = run(&|x, scale, zero| reference::fake_quantize(x, scale, zero, axis, grid));
                    for (what, (found, expected)) in kernel.iter().zip(&composed).enumerate() {
                        let distance = distance(found, expected);
                        assert!(distance < 1e-5, "{clamp:?}, axis {axis:?}, zero point {has_zero}, result {what}: {distance}");
                    }
                }
            }
        }
    }
}
