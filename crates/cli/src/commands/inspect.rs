//! `qat inspect`: the layers of a run, their grids, cost and, with data, their noise.

use std::num::NonZeroUsize;

use burn::tensor::{Device, Tensor, TensorData};
use qat::analysis::{LayerCost, layer_costs, layer_sqnr, sensitivity};
use qat::{Mode, QParams, QatModel};
use qat_export::write_atomically;
use qat_train::data::{ImageSet, Split};
use qat_train::{Classifier, RunDirectory};
use serde_json::{Value, json};

use super::images;
use crate::args::{Global, Inspect, ModelArgs};
use crate::error::CliError;
use crate::html;
use crate::model::{self, Source};
use crate::output::{Report, thousands};

/// Images that noise is measured on where nothing else is said.
const SAMPLES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Images that a device computes at a time.
const BATCH: usize = 64;

/// The grid of a layer's output.
struct Grid {
    qparams: QParams,
    /// Whether it is that of the layer's input.
    shared: bool,
}

/// Noise of a layer, in decibels.
struct Noise {
    /// At the layer's output, with everything quantized.
    sqnr: f64,
    /// At the model's output, with this layer alone quantized; `None` for layers without a quantizer.
    alone: Option<f64>,
}

/// What is known of the input (without cost) or of one layer.
struct Row {
    name: String,
    op: String,
    output_shape: Vec<usize>,
    cost: Option<LayerCost>,
    grid: Option<Grid>,
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
    let mut rows = rows(&model, calibrated);
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
        let shape = rows[0].output_shape.clone();
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
            .filter_map(|row| Some((row.name.clone(), row.noise.as_ref()?.alone?)))
            .filter(|(_, decibels)| decibels.is_finite())
            .collect();
        write_atomically(path, html::page(&title, &notes, &table, &bars).as_bytes())?;
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

fn rows(model: &QatModel, calibrated: bool) -> Vec<Row> {
    let topology = model.topology();
    let mut grids: Vec<Option<QParams>> = vec![None; topology.values.len()];
    grids[topology.input.0] = (calibrated && model.input.mode() == Mode::Quantize).then(|| model.input.qparams());
    let mut rows = vec![Row {
        name: "input".into(),
        op: String::new(),
        output_shape: topology.values[topology.input.0].sample_shape(),
        cost: None,
        grid: grids[topology.input.0].map(|qparams| Grid { qparams, shared: false }),
        noise: None,
    }];
    for (step, layer) in model.steps() {
        let own = layer.output().filter(|_| calibrated).map(|quantizer| quantizer.qparams());
        grids[step.output.0] = own.or_else(|| step.inputs.first().and_then(|input| grids[input.0]));
    }
    for (index, (layer, cost)) in model.layers.iter().zip(layer_costs(model)).enumerate() {
        let qparams = grids[model.first_step(index).output.0];
        rows.push(Row {
            name: cost.name.clone(),
            op: cost.op.clone(),
            output_shape: cost.output_shape.clone(),
            grid: qparams.map(|qparams| Grid { qparams, shared: layer.output().is_none() }),
            cost: Some(cost),
            noise: None,
        });
    }
    rows
}

fn batches(set: &ImageSet, device: &Device) -> Vec<Tensor<4>> {
    let [c, h, w] = set.shape;
    let samples = set.to_f32();
    let batch =
        |batch: &[f32]| Tensor::from_data(TensorData::new(batch.to_vec(), [batch.len() / set.image_len(), c, h, w]), device);
    samples.chunks(BATCH * set.image_len()).map(batch).collect()
}

fn total(rows: &[Row], part: impl Fn(&LayerCost) -> u64) -> u64 {
    rows.iter().filter_map(|row| row.cost.as_ref()).map(part).sum()
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
    let heading = [
        "layer",
        "op",
        "output",
        "params",
        "bits",
        "min",
        "max",
        "scale",
        "zero point",
        "MACs",
        "BOPs",
        "bytes",
        "SQNR",
        "alone",
    ];
    let mut table = vec![heading.map(str::to_owned).to_vec()];
    for row in rows {
        let cost = |part: fn(&LayerCost) -> u64| {
            row.cost.as_ref().map(part).filter(|value| *value > 0).map_or_else(String::new, thousands)
        };
        let grid = |text: &dyn Fn(&QParams) -> String| match &row.grid {
            None => String::new(),
            Some(grid) if grid.shared => "\"".into(),
            Some(grid) => text(&grid.qparams),
        };
        let decibels = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.1}"));
        table.push(vec![
            row.name.clone(),
            row.op.clone(),
            row.output_shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
            cost(|cost| cost.parameters),
            row.cost.as_ref().and_then(|cost| cost.weight_bits).map_or_else(String::new, |bits| bits.to_string()),
            grid(&|qparams| format!("{:.4}", qparams.real_range().0)),
            grid(&|qparams| format!("{:.4}", qparams.real_range().1)),
            grid(&|qparams| format!("{:.6}", qparams.scale)),
            grid(&|qparams| qparams.zero_point.to_string()),
            cost(|cost| cost.macs),
            cost(|cost| cost.bops),
            cost(|cost| cost.integer_bytes),
            decibels(row.noise.as_ref().map(|noise| noise.sqnr)),
            decibels(row.noise.as_ref().and_then(|noise| noise.alone)),
        ]);
    }
    let filled: Vec<bool> = (0..heading.len()).map(|column| table[1..].iter().any(|row| !row[column].is_empty())).collect();
    let keep = |row: Vec<String>| row.into_iter().zip(&filled).filter(|(_, filled)| **filled).map(|(cell, _)| cell).collect();
    table.into_iter().map(keep).collect()
}

fn to_json(row: &Row) -> Value {
    let mut value = json!({ "name": row.name, "op": row.op, "output_shape": row.output_shape });
    let object = value.as_object_mut().expect("an object was made");
    if let Some(cost) = &row.cost {
        object.insert("parameters".into(), cost.parameters.into());
        object.insert("weight_bits".into(), cost.weight_bits.into());
        object.insert("macs".into(), cost.macs.into());
        object.insert("bops".into(), cost.bops.into());
        object.insert("float_bytes".into(), cost.float_bytes.into());
        object.insert("integer_bytes".into(), cost.integer_bytes.into());
    }
    if let Some(Grid { qparams, shared }) = &row.grid {
        let (min, max) = qparams.real_range();
        object.insert("range_min".into(), min.into());
        object.insert("range_max".into(), max.into());
        object.insert("scale".into(), qparams.scale.into());
        object.insert("zero_point".into(), qparams.zero_point.into());
        object.insert("bits".into(), qparams.format.bits().into());
        object.insert("shares_input_grid".into(), (*shared).into());
    }
    if let Some(Noise { sqnr, alone }) = &row.noise {
        object.insert("sqnr".into(), (*sqnr).into());
        object.insert("sensitivity".into(), (*alone).into());
    }
    value
}
