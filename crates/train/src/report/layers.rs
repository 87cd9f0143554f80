//! `layers.csv`: what is known of each layer of a quantized model, in words and numbers for people.

use super::number::thousands;
use crate::{atomic::write_file, error::TrainError};
use qat::{
    QParams, QatModel,
    analysis::{LayerCost, LayerGrid, layer_costs, layer_grids},
};
use std::{io, path::Path};

/// What is known of the input (without cost) or of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerRow {
    /// The layer's name, or `input`.
    pub name: String,
    /// The operation and what is fused into it; empty for the input.
    pub op: String,
    /// Shape of the output for one sample.
    pub output_shape: Vec<usize>,
    /// Arithmetic and size.
    pub cost: Option<LayerCost>,
    /// The grid of the output, once the model is calibrated.
    pub grid: Option<LayerGrid>,
}

/// Headings of [`LayerRow::cells`].
pub const LAYER_HEADINGS: [&str; 14] = [
    "layer",
    "op",
    "output",
    "params",
    "bits",
    "steps",
    "act bits",
    "min",
    "max",
    "scale",
    "zero point",
    "MACs",
    "BOPs",
    "bytes",
];

/// The input, then every layer; `calibrated` says whether ranges mean something.
pub fn layer_rows(model: &QatModel, calibrated: bool) -> Vec<LayerRow> {
    let topology = model.topology();
    let mut grids = layer_grids(model).into_iter().map(|grid| grid.filter(|_| calibrated));
    let input = LayerRow {
        name: "input".into(),
        op: String::new(),
        output_shape: topology.values[topology.input.0].sample_shape(),
        cost: None,
        grid: grids.next().flatten(),
    };
    let layer = |(cost, grid): (LayerCost, Option<LayerGrid>)| LayerRow {
        name: cost.name.clone(),
        op: cost.op.clone(),
        output_shape: cost.output_shape.clone(),
        grid,
        cost: Some(cost),
    };
    std::iter::once(input).chain(layer_costs(model).into_iter().zip(grids).map(layer)).collect()
}

impl LayerRow {
    /// A text for each of [`LAYER_HEADINGS`]; empty where there is nothing to say, `"` where the grid is that of the input.
    pub fn cells(&self) -> Vec<String> {
        let cost = |part: fn(&LayerCost) -> u64| {
            self.cost.as_ref().map(part).filter(|value| *value > 0).map_or_else(String::new, thousands)
        };
        let grid = |text: &dyn Fn(&QParams) -> String| match &self.grid {
            None => String::new(),
            Some(grid) if grid.shared => "\"".into(),
            Some(grid) => text(&grid.qparams),
        };
        vec![
            self.name.clone(),
            self.op.clone(),
            self.output_shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"),
            cost(|cost| cost.parameters),
            self.cost.as_ref().and_then(|cost| cost.weight_bits).map_or_else(String::new, |bits| bits.to_string()),
            cost(|cost| cost.weight_steps.unwrap_or(0)),
            grid(&|qparams| qparams.format.bits().to_string()),
            grid(&|qparams| format!("{:.4}", qparams.real_range().0)),
            grid(&|qparams| format!("{:.4}", qparams.real_range().1)),
            grid(&|qparams| format!("{:.6}", qparams.scale)),
            grid(&|qparams| qparams.zero_point.to_string()),
            cost(|cost| cost.macs),
            cost(|cost| cost.bops),
            cost(|cost| cost.integer_bytes),
        ]
    }
}

/// Writes the file, for a calibrated model.
pub(super) fn write(path: &Path, model: &QatModel) -> Result<(), TrainError> {
    const ACTION: &str = "write layers";
    let mut writer = csv::Writer::from_writer(Vec::new());
    let written = writer.write_record(LAYER_HEADINGS).and_then(|()| {
        let mut rows = layer_rows(model, true).into_iter();
        rows.try_for_each(|row| writer.write_record(row.cells()))
    });
    let bytes = written.map_err(io::Error::from).and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
    let bytes = bytes.map_err(|source| TrainError::Io { action: ACTION, path: path.into(), source })?;
    write_file(ACTION, path, &bytes)
}

/// The heading and the rows; nothing where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<Vec<String>>, TrainError> {
    super::read_csv_cells(path, "layers.csv of this program")
}
