//! Fake quantization on a device *equals* quantization and dequantization on the host, bit for bit.
//!
//! Inputs are the extremes, the ties, their neighbours, and seeded random draws. Real 0 has one sign on the host and may have the
//! other on the device; the two are equal as numbers, and integers know only one.

mod draws;

use burn::tensor::{Device, Tensor};
use draws::Draws;
use qat::fake_quantize::{fake_quantize_bias, fake_quantize_weight, weight_scale};
use qat::{
    FakeQuantize, Granularity, IntegerFormat, MIN_SCALE, Mode, ObserverKind, Preset, QConfig, QParams, RangeSign, quantize,
};

/// Devices whose arithmetic is IEEE f32, with and without autodiff.
fn devices() -> Vec<(&'static str, Device)> {
    let mut devices = vec![("flex", Device::flex()), ("flex with autodiff", Device::flex().autodiff())];
    if let Ok(device) = qat::DeviceName::NdArray.init() {
        devices.push(("ndarray", device));
    }
    devices
}

/// The ties and the neighbours of every code, and what lies far outside. What `x / scale` makes infinite is the subject of the
/// gradients' tests.
fn inputs(params: QParams, draws: &mut Draws) -> Vec<f32> {
    let mut inputs = vec![0.0, -0.0, f32::MIN_POSITIVE, 1e-45, -1e-45, 1e30, -1e30];
    for half_steps in -600..=600 {
        let x = half_steps as f32 * 0.5 * params.scale;
        inputs.extend([x, x.next_up(), x.next_down()]);
    }
    let (low, high) = params.real_range();
    let margin = 0.2 * (high - low);
    inputs.extend((0..2000).map(|_| draws.uniform(low - margin, high + margin)));
    inputs
}

fn assert_equal(what: &str, inputs: &[f32], found: &[f32], expected: impl Fn(f32) -> f32) {
    assert_eq!(inputs.len(), found.len());
    for (x, y) in inputs.iter().zip(found) {
        assert!(*y == expected(*x), "{what}, x = {x:e}: expected {:e}, found {y:e}", expected(*x));
    }
}

fn to_vec<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("f32")
}

#[test]
fn activations_equal_the_host() {
    let mut draws = Draws::new(0xe9a1_0001);
    let mut ranges = vec![
        (-1.0, 1.0),
        (0.0, 1.0),
        (-1.0, 0.0),
        (0.3, 2.0),
        (-2.0, -0.5),
        (0.0, 0.0),
        (-1e-9, 1e-9),
        (-1e30, 1e30),
        (-127.5, 127.5),
        (-0.4980392, 0.50196),
        (f32::MIN_POSITIVE, 6.0),
    ];
    ranges.extend((0..50).map(|_| (draws.uniform(-8.0, 1.0), draws.uniform(-1.0, 8.0))));
    let mut compared = 0;
    for (name, device) in devices() {
        for (sign, format) in [
            (RangeSign::Any, IntegerFormat::INT8),
            (RangeSign::NonNegative, IntegerFormat::INT8),
            (RangeSign::Any, IntegerFormat::INT16),
        ] {
            for (min, max) in &ranges {
                let quantizer = FakeQuantize::new(format, sign, ObserverKind::MinMax, &device)
                    .with_range(*min, *max)
                    .with_mode(Mode::Quantize);
                let params = quantizer.qparams();
                let inputs = inputs(params, &mut draws);
                let y = quantizer.forward(Tensor::<1>::from_floats(&inputs[..], &device));
                assert_eq!(y.scale.expect("a grid").into_scalar::<f32>().to_bits(), params.scale.to_bits());
                let what = format!("{name}, {sign:?}, {} bits, range {min}..{max}", format.bits());
                assert_equal(&what, &inputs, &to_vec(y.tensor), |x| params.dequantize(params.quantize(x)));
                compared += inputs.len();
            }
        }
    }
    println!("{compared} numbers compared");
}

#[test]
fn a_shape_changes_no_number() {
    let mut draws = Draws::new(0xe9a1_0002);
    let device = Device::flex();
    let quantizer = FakeQuantize::new(IntegerFormat::INT8, RangeSign::Any, ObserverKind::MinMax, &device)
        .with_range(-0.9, 1.4)
        .with_mode(Mode::Quantize);
    let x = draws.tensor([2, 3, 5, 7], -2.0, 2.0, &device);
    let flat = quantizer.forward(x.clone().reshape([210])).tensor;
    let transposed = quantizer.forward(x.clone().swap_dims(1, 3)).tensor.swap_dims(1, 3);
    assert_eq!(to_vec(quantizer.forward(x).tensor), to_vec(flat.clone()));
    assert_eq!(to_vec(transposed.reshape([210])), to_vec(flat));
}

#[test]
fn weights_equal_the_host_at_both_granularities() {
    let mut draws = Draws::new(0xe9a1_0003);
    for (name, device) in devices() {
        for (_, scheme) in Preset::NAMES {
            let QConfig { weight: format, weight_granularity: granularity, .. } = scheme.config();
            // Channels of very different size, one of zeros, one of ties.
            let mut rows: Vec<Vec<f32>> = [1.0f32, 1e-3, 1e3, 1e-12, 3e37]
                .iter()
                .map(|size| (0..63).map(|_| draws.uniform(-size, *size)).collect())
                .collect();
            rows.push(vec![0.0; 63]);
            rows.push((0..63).map(|i| (i as f32 - 31.0) * 0.5).chain([]).collect());
            rows.last_mut().expect("a row")[0] = 127.0;
            if granularity == Granularity::PerTensor {
                rows.retain(|row| row.iter().all(|w| w.abs() < 1e4));
            }
            let flat: Vec<f32> = rows.iter().flatten().copied().collect();
            let by_row = Tensor::<1>::from_floats(&flat[..], &device).reshape([rows.len(), 7, 3, 3]);
            let abs_max = |values: &[f32]| values.iter().fold(0.0f32, |max, w| max.max(w.abs()));

            let axis = |channels: usize| (granularity == Granularity::PerChannel).then_some(channels);
            let count = if granularity == Granularity::PerChannel { rows.len() } else { 1 };
            let scale = weight_scale(by_row.clone(), axis(0), format);
            assert_eq!(scale.dims(), [count, 1, 1, 1]);
            let found = to_vec(fake_quantize_weight(by_row.clone(), scale, format));
            for (row, found) in rows.iter().zip(found.chunks(63)) {
                let of = if granularity == Granularity::PerTensor { &flat } else { row };
                let scale = QParams::symmetric_scale(abs_max(of), format);
                assert!(scale >= MIN_SCALE);
                assert_equal(&format!("{name}, {}", scheme.name()), row, found, |w| quantize(w, scale, 0, format) as f32 * scale);
            }

            // Channels on the last axis, as a linear layer has them.
            let by_column = by_row.reshape([rows.len(), 63]).transpose();
            let scale = weight_scale(by_column.clone(), axis(1), format);
            assert_eq!(scale.dims(), [1, count]);
            assert_eq!(to_vec(fake_quantize_weight(by_column, scale, format).transpose()), found);
        }
    }
}

#[test]
fn biases_equal_the_host() {
    let mut draws = Draws::new(0xe9a1_0004);
    for (name, device) in devices() {
        let scales: Vec<f32> = (0..200).map(|_| draws.uniform(1e-6, 1e-2)).collect();
        let mut biases: Vec<f32> = (0..200).map(|_| draws.uniform(-3.0, 3.0)).collect();
        biases[0] = 2.5 * scales[0];
        biases[1] = -1.5 * scales[1];
        let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let found = to_vec(fake_quantize_bias(tensor(&biases), tensor(&scales)));
        for ((bias, scale), found) in biases.iter().zip(&scales).zip(found) {
            assert_eq!(found, (bias / scale).round_ties_even() * scale, "{name}, bias {bias} on {scale}");
        }
    }
}

#[test]
fn schemes_have_their_names() {
    for (name, scheme) in Preset::NAMES {
        assert_eq!(scheme.name(), name);
    }
    assert_eq!(Preset::Int8.config().weight_granularity, Granularity::PerChannel);
    assert_eq!(Preset::Int8PerTensor.config().weight_granularity, Granularity::PerTensor);
    assert_eq!(Preset::Int8PerTensor.config(), QConfig { weight_granularity: Granularity::PerTensor, ..Preset::Int8.config() });
}
