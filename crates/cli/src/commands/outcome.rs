//! The end of `train`, `quantize` and `finetune`: the integers, their measures, the run's last files, and what is printed.

use burn::tensor::{Device, Tensor};
use qat::QatModel;
use qat_export::verify::{Parity, accuracy, integer_codes, parameter_bytes, real_outputs, top1};
use qat_export::{Format, OnnxOptions, Target, convert, write_onnx, write_safetensors};
use qat_runtime::IntegerModel;
use qat_train::data::{ImageSet, Normalize};
use qat_train::recipe::{Judge, Quantized};
use qat_train::report::{Confusion, thousands, write_report};
use qat_train::{Evaluation, Results, RunDirectory, outputs};

use super::eval::share;
use crate::args::Global;
use crate::error::CliError;
use crate::image_input::image_codes;
use crate::model;
use crate::output::{Report, percent};

/// What a command has come to.
pub struct Outcome<'a> {
    /// The command.
    pub command: &'static str,
    /// Where its files are.
    pub run: &'a RunDirectory,
    /// Images to measure on.
    pub images: &'a ImageSet,
    /// Size of the float parameters.
    pub float_bytes: u64,
    /// The runtime that the integers are for.
    pub target: Target,
}

/// What has been measured of float models.
pub enum Measured<'a> {
    /// Accuracies on the outcome's images.
    Labelled {
        /// Of the float model.
        float: Evaluation,
        /// Its class scores.
        scores: &'a dyn Fn(Tensor<4>) -> Tensor<2>,
        /// The quantized model, if there is one.
        quantized: Option<&'a Quantized>,
    },
    /// Nothing: the outcome's images, if there are any, have no labels.
    Unlabelled(&'a QatModel),
}

/// Scores a quantized model by the accuracy of its integers on `images`, which it sees in `units`.
pub fn judge<'a>(images: &'a ImageSet, units: &'a Normalize, target: Target) -> Box<Judge<'a>> {
    Box::new(move |model| {
        let integers = convert(model, target)?;
        let codes = integer_codes(&integers, &image_codes(&integers, images, Some(units)))?;
        Ok(accuracy(&top1(&codes.to_i32s(), classes(&integers)), &images.labels) as f32)
    })
}

impl Outcome<'_> {
    /// Converts, measures, writes the run's last files and prints what came out.
    pub fn report(&self, measured: &Measured<'_>, device: &Device, global: &Global) -> Result<(), CliError> {
        let Self { run, images, float_bytes, target, .. } = *self;
        let units = &run.manifest().data.normalize;
        let mut report = Report::new(self.command, global.json);
        let mut files = vec![run.path().join("run.toml"), run.metrics(), run.source().unwrap_or_default(), run.float_model()];
        let mut results = Results { float_bytes: Some(float_bytes), ..Results::default() };
        if let Measured::Labelled { float, .. } = measured {
            results.samples = Some(images.len());
            results.float_accuracy = Some(share(*float));
        }
        let quantized = match measured {
            Measured::Labelled { quantized, .. } => quantized.map(|quantized| &quantized.model),
            Measured::Unlabelled(model) => Some(*model),
        };
        let mut parity_line = None;
        let mut named = None;
        if let Some(model) = quantized {
            let integers = convert(model, target)?;
            write_safetensors(&integers, &run.integer_model())?;
            files.extend([run.qat_model(), run.integer_model()]);
            match target {
                Target::Onnx => {
                    write_onnx(&integers, &OnnxOptions::default(), &run.onnx_model())?;
                    files.push(run.onnx_model());
                }
                Target::Tflite | Target::Tflm => files.extend(Format::Tflite.write(&integers, &run.tflite_model())?),
                Target::Rust => {}
            }
            results.integer_bytes = Some(parameter_bytes(&integers));
            report.set("contract", model::contract(&integers));
            if !images.is_empty() {
                let codes = integer_codes(&integers, &image_codes(&integers, images, Some(units)))?;
                let parity = Parity::of(&integers, &codes, &self.scores(&|images| outputs(model, images), device)?);
                named = Some(top1(&codes.to_i32s(), classes(&integers)));
                results.agreement = Some(parity.agreement());
                report.set("differing_codes", parity.differing_codes);
                report.set("largest_difference", parity.largest_difference);
                let simulation = if self.command == "quantize" { "PTQ" } else { "QAT" };
                parity_line = Some(format!(
                    "{simulation} and integers name one class on {} of {} images; {} of {} output codes differ, by at most {}",
                    percent(parity.agreement()),
                    thousands(parity.samples as u64),
                    parity.differing_codes,
                    thousands(parity.codes as u64),
                    parity.largest_difference
                ));
            }
        }
        if let Measured::Labelled { scores, quantized, .. } = measured {
            let names = images.class_names.clone();
            let confusion = match (quantized, named) {
                (Some(quantized), Some(named)) => {
                    results.ptq_accuracy = Some(share(quantized.ptq));
                    results.fake_quant_accuracy = Some(share(quantized.qat));
                    results.integer_accuracy = Some(accuracy(&named, &images.labels));
                    Confusion::of("integer", names, &images.labels, &named)
                }
                _ => {
                    let scores = self.scores(scores, device)?;
                    Confusion::of("float", names, &images.labels, &top1(&scores, scores.len() / images.len()))
                }
            };
            run.write_confusion(&confusion)?;
            files.push(run.confusion());
        }
        run.write_results(&results)?;
        write_report(run)?;
        files.extend([run.results_file(), run.report()]);
        report.results(&results)?;
        if let Some(line) = parity_line {
            report.line(&line)?;
        }
        report.line(&format!("run in {}, its page {}", run.path().display(), run.report().display()))?;

        report.set("model", run.manifest().model.as_str());
        report.set("dataset", run.manifest().dataset.as_str());
        report.set("input", units.to_string());
        report.set("target", target.name());
        report.set("out", run.path().display().to_string());
        let there: Vec<String> = files.iter().filter(|file| file.is_file()).map(|file| file.display().to_string()).collect();
        report.set("files", there);
        report.finish()
    }

    /// Numbers that `forward` gives for the images.
    fn scores(&self, forward: &dyn Fn(Tensor<4>) -> Tensor<2>, device: &Device) -> Result<Vec<f32>, CliError> {
        let reals = self.images.normalized(&self.run.manifest().data.normalize);
        real_outputs(forward, &reals, self.images.shape, device)
            .map_err(|source| CliError::Execution { place: "the final measurement", source })
    }
}

/// How many scores a model gives.
fn classes(integers: &IntegerModel) -> usize {
    integers.output_info().elements().unwrap_or(1)
}
