//! From a calibrated or trained [`QatModel`] to integers.
//!
//! Batch norm is folded by its running statistics (Q12, Q14), weights become int8 codes on their own grids (Q4, Q5), biases int32 on the
//! accumulator's grid (Q11), and each layer gets the multipliers that bring its accumulators to the output's codes (Q10). The scales
//! are computed as in training, in f32 and in the same order, so the integers are those that training saw. The result is validated,
//! which includes the proof that no accumulator overflows.

use burn::tensor::{Tensor, TensorData};
use qat::graph::{Dim, ValueId};
use qat::nn::{QuantConv2d, QuantLinear};
use qat::{Granularity, IntegerFormat, Mode, QParams, QatLayer, QatModel, Step, quantize};
use qat_runtime as runtime;
use qat_runtime::{CodeType, IntegerModel, ModelError, Op, PackedCodes, Rules, Weights};
use thiserror::Error;

/// Why a model has no integer form.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A quantizer is not in [`Mode::Quantize`], so its range means nothing yet.
    #[error("conversion, output of {layer}: expected a calibrated quantizer, found one in {mode:?} mode")]
    NotCalibrated {
        /// The layer.
        layer: String,
        /// Its quantizer's mode.
        mode: Mode,
    },
    /// A range or weight is NaN or infinite.
    #[error("conversion, {place}: expected finite numbers, found {found}")]
    NotFinite {
        /// The tensor.
        place: String,
        /// The first number that is not.
        found: f32,
    },
    /// The integer engine has no such operation.
    #[error("conversion, {layer}: expected {expected}, found {found}")]
    Unsupported {
        /// The layer.
        layer: String,
        /// What it takes.
        expected: &'static str,
        /// What the model has.
        found: String,
    },
    /// A bias is too large for its accumulator.
    #[error("conversion, bias of {layer}, channel {channel}: expected a 32-bit code, found {found}")]
    Bias {
        /// The layer.
        layer: String,
        /// The output channel.
        channel: usize,
        /// The code it would need.
        found: f32,
    },
    /// The integers contradict a rule of the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// Converts `model` for [`Rules::OnnxRuntime`].
///
/// # Errors
/// The model is not calibrated, holds numbers that are not finite, or has a layer that the integer engine has not.
pub fn convert(model: &QatModel) -> Result<IntegerModel, ConvertError> {
    let model = &burn::module::Module::valid(model);
    let mut converter = Converter::new(model)?;
    for (step, layer) in model.topology().steps.iter().zip(&model.layers) {
        converter.layer(step, layer)?;
    }
    let output = converter.id(model.topology().output);
    let integers = IntegerModel {
        rules: Rules::OnnxRuntime,
        values: converter.values,
        nodes: converter.nodes,
        input: runtime::ValueId(0),
        output,
    };
    integers.validate()?;
    Ok(integers)
}

struct Converter<'a> {
    model: &'a QatModel,
    values: Vec<runtime::ValueInfo>,
    nodes: Vec<runtime::Node>,
    /// Where each activation of the model went; fused ones went nowhere.
    ids: Vec<Option<runtime::ValueId>>,
}

impl<'a> Converter<'a> {
    fn new(model: &'a QatModel) -> Result<Self, ConvertError> {
        let topology = model.topology();
        let mut converter = Self { model, values: Vec::new(), nodes: Vec::new(), ids: vec![None; topology.values.len()] };
        let grid = grid("input", &model.input)?;
        converter.define("input", "input".into(), topology.input, grid)?;
        Ok(converter)
    }

    fn layer(&mut self, step: &Step, layer: &QatLayer) -> Result<(), ConvertError> {
        let input = self.id(step.inputs[0]);
        let input_grid = self.values[input.0].qparams;
        let grid = match layer.output() {
            Some(quantizer) => grid(&step.name, quantizer)?,
            None => input_grid,
        };
        let op = match layer {
            QatLayer::Conv2d(conv) => Op::Conv2d(self.conv2d(step, conv, input, grid)?),
            QatLayer::Linear(linear) => Op::Linear(self.linear(step, linear, input, grid)?),
            QatLayer::Add(add) => Op::Add(runtime::Elementwise { clamp: clamp(add.relu(), grid) }),
            QatLayer::MaxPool2d(pool) => {
                let o = pool.options();
                Op::MaxPool2d(runtime::MaxPool2d {
                    kernel: o.kernel_size,
                    stride: o.stride,
                    padding: edges(o.padding),
                    dilation: o.dilation,
                })
            }
            QatLayer::AvgPool2d(pool) => {
                let o = pool.options();
                Op::AvgPool2d(runtime::AvgPool2d {
                    kernel: o.kernel_size,
                    stride: o.stride,
                    padding: edges(o.padding),
                    count_include_pad: o.count_include_pad,
                })
            }
            QatLayer::AdaptiveAvgPool2d(pool) => {
                let (shape, size) = (&self.values[input.0].shape, pool.output_size());
                let divides = shape[1].is_multiple_of(size[0]) && shape[2].is_multiple_of(size[1]);
                if !divides {
                    return Err(ConvertError::Unsupported {
                        layer: step.name.clone(),
                        expected: "an adaptive pool whose output size divides its input",
                        found: format!("{:?} from {:?}", size, &shape[1..]),
                    });
                }
                let kernel = [shape[1] / size[0], shape[2] / size[1]];
                Op::AvgPool2d(runtime::AvgPool2d { kernel, stride: kernel, padding: [0; 4], count_include_pad: false })
            }
            QatLayer::Relu(_) => Op::Clamp(clamp(true, grid)),
            QatLayer::Reshape(_) => Op::Reshape,
        };
        let inputs = step.inputs.iter().map(|value| self.id(*value)).collect();
        let output = self.define(&step.name, format!("{}.output", step.name), step.output, grid)?;
        self.nodes.push(runtime::Node { op, inputs, output });
        Ok(())
    }

    fn conv2d(
        &self,
        step: &Step,
        conv: &QuantConv2d,
        input: runtime::ValueId,
        grid: runtime::QParams,
    ) -> Result<runtime::Conv2d, ConvertError> {
        let (weight, bias) = conv.folded();
        let [c_out, c_in_per_group, k_h, k_w] = weight.dims();
        let config = conv.config();
        let rows = Rows::new(&step.name, weight, c_in_per_group * k_h * k_w, config.weight, config.granularity)?;
        let s_in = self.values[input.0].qparams.scale;
        Ok(runtime::Conv2d {
            name: step.name.clone(),
            weights: rows.weights(&step.name, bias, s_in)?,
            c_out,
            c_in: c_in_per_group * config.options.groups,
            kernel: [k_h, k_w],
            stride: config.options.stride,
            padding: edges(config.options.padding),
            dilation: config.options.dilation,
            groups: config.options.groups,
            clamp: clamp(config.relu, grid),
        })
    }

    fn linear(
        &self,
        step: &Step,
        linear: &QuantLinear,
        input: runtime::ValueId,
        grid: runtime::QParams,
    ) -> Result<runtime::Linear, ConvertError> {
        let [d_input, d_output] = linear.weight.val().dims();
        if self.values[input.0].shape != [d_input] {
            return Err(ConvertError::Unsupported {
                layer: step.name.clone(),
                expected: "a linear layer on one row of features a sample",
                found: format!("samples of shape {:?}", self.values[input.0].shape),
            });
        }
        let config = linear.config();
        let weight = linear.weight.val().swap_dims(0, 1);
        let rows = Rows::new(&step.name, weight, d_input, config.weight, config.granularity)?;
        let s_in = self.values[input.0].qparams.scale;
        let bias = linear.bias.as_ref().map(|bias| bias.val());
        Ok(runtime::Linear {
            name: step.name.clone(),
            weights: rows.weights(&step.name, bias, s_in)?,
            d_input,
            d_output,
            clamp: clamp(config.relu, grid),
        })
    }

    fn define(
        &mut self,
        layer: &str,
        name: String,
        value: ValueId,
        qparams: runtime::QParams,
    ) -> Result<runtime::ValueId, ConvertError> {
        let shape = &self.model.topology().values[value.0].shape;
        let batch_first = shape.first() == Some(&Dim::Batch(1)) && shape[1..].iter().all(|dim| matches!(dim, Dim::Fixed(_)));
        if !batch_first {
            return Err(ConvertError::Unsupported {
                layer: layer.into(),
                expected: "the batch as first dimension and nowhere else",
                found: format!("{shape:?}"),
            });
        }
        let shape = self.model.topology().values[value.0].sample_shape();
        self.values.push(runtime::ValueInfo { name, shape, code_type: CodeType::Int8, qparams });
        let id = runtime::ValueId(self.values.len() - 1);
        self.ids[value.0] = Some(id);
        Ok(id)
    }

    fn id(&self, value: ValueId) -> runtime::ValueId {
        self.ids[value.0].expect("steps stand in execution order")
    }
}

/// Weights as rows of int8 codes, one for each output channel.
struct Rows {
    codes: Vec<i8>,
    scale: Vec<f32>,
}

impl Rows {
    fn new<const D: usize>(
        layer: &str,
        weight: Tensor<D>,
        row: usize,
        format: IntegerFormat,
        granularity: Granularity,
    ) -> Result<Self, ConvertError> {
        let weight = finite(&format!("weight of {layer}"), weight.into_data())?;
        let abs_max = |row: &[f32]| row.iter().fold(0.0f32, |max, w| max.max(w.abs()));
        let whole = QParams::symmetric_scale(abs_max(&weight), format);
        let mut codes = Vec::with_capacity(weight.len());
        let mut scales = Vec::new();
        for row in weight.chunks(row) {
            let scale = match granularity {
                Granularity::PerTensor => whole,
                Granularity::PerChannel => QParams::symmetric_scale(abs_max(row), format),
            };
            codes.extend(row.iter().map(|w| quantize(*w, scale, 0, format) as i8));
            scales.push(scale);
        }
        Ok(Self { codes, scale: scales })
    }

    /// The rows with their biases, on the grid of the sums.
    fn weights(self, layer: &str, bias: Option<Tensor<1>>, s_in: f32) -> Result<Weights, ConvertError> {
        let bias = match bias {
            None => vec![0; self.scale.len()],
            Some(bias) => {
                let bias = finite(&format!("bias of {layer}"), bias.into_data())?;
                let codes = bias.iter().zip(&self.scale).enumerate().map(|(channel, (bias, scale))| {
                    let code = (bias / (s_in * scale)).round_ties_even();
                    // i32::MAX as f32 is 2³¹, the first number that does not fit.
                    if code.abs() < i32::MAX as f32 {
                        Ok(code as i64)
                    } else {
                        Err(ConvertError::Bias { layer: layer.into(), channel, found: code })
                    }
                });
                codes.collect::<Result<_, _>>()?
            }
        };
        Ok(Weights { codes: PackedCodes::eight(&self.codes), scale: self.scale, bias })
    }
}

fn grid(layer: &str, quantizer: &qat::FakeQuantize) -> Result<runtime::QParams, ConvertError> {
    if quantizer.mode() != Mode::Quantize {
        return Err(ConvertError::NotCalibrated { layer: layer.into(), mode: quantizer.mode() });
    }
    let (min, max) = quantizer.range();
    if let Some(found) = [min, max].into_iter().find(|end| !end.is_finite()) {
        return Err(ConvertError::NotFinite { place: format!("range of the output of {layer}"), found });
    }
    let QParams { scale, zero_point, .. } = quantizer.qparams();
    Ok(runtime::QParams { scale, zero_point })
}

/// Codes of the output, from real 0 on where a relu is fused.
fn clamp(relu: bool, grid: runtime::QParams) -> runtime::Clamp {
    match relu {
        true => runtime::Clamp { min: grid.zero_point as i16, ..runtime::Clamp::INT8 },
        false => runtime::Clamp::INT8,
    }
}

/// `[top, left, bottom, right]` of `[(top, bottom), (left, right)]`.
fn edges(padding: [(usize, usize); 2]) -> [usize; 4] {
    let [(top, bottom), (left, right)] = padding;
    [top, left, bottom, right]
}

fn finite(place: &str, data: TensorData) -> Result<Vec<f32>, ConvertError> {
    let values: Vec<f32> = data.iter::<f32>().collect();
    match values.iter().copied().find(|value| !value.is_finite()) {
        Some(found) => Err(ConvertError::NotFinite { place: place.into(), found }),
        None => Ok(values),
    }
}
