//! `qat inspect`: the layers of a run, their grids, cost and, with data, their noise.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};
use qat::QatModel;
use qat::analysis::{LayerCost, LayerGrid, layer_sqnr, sensitivity};
use qat_export::write_atomically;
use qat_train::data::{ImageSet, Split};
use qat_train::report::{self, LAYER_HEADINGS, LayerRow, Page, layer_rows};
use qat_train::{Classifier, RunDirectory};
use serde_json::{Value, json};

use super::images;
use crate::args::{Global, Inspect, ModelArgs};
use crate::error::CliError;
use crate::model::{self, Source};
use crate::output::{Report, thousands};

/// Images that noise is measured on where nothing else is said.
const SAMPLES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Images that a device computes at a time.
const BATCH: usize = 64;

/// Noise of a layer, in decibels.
struct Noise {
    /// At the layer's output, with everything quantized.
    sqnr: f64,
    /// At the model's output, with this layer alone quantized; `None` for layers without a quantizer.
    alone: Option<f64>,
}

/// What is known of the input or of one layer.
struct Row {
    layer: LayerRow,
    noise: Option<Noise>,
}

/// Does what the arguments say.
pub fn run(args: &Inspect, global: &Global) -> Result<(), CliError> {
    let source = Source::open(&ModelArgs { path: args.run.clone(), zoo: None })?;
    let Source::Run(run) = &source else {
        return Err(CliError::Usage {
            what: "unsupported model",
            place: args.run.display().to_string(),
            expected: "a run directory, which has ranges and float weights".into(),
            found: "a file".into(),
            hint: None,
        });
    };
    let device = global.device.unwrap_or_default().init()?;
    let (model, calibrated) = quantized(run, &device)?;
    let mut rows: Vec<Row> = layer_rows(&model, calibrated).into_iter().map(|layer| Row { layer, noise: None }).collect();
    let mut samples = None;
    if let Some(spec) = &args.data {
        if !calibrated {
            return Err(CliError::Mismatch {
                what: "noise",
                place: run.path().display().to_string(),
                expected: "a run with qat.bpk".into(),
                found: "float weights alone".into(),
                hint: Some("continue the run without --float-only"),
            });
        }
        let shape = rows[0].layer.output_shape.clone();
        let topology = model.topology();
        let classes = topology.values[topology.output.0].sample_shape().iter().product();
        let set = images(spec, Split::Test, args.limit.or(Some(SAMPLES)), &run.manifest().model, &shape, classes)?;
        let batches = batches(&set, &device);
        let noise = layer_sqnr(&model, &batches).into_iter().zip(sensitivity(&model, &batches));
        for (row, (sqnr, alone)) in rows.iter_mut().zip(noise) {
            row.noise = Some(Noise { sqnr, alone });
        }
        samples = Some(set.len());
    }

    let table = table(&rows);
    let summary = summary(&rows);
    let title = format!("{} on {}, scheme {}", run.manifest().model, run.manifest().dataset, run.manifest().scheme);
    let mut report = Report::new("inspect", global.json);
    report.line(&title)?;
    report.table(&table)?;
    report.line(&summary)?;
    let note = samples.map(|samples| {
        format!(
            "SQNR in dB over {samples} images: of each output with everything quantized, and of the model's output with that \
             layer alone quantized"
        )
    });
    if let Some(note) = &note {
        report.line(note)?;
    }
    if let Some(path) = &args.html {
        let notes: Vec<&str> = std::iter::once(summary.as_str()).chain(note.as_deref()).collect();
        let bars: Vec<(String, f64)> = rows
            .iter()
            .filter_map(|row| Some((row.layer.name.clone(), row.noise.as_ref()?.alone?)))
            .filter(|(_, decibels)| decibels.is_finite())
            .collect();
        write_atomically(path, page(&title, &notes, &table, &bars).as_bytes())?;
        report.line(&format!("page in {}", path.display()))?;
        report.set("out", path.display().to_string());
        report.set("files", vec![path.display().to_string()]);
    }
    report.set("model", run.path().display().to_string());
    report.set("float_bytes", total(&rows, |cost| cost.float_bytes));
    report.set("integer_bytes", total(&rows, |cost| cost.integer_bytes));
    report.set("parameters", total(&rows, |cost| cost.parameters));
    report.set("macs", total(&rows, |cost| cost.macs));
    report.set("bops", total(&rows, |cost| cost.bops));
    if let (Some(spec), Some(samples)) = (&args.data, samples) {
        report.set("dataset", spec.as_str());
        report.set("samples", samples);
    }
    report.set("layers", rows.iter().map(to_json).collect::<Vec<_>>());
    report.finish()
}

/// The run's quantized model, or its float model with quantizers that have no range yet.
fn quantized(run: &RunDirectory, device: &Device) -> Result<(QatModel, bool), CliError> {
    if run.qat_model().exists() {
        return Ok((model::fake_quantized(run, device)?, true));
    }
    let net = model::float(run, device)?;
    let [c, h, w] = net.model().input_shape();
    let scheme = run.manifest().scheme.config();
    Ok((QatModel::prepare(&net, [1, c, h, w], &scheme, Classifier::logits)?, false))
}

/// The table on a page; `bars` are layers and decibels.
fn page(title: &str, notes: &[&str], table: &[Vec<String>], bars: &[(String, f64)]) -> String {
    let mut page = Page::new(title);
    for note in notes {
        page.note(note);
    }
    page.layer_table(table);
    if !bars.is_empty() {
        page.heading("SQNR of the model's output with one layer alone quantized, dB");
        page.figures(&[report::bars(bars)]);
    }
    page.finish()
}

fn batches(set: &ImageSet, device: &Device) -> Vec<Tensor<4>> {
    let [c, h, w] = set.shape;
    let samples = set.to_f32();
    let batch =
        |batch: &[f32]| Tensor::from_data(TensorData::new(batch.to_vec(), [batch.len() / set.image_len(), c, h, w]), device);
    samples.chunks(BATCH * set.image_len()).map(batch).collect()
}

fn total(rows: &[Row], part: impl Fn(&LayerCost) -> u64) -> u64 {
    rows.iter().filter_map(|row| row.layer.cost.as_ref()).map(part).sum()
}

fn summary(rows: &[Row]) -> String {
    let [parameters, macs, bops, float, integer] = [
        total(rows, |cost| cost.parameters),
        total(rows, |cost| cost.macs),
        total(rows, |cost| cost.bops),
        total(rows, |cost| cost.float_bytes),
        total(rows, |cost| cost.integer_bytes),
    ]
    .map(thousands);
    format!("total: {parameters} parameters, {macs} MACs and {bops} BOPs a sample, {float} bytes in float, {integer} in integers")
}

/// The rows as text, with a heading; columns that nothing fills are left out.
fn table(rows: &[Row]) -> Vec<Vec<String>> {
    let heading: Vec<String> = LAYER_HEADINGS.iter().chain(&["SQNR", "alone"]).map(|text| (*text).to_owned()).collect();
    let columns = heading.len();
    let mut table = vec![heading];
    for Row { layer, noise } in rows {
        let decibels = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        let noise = [noise.as_ref().map(|noise| noise.sqnr), noise.as_ref().and_then(|noise| noise.alone)];
        table.push(layer.cells().into_iter().chain(noise.map(decibels)).collect());
    }
    let filled: Vec<bool> = (0..columns).map(|column| table[1..].iter().any(|row| !row[column].is_empty())).collect();
    let keep = |row: Vec<String>| row.into_iter().zip(&filled).filter(|(_, filled)| **filled).map(|(cell, _)| cell).collect();
    table.into_iter().map(keep).collect()
}

fn to_json(Row { layer, noise }: &Row) -> Value {
    let mut value = json!({ "name": layer.name, "op": layer.op, "output_shape": layer.output_shape });
    let object = value.as_object_mut().expect("an object was made");
    if let Some(cost) = &layer.cost {
        object.insert("parameters".into(), cost.parameters.into());
        object.insert("weight_bits".into(), cost.weight_bits.into());
        object.insert("macs".into(), cost.macs.into());
        object.insert("bops".into(), cost.bops.into());
        object.insert("float_bytes".into(), cost.float_bytes.into());
        object.insert("integer_bytes".into(), cost.integer_bytes.into());
    }
    if let Some(LayerGrid { qparams, shared }) = &layer.grid {
        let (min, max) = qparams.real_range();
        object.insert("range_min".into(), min.into());
        object.insert("range_max".into(), max.into());
        object.insert("scale".into(), qparams.scale.into());
        object.insert("zero_point".into(), qparams.zero_point.into());
        object.insert("bits".into(), qparams.format.bits().into());
        object.insert("shares_input_grid".into(), (*shared).into());
    }
    if let Some(Noise { sqnr, alone }) = noise {
        object.insert("sqnr".into(), (*sqnr).into());
        object.insert("sensitivity".into(), (*alone).into());
    }
    value
}
