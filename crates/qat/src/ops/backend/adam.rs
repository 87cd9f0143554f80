//! One step of Adam and of AdamW, on numbers that have no gradient themselves.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};

use super::Operand;
use super::host::{Host, for_hosts};
use crate::ops::adam::{AdamStep, NO_MOMENT, adam};

/// Steps of Adam.
#[backend_extension(Flex, NdArray: cfg(feature = "ndarray"))]
pub(crate) trait AdamOps: Backend {
    /// A step. Moments stay where they are, and the parameter moves to where its gradient was: its own memory is often that of a model
    /// which is kept.
    fn training_adam(#[extension_type] operands: AdamOperands<Self>, step: AdamStep) -> AdamOutput<Self>
    where
        Self: Sized;
}

/// What a step works on, all of one shape.
#[derive(Clone, Debug, ExtensionType)]
pub(crate) struct AdamOperands<B: Backend> {
    pub parameter: FloatTensor<B>,
    pub gradient: FloatTensor<B>,
    /// The mean of gradients; absent before the first step.
    #[extension_type]
    pub moment_1: Operand<B>,
    /// The mean of their squares; absent before the first step.
    #[extension_type]
    pub moment_2: Operand<B>,
}

/// What a step gives.
#[derive(ExtensionType)]
pub(crate) struct AdamOutput<B: Backend> {
    pub parameter: FloatTensor<B>,
    pub moment_1: FloatTensor<B>,
    pub moment_2: FloatTensor<B>,
}

for_hosts!(AdamOps {
    fn training_adam(operands: AdamOperands<Self>, step: AdamStep) -> AdamOutput<Self> {
        let AdamOperands { parameter, mut gradient, moment_1, moment_2 } = operands;
        let moment = |moment: Operand<Self>| match moment {
            Operand::Given(moment) => moment,
            Operand::Absent => Self::tensor(vec![NO_MOMENT; gradient.shape().num_elements()], gradient.shape()),
        };
        let (mut moment_1, mut moment_2) = (moment(moment_1), moment(moment_2));
        let (m, v) = (Self::numbers_mut(&mut moment_1), Self::numbers_mut(&mut moment_2));
        adam(&Self::numbers(&parameter), Self::numbers_mut(&mut gradient), m, v, step);
        AdamOutput { parameter: gradient, moment_1, moment_2 }
    }
});
