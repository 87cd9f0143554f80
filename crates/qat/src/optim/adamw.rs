//! AdamW (Loshchilov and Hutter 2019).

use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWState, LearningRate, ModuleOptimizer, Optimizer};
use burn::tensor::{Device, Tensor};

use super::clipped;
use super::moments::{self, Moments};
use crate::ops::{AdamStep, AdamUpdate};

/// Configuration of [`AdamW`], with the fields and defaults of [`burn::optim::AdamWConfig`].
#[derive(Config, Debug)]
pub struct AdamWConfig {
    /// Share of the old mean of gradients in the new one, in `[0, 1)`. Default: 0.9.
    #[config(default = 0.9)]
    beta_1: f32,
    /// Share of the old mean of squares in the new one, in `[0, 1)`. Default: 0.999.
    #[config(default = 0.999)]
    beta_2: f32,
    /// Added to the root of the mean of squares, > 0. Default: 1e-5.
    #[config(default = 1e-5)]
    epsilon: f32,
    /// What a parameter loses in a step, as a multiple of itself and of the rate, ≥ 0. Default: 1e-4.
    #[config(default = 1e-4)]
    weight_decay: f32,
    /// Whether only what moves towards zero decays (<https://arxiv.org/abs/2510.12402>). Default: false.
    #[config(default = false)]
    cautious_weight_decay: bool,
    /// Whether steps are divided by the largest mean of squares so far, as AMSGrad does. Default: false.
    #[config(default = false)]
    amsgrad: bool,
    /// Bound of the gradient of each parameter; only [`init`](Self::init) knows it. Default: none.
    grad_clipping: Option<GradientClippingConfig>,
}

impl AdamWConfig {
    /// The optimizer of one parameter, for [`ModuleOptimizer::with_group`].
    pub fn build(&self) -> AdamW {
        let composition = burn::optim::AdamWConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .with_weight_decay(self.weight_decay)
            .with_cautious_weight_decay(self.cautious_weight_decay)
            .with_amsgrad(self.amsgrad);
        AdamW { config: self.clone(), composition: composition.build() }
    }

    /// The optimizer of a module.
    pub fn init(&self) -> ModuleOptimizer {
        clipped(self.build().into(), self.grad_clipping.as_ref())
    }
}

/// AdamW, as [`burn::optim::AdamW`]; see [`AdamWConfig`].
#[derive(Clone)]
pub struct AdamW {
    config: AdamWConfig,
    composition: burn::optim::AdamW,
}

impl Optimizer for AdamW {
    type State<const D: usize> = Moments<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<Moments<D>>,
    ) -> (Tensor<D>, Option<Moments<D>>) {
        let AdamWConfig { beta_1, beta_2, epsilon, weight_decay, cautious_weight_decay, amsgrad, .. } = self.config;
        let is_plain = !amsgrad && !cautious_weight_decay;
        if !is_plain || !moments::has_kernel(&tensor, &grad, state.as_ref()) {
            let (tensor, state) = self.composition.step(lr, tensor, grad, state.map(|state| AdamWState::new(state.into_state())));
            return (tensor, state.map(|state| Moments::new(state.momentum)));
        }
        let (tensor, state) = moments::step(tensor, grad, state, |time| {
            let decay = lr * f64::from(weight_decay);
            let update = AdamUpdate::AdamW {
                kept: (decay != 0.0).then_some((1.0 - decay) as f32),
                unbias_1: 1.0 - beta_1.powi(time),
                unbias_2: 1.0 - beta_2.powi(time),
                epsilon,
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
