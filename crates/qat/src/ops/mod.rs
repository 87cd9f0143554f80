//! Operations that training on a CPU spends its time in, each as one pass forward and one pass backward.
//!
//! On Burn's Flex and ndarray backends they are kernels of this crate, entered through Burn's backend extensions: [`layer`],
//! [`max_pool2d`], [`norm`], [`finish`], [`pad`], [`slice`], [`fake_quantize`], [`weight_step`], [`range`] and [`adam`]; on wgpu and CUDA
//! [`fake_quantize`], [`weight_step`], [`range`] and [`adam`] are. On every other device, for numbers other than f32, and within [`with_reference_operations`], they are the compositions of Burn operations that define them, in [`reference`].
//! Results of the kernels do not depend on the number of threads, and are the same in every run on one machine.

mod adam;
mod backend;
mod codes;
mod conv2d;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod cube;
mod finish;
mod grid;
pub mod kernels;
mod largest;
mod layer;
mod linear;
mod max_pool;
mod norm;
mod parts;
mod product;
mod range;
mod reference;
mod region;
mod scratch;
mod simd;
mod weight;

use std::cell::Cell;

use burn::backend::{Dispatch, DispatchDevice};
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{DType, Shape, Slice, Tensor};

use crate::clamp::Clamp;
use crate::nn::SliceRange;

pub(crate) use adam::{AdamStep, AdamUpdate};
use backend::{
    AdamOperands, AdamOps, AdamOutput, FakeQuantizeOps, FinishOperands, FinishOps, GridOperands, MaxPool2dOps, NormOperands,
    NormOps, NormOutput, Operand, RangeOps, RangeValue, RegionOps, WeightStepOps,
};
#[cfg(any(feature = "wgpu", feature = "cuda"))]
use backend::{QueuedAdamOps, RangeQuantizeOps};
pub(crate) use grid::{Channels, Grid};
pub(crate) use layer::{
    LayerParameters, NormParameters, NormStatisticsOf, conv2d, conv2d_output, layer, takes_conv2d, takes_linear,
};
pub(crate) use norm::MIN_FACTOR;
pub(crate) use range::{RangeCodes, RangeEnds};
use region::{Move, Region};
pub(crate) use weight::WeightCodes;

/// The numbers of `x` on the grid of `scale`, after a clamp (Q90); gradients straight-through, and those of `scale` and `zero`.
///
/// `scale` has one number for each of `channels`, and so has `zero`, if there is one; `keeps_infinity` of the grid is set here.
pub(crate) fn fake_quantize<const D: usize>(
    x: Tensor<D>,
    scale: Tensor<1>,
    zero: Option<Tensor<1>>,
    channel_axis: Option<usize>,
    mut grid: Grid,
) -> Tensor<D> {
    grid.keeps_infinity = !x.device().is_autodiff();
    if !has_grid_kernels(&x) || !has_grid_kernels(&scale) {
        return reference::fake_quantize(x, scale, zero, channel_axis, grid);
    }
    let channels = channels(&x, channel_axis);
    assert_eq!(scale.dims(), [channels.count], "one step for each channel");
    let (scale, zero) = (scale.into_dispatch(), Operand::new(zero));
    Tensor::from_dispatch(<Dispatch as FakeQuantizeOps>::training_fake_quantize(x.into_dispatch(), scale, zero, channels, grid))
}

fn channels<const D: usize>(x: &Tensor<D>, axis: Option<usize>) -> Channels {
    let dims = x.dims();
    match axis {
        Some(axis) => Channels { count: dims[axis], inner: dims[axis + 1..].iter().product() },
        None => Channels { count: 1, inner: dims.iter().product() },
    }
}

/// `max |w| / steps` of each channel of a weight, `[channels]`, or `min_scale` where that is more; without a gradient (Q4).
pub(crate) fn weight_step<const D: usize>(
    weight: Tensor<D>,
    channel_axis: Option<usize>,
    steps: f32,
    min_scale: f32,
) -> Tensor<1> {
    if !has_grid_kernels(&weight) {
        return reference::weight_step(weight, channel_axis, steps, min_scale);
    }
    let channels = channels(&weight, channel_axis);
    Tensor::from_dispatch(<Dispatch as WeightStepOps>::training_weight_step(weight.into_dispatch(), channels, steps, min_scale))
}

/// What an operation ends with.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// A clamp.
    Clamp(Clamp),
    /// A grid, after its clamp.
    Grid {
        /// Its codes.
        grid: Grid,
        /// Its step, `[1]`.
        scale: Tensor<1>,
        /// Its zero point, `[1]`; where there is none, 0.
        zero: Option<Tensor<1>>,
    },
    /// The grid of a range, after its clamp (Q2), (Q3), (Q60).
    Range {
        /// Its codes.
        grid: Grid,
        /// The lower end, `[1]`.
        min: Tensor<1>,
        /// The upper end, `[1]`.
        max: Tensor<1>,
        /// What the range is laid over.
        codes: RangeCodes,
        /// Its step, `[1]`, detached.
        step: Box<Tensor<1>>,
    },
}

impl Ending {
    /// The step of its grid, `[1]`, detached, where it has one.
    pub fn step(&self) -> Option<Tensor<1>> {
        match self {
            Self::Clamp(_) => None,
            Self::Grid { scale, .. } => Some(scale.clone().detach()),
            Self::Range { step, .. } => Some(Tensor::clone(step)),
        }
    }

    /// With ±∞ as where a gradient is asked for, or not.
    fn on(mut self, is_autodiff: bool) -> Self {
        if let Self::Grid { grid, .. } | Self::Range { grid, .. } = &mut self {
            grid.keeps_infinity = !is_autodiff;
        }
        self
    }

    /// Applies it, where only the grid may have a kernel.
    fn follow<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Clamp(clamp) => clamp.apply(x),
            Self::Grid { grid, scale, zero } => fake_quantize(x, scale, zero, None, grid),
            #[cfg(any(feature = "wgpu", feature = "cuda"))]
            Self::Range { grid, min, max, codes, step } if is_cube(x.device().inner().as_dispatch()) && has_grid_kernels(&x) => {
                range_quantize(x, [min, max, *step], codes, grid)
            }
            Self::Range { grid, min, max, codes, .. } => {
                let (scale, zero) = reference::range(min, max, codes);
                fake_quantize(x, scale, zero, None, grid)
            }
        }
    }
}

/// The numbers of `x` on the grid of a range, on a device where its ends and its step are operands of one operation.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn range_quantize<const D: usize>(x: Tensor<D>, [min, max, step]: [Tensor<1>; 3], codes: RangeCodes, grid: Grid) -> Tensor<D> {
    let zero = (codes.ends == RangeEnds::Both).then(|| range_value(&min, &max, codes, RangeValue::ZeroPoint));
    let [min, max, step] = [min, max, step].map(Tensor::into_dispatch);
    let (x, zero) = (x.into_dispatch(), Operand::new(zero));
    Tensor::from_dispatch(<Dispatch as RangeQuantizeOps>::training_range_quantize(x, min, max, step, zero, codes, grid))
}

/// What follows from a range, `[1]`, detached, on a device with a kernel for it.
fn range_value(min: &Tensor<1>, max: &Tensor<1>, codes: RangeCodes, value: RangeValue) -> Tensor<1> {
    let (min, max) = (min.clone().into_dispatch(), max.clone().into_dispatch());
    Tensor::from_dispatch(<Dispatch as RangeOps>::training_range(min, max, codes, value))
}

/// Step of a range, and zero point where it has both ends, `[1]` each, detached (Q2), (Q3), (Q60).
pub(crate) fn range(min: Tensor<1>, max: Tensor<1>, codes: RangeCodes) -> (Tensor<1>, Option<Tensor<1>>) {
    if !has_grid_kernels(&min) || !has_grid_kernels(&max) {
        let (scale, zero) = reference::range(min, max, codes);
        return (scale.detach(), zero.map(Tensor::detach));
    }
    let value = |value| range_value(&min, &max, codes, value);
    (value(RangeValue::Step), (codes.ends == RangeEnds::Both).then(|| value(RangeValue::ZeroPoint)))
}

/// What puts numbers on the grid of a range.
pub(crate) fn range_ending(grid: Grid, min: Tensor<1>, max: Tensor<1>, codes: RangeCodes) -> Ending {
    if !has_grid_kernels(&min) || !has_grid_kernels(&max) {
        let (scale, zero) = reference::range(min, max, codes);
        return Ending::Grid { grid, scale, zero };
    }
    let step = Box::new(range_value(&min, &max, codes, RangeValue::Step));
    Ending::Range { grid, min, max, codes, step }
}

/// A clamp and, with steps, the grid after it, of `x` or of the sum of `x` and a `y` of its shape (Q90).
pub(crate) fn finish<const D: usize>(x: Tensor<D>, y: Option<Tensor<D>>, ending: Ending) -> Tensor<D> {
    let ending = ending.on(x.device().is_autodiff());
    let is_same_shape = y.as_ref().is_none_or(|y| y.dims() == x.dims() && has_kernels(y));
    if !has_kernels(&x) || !is_same_shape {
        let sum = match y {
            Some(y) => x + y,
            None => x,
        };
        return ending.follow(sum);
    }
    if matches!((&y, &ending), (None, Ending::Clamp(Clamp::NONE))) {
        return x;
    }
    let (after, grid) = GridOperands::of(ending);
    let operands = FinishOperands { x: x.into_dispatch(), y: Operand::new(y), grid };
    Tensor::from_dispatch(<Dispatch as FinishOps>::training_finish(operands, after))
}

/// The largest number of each window of `x` `[N, C, H, W]`; the gradient goes to the first of equal ones.
///
/// # Panics
/// If the shapes do not fit, as Burn's `max_pool2d`.
pub(crate) fn max_pool2d(x: Tensor<4>, options: MaxPoolOptions<2>) -> Tensor<4> {
    let is_plain = options.padding == [(0, 0); 2] && options.dilation == [1; 2] && !options.ceil_mode;
    let fits = (0..2).all(|axis| (1..=x.dims()[axis + 2]).contains(&options.kernel_size[axis]));
    if !has_kernels(&x) || !is_plain || !fits || x.dims().contains(&0) {
        return burn::tensor::module::max_pool2d(x, options);
    }
    let y = <Dispatch as MaxPool2dOps>::training_max_pool2d(x.into_dispatch(), options.kernel_size, options.stride);
    Tensor::from_dispatch(y)
}

/// What is normalized by a batch norm in training, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Norm {
    /// `[C]`.
    pub gamma: Tensor<1>,
    /// `[C]`.
    pub beta: Tensor<1>,
    /// Added to the variance.
    pub epsilon: f64,
    /// `[N, C, H, W]`, the convolution by the weight that is folded by a σ `[C]`, and that σ, detached; where there is none, what the
    /// statistics are taken of is normalized.
    pub folded: Option<(Tensor<4>, Tensor<1>)>,
    /// `[C]`, none of them 0: what the weight was multiplied by in what the statistics are taken of, detached, to be undone; not together
    /// with `folded`.
    pub unfold: Option<Tensor<1>>,
}

/// Batch norm by the statistics of `z` `[N, C, H, W]`, and what it ends with (Q92); with the output come mean and biased variance, `[C]`,
/// detached.
pub(crate) fn norm(z: Tensor<4>, norm: Norm, ending: Ending) -> (Tensor<4>, (Tensor<1>, Tensor<1>)) {
    let ending = ending.on(z.device().is_autodiff());
    if !has_kernels(&z) || z.dims().contains(&0) {
        let (out, statistics) = reference::normalize(z, norm);
        return (ending.follow(out), statistics);
    }
    let (y, sigma) = norm.folded.map_or((None, None), |(y, sigma)| (Some(y), Some(sigma)));
    let (after, grid) = GridOperands::of(ending);
    let operands = NormOperands {
        z: z.into_dispatch(),
        y: Operand::new(y),
        gamma: norm.gamma.into_dispatch(),
        beta: norm.beta.into_dispatch(),
        sigma: Operand::new(sigma),
        unfold: Operand::new(norm.unfold),
        grid,
    };
    let NormOutput { out, mean, variance } = <Dispatch as NormOps>::training_norm(operands, norm.epsilon as f32, after);
    (Tensor::from_dispatch(out), (Tensor::from_dispatch(mean), Tensor::from_dispatch(variance)))
}

/// `x` among zeros, `(before, after)` for each axis.
pub(crate) fn pad<const D: usize>(x: Tensor<D>, padding: [(usize, usize); D]) -> Tensor<D> {
    let size = x.dims();
    if !has_kernels(&x) || !(2..=region::AXES + 1).contains(&D) || padding[0] != (0, 0) || size.contains(&0) {
        return x.pad(padding, 0.0);
    }
    let whole: [usize; D] = std::array::from_fn(|axis| padding[axis].0 + size[axis] + padding[axis].1);
    let region = Region {
        whole: of_sample(1, |axis| whole[axis], D),
        start: of_sample(0, |axis| padding[axis].0, D),
        step: [1; region::AXES],
        size: of_sample(1, |axis| size[axis], D),
    };
    moved(x, region, Move::Put, whole)
}

/// A box of every sample of `x`, with a range for each axis of the sample.
pub(crate) fn slice<const D: usize>(x: Tensor<D>, ranges: &[SliceRange]) -> Tensor<D> {
    let whole = x.dims();
    let size = |axis: usize| {
        ranges[axis - 1].end.min(whole[axis]).saturating_sub(ranges[axis - 1].start).div_ceil(ranges[axis - 1].step)
    };
    let taken: [usize; D] = std::array::from_fn(|axis| if axis == 0 { whole[0] } else { size(axis) });
    if !has_kernels(&x) || !(2..=region::AXES + 1).contains(&D) || taken.contains(&0) {
        let slices: [Slice; D] = std::array::from_fn(|axis| match axis.checked_sub(1).map(|axis| ranges[axis]) {
            Some(SliceRange { start, end, step }) => Slice::new(start as isize, Some(end as isize), step as isize),
            None => Slice::full(),
        });
        return x.slice(slices);
    }
    let region = Region {
        whole: of_sample(1, |axis| whole[axis], D),
        start: of_sample(0, |axis| ranges[axis - 1].start, D),
        step: of_sample(1, |axis| ranges[axis - 1].step, D),
        size: of_sample(1, |axis| taken[axis], D),
    };
    moved(x, region, Move::Take, taken)
}

/// A number for each axis of a sample of a batch of `rank` axes, after those that are missing to [`region::AXES`].
fn of_sample(missing: usize, number: impl Fn(usize) -> usize, rank: usize) -> [usize; region::AXES] {
    std::array::from_fn(|axis| (axis + rank).checked_sub(region::AXES).filter(|axis| *axis > 0).map_or(missing, &number))
}

fn moved<const D: usize>(x: Tensor<D>, region: Region, to: Move, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_dispatch(<Dispatch as RegionOps>::training_region(x.into_dispatch(), region, to, Shape::from(shape)))
}

/// Whether [`adam`] takes a parameter with these tensors: its gradient and, where it has them, its moments.
pub(crate) fn has_adam_kernel<const D: usize>(parameter: &Tensor<D>, others: &[&Tensor<D>]) -> bool {
    let dims = parameter.dims();
    let takes = |x: &&Tensor<D>| x.dims() == dims && !x.device().is_autodiff() && has_grid_kernels(x);
    [parameter].iter().chain(others).all(takes)
}

/// One step of Adam or AdamW: the parameter, the mean of its gradients and that of their squares, after it. There are no moments before the
/// first step.
///
/// # Panics
/// Where [`has_adam_kernel`] says no: there, the optimizers are Burn's.
pub(crate) fn adam<const D: usize>(
    parameter: Tensor<D>,
    gradient: Tensor<D>,
    moments: Option<(Tensor<D>, Tensor<D>)>,
    step: AdamStep,
) -> (Tensor<D>, (Tensor<D>, Tensor<D>)) {
    let (moment_1, moment_2) = moments.unzip();
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if is_cube(parameter.device().as_dispatch()) {
        let [moment_1, moment_2] = [moment_1, moment_2].map(Operand::new);
        let (parameter, gradient) = (parameter.into_dispatch(), gradient.into_dispatch());
        let (parameter, moment_1, moment_2) =
            <Dispatch as QueuedAdamOps>::training_queued_adam(parameter, gradient, moment_1, moment_2, step);
        return (Tensor::from_dispatch(parameter), (Tensor::from_dispatch(moment_1), Tensor::from_dispatch(moment_2)));
    }
    let operands = AdamOperands {
        parameter: parameter.into_dispatch(),
        gradient: gradient.into_dispatch(),
        moment_1: Operand::new(moment_1),
        moment_2: Operand::new(moment_2),
    };
    let AdamOutput { parameter, moment_1, moment_2 } = <Dispatch as AdamOps>::training_adam(operands, step);
    (Tensor::from_dispatch(parameter), (Tensor::from_dispatch(moment_1), Tensor::from_dispatch(moment_2)))
}

thread_local! {
    static REFERENCE: Cell<bool> = const { Cell::new(false) };
}

/// Calls `f` with every operation of this crate on the calling thread as the composition of Burn operations that defines it, without
/// kernels: numbers are the same, or near where sums have another order, and steps take longer. For looking for the cause of a difference.
pub fn with_reference_operations<R>(f: impl FnOnce() -> R) -> R {
    /// Sets back what was before, if `f` panics too.
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            REFERENCE.set(self.0);
        }
    }
    let _before = Before(REFERENCE.replace(true));
    f()
}

/// Whether fake quantization of a tensor, its steps and its ranges are kernels of this crate, and a step of Adam.
fn has_grid_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    #[cfg(any(feature = "wgpu", feature = "cuda"))]
    if is_cube(x.device().inner().as_dispatch()) {
        return x.dtype() == DType::F32 && !REFERENCE.get();
    }
    has_kernels(x)
}

/// Whether all kernels of this crate take a tensor.
fn has_kernels<const D: usize>(x: &Tensor<D>) -> bool {
    is_host(x.device().inner().as_dispatch()) && x.dtype() == DType::F32 && !REFERENCE.get()
}

/// Whether a device has the kernels of [`cube`].
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_cube(device: &DispatchDevice) -> bool {
    matches!(device, DispatchDevice::Cube(_))
}

/// Whether the numbers of a device lie in the memory of the processor; `Autodiff` of one is another device.
fn is_host(device: &DispatchDevice) -> bool {
    match device {
        DispatchDevice::Flex(_) => true,
        #[cfg(feature = "ndarray")]
        DispatchDevice::NdArray(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
