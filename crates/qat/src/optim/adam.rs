//! Adam (Kingma and Ba 2015).

use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamState, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};

use super::clipped;
use super::moments::{self, Moments};
use crate::ops::{AdamStep, AdamUpdate};

/// Configuration of [`Adam`], with the fields and defaults of [`burn::optim::AdamConfig`].
#[derive(Config, Debug)]
pub struct AdamConfig {
    /// Share of the old mean of gradients in the new one, in `[0, 1)`. Default: 0.9.
    #[config(default = 0.9)]
    beta_1: f32,
    /// Share of the old mean of squares in the new one, in `[0, 1)`. Default: 0.999.
    #[config(default = 0.999)]
    beta_2: f32,
    /// Added to the root of the mean of squares, > 0. Default: 1e-5.
    #[config(default = 1e-5)]
    epsilon: f32,
    /// Whether steps are divided by the largest mean of squares so far, as AMSGrad does. Default: false.
    #[config(default = false)]
    amsgrad: bool,
    /// L2 penalty, whose gradient is added to that of the loss. Default: none.
    weight_decay: Option<WeightDecayConfig>,
    /// Bound of the gradient of each parameter; only [`init`](Self::init) knows it. Default: none.
    grad_clipping: Option<GradientClippingConfig>,
}

impl AdamConfig {
    /// The optimizer of one parameter, for [`ModuleOptimizer::with_group`].
    pub fn build(&self) -> Adam {
        let composition = burn::optim::AdamConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_amsgrad(self.amsgrad)
            .with_weight_decay(self.weight_decay.clone());
        Adam { config: self.clone(), composition: composition.build() }
    }

    /// The optimizer of a module.
    pub fn init(&self) -> ModuleOptimizer {
        clipped(self.build().into(), self.grad_clipping.as_ref())
    }
}

/// Adam, as [`burn::optim::Adam`]; see [`AdamConfig`].
#[derive(Clone)]
pub struct Adam {
    config: AdamConfig,
    composition: burn::optim::Adam,
}

impl Optimizer for Adam {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let AdamConfig { beta_1, beta_2, epsilon, amsgrad, ref weight_decay, .. } = self.config;
        if amsgrad || !moments::has_kernel(&tensor, &grad, state.as_ref()) {
            let (tensor, state) = self.composition.step(lr, tensor, grad, state.map(|state| AdamState::new(state.into_state())));
            return (tensor, state.map(|state| Moments::new(state.momentum)));
        }
        let (tensor, state) = moments::step(tensor, grad, state, |time| {
            let unbias_2 = (1.0 - beta_2.powi(time)).sqrt();
            let update = AdamUpdate::Adam {
                penalty: weight_decay.as_ref().map(|decay| decay.penalty),
                factor: unbias_2 / (1.0 - beta_1.powi(time)),
                epsilon: epsilon * unbias_2,
                rate: lr as f32,
            };
            AdamStep { beta_1, beta_2, update }
        });
        (tensor, Some(state))
    }

    fn to_device<const D: usize>(state: Moments<D>, device: &Device) -> Moments<D> {
        state.moved_to(device)
    }
}
