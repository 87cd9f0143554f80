//! Weights, tables and constants as integer codes, on the grids that training saw.

use burn::tensor::{Tensor, TensorData};
use qat::fake_quantize::WeightQuantizer;
use qat::{Granularity, IntegerFormat, QParams, WeightScale, quantize};
use qat_runtime::{CodeType, PackedCodes, WeightBits, Weights};

use super::ConvertError;

/// Weights as rows of codes, one for each output channel.
pub(super) struct Rows {
    codes: Vec<i8>,
    scale: Vec<f32>,
    format: IntegerFormat,
}

impl Rows {
    /// `weight` has the output channels first, and `row` numbers for each; `steps`, `[c_out]`, are those that the layer keeps (Q74).
    pub(super) fn new<const D: usize>(
        layer: &str,
        weight: Tensor<D>,
        row: usize,
        quantizer: &WeightQuantizer,
        steps: Option<Tensor<1>>,
    ) -> Result<Self, ConvertError> {
        let (format, granularity) = (quantizer.format(), quantizer.granularity());
        if quantizer.scale() == WeightScale::Real {
            return Err(ConvertError::Unsupported {
                layer: layer.into(),
                expected: "integer weights",
                found: "a layer that its scheme leaves in float".into(),
            });
        }
        if let Granularity::PerGroup { size } = granularity {
            return Err(ConvertError::Unsupported {
                layer: layer.into(),
                expected: "one step for all weights of an output channel, which are added in one integer",
                found: format!("one for each group of {size}"),
            });
        }
        let weight = finite(&format!("weight of {layer}"), weight.into_data())?;
        let steps = steps.map(|steps| finite(&format!("weight steps of {layer}"), steps.into_data())).transpose()?;
        let whole = QParams::symmetric_scale(abs_max(&weight), format);
        let mut codes = Vec::with_capacity(weight.len());
        let mut scales = Vec::new();
        for (channel, row) in weight.chunks(row).enumerate() {
            let scale = match &steps {
                Some(steps) => steps[channel],
                None if granularity == Granularity::PerTensor => whole,
                None => QParams::symmetric_scale(abs_max(row), format),
            };
            codes.extend(row.iter().map(|w| quantize(*w, scale, 0, format) as i8));
            scales.push(scale);
        }
        Ok(Self { codes, scale: scales, format })
    }

    /// The rows with their biases, on the grid of sums over inputs of `code_type` and step `s_in`.
    pub(super) fn weights(
        self,
        layer: &str,
        bias: Option<Tensor<1>>,
        s_in: f32,
        code_type: CodeType,
    ) -> Result<Weights, ConvertError> {
        let bits = if code_type == CodeType::Int16 { 40 } else { 32 };
        // The first magnitude that does not fit, a power of two and so exact.
        let beyond = (1u64 << (bits - 1)) as f32;
        let bias = match bias {
            None => vec![0; self.scale.len()],
            Some(bias) => {
                let bias = finite(&format!("bias of {layer}"), bias.into_data())?;
                let codes = bias.iter().zip(&self.scale).enumerate().map(|(channel, (bias, scale))| {
                    let code = (bias / (s_in * scale)).round_ties_even();
                    if code.abs() < beyond {
                        Ok(code as i64)
                    } else {
                        Err(ConvertError::Bias { layer: layer.into(), channel, bits, found: code })
                    }
                });
                codes.collect::<Result<_, _>>()?
            }
        };
        Ok(Weights { codes: pack(layer, &self.codes, self.format)?, scale: self.scale, bias })
    }
}

/// The codes and the step of a tensor with one symmetric scale.
pub(super) fn table(layer: &str, data: TensorData, format: IntegerFormat) -> Result<(Vec<i32>, f32), ConvertError> {
    let values = finite(layer, data)?;
    let scale = QParams::symmetric_scale(abs_max(&values), format);
    Ok((values.iter().map(|x| quantize(*x, scale, 0, format)).collect(), scale))
}

/// Codes in the width that holds their format.
pub(super) fn pack(layer: &str, codes: &[i8], format: IntegerFormat) -> Result<PackedCodes, ConvertError> {
    let packed = WeightBits::holding(format.bits()).and_then(|bits| PackedCodes::pack(codes, bits));
    packed.ok_or_else(|| ConvertError::Unsupported {
        layer: layer.into(),
        expected: "weights of at most 8 bits",
        found: format!("{} bits", format.bits()),
    })
}

fn abs_max(values: &[f32]) -> f32 {
    values.iter().fold(0.0f32, |max, w| max.max(w.abs()))
}

pub(super) fn finite(place: &str, data: TensorData) -> Result<Vec<f32>, ConvertError> {
    let values: Vec<f32> = data.iter::<f32>().collect();
    match values.iter().copied().find(|value| !value.is_finite()) {
        Some(found) => Err(ConvertError::NotFinite { place: place.into(), found }),
        None => Ok(values),
    }
}
