//! `qat run`: the outputs of a model for the samples of an array.

use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use qat::{Activation, QatModel};
use qat_export::verify::{integer_codes, real_outputs};
use qat_runtime::{CodeType, Codes, IntegerModel};
use qat_train::Classifier;
use qat_train::data::npy::{self, Array};
use qat_train::report::thousands;

use crate::args::{Global, ModeName, Run};
use crate::error::CliError;
use crate::model::{Network, Source};
use crate::output::Report;

/// Does what the arguments say.
pub fn run(args: &Run, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&args.model)?;
    let mode = source.mode(args.mode);
    super::check_contract(args.contract, mode)?;
    if args.codes && mode != ModeName::Integer {
        return Err(CliError::Usage {
            what: "argument without effect",
            place: "--codes".into(),
            expected: "--mode integer".into(),
            found: format!("--mode {}", mode.name()),
            hint: Some("leave out --codes for float32 outputs".into()),
        });
    }
    let device = global.device.unwrap_or_default().init()?;
    let network = source.load(mode, args.contract, &device)?;
    let input = npy::read(&args.input)?;
    let samples = samples(&input, &network.input_shape(), &args.input)?;
    let output_shape: Vec<usize> = std::iter::once(samples).chain(network.output_shape()).collect();

    let began = Instant::now();
    let output = match &network {
        Network::Integer(model) => {
            let codes = integer_codes(model, &input_codes(model, input, &args.input)?)?;
            match codes {
                Codes::Int8(values) if args.codes => Array::I8 { shape: output_shape, values },
                Codes::Int16(values) if args.codes => Array::I16 { shape: output_shape, values },
                Codes::Int32(values) if args.codes => Array::I32 { shape: output_shape, values },
                codes => Array::F32 { shape: output_shape, values: model.dequantize_output(&codes) },
            }
        }
        Network::Float(net) => {
            let values = reals(input, mode, &args.input)?;
            let outputs = real_outputs(|images| net.logits(images), &values, net.model().input_shape(), &device);
            let outputs = outputs.map_err(|source| CliError::Execution { place: "model run", source })?;
            Array::F32 { shape: output_shape, values: outputs }
        }
        Network::Graph(model) | Network::FakeQuant(model) => {
            let values = reals(input, mode, &args.input)?;
            Array::F32 { shape: output_shape, values: outputs_of(model, &values, &device)? }
        }
    };
    let rate = samples as f64 / began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    npy::write(&args.output, &output)?;

    let mut report = Report::new("run", global.json);
    let out = args.output.display().to_string();
    report.line(&format!(
        "{out}: {} of shape {:?} from {} samples in mode {} ({rate:.0} images/s)",
        output.dtype(),
        output.shape(),
        thousands(samples as u64),
        mode.name()
    ))?;
    report.set("model", source.path().display().to_string());
    report.set("mode", mode.name());
    report.set("samples", samples);
    report.set("images_per_second", rate);
    report.set("out", out);
    if let Some(contract) = network.contract() {
        report.set("contract", contract);
    }
    report.finish()
}

/// What a model gives for samples in its own order, batch after batch.
fn outputs_of(model: &QatModel, values: &[f32], device: &Device) -> Result<Vec<f32>, CliError> {
    let topology = model.topology();
    let shape = topology.values[topology.input.0].sample_shape();
    let sample: usize = shape.iter().product::<usize>().max(1);
    let mut outputs = Vec::new();
    for batch in values.chunks(BATCH * sample) {
        let whole: Vec<usize> = [batch.len() / sample].into_iter().chain(shape.iter().copied()).collect();
        let data = TensorData::new(batch.to_vec(), whole);
        let mut output = None;
        let visit = |value, activation: &Activation| {
            if value == topology.output {
                output = Some(activation.to_data());
            }
        };
        match shape.len() {
            1 => model.run::<2>(Tensor::from_data(data, device), visit),
            2 => model.run::<3>(Tensor::from_data(data, device), visit),
            3 => model.run::<4>(Tensor::from_data(data, device), visit),
            _ => model.run::<5>(Tensor::from_data(data, device), visit),
        }
        outputs.extend(output.expect("the output is defined by the last layers").iter::<f32>());
    }
    Ok(outputs)
}

/// Samples that a device computes at a time.
const BATCH: usize = 64;

/// Number of samples of `shape` in an array.
fn samples(array: &Array, shape: &[usize], path: &Path) -> Result<usize, CliError> {
    match array.shape() {
        [samples, sample @ ..] if sample == shape => Ok(*samples),
        found => Err(CliError::Mismatch {
            what: "input shape",
            place: path.display().to_string(),
            expected: format!("[N, {}]", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            found: format!("{found:?}"),
            hint: Some("arrays hold samples batch first, images as [N, C, H, W]"),
        }),
    }
}

/// Codes of an integer model's input; uint8 codes are 128 above its own.
fn input_codes(model: &IntegerModel, array: Array, path: &Path) -> Result<Codes, CliError> {
    let expected = model.input_info().code_type;
    let found = array.dtype();
    match (array, expected) {
        (Array::F32 { values, .. }, _) => Ok(model.quantize_input(&finite(values, path)?)),
        (Array::I8 { values, .. }, CodeType::Int8) => Ok(Codes::Int8(values)),
        (Array::U8 { values, .. }, CodeType::Int8) => {
            Ok(Codes::Int8(values.into_iter().map(|code| (code ^ 0x80).cast_signed()).collect()))
        }
        (Array::I16 { values, .. }, CodeType::Int16) => Ok(Codes::Int16(values)),
        (Array::I32 { values, .. }, CodeType::Int32) => Ok(Codes::Int32(values)),
        _ => Err(CliError::Mismatch {
            what: "element type",
            place: path.display().to_string(),
            expected: format!("float32 or {}", expected.name()),
            found: found.into(),
            hint: None,
        }),
    }
}

/// Real numbers of a model's input.
fn reals(array: Array, mode: ModeName, path: &Path) -> Result<Vec<f32>, CliError> {
    let found = array.dtype();
    match array {
        Array::F32 { values, .. } => finite(values, path),
        Array::I8 { .. } | Array::U8 { .. } | Array::I16 { .. } | Array::I32 { .. } => Err(CliError::Mismatch {
            what: "element type",
            place: path.display().to_string(),
            expected: format!("float32 in mode {}", mode.name()),
            found: found.into(),
            hint: Some("codes are taken in mode integer"),
        }),
    }
}

/// A number that is not finite has no code, and would spread in float.
pub(super) fn finite(values: Vec<f32>, path: &Path) -> Result<Vec<f32>, CliError> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => Err(CliError::Mismatch {
            what: "input value",
            place: format!("{} element {at}", path.display()),
            expected: "finite numbers".into(),
            found: values[at].to_string(),
            hint: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn unsigned_codes_are_128_above_the_models_own() {
        for code in 0..=u8::MAX {
            assert_eq!(i16::from((code ^ 0x80).cast_signed()), i16::from(code) - 128);
        }
    }
}
