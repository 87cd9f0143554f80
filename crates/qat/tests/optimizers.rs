//! Adam and AdamW of this crate are Burn's: parameters and moments have the same bits after every step, and records fit either.

mod draws;

use burn::config::Config;
use burn::grad_clipping::GradientClippingConfig;
use burn::module::ParamGroup;
use burn::nn::{Linear, LinearConfig};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{GradientsParams, ModuleOptimizer, Optimizer, RecordState, StateSink};
use burn::tensor::{Device, Tensor, TensorData};
use draws::Draws;
use qat::optim::{AdamConfig, AdamWConfig};
use qat::with_reference_operations;

const SEED: u64 = 20_261_124;

#[allow(deprecated, reason = "ndarray is deprecated and still offered")]
fn devices() -> Vec<Device> {
    #[cfg(feature = "ndarray")]
    return vec![Device::flex(), Device::ndarray()];
    #[cfg(not(feature = "ndarray"))]
    vec![Device::flex()]
}

/// The bits of numbers, those of any NaN the same.
fn bits(data: TensorData) -> Vec<u32> {
    let numbers: Vec<f32> = data.try_to_vec().expect("numbers of f32");
    numbers.into_iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

/// Everything that a state keeps, by name.
fn kept(state: &impl RecordState) -> (Vec<(String, Vec<u32>)>, String) {
    let mut sink = StateSink::default();
    state.state_flatten("parameter", &mut sink);
    (sink.tensors.into_iter().map(|(name, data)| (name, bits(data))).collect(), format!("{:?}", sink.scalars))
}

/// Gradients of `size` numbers: some ordinary, some of every kind that is not.
fn gradient(draws: &mut Draws, step: usize, size: usize) -> Vec<f32> {
    const SPECIAL: [f32; 10] = [0.0, -0.0, 1e-45, -1e-39, f32::MIN_POSITIVE, 1e-20, 1e30, f32::MAX, f32::NEG_INFINITY, f32::NAN];
    let scale = [1.0, 1e-3, 30.0][step % 3];
    let ordinary = |draws: &mut Draws| scale * draws.uniform(-1.0, 1.0);
    (0..size)
        .map(|place| match (place + step) % 97 {
            // A place whose gradient was not finite is of no more use, so most places never see one.
            special if special < SPECIAL.len() && (place % 7 == 3 || special < 6) => SPECIAL[special],
            _ => ordinary(draws),
        })
        .collect()
}

/// Steps of both optimizers from the same parameter with the same gradients.
fn assert_same_steps<const D: usize>(
    name: &str,
    ours: &impl Optimizer,
    burns: &impl Optimizer,
    shape: [usize; D],
    device: &Device,
) {
    let mut draws = Draws::new(SEED);
    let size = shape.iter().product();
    let tensor = |numbers: Vec<f32>| Tensor::<D>::from_data(TensorData::new(numbers, shape), device);
    let mut first: Vec<f32> = (0..size).map(|_| draws.uniform(-1.0, 1.0)).collect();
    first[0] = -0.0;
    let (mut our_parameter, mut burns_parameter) = (tensor(first.clone()), tensor(first));
    let (mut our_state, mut burns_state) = (None, None);
    for step in 0..40 {
        let name = format!("{name}, {shape:?} on {device:?}, step {step} (seed {SEED})");
        let rate = 10f64.powi(-(step as i32 % 4)) / 3.0;
        let numbers = gradient(&mut draws, step, size);
        (our_parameter, our_state) = ours.step(rate, our_parameter, tensor(numbers.clone()), our_state);
        (burns_parameter, burns_state) = burns.step(rate, burns_parameter, tensor(numbers), burns_state);
        assert_eq!(bits(our_parameter.to_data()), bits(burns_parameter.to_data()), "parameter, {name}");
        let states = (our_state.as_ref().expect("a state"), burns_state.as_ref().expect("a state"));
        assert_eq!(kept(states.0), kept(states.1), "state, {name}");
    }
}

/// The configurations of Adam, ours and Burn's.
fn adams() -> Vec<(&'static str, AdamConfig, burn::optim::AdamConfig)> {
    let (ours, burns) = (AdamConfig::new, burn::optim::AdamConfig::new);
    let decay = |penalty| Some(WeightDecayConfig::new(penalty));
    vec![
        ("Adam", ours(), burns()),
        ("Adam, decay 0.01", ours().with_weight_decay(decay(0.01)), burns().with_weight_decay(decay(0.01))),
        ("Adam, decay 0", ours().with_weight_decay(decay(0.0)), burns().with_weight_decay(decay(0.0))),
        (
            "Adam, other betas",
            ours().with_beta_1(0.0).with_beta_2(0.95).with_epsilon(1e-8),
            burns().with_beta_1(0.0).with_beta_2(0.95).with_epsilon(1e-8),
        ),
        ("AMSGrad", ours().with_amsgrad(true), burns().with_amsgrad(true)),
    ]
}

/// The configurations of AdamW, ours and Burn's.
fn adamws() -> Vec<(&'static str, AdamWConfig, burn::optim::AdamWConfig)> {
    let (ours, burns) = (AdamWConfig::new, burn::optim::AdamWConfig::new);
    vec![
        ("AdamW", ours(), burns()),
        ("AdamW, decay 0", ours().with_weight_decay(0.0), burns().with_weight_decay(0.0)),
        (
            "AdamW, other betas",
            ours().with_beta_1(0.5).with_beta_2(0.9).with_epsilon(1e-8).with_weight_decay(0.3),
            burns().with_beta_1(0.5).with_beta_2(0.9).with_epsilon(1e-8).with_weight_decay(0.3),
        ),
        (
            "AdamW, cautious",
            ours().with_weight_decay(0.1).with_cautious_weight_decay(true),
            burns().with_weight_decay(0.1).with_cautious_weight_decay(true),
        ),
        ("AdamW, AMSGrad", ours().with_amsgrad(true), burns().with_amsgrad(true)),
    ]
}

#[test]
fn steps_have_the_bits_of_burns() {
    for device in devices() {
        for (name, ours, burns) in adams() {
            let (ours, burns) = (ours.build(), burns.build());
            assert_same_steps(name, &ours, &burns, [1], &device);
            assert_same_steps(name, &ours, &burns, [5, 3, 7], &device);
            assert_same_steps(name, &ours, &burns, [301, 113], &device);
            with_reference_operations(|| assert_same_steps(name, &ours, &burns, [19], &device));
        }
        for (name, ours, burns) in adamws() {
            let (ours, burns) = (ours.build(), burns.build());
            assert_same_steps(name, &ours, &burns, [1], &device);
            assert_same_steps(name, &ours, &burns, [5, 3, 7], &device);
            assert_same_steps(name, &ours, &burns, [301, 113], &device);
            with_reference_operations(|| assert_same_steps(name, &ours, &burns, [19], &device));
        }
    }
}

#[test]
fn other_holders_of_a_tensor_keep_their_numbers() {
    for device in devices() {
        let whole = Tensor::<2>::from_data(TensorData::new((0..24).map(|i| i as f32 - 9.5).collect(), [4, 6]), &device);
        let before = bits(whole.to_data());
        let gradient = || Tensor::<2>::full([3, 2], 0.5, &device);
        let (ours, burns) = (AdamConfig::new().build(), burn::optim::AdamConfig::new().build());
        // A part of what others hold, in another order.
        let part = || whole.clone().slice([1..3, 2..5]).transpose();
        let held_gradient = gradient();
        let (parameter, state) = ours.step(0.1, part(), held_gradient.clone(), None);
        let (expected, expected_state) = burns.step(0.1, part(), gradient(), None);
        assert_eq!(bits(parameter.to_data()), bits(expected.to_data()));
        // The next step, while the ones before are held.
        let (held_parameter, held_state) = (parameter.clone(), state.clone());
        let (next, _) = ours.step(0.1, parameter, gradient(), state);
        let (expected_next, _) = burns.step(0.1, expected.clone(), gradient(), expected_state.clone());
        assert_eq!(bits(next.to_data()), bits(expected_next.to_data()));
        assert_eq!(bits(held_parameter.to_data()), bits(expected.to_data()));
        assert_eq!(kept(&held_state.expect("a state")), kept(&expected_state.expect("a state")));
        assert_eq!(bits(whole.to_data()), before);
        assert_eq!(bits(held_gradient.to_data()), bits(gradient().to_data()));
    }
}

fn trained(mut optimizer: ModuleOptimizer, mut layer: Linear, scales: &[f32]) -> (ModuleOptimizer, Linear) {
    let device = layer.weight.val().device();
    for scale in scales {
        let x = Tensor::<2>::from_floats([[0.3, -1.0, 0.25], [2.0, 0.5, -0.75]], &device) * *scale;
        let gradients = GradientsParams::from_grads(layer.forward(x).square().sum().backward(), &layer);
        layer = optimizer.step(0.05, layer, gradients);
    }
    (optimizer, layer)
}

fn numbers(layer: &Linear) -> [Vec<u32>; 2] {
    [bits(layer.weight.val().to_data()), bits(layer.bias.as_ref().expect("a bias").val().to_data())]
}

#[test]
fn records_go_from_either_to_the_other() {
    let device = Device::flex().autodiff();
    let layer = LinearConfig::new(3, 4).init(&device);
    let adams = adams().into_iter().map(|(name, ours, burns)| (name, [ours.init(), burns.init()]));
    let adamws = adamws().into_iter().map(|(name, ours, burns)| (name, [ours.init(), burns.init()]));
    for (name, [ours, burns]) in adams.chain(adamws) {
        let undisturbed = numbers(&trained(ours.clone(), layer.clone(), &[1.0, 0.1, -0.5, 0.2]).1);
        for (first, second) in [(&ours, &burns), (&burns, &ours), (&ours, &ours)] {
            let (first, layer) = trained(first.clone(), layer.clone(), &[1.0, 0.1]);
            let record = first.into_bytes().expect("a record");
            let second = second.clone().from_bytes(record).expect("the record of the other");
            assert_eq!(numbers(&trained(second, layer, &[-0.5, 0.2]).1), undisturbed, "{name}");
        }
    }
}

#[test]
fn groups_and_clipping_are_those_of_burn() {
    let device = Device::flex().autodiff();
    let layer: Linear = LinearConfig::new(3, 4).init(&device);
    let weights = ParamGroup::from_ids(vec![layer.weight.id]);
    let clipping = GradientClippingConfig::Norm(0.1);
    let ours = AdamConfig::new().with_grad_clipping(Some(clipping.clone())).init();
    let ours = ours.with_group(weights.clone(), AdamWConfig::new().with_weight_decay(0.1).build(), None);
    let burns = burn::optim::AdamConfig::new().with_grad_clipping(Some(clipping)).init();
    let burns = burns.with_group(weights, burn::optim::AdamWConfig::new().with_weight_decay(0.1).build(), None);
    let without_clipping = AdamConfig::new().init();
    assert!(ours.has_gradient_clipping() && !without_clipping.has_gradient_clipping());
    let scales = [1.0, -0.2, 0.7, 0.1];
    let found = numbers(&trained(ours, layer.clone(), &scales).1);
    assert_eq!(found, numbers(&trained(burns, layer.clone(), &scales).1));
    assert_ne!(found, numbers(&trained(without_clipping, layer, &scales).1));
}

#[test]
fn configurations_are_written_as_burns() {
    for (_, ours, burns) in adams() {
        assert_eq!(ours.to_string(), burns.to_string());
        let read = AdamConfig::load_binary(burns.to_string().as_bytes()).expect("Burn's configuration");
        assert_eq!(read.to_string(), burns.to_string());
    }
    for (_, ours, burns) in adamws() {
        assert_eq!(ours.to_string(), burns.to_string());
        let read = AdamWConfig::load_binary(burns.to_string().as_bytes()).expect("Burn's configuration");
        assert_eq!(read.to_string(), burns.to_string());
    }
}
