//! What the model takes and gives: one input and one output, with the batch as first dimension.

use std::path::Path;

use qat_formats::onnx::{DataType, DimensionValue, Model, ValueInfo};

use super::{Importer, OPSETS, Operand, Placed};
use crate::graph::{Dim, ImportError, Value, ValueId};

/// Elements of one sample that an activation may have.
pub(super) const MAX_SAMPLE: usize = 1 << 31;

/// The version of the standard operators that the model is written in. Imports of other domains are of no account until a node
/// of theirs is read.
pub(super) fn opset(path: &Path, model: &Model) -> Result<i64, ImportError> {
    let standard = model.opset_import.iter().find(|set| matches!(set.domain(), "" | "ai.onnx"));
    let found = standard.map(|set| set.version());
    match found {
        Some(version) if OPSETS.contains(&version) => Ok(version),
        _ => Err(ImportError::Interface {
            path: path.to_owned(),
            place: "operator set".into(),
            expected: "version 7 to 25 of the standard operators",
            found: found.map_or_else(|| "none".into(), |version| format!("version {version}")),
        }),
    }
}

impl Importer<'_> {
    fn interface(&self, place: String, expected: &'static str, found: impl Into<String>) -> ImportError {
        ImportError::Interface { path: self.file.path.clone(), place, expected, found: found.into() }
    }

    /// Makes the model's input the graph's. Up to IR version 3, initializers are inputs as well.
    pub(super) fn input(&mut self) -> Result<(), ImportError> {
        let is_read = |value: &&ValueInfo| self.uses.contains_key(value.name());
        let inputs: Vec<&ValueInfo> =
            self.source.input.iter().filter(|value| !self.initializers.contains_key(value.name())).filter(is_read).collect();
        let [input] = inputs[..] else {
            let names: Vec<&str> = inputs.iter().map(|value| value.name()).collect();
            return Err(self.interface("inputs".into(), "one input", format!("{}: {names:?}", names.len())));
        };
        let place = || format!("input {:?}", input.name());
        let tensor = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let data_type = tensor.map(|tensor| DataType::try_from(tensor.elem_type.unwrap_or_default()));
        self.graph.input_is_indices = match data_type {
            Some(Ok(DataType::Float)) => false,
            Some(Ok(DataType::Int32 | DataType::Int64)) => true,
            other => {
                let found = other.and_then(Result::ok).map_or_else(|| "another".into(), |kind| format!("{kind:?}"));
                return Err(self.interface(place(), "float32 numbers, or int32 or int64 indices", found));
            }
        };
        let Some(shape) = tensor.and_then(|tensor| tensor.shape.as_ref()) else {
            return Err(self.interface(place(), "a shape", "none"));
        };
        let [batch, sample @ ..] = &shape.dim[..] else {
            return Err(self.interface(place(), "a batch dimension and others", "a scalar"));
        };
        let size = |value: &Option<DimensionValue>| match value {
            Some(DimensionValue::DimValue(size)) => usize::try_from(*size).ok().filter(|size| *size > 0),
            _ => None,
        };
        self.batch = size(&batch.value);
        let mut dims = vec![Dim::Batch(1)];
        for (axis, dim) in sample.iter().enumerate() {
            match size(&dim.value) {
                Some(size) => dims.push(Dim::Fixed(size)),
                None => {
                    let found = match &dim.value {
                        Some(DimensionValue::DimParam(name)) => format!("dimension {} is {name:?}", axis + 1),
                        other => format!("dimension {} is {other:?}", axis + 1),
                    };
                    return Err(self.interface(place(), "fixed sizes after the batch dimension", found));
                }
            }
        }
        let elements = sample.iter().filter_map(|dim| size(&dim.value)).try_fold(1usize, usize::checked_mul);
        if !(2..=5).contains(&dims.len()) || elements.is_none_or(|elements| elements > MAX_SAMPLE) {
            return Err(self.interface(place(), "2 to 5 dimensions of 2^31 elements at most", format!("{dims:?}")));
        }
        self.graph.values.push(Value { shape: dims });
        self.graph.input = ValueId(0);
        self.graph.names.input = input.name().to_owned();
        self.operands.insert(input.name(), Operand::Value(Placed::first(ValueId(0))));
        Ok(())
    }

    /// Makes the model's output the graph's.
    pub(super) fn output(&mut self) -> Result<(), ImportError> {
        let [output] = &self.source.output[..] else {
            let names: Vec<&str> = self.source.output.iter().map(ValueInfo::name).collect();
            return Err(self.interface("outputs".into(), "one output", format!("{}: {names:?}", names.len())));
        };
        let place = || format!("output {:?}", output.name());
        let placed = match self.operands.get(output.name()) {
            Some(Operand::Value(placed)) => *placed,
            Some(Operand::Gate(_)) => return Err(self.interface(place(), "the result of a known operator", "that of an Erf")),
            _ => return Err(self.interface(place(), "a result that depends on the input", "a constant")),
        };
        if placed.batch_axis != 0 {
            let found = format!("the batch as dimension {}", placed.batch_axis);
            return Err(self.interface(place(), "the batch as first dimension", found));
        }
        if placed.value == self.graph.input {
            return Err(self.interface(place(), "the result of an operator", "the model's input"));
        }
        let rank = self.graph.values[placed.value.0].shape.len();
        if !(2..=5).contains(&rank) {
            return Err(self.interface(place(), "2 to 5 dimensions, batch included", rank.to_string()));
        }
        self.graph.output = placed.value;
        self.graph.names.output = output.name().to_owned();
        Ok(())
    }
}
