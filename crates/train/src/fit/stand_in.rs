//! Whether the layers captured from a module may stand in for it while it trains in float.
//!
//! A recording sees inference. Of what a module does in training alone, batch norm is known; dropout, a frozen parameter or another
//! momentum are not. So module and layers take one step of plain gradient descent each, on the same images, and the layers' step, written
//! back, is to make the same module of it: weights and running statistics, but for rounding. A module that draws random numbers on
//! its device trains as itself, whatever it did with them in that step. Not seen: random numbers from elsewhere that seldom do
//! anything, and a forward that changes by and by; [`Classifier::is_the_same_in_every_step`] is for these.

use super::{FitPlan, Phase, parameters::Roles};
use crate::{
    classifier::{Classifier, Trainer},
    data::ImageBatch,
    random::with_seed,
    schedule::OptimizerKind,
};
use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Distribution, Tensor, TensorData},
    train::TrainStep,
};
use qat::{GraphError, QatModel};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::fmt;

/// Images of the step: batch norm wants several.
const IMAGES: usize = 8;

/// Seed of these images and of the device's random numbers.
const SEED: u64 = 0x5157_4e44_2d49_4e21;

/// How often a module is to leave the device's random numbers alone before it is said to draw them.
const ATTEMPTS: usize = 4;

/// Rate of the step, so high that it is not lost in the rounding of what it is added to.
const RATE: f64 = 100.0;

/// Largest norm of the difference of two steps of a tensor, as a share of the step's own: sums in another order may bring a number to the
/// other side of a relu.
const TOLERANCE: f64 = 3e-2;

/// As much again, as a share of the longest step of a tensor that learns, or of one that does not: a sum that cancels, as the gradient of
/// a bias before a batch norm, is all rounding.
const ROUNDING: f64 = 1e-4;

/// Why a module trains as itself.
#[derive(Debug)]
pub(crate) enum Difference {
    /// [`Classifier::is_the_same_in_every_step`] says no.
    Changing,
    /// It draws random numbers.
    Random,
    /// A step makes something else of the parameter or statistic of this path.
    Parameter(String),
    /// What the layers have learnt cannot be written back.
    Unwritable(GraphError),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changing => f.write_str("its forward changes from step to step"),
            Self::Random => f.write_str("it draws random numbers in training"),
            Self::Parameter(path) => write!(f, "a step of them makes another {path}"),
            Self::Unwritable(error) => error.fmt(f),
        }
    }
}

/// How training by `layers`, in float, would differ from training `module`, on images `[c, h, w]` in so many classes; `None` where it does not.
/// `decays` says whether weights decay.
pub(crate) fn difference<M: Classifier>(
    module: &M,
    layers: &QatModel,
    shape: [usize; 3],
    classes: usize,
    decays: bool,
    device: &Device,
) -> Option<Difference> {
    if !module.is_the_same_in_every_step() {
        return Some(Difference::Changing);
    }
    let device = if device.is_autodiff() { device.clone() } else { device.clone().autodiff() };
    let draw = || Tensor::<1>::random([4], Distribution::Default, &device.clone().inner()).into_data();
    // Each comparison is made once without decay, whose share of a step would hide that of the gradient, and once with it.
    for decay in std::iter::once(0.0).chain(decays.then_some(1.0)) {
        // Another thread may draw at any time, but hardly at each of these.
        let undisturbed = (0..ATTEMPTS).find_map(|_| {
            let next = with_seed(&device, SEED, draw);
            let (own, after) = with_seed(&device, SEED, || (stepped(module, shape, classes, decay, &device), draw()));
            (next == after).then_some(own)
        });
        let Some(own) = undisturbed else { return Some(Difference::Random) };
        let layers = stepped(layers, shape, classes, decay, &device);
        let others = match layers.write_back(module.valid().fork(&device.clone().inner())) {
            Ok(others) => others,
            Err(error) => return Some(Difference::Unwritable(error)),
        };
        let before = numbers(&module.valid().train().fork(&device));
        if let Some(path) = first_difference(&before, &numbers(&own), &numbers(&others)) {
            return Some(Difference::Parameter(path));
        }
    }
    None
}

/// `model`, in inference, after one step on images that follow from the seed; `model` itself stays as it is.
fn stepped<M: Classifier>(model: &M, [c, h, w]: [usize; 3], classes: usize, decay: f64, device: &Device) -> M {
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let pixels: Vec<f32> = (0..IMAGES * c * h * w).map(|_| rng.next_u32() as f32 / u32::MAX as f32).collect();
    let targets: Vec<i64> = (0..IMAGES).map(|image| (image % classes.max(1)) as i64).collect();
    let batch = ImageBatch {
        images: Tensor::from_data(TensorData::new(pixels, [IMAGES, c, h, w]), device),
        targets: Tensor::from_data(TensorData::new(targets, [IMAGES]), device),
        mix: None,
        part: None,
    };
    let trainer = Trainer::new(model.valid().train().fork(device));
    let roles = Roles::of(&trainer.model);
    let plan = FitPlan {
        optimizer: OptimizerKind::Sgd,
        momentum: 0.0,
        weight_decay: decay,
        ..FitPlan::new(Phase::Float, "", 1, IMAGES, 1.0, 0)
    };
    let gradients = TrainStep::step(&trainer, batch).grads;
    roles.optimizer(&plan).step(RATE, trainer.model, gradients).valid()
}

/// A float parameter or running statistic of a module.
struct Numbers {
    path: String,
    learns: bool,
    values: Vec<f32>,
}

/// All of `module`, in the order of visiting.
fn numbers<M: Module>(module: &M) -> Vec<Numbers> {
    #[derive(Default)]
    struct Walk {
        path: Vec<String>,
        found: Vec<Numbers>,
    }
    impl ModuleVisitor for Walk {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.path.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.path.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let value = param.val();
            let learns = value.is_require_grad();
            let values = value.into_data().iter::<f32>().collect();
            self.found.push(Numbers { path: self.path.join("."), learns, values });
        }
    }
    let mut walk = Walk::default();
    // Running statistics are one update behind until someone asks for a validation model.
    module.valid();
    module.visit(&mut walk);
    walk.found
}

/// The path of the first tensor, of a module as it was `before`, of which two steps made something else: `own` and `others`.
fn first_difference(before: &[Numbers], own: &[Numbers], others: &[Numbers]) -> Option<String> {
    let distance = |a: &Numbers, b: &Numbers| {
        a.values.iter().zip(&b.values).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
    };
    let steps: Vec<f64> = before.iter().zip(own).map(|(before, own)| distance(before, own)).collect();
    let longest = |learns: bool| {
        let kind = before.iter().zip(&steps).filter(|(tensor, _)| tensor.learns == learns);
        kind.fold(0.0f64, |longest, (_, step)| longest.max(*step))
    };
    let rounding = [longest(false) * ROUNDING, longest(true) * ROUNDING];
    let mut tensors = before.iter().zip(&steps).zip(own.iter().zip(others));
    let differs = tensors.find(|((before, step), (own, others))| {
        let beyond = distance(own, others) - *step * TOLERANCE - rounding[usize::from(before.learns)];
        beyond > 0.0 || beyond.is_nan()
    });
    differs.map(|((before, _), _)| before.path.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{recipe, zoo::ZooModel};
    use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
    use qat::QConfig;

    const SHAPE: [usize; 3] = [2, 4, 4];

    fn difference_of<M: Classifier>(module: &M, shape: [usize; 3], decays: bool) -> Option<Difference> {
        let layers = recipe::prepare(module, shape, &QConfig::int8()).unwrap();
        difference(module, &layers, shape, 10, decays, &Device::flex())
    }

    #[test]
    fn the_zoo_trains_by_its_layers() {
        for (zoo, seed) in ZooModel::ALL.into_iter().flat_map(|zoo| [1, 2, 3].map(|seed| (zoo, seed))) {
            let difference = difference_of(&zoo.init(&Device::flex(), seed), zoo.input_shape(), true);
            assert!(difference.is_none(), "{zoo} from seed {seed}: {}", difference.unwrap());
        }
    }

    /// Batch norm, dropout, an offset and a linear layer, of which each test takes what it is about.
    #[derive(Module, Debug)]
    struct Net {
        norm: Option<BatchNorm>,
        dropout: Option<Dropout>,
        offset: Option<Param<Tensor<2>>>,
        hidden: Linear,
        linear: Linear,
        #[module(skip)]
        detaches: bool,
        #[module(skip)]
        changes: bool,
    }

    impl Net {
        fn init() -> Self {
            let device = Device::flex();
            with_seed(&device, 1, || {
                let net = Self {
                    norm: None,
                    dropout: None,
                    offset: None,
                    hidden: LinearConfig::new(32, 32).init(&device),
                    linear: LinearConfig::new(32, 10).init(&device),
                    detaches: false,
                    changes: false,
                };
                net.logits(Tensor::zeros([1, 2, 4, 4], &device));
                net
            })
        }
    }

    impl Classifier for Net {
        fn logits(&self, images: Tensor<4>) -> Tensor<2> {
            let images = match &self.norm {
                Some(norm) => norm.forward(images),
                None => images,
            };
            let mut x = self.hidden.forward(images.flatten::<2>(1, 3));
            if self.detaches {
                x = x.detach();
            }
            if let Some(offset) = &self.offset {
                x = x + offset.val();
            }
            if let Some(dropout) = &self.dropout {
                x = dropout.forward(x);
            }
            self.linear.forward(x)
        }

        fn is_the_same_in_every_step(&self) -> bool {
            !self.changes
        }
    }

    fn norm(momentum: f64) -> Option<BatchNorm> {
        Some(BatchNormConfig::new(2).with_momentum(momentum).init(&Device::flex()))
    }

    #[test]
    fn what_a_module_does_in_training_alone_keeps_it_from_it() {
        let found = |net: Net, decays| difference_of(&net, SHAPE, decays).map(|difference| difference.to_string());
        let other = |path: &str| Some(format!("a step of them makes another {path}"));
        assert_eq!(found(Net::init(), true), None);
        assert_eq!(found(Net { norm: norm(0.1), ..Net::init() }, true), None);
        assert_eq!(found(Net { norm: norm(0.15), ..Net::init() }, false), other("norm.running_mean"));
        assert_eq!(found(Net { detaches: true, ..Net::init() }, false), other("hidden.weight"));
        let mut frozen = Net::init();
        frozen.linear.bias = frozen.linear.bias.map(|bias| bias.set_require_grad(false));
        assert_eq!(found(frozen, false), other("linear.bias"));
        let changes = Net { changes: true, ..Net::init() };
        assert_eq!(found(changes, false), Some("its forward changes from step to step".into()));
        // The second has a chance of one in some hundred thousand to drop anything in one step.
        for probability in [0.5, 1e-8] {
            let dropout = Some(DropoutConfig::new(probability).init());
            let difference = difference_of(&Net { dropout, ..Net::init() }, SHAPE, false);
            assert!(matches!(difference, Some(Difference::Random)), "{difference:?}");
        }
        let never = Net { dropout: Some(DropoutConfig::new(0.0).init()), ..Net::init() };
        assert_eq!(found(never, false), None);
    }

    #[test]
    fn a_constant_that_decays_as_a_weight_keeps_it_from_it_where_weights_decay() {
        let offset = || Some(Param::from_tensor(Tensor::full([1, 32], 0.3, &Device::flex())));
        let of = |decays| difference_of(&Net { offset: offset(), ..Net::init() }, SHAPE, decays).map(|found| found.to_string());
        assert_eq!(of(false), None);
        assert_eq!(of(true), Some("a step of them makes another offset".into()));
    }

    #[test]
    fn layers_of_another_module_are_no_stand_in() {
        let layers = recipe::prepare(&ZooModel::Mlp.init(&Device::flex(), 1), [1, 28, 28], &QConfig::int8()).unwrap();
        let module = ZooModel::Mlp.init(&Device::flex(), 2);
        let found = difference(&module, &layers, [1, 28, 28], 10, false, &Device::flex());
        assert!(matches!(found, Some(Difference::Parameter(_))), "{found:?}");
    }
}
