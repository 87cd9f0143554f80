//! `qat eval`: the accuracy of a model on the test split of a dataset.

use std::sync::Arc;
use std::time::Instant;

use qat_export::verify::{accuracy, integer_codes, parameter_bytes, top1};
use qat_train::data::{DataConfig, Split};
use qat_train::{Evaluation, evaluate_with};

use super::images;
use crate::args::{Eval, Global};
use crate::error::CliError;
use crate::image_input::{image_codes, likeliest_units};
use crate::model::{Network, Source};
use crate::output::{Report, percent};
use qat_train::report::thousands;

/// Does what the arguments say.
pub fn run(args: &Eval, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&args.model)?;
    let mode = source.mode(args.mode);
    super::check_contract(args.contract, mode)?;
    let device = global.device.unwrap_or_default().init()?;
    let units = source.units(args.units.given()?)?;
    let network = source.load(mode, args.contract, &device)?;
    let shape = network.input_shape();
    let classes = network.output_shape().iter().product();
    let name = source.path().display().to_string();
    let set = Arc::new(images(&args.data, Split::Test, args.limit, &name, &shape, classes)?);
    global.detail(&format!("{name} in mode {} on {} images of {}", mode.name(), set.len(), set.name));

    let units = match (units, &network) {
        (None, Network::Graph(model)) => Some(likeliest_units(model, &set, &device, global.quiet)?),
        (units, _) => units,
    };
    let config = DataConfig { normalize: units.clone().unwrap_or_default(), ..DataConfig::default() };
    config.suits(&set)?;

    let began = Instant::now();
    let (key, value) = match &network {
        Network::Float(net) => ("float_accuracy", share(evaluate_with(net, &set, &config, &device)?)),
        Network::Graph(model) => ("float_accuracy", share(evaluate_with(model, &set, &config, &device)?)),
        Network::FakeQuant(model) => ("fake_quant_accuracy", share(evaluate_with(model, &set, &config, &device)?)),
        Network::Integer(model) => {
            let codes = integer_codes(model, &image_codes(model, &set, units.as_ref()))?;
            ("integer_accuracy", accuracy(&top1(&codes.to_i32s(), classes), &set.labels))
        }
    };
    let rate = set.len() as f64 / began.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);

    let mut report = Report::new("eval", global.json);
    report.line(&format!(
        "{} accuracy {} on {} images of {} ({rate:.0} images/s)",
        mode.name(),
        percent(value),
        thousands(set.len() as u64),
        set.name
    ))?;
    report.set("model", name);
    report.set("dataset", args.data.as_str());
    report.set("mode", mode.name());
    report.set("samples", set.len());
    report.set(key, value);
    report.set("images_per_second", rate);
    if let Some(units) = units {
        report.set("input", units.to_string());
    }
    if let Some(contract) = network.contract() {
        report.set("contract", contract);
    }
    if let Network::Integer(model) = &network {
        report.set("integer_bytes", parameter_bytes(model));
    }
    report.finish()
}

/// Percent correct.
pub(super) fn share(evaluation: Evaluation) -> f64 {
    100.0 * evaluation.correct as f64 / evaluation.images as f64
}
