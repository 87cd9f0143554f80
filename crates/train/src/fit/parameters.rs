//! Which parameters are trained how: ranges at a rate of their own, decay for weights alone, gradients bounded in norm.
//!
//! | parameter | rate | decay | norm of the gradient |
//! | --- | --- | --- | --- |
//! | range of a quantizer, step of a weight | times a factor, zero once frozen | none | bounded together |
//! | weight of two or more dimensions | the schedule's | as asked | bounded together with the next row |
//! | bias, scale and shift of a norm | the schedule's | none | |
//!
//! Where the plan says so, weights of small numbers, and their steps, have a smaller rate (Q86).
//!
//! Not here: the rate itself (see `learning_rate`).

use super::{FitPlan, learning_rate::Clock};
use crate::schedule::OptimizerKind;
use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, SgdConfig};
use burn::tensor::Tensor;
use qat::optim::{AdamConfig, AdamWConfig};
use std::collections::{BTreeMap, HashSet};

/// Types of module whose parameters are ranges or steps.
const QUANTIZERS: [&str; 2] = ["Struct:FakeQuantize", WEIGHT_QUANTIZER];

/// The one whose parameter is the step of a weight.
const WEIGHT_QUANTIZER: &str = "Struct:WeightQuantizer";

/// The parameters of a model by what they are.
#[derive(Default)]
pub(super) struct Roles {
    ranges: HashSet<ParamId>,
    weights: HashSet<ParamId>,
    /// By path, for those whose rate depends on their size.
    named: Vec<(String, ParamId)>,
    containers: Vec<String>,
    path: Vec<String>,
}

/// Root mean square below which a weight's rate is smaller (Q86).
const FULL_RATE_FROM: f64 = 0.02;

/// The multiple of the rate that each weight and each weight's step has by its size (Q86), by path, for those where it is not 1.
pub(crate) fn relative_rates<M: Module>(model: &M) -> BTreeMap<String, f64> {
    let mut sizes = Sizes { roles: Roles::default(), factors: BTreeMap::new() };
    model.visit(&mut sizes);
    sizes.factors
}

/// Looks at the size of weights.
struct Sizes {
    roles: Roles,
    factors: BTreeMap<String, f64>,
}

impl ModuleVisitor for Sizes {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.roles.enter_module(name, container);
    }

    fn exit_module(&mut self, name: &str, container: &str) {
        self.roles.exit_module(name, container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let known = self.roles.named.len();
        self.roles.visit_float(param);
        if let Some((path, _)) = self.roles.named.get(known) {
            let mean: f32 = param.val().inner().square().mean().into_scalar();
            let factor = f64::from(mean).sqrt() / FULL_RATE_FROM;
            if factor > 0.0 && factor < 1.0 {
                self.factors.insert(path.clone(), factor);
            }
        }
    }
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
    pub(super) fn rates(
        &self,
        clock: Clock,
        factor: f64,
        frozen_from: usize,
        relative: &BTreeMap<String, f64>,
    ) -> ModuleLrScheduler {
        let ranges = Clock { multiple: factor, until: frozen_from, ..clock.clone() };
        let small = self.named.iter().filter_map(|(path, id)| Some((*relative.get(path)?, *id)));
        let mut all = ModuleLrScheduler::new(clock.clone());
        if !self.ranges.is_empty() {
            all = all.with_group(Self::group(&self.ranges), ranges.clone());
        }
        // A parameter belongs to the last group that has it.
        small.fold(all, |all, (size, id)| {
            let of = if self.ranges.contains(&id) { &ranges } else { &clock };
            all.with_group(ParamGroup::from_ids(vec![id]), Clock { multiple: of.multiple * size, ..of.clone() })
        })
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
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.push(name.into());
        self.containers.push(container.into());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
        self.containers.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.containers.last().is_some_and(|container| QUANTIZERS.contains(&container.as_str())) {
            self.ranges.insert(param.id);
        } else if D > 1 {
            self.weights.insert(param.id);
        } else {
            return;
        }
        if D > 1 || self.containers.last().is_some_and(|container| container == WEIGHT_QUANTIZER) {
            self.named.push((self.path.join("."), param.id));
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

#[cfg(test)]
mod tests {
    use super::super::learning_rate::{Clock, LearningRateCurve};
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::Device;
    use std::sync::Arc;

    #[derive(Module, Debug)]
    struct Pair {
        small: Linear,
        large: Linear,
    }

    #[test]
    fn weights_of_small_numbers_have_a_smaller_rate() {
        let device = Device::flex();
        let linear = |value: f32| {
            let mut linear = LinearConfig::new(3, 2).init(&device);
            linear.weight = Param::from_tensor(Tensor::full([3, 2], value, &device));
            linear
        };
        let pair = Pair { small: linear(-0.005), large: linear(0.3) };
        let relative = relative_rates(&pair);
        assert_eq!(relative.keys().collect::<Vec<_>>(), ["small.weight"]);
        assert!((relative["small.weight"] - 0.25).abs() < 1e-6, "{relative:?}");

        let clock = Clock { curve: Arc::new(LearningRateCurve::cosine(0.5, 0, 10)), next_step: 0, multiple: 1.0, until: 10 };
        let rates = Roles::of(&pair).rates(clock, 1.0, 10, &relative).step();
        assert!((rates.lr_from_param(pair.small.weight.id, None) - 0.125).abs() < 1e-6);
        assert_eq!(rates.lr_from_param(pair.large.weight.id, None), 0.5);
        assert_eq!(rates.lr_from_param(pair.small.bias.unwrap().id, None), 0.5);
    }
}
