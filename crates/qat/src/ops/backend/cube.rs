//! Fake quantization and the steps of weights and ranges on wgpu and CUDA, where Burn's fusion puts operations off: forward and gradients
//! are queued as operations, and nothing waits for them.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use super::Operand;
use super::fake_quantize::{FakeQuantizeGradients, FakeQuantizeOps, FakeQuantizeState};
use super::range::{RangeOps, RangeValue};
use super::weight_step::WeightStepOps;
use crate::ops::adam::AdamStep;
use crate::ops::cube::{adam, fake_quantize as kernels, range, weight_step};
use crate::ops::grid::{Channels, Grid};
use crate::ops::range::{RangeCodes, RangeEnds};

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
    (x.clone(), of_channels(channels), of_channels(channels))
}

/// Of a number for each channel.
pub(super) fn of_channels(channels: Channels) -> TensorSpec {
    TensorSpec::new(Shape::new([channels.count]), DType::F32)
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

impl WeightStepOps for CubeBackend {
    fn training_weight_step(weight: CubeTensor, channels: Channels, steps: f32, min_scale: f32) -> CubeTensor {
        weight_step::weight_step(weight, channels, steps, min_scale)
    }
}

impl RangeOps for CubeBackend {
    fn training_range(min: CubeTensor, max: CubeTensor, codes: RangeCodes, value: RangeValue) -> CubeTensor {
        range::range_value(min, max, codes, value)
    }
}

/// A step of Adam as an operation that can be queued.
#[backend_extension(Cube, Fusion)]
pub(crate) trait QueuedAdamOps: Backend {
    /// The parameter and both moments after a step, for the gradient and the moments before it, all of one shape.
    #[fusion(meta = |parameter, _gradient, _moment_1, _moment_2, _step| (parameter.clone(), parameter.clone(), parameter.clone()))]
    fn training_queued_adam(
        parameter: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        #[extension_type] moment_1: Operand<Self>,
        #[extension_type] moment_2: Operand<Self>,
        step: AdamStep,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl QueuedAdamOps for CubeBackend {
    fn training_queued_adam(
        parameter: CubeTensor,
        gradient: CubeTensor,
        moment_1: Operand<Self>,
        moment_2: Operand<Self>,
        step: AdamStep,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        adam::adam(parameter, gradient, [moment_1, moment_2].map(Operand::tensor), step).into()
    }
}

/// The gradients of [`RangeQuantizeOps`] as an operation that can be queued.
#[backend_extension(Cube, Fusion)]
trait QueuedRangeGradients: Backend {
    /// Gradients of the numbers and of both ends.
    #[fusion(meta = |x, _dy, min, max, _scale, _zero, _codes, _grid| (x.clone(), min.clone(), max.clone()))]
    fn training_range_quantize_gradients(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        min: FloatTensor<Self>,
        max: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] zero: Operand<Self>,
        codes: RangeCodes,
        grid: Grid,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl QueuedRangeGradients for CubeBackend {
    fn training_range_quantize_gradients(
        x: CubeTensor,
        dy: CubeTensor,
        min: CubeTensor,
        max: CubeTensor,
        scale: CubeTensor,
        zero: Operand<Self>,
        codes: RangeCodes,
        grid: Grid,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        range::range_quantize_gradients(x, dy, [min, max], scale, zero.tensor(), codes, grid).into()
    }
}

/// Fake quantization by a range, whose ends learn.
#[backend_extension(Cube, Fusion, Autodiff)]
pub(crate) trait RangeQuantizeOps: Backend {
    /// The numbers on the grid of a step and a zero point, `[1]`, which are those of a range from `min` to `max`.
    #[fusion(dtype = x, shape = x)]
    fn training_range_quantize(
        x: FloatTensor<Self>,
        min: FloatTensor<Self>,
        max: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        #[extension_type] zero: Operand<Self>,
        codes: RangeCodes,
        grid: Grid,
    ) -> FloatTensor<Self>;
}

/// All numbers are of one channel.
fn one_channel(numbers: usize) -> Channels {
    Channels { count: 1, inner: numbers }
}

impl RangeQuantizeOps for CubeBackend {
    fn training_range_quantize(
        x: CubeTensor,
        _min: CubeTensor,
        _max: CubeTensor,
        scale: CubeTensor,
        zero: Operand<Self>,
        _codes: RangeCodes,
        grid: Grid,
    ) -> CubeTensor {
        let channels = one_channel(x.shape().num_elements());
        kernels::fake_quantize(x, scale, zero.tensor(), channels, grid)
    }
}

impl<B: FakeQuantizeOps + QueuedRangeGradients, C: CheckpointStrategy> RangeQuantizeOps for Autodiff<B, C> {
    fn training_range_quantize(
        x: FloatTensor<Self>,
        min: FloatTensor<Self>,
        max: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        zero: Operand<Self>,
        codes: RangeCodes,
        grid: Grid,
    ) -> FloatTensor<Self> {
        let (x, x_node) = x.into_parts();
        let (min, min_node) = min.into_parts();
        let (max, max_node) = max.into_parts();
        let scale = scale.into_primitive();
        let (zero, _) = zero.into_parts(&<FloatTensor<Self>>::new(x.clone()));
        let channels = one_channel(x.shape().num_elements());
        let y = B::training_fake_quantize(x.clone(), scale.clone(), zero.clone(), channels, grid);
        match RangeQuantizeBackward.prepare::<C>([x_node, min_node, max_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(RangeQuantizeState { x, min, max, scale, zero, codes, grid }, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}

/// What fake quantization by a range was applied to.
#[derive(Clone, Debug)]
struct RangeQuantizeState<B: Backend> {
    x: FloatTensor<B>,
    min: FloatTensor<B>,
    max: FloatTensor<B>,
    scale: FloatTensor<B>,
    zero: Operand<B>,
    codes: RangeCodes,
    grid: Grid,
}

/// Gradients of the numbers and of both ends.
#[derive(Debug)]
struct RangeQuantizeBackward;

impl<B: QueuedRangeGradients> Backward<B, 3> for RangeQuantizeBackward {
    type State = RangeQuantizeState<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        let RangeQuantizeState { x, min, max, scale, zero, codes, grid } = ops.state;
        let (dx, d_min, d_max) = B::training_range_quantize_gradients(x, dy, min, max, scale, zero, codes, grid);
        let [x_node, min_node, max_node] = ops.parents;
        // A lower end that does not count stays where it is without an optimizer's work.
        let min_node = min_node.filter(|_| codes.ends != RangeEnds::Upper);
        for (node, gradient) in [(x_node, dx), (min_node, d_min), (max_node, d_max)] {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use burn_cubecl::CubeDevice;

    use crate::clamp::Clamp;
    use crate::ops::grid::Grid;
    use crate::ops::range::{RangeCodes, RangeEnds};
    use crate::ops::tests::{Draws, SEED, distance, values};
    use crate::ops::{fake_quantize, finish, range_ending, reference};

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

    #[test]
    fn ranges_are_their_compositions_amid_operations_that_burn_fuses() {
        let device = Device::new(CubeDevice::default()).autodiff();
        for (ends, min_max) in [(RangeEnds::Upper, [0.0, 1.9]), (RangeEnds::Both, [-1.3, 2.1]), (RangeEnds::Farther, [-2.3, 1.1])]
        {
            for (clamp, limit) in [(Clamp::NONE, f32::INFINITY), (Clamp::RELU, f32::INFINITY), (Clamp::RELU6, 6.0)] {
                let codes = RangeCodes { quant_min: -8.0, steps: 15.0, min_scale: 1e-6, limit, ends };
                let grid = if ends == RangeEnds::Both { Grid::new(-8.0, 7.0) } else { Grid::new(0.0, 15.0) }.after(clamp);
                let run = |quantize: &dyn Fn(Tensor<4>, Tensor<1>, Tensor<1>) -> (Tensor<4>, Tensor<1>)| -> Found {
                    let mut draws = Draws(SEED);
                    let shape = [4, 6, 5, 3];
                    let x = draws.scaled(shape, 4.0, 0.0, &device).require_grad();
                    let [min, max] = min_max.map(|end| Tensor::<1>::from_floats([end], &device).require_grad());
                    let (y, step) = quantize(x.clone() * 1.5 + 0.25, min.clone(), max.clone());
                    let weights = draws.tensor(shape, &device);
                    let gradients = (y.clone() * 0.5 * weights).sum().backward();
                    let of_end = |end: &Tensor<1>| end.grad(&gradients).map_or(vec![0.0], |gradient| values(&gradient));
                    vec![values(&y), values(&step), values(&x.grad(&gradients).unwrap()), of_end(&min), of_end(&max)]
                };
                let kernel = run(&|x, min, max| {
                    let ending = range_ending(grid, min, max, codes);
                    let step = ending.step().expect("the grid of a range has one");
                    (finish(x, None, ending), step)
                });
                let composed = run(&|x, min, max| {
                    let (scale, zero) = reference::range(min, max, codes);
                    (reference::fake_quantize(x, scale.clone(), zero, None, grid), scale)
                });
                for (what, (found, expected)) in kernel.iter().zip(&composed).enumerate() {
                    let distance = distance(found, expected);
                    assert!(distance < 1e-5, "{codes:?}, {clamp:?}, result {what}: {distance}");
                }
            }
        }
    }

    #[test]
    fn a_sum_that_stretches_stays_on_the_processor_where_it_is() {
        let device = Device::flex().autodiff();
        let codes = RangeCodes { quant_min: -8.0, steps: 15.0, min_scale: 1e-6, limit: f32::INFINITY, ends: RangeEnds::Both };
        let grid = Grid::new(-8.0, 7.0);
        let mut draws = Draws(SEED);
        let (x, y) = (draws.scaled([2, 3, 4, 4], 2.0, 0.0, &device), draws.scaled([2, 3, 1, 1], 1.0, 0.0, &device));
        let [min, max] = [-1.3, 2.1].map(|end| Tensor::<1>::from_floats([end], &device));
        let (scale, zero) = reference::range(min.clone(), max.clone(), codes);
        let expected = reference::fake_quantize(x.clone() + y.clone(), scale, zero, None, grid);
        let found = finish(x, Some(y), range_ending(grid, min, max, codes));
        assert_eq!(values(&found), values(&expected));
    }
}
