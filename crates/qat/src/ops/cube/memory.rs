//! How tensors lie in a device's memory: kernels walk those without gaps in the order they lie there, whatever their axes' order is.

use burn::backend::TensorMetadata;
use burn::tensor::{DType, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cube;
use cubecl::prelude::*;

/// The number of an operand at a place; 0 where there is no operand.
#[cube]
pub(super) fn number_or_zero(numbers: ComptimeOption<&[f32]>, at: usize) -> f32 {
    let number: ComptimeOption<f32> = numbers.map(|numbers| numbers[at]);
    number.unwrap_or_default()
}

/// A contiguous or otherwise dense tensor as a kernel's argument, in the order of memory.
pub(super) fn buffer(tensor: CubeTensor) -> BufferArg {
    let tensor = if is_dense(&tensor) { tensor } else { into_contiguous(tensor) };
    tensor.into_buffer_arg()
}

/// Axes of more than one number with their steps in memory, the closest one first.
fn axes(tensor: &CubeTensor) -> Vec<(usize, usize)> {
    let shape = tensor.meta.shape().iter().copied();
    let mut axes: Vec<_> = tensor.meta.strides().iter().copied().zip(shape).filter(|(_, size)| *size > 1).collect();
    axes.sort_unstable();
    axes
}

/// Whether its numbers lie without gaps and overlaps, in whatever order.
pub(super) fn is_dense(tensor: &CubeTensor) -> bool {
    let mut next = 1;
    !tensor.meta.is_tiled()
        && axes(tensor).into_iter().all(|(stride, size)| {
            let follows = stride == next;
            next *= size;
            follows
        })
}

/// A new tensor that lies in memory as another.
pub(super) fn like(tensor: &CubeTensor) -> CubeTensor {
    let mut new = empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), tensor.shape(), tensor.dtype);
    new.meta = tensor.meta.clone();
    new
}

/// A new tensor `[count]` on the device of another.
pub(super) fn numbers_beside(tensor: &CubeTensor, count: usize) -> CubeTensor {
    empty_device_contiguous_dtype(tensor.client.clone(), tensor.device.clone(), Shape::new([count]), DType::F32)
}

/// Whether two tensors of one shape have their numbers at the same places.
pub(super) fn lies_as(a: &CubeTensor, b: &CubeTensor) -> bool {
    let steps = |tensor: &CubeTensor| {
        let shape = tensor.meta.shape().iter().copied();
        tensor
            .meta
            .strides()
            .iter()
            .copied()
            .zip(shape)
            .map(|(stride, size)| if size > 1 { stride } else { 0 })
            .collect::<Vec<_>>()
    };
    !b.meta.is_tiled() && steps(a) == steps(b)
}
