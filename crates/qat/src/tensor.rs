//! A tensor together with the step of its grid.

use burn::tensor::Tensor;

/// An activation and, where it lies on an integer grid, the step of that grid.
///
/// The step travels with the value because a layer's bias lives on the grid `s_in · s_w` (Q11).
#[derive(Clone, Debug)]
pub struct QuantTensor<const D: usize> {
    /// Real values.
    pub tensor: Tensor<D>,
    /// Step of the grid, shape `[1]`, detached; `None` where the values are not quantized.
    pub scale: Option<Tensor<1>>,
}

impl<const D: usize> QuantTensor<D> {
    /// Values that are on no grid.
    pub fn float(tensor: Tensor<D>) -> Self {
        Self { tensor, scale: None }
    }

    /// The same grid under another tensor, for operations that only move or choose values.
    pub fn map<const E: usize>(self, op: impl FnOnce(Tensor<D>) -> Tensor<E>) -> QuantTensor<E> {
        QuantTensor { tensor: op(self.tensor), scale: self.scale }
    }

    /// The same tensor, whose rank is known to be `E`.
    ///
    /// # Panics
    /// If the rank is another one.
    pub(crate) fn with_rank<const E: usize>(self) -> QuantTensor<E> {
        assert_eq!(D, E, "an activation of rank {E} was expected, found rank {D}");
        self.map(|tensor| Tensor::from_dispatch(tensor.into_dispatch()))
    }
}
