//! Backends whose tensors lie in the memory of the processor.

use std::borrow::Cow;

use burn::backend::flex::FlexTensor;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Flex};
use burn::tensor::{Shape, TensorData};

use super::Operand;

/// A backend whose numbers the kernels can read where they lie.
pub(crate) trait Host: Backend {
    /// The numbers of a tensor in order; copied where they lie otherwise.
    ///
    /// # Panics
    /// If they are not f32.
    fn numbers(tensor: &FloatTensor<Self>) -> Cow<'_, [f32]>;

    /// The numbers of a tensor in order, to be changed; copied before where they lie otherwise or another tensor has them too.
    ///
    /// # Panics
    /// If they are not f32.
    fn numbers_mut(tensor: &mut FloatTensor<Self>) -> &mut [f32];

    /// A tensor of these numbers.
    fn tensor(numbers: Vec<f32>, shape: impl Into<Shape>) -> FloatTensor<Self> {
        Self::float_from_data(TensorData::new(numbers, shape), &Default::default())
    }
}

impl<B: Host> Operand<B> {
    /// None where it is absent.
    pub(super) fn numbers(&self) -> Cow<'_, [f32]> {
        match self {
            Self::Given(tensor) => B::numbers(tensor),
            Self::Absent => Cow::default(),
        }
    }
}

impl Host for Flex {
    fn numbers(tensor: &FlexTensor) -> Cow<'_, [f32]> {
        match tensor.as_slice::<f32>() {
            Some(numbers) => Cow::Borrowed(numbers),
            None => Cow::Owned(tensor.to_contiguous().as_slice::<f32>().expect("the kernels take f32").to_vec()),
        }
    }

    fn numbers_mut(tensor: &mut FlexTensor) -> &mut [f32] {
        // A part of a larger memory would go on holding all of it.
        let is_whole = tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>();
        if !is_whole || !tensor.is_contiguous() || !tensor.is_unique() {
            let numbers = Self::numbers(tensor).into_owned();
            *tensor = Self::tensor(numbers, tensor.layout().shape().clone());
        }
        tensor.storage_mut()
    }
}

#[cfg(feature = "ndarray")]
impl Host for burn_ndarray::NdArray {
    fn numbers(tensor: &burn_ndarray::NdArrayTensor) -> Cow<'_, [f32]> {
        let burn_ndarray::NdArrayTensor::F32(storage) = tensor else { panic!("the kernels take f32") };
        let view = storage.view();
        match view.to_slice() {
            Some(numbers) => Cow::Borrowed(numbers),
            None => Cow::Owned(view.iter().copied().collect()),
        }
    }

    fn numbers_mut(tensor: &mut burn_ndarray::NdArrayTensor) -> &mut [f32] {
        let burn_ndarray::NdArrayTensor::F32(storage) = tensor else { panic!("the kernels take f32") };
        let numbers = storage.ensure_owned();
        if !numbers.is_standard_layout() {
            *numbers = numbers.as_standard_layout().into_owned().into_shared();
        }
        numbers.as_slice_mut().expect("just put in order")
    }
}

/// Implements an operation for all backends in host memory.
macro_rules! for_hosts {
    ($operation:ident { $($methods:tt)* }) => {
        impl $operation for burn::backend::Flex { $($methods)* }
        #[cfg(feature = "ndarray")]
        impl $operation for burn_ndarray::NdArray { $($methods)* }
    };
}
pub(super) use for_hosts;
