//! Activations of any rank that a layer may have.

use burn::tensor::{Int, Tensor, TensorData};

use crate::tensor::QuantTensor;

/// An activation of any rank that a layer may have.
#[derive(Clone, Debug)]
pub enum Activation {
    /// `[N, D]`.
    Rank2(QuantTensor<2>),
    /// `[N, T, D]`.
    Rank3(QuantTensor<3>),
    /// `[N, C, H, W]`.
    Rank4(QuantTensor<4>),
    /// Five dimensions, the batch first.
    Rank5(QuantTensor<5>),
    /// Indices `[N, T]` into an embedding's table.
    Indices(Tensor<2, Int>),
}

/// The same expression of an activation of whatever rank.
macro_rules! each_rank {
    ($activation:expr, $x:ident => $body:expr) => {
        match $activation {
            Activation::Rank2($x) => $body,
            Activation::Rank3($x) => $body,
            Activation::Rank4($x) => $body,
            Activation::Rank5($x) => $body,
            Activation::Indices(_) => panic!("real numbers were expected, found indices"),
        }
    };
}

/// The same, for an expression that keeps the rank.
macro_rules! map_rank {
    ($activation:expr, $x:ident => $body:expr) => {
        match $activation {
            Activation::Rank2($x) => Activation::Rank2($body),
            Activation::Rank3($x) => Activation::Rank3($body),
            Activation::Rank4($x) => Activation::Rank4($body),
            Activation::Rank5($x) => Activation::Rank5($body),
            Activation::Indices(_) => panic!("real numbers were expected, found indices"),
        }
    };
}

impl Activation {
    /// The numbers, row-major, on the host.
    pub fn to_data(&self) -> TensorData {
        match self {
            Self::Indices(indices) => indices.to_data(),
            real => each_rank!(real, x => x.tensor.to_data()),
        }
    }

    pub(super) fn from_rank<const D: usize>(x: QuantTensor<D>) -> Self {
        match D {
            2 => Self::Rank2(x.with_rank()),
            3 => Self::Rank3(x.with_rank()),
            4 => Self::Rank4(x.with_rank()),
            5 => Self::Rank5(x.with_rank()),
            _ => panic!("a quantized model takes activations of rank 2 to 5, found rank {D}"),
        }
    }

    pub(super) fn into_rank<const D: usize>(self) -> QuantTensor<D> {
        each_rank!(self, x => x.with_rank())
    }

    pub(super) fn reshape(self, shape: &[usize]) -> Self {
        fn to<const A: usize>(x: QuantTensor<A>, shape: &[usize]) -> Activation {
            match *shape {
                [a, b] => Activation::Rank2(x.map(|t| t.reshape([a, b]))),
                [a, b, c] => Activation::Rank3(x.map(|t| t.reshape([a, b, c]))),
                [a, b, c, d] => Activation::Rank4(x.map(|t| t.reshape([a, b, c, d]))),
                [a, b, c, d, e] => Activation::Rank5(x.map(|t| t.reshape([a, b, c, d, e]))),
                _ => panic!("a quantized model takes activations of rank 2 to 5, found {shape:?}"),
            }
        }
        each_rank!(self, x => to(x, shape))
    }
}
