//! Which parameters are trained how: ranges at a rate of their own, decay for weights alone, gradients bounded in norm.
//!
//! | parameter | rate | decay | norm of the gradient |
//! | --- | --- | --- | --- |
//! | range of a quantizer, step of a weight | times a factor, zero once frozen | none | bounded together |
//! | weight of two or more dimensions | the schedule's | as asked | bounded together with the next row |
//! | bias, scale and shift of a norm | the schedule's | none | |
//!
//! Not here: the rate itself (see `learning_rate`).

use super::{FitPlan, learning_rate::Clock};
use crate::schedule::OptimizerKind;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::Tensor;
use std::collections::HashSet;

/// Types of module whose parameters are ranges or steps.
const QUANTIZERS: [&str; 2] = ["Struct:FakeQuantize", "Struct:WeightQuantizer"];

/// The parameters of a model by what they are.
#[derive(Default)]
pub(super) struct Roles {
    ranges: HashSet<ParamId>,
    weights: HashSet<ParamId>,
    containers: Vec<String>,
}

impl Roles {
    pub(super) fn of<M: Module>(model: &M) -> Self {
        let mut roles = Self::default();
        model.visit(&mut roles);
        roles
    }

    fn group(ids: &HashSet<ParamId>) -> ParamGroup {
        ParamGroup::from_ids(ids.iter().copied().collect())
    }

    /// The rates of all parameters, from the step at which `clock` stands.
    pub(super) fn rates(&self, clock: Clock, factor: f64, frozen_from: usize) -> ModuleLrScheduler {
        let ranges = Clock { multiple: factor, until: frozen_from, ..clock.clone() };
        let all = ModuleLrScheduler::new(clock);
        if self.ranges.is_empty() { all } else { all.with_group(Self::group(&self.ranges), ranges) }
    }

    /// The optimizer of `plan`.
    pub(super) fn optimizer(&self, plan: &FitPlan) -> ModuleOptimizer {
        let (decay, weights) = (plan.weight_decay as f32, Self::group(&self.weights));
        let l2 = Some(WeightDecayConfig::new(decay));
        match plan.optimizer {
            OptimizerKind::Adam if decay == 0.0 => AdamConfig::new().init(),
            OptimizerKind::Adam => {
                AdamConfig::new().init().with_group(weights, AdamConfig::new().with_weight_decay(l2).build(), None)
            }
            OptimizerKind::AdamW => {
                let config = |decay| AdamWConfig::new().with_weight_decay(decay);
                config(0.0).init().with_group(weights, config(decay).build(), None)
            }
            OptimizerKind::Sgd => {
                let momentum = MomentumConfig { momentum: plan.momentum, dampening: 0.0, nesterov: false };
                let config = SgdConfig::new().with_momentum(Some(momentum));
                match decay {
                    0.0 => config.init(),
                    _ => config.init().with_group(weights, config.with_weight_decay(l2).build(), None),
                }
            }
        }
    }

    /// The gradients with a norm of at most `bound`, that of the ranges apart from all others (Q82).
    pub(super) fn clip<M: Module>(&self, model: &M, mut gradients: GradientsParams, bound: f64) -> GradientsParams {
        let mut squares = Squares { roles: self, gradients: &gradients, ranges: None, others: None };
        model.visit(&mut squares);
        // The norm stays on the device; a gradient of zero has the factor 1 by way of the minimum.
        let factor =
            |squares: Option<Tensor<1>>| squares.map(|sum| (sum.sqrt() + 1e-6).recip() * bound).map(|x| x.clamp_max(1.0));
        let (ranges, others) = (factor(squares.ranges), factor(squares.others));
        model.visit(&mut Scale { roles: self, gradients: &mut gradients, ranges, others });
        gradients
    }
}

impl ModuleVisitor for Roles {
    fn enter_module(&mut self, _: &str, container: &str) {
        self.containers.push(container.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.containers.last().is_some_and(|container| QUANTIZERS.contains(&container.as_str())) {
            self.ranges.insert(param.id);
        } else if D > 1 {
            self.weights.insert(param.id);
        }
    }
}

/// Sums the squares of gradients.
struct Squares<'a> {
    roles: &'a Roles,
    gradients: &'a GradientsParams,
    ranges: Option<Tensor<1>>,
    others: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let sum = if self.roles.ranges.contains(&param.id) { &mut self.ranges } else { &mut self.others };
            let squares = gradient.square().sum();
            *sum = Some(match sum.take() {
                Some(sum) => sum + squares,
                None => squares,
            });
        }
    }
}

/// Multiplies gradients by a factor.
struct Scale<'a> {
    roles: &'a Roles,
    gradients: &'a mut GradientsParams,
    ranges: Option<Tensor<1>>,
    others: Option<Tensor<1>>,
}

impl ModuleVisitor for Scale<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let factor = if self.roles.ranges.contains(&param.id) { &self.ranges } else { &self.others };
        if let Some(factor) = factor
            && let Some(gradient) = self.gradients.remove::<D>(param.id)
        {
            self.gradients.register(param.id, gradient * factor.clone().reshape([1; D]));
        }
    }
}
