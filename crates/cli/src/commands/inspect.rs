//! `qat inspect`: the layers of a run, their grids, cost and, with data, their noise.

use std::num::NonZeroUsize;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use qat::analysis::{LayerCost, LayerGrid, layer_sqnr, sensitivity};
use qat::{QatModel, Scheme};
use qat_export::write_atomically;
use qat_train::data::{ImageSet, Normalize, Split};
use qat_train::report::{self, LAYER_HEADINGS, LayerRow, Page, layer_rows, thousands};
use qat_train::{ImageOrder, recipe};
use serde_json::{Value, json};

use super::images;
use crate::args::{Global, Inspect, ModeName, SchemeArg};
use crate::error::CliError;
use crate::image_input::likeliest_units;
use crate::model::{self, Network, Source};
use crate::output::Report;

/// Images that noise is measured on where nothing else is said.
const SAMPLES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// Images that set the ranges of a model that has none.
const CALIBRATION: NonZeroUsize = NonZeroUsize::new(512).unwrap();
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
    let source = Source::open(&args.model)?;
    let units = source.units(args.units.given()?)?;
    let device = global.device.unwrap_or_default().init()?;
    let scheme = args.scheme.as_ref().map(SchemeArg::load).transpose()?;
    let Subject { mut model, mut calibrated, title } = subject(&source, scheme, &device)?;
    let name = source.path().display().to_string();
    let mut samples = None;
    let mut noise = Vec::new();
    if let Some(spec) = &args.data {
        let topology = model.topology();
        let shape = topology.values[topology.input.0].sample_shape();
        let classes = topology.values[topology.output.0].sample_shape().iter().product();
        let set = images(spec, Split::Test, args.limit.or(Some(SAMPLES)), &name, &shape, classes)?;
        let units = match units {
            Some(units) => units,
            None => likeliest_units(&model, &set, &device, global.quiet)?,
        };
        if !calibrated {
            let calib = images(spec, Split::Train, Some(CALIBRATION), &name, &shape, classes)?;
            model = recipe::observe(model, Arc::new(calib), &units, &device)?;
            calibrated = true;
        }
        noise = match ImageOrder::of(&shape, set.shape) {
            Some(ImageOrder::Row) => measured(&model, &batches::<2>(&set, &units, &shape, &device)),
            Some(ImageOrder::Plane) => measured(&model, &batches::<3>(&set, &units, &shape, &device)),
            _ => measured(&model, &batches::<4>(&set, &units, &shape, &device)),
        };
        samples = Some(set.len());
    }
    let mut noise = noise.into_iter();
    let rows: Vec<Row> = layer_rows(&model, calibrated).into_iter().map(|layer| Row { layer, noise: noise.next() }).collect();

    let table = table(&rows);
    let summary = summary(&rows);
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
    report.set("model", name);
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

/// What is looked at.
struct Subject {
    model: QatModel,
    /// Whether its quantizers have ranges.
    calibrated: bool,
    title: String,
}

/// The quantized model of a run, or a float model with quantizers that have no range yet.
fn subject(source: &Source, asked: Option<Scheme>, device: &Device) -> Result<Subject, CliError> {
    if let Source::Run(run) = source
        && asked.is_none()
    {
        let manifest = run.manifest();
        let title = format!("{} on {}, scheme {}", manifest.model, manifest.dataset, manifest.scheme);
        if run.qat_model().exists() {
            return Ok(Subject { model: model::fake_quantized(run, device)?, calibrated: true, title });
        }
        let config = manifest.scheme.config();
        let model = match source.load(ModeName::Float, None, device)? {
            Network::Float(net) => recipe::prepare(&net, net.model().input_shape(), &config)?,
            _ => model::structure(run, &config, device)?,
        };
        return Ok(Subject { model, calibrated: false, title });
    }
    let scheme = asked.unwrap_or_default();
    let title = format!("{}, scheme {scheme}", source.path().display());
    let model = match source {
        Source::Float(file) => file.prepared(&scheme.config(), device)?,
        Source::Run(run) => match source.load(ModeName::Float, None, device)? {
            Network::Float(net) => recipe::prepare(&net, net.model().input_shape(), &scheme.config())?,
            _ => model::structure(run, &scheme.config(), device)?,
        },
        Source::Integers(path) | Source::Tflite(path) => {
            return Err(CliError::Usage {
                what: "unsupported model",
                place: path.display().to_string(),
                expected: "a run directory or a float model, which have float weights".into(),
                found: "an integer model".into(),
                hint: None,
            });
        }
    };
    Ok(Subject { model, calibrated: false, title })
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

/// The noise at the input and at each layer.
fn measured<const I: usize>(model: &QatModel, batches: &[Tensor<I>]) -> Vec<Noise> {
    let noise = layer_sqnr(model, batches).into_iter().zip(sensitivity(model, batches));
    noise.map(|(sqnr, alone)| Noise { sqnr, alone }).collect()
}

/// Batches of a set in the order and units of a model with samples of shape `shape`.
fn batches<const I: usize>(set: &ImageSet, units: &Normalize, shape: &[usize], device: &Device) -> Vec<Tensor<I>> {
    let order = ImageOrder::of(shape, set.shape).unwrap_or(ImageOrder::ChannelsFirst);
    let samples = order.arranged(set.normalized(units), set.shape);
    let batch = |batch: &[f32]| {
        let whole: Vec<usize> = [batch.len() / set.image_len()].into_iter().chain(shape.iter().copied()).collect();
        Tensor::from_data(TensorData::new(batch.to_vec(), whole), device)
    };
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
        object.insert("weight_steps".into(), cost.weight_steps.into());
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
