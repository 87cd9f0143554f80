//! From a calibrated or trained [`QatModel`] to integers.
//!
//! Batch norm is folded by its running statistics (Q12, Q14), weights become codes on their own grids (Q4, Q5), biases integers on the
//! accumulator's grid (Q11), constants and embeddings codes on theirs, functions tables for the target's rules. The scales are
//! computed as in training, in f32 and in the same order, so the integers are those that training saw. Each application of a
//! layer is a node. Codes of fewer than 8 bits are int8 codes that stay in their range: by the clamp of the operation that emits them, or
//! by a clamp behind it where it has none (Q70). What the target's rules lack is expressed by what they have (see `lower`). The result is
//! validated, which includes the proof that no accumulator overflows.

mod cut;
mod error;
mod weights;

use qat::graph::{Dim, ValueId};
use qat::nn::{
    Function, QuantAdaptiveAvgPool2d, QuantConstant, QuantConv2d, QuantConvTranspose2d, QuantEmbedding, QuantLinear, SliceRange,
};
use qat::{CodeRange, FakeQuantize, IntegerFormat, Mode, QParams, QatLayer, QatModel, RangeSource, Step, quantize};
use qat_runtime as runtime;
use qat_runtime::{CodeType, Codes, IntegerModel, Op, Rules, ValueInfo, softmax_table, unary_table};

pub use error::ConvertError;

use crate::lower::rewritten;
use crate::target::Target;
use weights::{Rows, pack, table};

/// Converts `model` for `target`.
///
/// # Errors
/// The model is not calibrated, holds numbers that are not finite, or has a layer that the target's rules have not. It is the first of
/// the obstacles that [`check`](crate::check) lists.
pub fn convert(model: &QatModel, target: Target) -> Result<IntegerModel, ConvertError> {
    let (integers, obstacles) = attempt(model, target);
    match obstacles.into_iter().next() {
        Some(obstacle) => Err(obstacle),
        None => {
            integers.validate()?;
            Ok(integers)
        }
    }
}

/// As much of the integer model as there is, and all obstacles.
pub(crate) fn attempt(model: &QatModel, target: Target) -> (IntegerModel, Vec<ConvertError>) {
    let model = &burn::module::Module::valid(model);
    let mut converter = Converter {
        model,
        rules: target.rules(),
        formats: model.activation_formats(),
        code_type: if model.input.qparams().format.bits() > 8 { CodeType::Int16 } else { CodeType::Int8 },
        values: Vec::new(),
        nodes: Vec::new(),
        ids: vec![None; model.topology().values.len()],
        obstacles: Vec::new(),
    };
    converter.input();
    for (step, layer) in model.steps() {
        converter.step(step, layer);
    }
    let Converter { rules, values, nodes, ids, mut obstacles, .. } = converter;
    let output = ids[model.topology().output.0].unwrap_or(runtime::ValueId(0));
    let mut integers = IntegerModel { rules, values, nodes, input: runtime::ValueId(0), output };
    if obstacles.is_empty() {
        integers = cut::join(integers);
        match rewritten(&integers, rules) {
            Ok(lowered) => integers = lowered,
            Err(error) => obstacles.push(error.into()),
        }
        obstacles.extend(integers.nodes.iter().filter_map(|node| refusal(&integers, node)).map(ConvertError::Model));
    }
    (integers, obstacles)
}

/// What validation says of one node by itself: a model whose other operands are constants.
fn refusal(model: &IntegerModel, node: &runtime::Node) -> Option<runtime::ModelError> {
    let mut values: Vec<ValueInfo> = Vec::new();
    let mut id_of = |id: &runtime::ValueId| {
        let info = &model.values[id.0];
        let index = values.iter().position(|value| value.name == info.name).unwrap_or_else(|| {
            values.push(info.clone());
            values.len() - 1
        });
        runtime::ValueId(index)
    };
    let inputs: Vec<runtime::ValueId> = node.inputs.iter().map(&mut id_of).collect();
    let output = id_of(&node.output);
    let mut nodes = Vec::new();
    let input = *inputs.first().unwrap_or(&runtime::ValueId(values.len()));
    if inputs.is_empty() {
        values.push(ValueInfo::int8(".input", &[1], runtime::QParams { scale: 1.0, zero_point: 0 }));
    }
    let mut defined = vec![input];
    for &operand in &inputs {
        if !defined.contains(&operand) {
            let info = &values[operand.0];
            let codes = Codes::zeros(info.code_type, info.elements().unwrap_or(0));
            nodes.push(runtime::Node { op: Op::Constant(codes), inputs: Vec::new(), output: operand });
            defined.push(operand);
        }
    }
    nodes.push(runtime::Node { op: node.op.clone(), inputs, output });
    IntegerModel { rules: model.rules, values, nodes, input, output }.validate().err()
}

struct Converter<'a> {
    model: &'a QatModel,
    rules: Rules,
    /// For each activation of the model its codes.
    formats: Vec<IntegerFormat>,
    /// What activations are stored as.
    code_type: CodeType,
    values: Vec<ValueInfo>,
    nodes: Vec<runtime::Node>,
    /// Where each activation of the model went.
    ids: Vec<Option<runtime::ValueId>>,
    obstacles: Vec<ConvertError>,
}

impl Converter<'_> {
    fn input(&mut self) {
        let topology = self.model.topology();
        let (code_type, qparams) = match topology.input_is_indices {
            true => (CodeType::Int32, runtime::QParams { scale: 1.0, zero_point: 0 }),
            false => (self.code_type, self.noted(grid("input", &self.model.input))),
        };
        let info =
            ValueInfo { name: topology.names.input.clone(), shape: self.shape("input", topology.input), code_type, qparams };
        self.define(topology.input, info);
        if code_type != CodeType::Int32 {
            self.confine(topology.input, "input.clamped");
        }
    }

    /// Puts a clamp behind an activation whose operation emits codes beyond the activation's format; `name` is that of the result.
    fn confine(&mut self, value: ValueId, name: &str) {
        let id = self.id(value);
        let range = codes(self.formats[value.0], self.code_type);
        if range != runtime::Clamp::full(self.code_type) {
            let info = ValueInfo { name: name.into(), ..self.values[id.0].clone() };
            let output = self.define(value, info);
            self.nodes.push(runtime::Node { op: Op::Clamp(range), inputs: vec![id], output });
        }
    }

    /// The result, or a stand-in for it with which the conversion can go on to find other obstacles.
    fn noted(&mut self, qparams: Result<runtime::QParams, ConvertError>) -> runtime::QParams {
        qparams.unwrap_or_else(|obstacle| {
            self.obstacles.push(obstacle);
            runtime::QParams { scale: 1.0, zero_point: 0 }
        })
    }

    fn step(&mut self, step: &Step, layer: &QatLayer) {
        let qparams = self.output_grid(step, layer);
        let qparams = self.noted(qparams);
        let shape = self.shape(&step.name, step.output);
        let mut y = ValueInfo { name: self.value_name(step), shape, code_type: self.code_type, qparams };
        if let QatLayer::Embedding(_) = layer {
            y.code_type = CodeType::Int8;
        }
        let inputs = match layer {
            QatLayer::Concat(_) => self.on_grid(step, qparams, codes(self.formats[step.output.0], self.code_type)),
            _ => step.inputs.iter().map(|value| self.id(*value)).collect(),
        };
        match self.op(step, layer, &inputs, &y) {
            Ok(op) => {
                let output = self.define(step.output, y);
                self.nodes.push(runtime::Node { op, inputs, output });
            }
            Err(obstacle) => {
                self.obstacles.push(obstacle);
                self.define(step.output, y);
            }
        }
        if emits_all_codes(layer) {
            // The operation's own result takes another name, and the activation keeps the one that others know it by.
            let unclamped = self.id(step.output);
            let before = self.nodes.len();
            let name = self.values[unclamped.0].name.clone();
            self.confine(step.output, &name);
            if self.nodes.len() > before {
                self.values[unclamped.0].name = format!("{}.unclamped", step.name);
            }
        }
        // Rows of a table have 8 bits; the same codes in 16 bits mean the same.
        if matches!(layer, QatLayer::Embedding(_)) && self.code_type == CodeType::Int16 {
            let narrow = self.id(step.output);
            let mut wide = self.values[narrow.0].clone();
            wide.name = format!("{}.wide", step.name);
            wide.code_type = CodeType::Int16;
            let output = self.define(step.output, wide);
            self.nodes.push(runtime::Node { op: Op::Requantize, inputs: vec![narrow], output });
        }
    }

    /// The name of a step's output: that of the model's output where it is that.
    fn value_name(&self, step: &Step) -> String {
        let topology = self.model.topology();
        if step.output == topology.output { topology.names.output.clone() } else { format!("{}.output", step.name) }
    }

    /// Meaning of the codes of a step's output.
    fn output_grid(&self, step: &Step, layer: &QatLayer) -> Result<runtime::QParams, ConvertError> {
        match (layer, layer.output()) {
            (_, Some(quantizer)) if quantizer.source() == RangeSource::Reader => {
                let reader = self.model.topology().readers(step.output).next();
                let reader = reader.map(|reader| (reader, &self.model.layers[reader.layer]));
                match reader.and_then(|(reader, layer)| Some((reader, layer.output()?))) {
                    Some((reader, quantizer)) => grid(&reader.name, quantizer),
                    None => Err(self.unsupported(step, "an output with a grid", "one that nothing quantizes".into())),
                }
            }
            (_, Some(quantizer)) => grid(&step.name, quantizer),
            (QatLayer::Constant(constant), None) => {
                calibrated(&step.name, constant.mode())?;
                let scale = match constant.fixed_step() {
                    Some(step) => step,
                    None => table(&step.name, constant.value.val().into_data(), constant.codes())?.1,
                };
                Ok(runtime::QParams { scale, zero_point: 0 })
            }
            (QatLayer::Embedding(embedding), None) => {
                calibrated(&step.name, embedding.mode())?;
                let place = format!("weight of {}", step.name);
                let (_, scale) = table(&place, embedding.weight.val().into_data(), embedding.format())?;
                Ok(runtime::QParams { scale, zero_point: 0 })
            }
            _ => Ok(self.values[self.id(step.inputs[0]).0].qparams),
        }
    }

    fn op(&self, step: &Step, layer: &QatLayer, inputs: &[runtime::ValueId], y: &ValueInfo) -> Result<Op, ConvertError> {
        let format = self.formats[step.output.0];
        let clamp = clamp(layer.clamp(), y, format);
        let x = inputs.first().map_or(y, |input| &self.values[input.0]);
        Ok(match layer {
            QatLayer::Conv2d(conv) => Op::Conv2d(self.conv2d(step, conv, x, clamp)?),
            QatLayer::ConvTranspose2d(conv) => Op::ConvTranspose2d(self.conv_transpose2d(step, conv, x, clamp)?),
            QatLayer::Linear(linear) => Op::Linear(self.linear(step, linear, x, clamp)?),
            QatLayer::MatMul(_) => Op::MatMul(runtime::MatMul { transpose_rhs: false, clamp }),
            QatLayer::Add(_) => Op::Add(runtime::Elementwise { clamp }),
            QatLayer::Sub(_) => Op::Sub(runtime::Elementwise { clamp }),
            QatLayer::Mul(_) => Op::Mul(runtime::Elementwise { clamp }),
            QatLayer::Concat(concat) => Op::Concat(runtime::Concat { axis: concat.axis() - 1 }),
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
            QatLayer::AdaptiveAvgPool2d(pool) => self.adaptive_avg_pool2d(step, pool, x)?,
            QatLayer::Mean(mean) => {
                let axes = mean.axes().iter().map(|axis| axis - 1).collect();
                Op::Mean(runtime::Mean { axes, keep_dims: true })
            }
            QatLayer::Unary(unary) => {
                let function = self.function(step, unary.function())?;
                let table = unary_table(self.rules, function, x, y)
                    .ok_or_else(|| self.unsupported(step, "a function that the target has", self.found(function.name())))?;
                Op::Unary(runtime::Unary { function, table })
            }
            QatLayer::Softmax(_) => {
                let table = softmax_table(self.rules, x)
                    .ok_or_else(|| self.unsupported(step, "a softmax that the target has", self.found("softmax")))?;
                Op::Softmax(runtime::Softmax { table })
            }
            QatLayer::Clamp(bounds) => Op::Clamp(self::clamp(bounds.bounds(), y, format)),
            QatLayer::Requantize(_) => Op::Requantize,
            QatLayer::Reshape(_) => Op::Reshape,
            QatLayer::Transpose(transpose) => match transpose.permutation() {
                [0, rest @ ..] => Op::Transpose(runtime::Transpose { permutation: rest.iter().map(|axis| axis - 1).collect() }),
                moved => {
                    return Err(self.unsupported(step, "the batch as first dimension", format!("axes in the order {moved:?}")));
                }
            },
            QatLayer::Pad(pad) => {
                let (before, after) = pad.padding().iter().copied().unzip();
                Op::Pad(runtime::Pad { before, after })
            }
            QatLayer::Slice(slice) => {
                let list = |of: fn(&SliceRange) -> usize| slice.ranges().iter().map(of).collect();
                Op::Slice(runtime::Slice { start: list(|r| r.start), end: list(|r| r.end), step: list(|r| r.step) })
            }
            QatLayer::ResizeNearest(resize) => Op::ResizeNearest(runtime::ResizeNearest { factor: resize.factor() }),
            QatLayer::Embedding(embedding) => Op::Gather(self.gather(step, embedding)?),
            QatLayer::Constant(constant) => Op::Constant(self.constant(step, constant)?),
        })
    }

    /// The parts of a concatenation on its grid and within its codes, those that have another grid requantized.
    fn on_grid(&mut self, step: &Step, qparams: runtime::QParams, range: runtime::Clamp) -> Vec<runtime::ValueId> {
        let mut converted: Vec<(ValueId, runtime::ValueId)> = Vec::new();
        for (index, value) in step.inputs.iter().enumerate() {
            if converted.iter().any(|(part, _)| part == value) {
                continue;
            }
            let mut id = self.id(*value);
            if self.values[id.0].qparams != qparams {
                let info = ValueInfo { name: format!("{}.part{index}", step.name), qparams, ..self.values[id.0].clone() };
                self.values.push(info);
                let output = runtime::ValueId(self.values.len() - 1);
                self.nodes.push(runtime::Node { op: Op::Requantize, inputs: vec![id], output });
                id = output;
                if range != runtime::Clamp::full(self.code_type) {
                    let info = self.values[id.0].clone();
                    self.values[id.0].name = format!("{}.unclamped", info.name);
                    self.values.push(info);
                    let output = runtime::ValueId(self.values.len() - 1);
                    self.nodes.push(runtime::Node { op: Op::Clamp(range), inputs: vec![id], output });
                    id = output;
                }
            }
            converted.push((*value, id));
        }
        let of = |value: &ValueId| converted.iter().find(|(part, _)| part == value).map(|(_, id)| *id);
        step.inputs.iter().filter_map(of).collect()
    }

    fn conv2d(
        &self,
        step: &Step,
        conv: &QuantConv2d,
        x: &ValueInfo,
        clamp: runtime::Clamp,
    ) -> Result<runtime::Conv2d, ConvertError> {
        let (weight, bias) = conv.folded();
        let [c_out, c_in_per_group, k_h, k_w] = weight.dims();
        let config = conv.config();
        let rows = Rows::new(&step.name, weight, c_in_per_group * k_h * k_w, &conv.quantizer, conv.folded_steps())?;
        Ok(runtime::Conv2d {
            name: self.layer_name(step),
            weights: rows.weights(&step.name, bias, x.qparams.scale, x.code_type)?,
            c_out,
            c_in: c_in_per_group * config.options.groups,
            kernel: [k_h, k_w],
            stride: config.options.stride,
            padding: edges(config.options.padding),
            dilation: config.options.dilation,
            groups: config.options.groups,
            clamp,
        })
    }

    fn conv_transpose2d(
        &self,
        step: &Step,
        conv: &QuantConvTranspose2d,
        x: &ValueInfo,
        clamp: runtime::Clamp,
    ) -> Result<runtime::ConvTranspose2d, ConvertError> {
        let (rows, bias) = conv.folded();
        let [c_out, c_in_per_group, k_h, k_w] = rows.dims();
        let config = conv.config();
        let options = &config.options;
        let [vertical, horizontal] = options.padding;
        let rows = Rows::new(&step.name, rows, c_in_per_group * k_h * k_w, &conv.quantizer, conv.folded_steps())?;
        Ok(runtime::ConvTranspose2d {
            name: self.layer_name(step),
            weights: rows.weights(&step.name, bias, x.qparams.scale, x.code_type)?,
            c_out,
            c_in: c_in_per_group * options.groups,
            kernel: [k_h, k_w],
            stride: options.stride,
            padding: [vertical, horizontal, vertical, horizontal],
            output_padding: options.padding_out,
            dilation: options.dilation,
            groups: options.groups,
            clamp,
        })
    }

    fn linear(
        &self,
        step: &Step,
        linear: &QuantLinear,
        x: &ValueInfo,
        clamp: runtime::Clamp,
    ) -> Result<runtime::Linear, ConvertError> {
        let [d_input, d_output] = linear.weight.val().dims();
        let weight = linear.weight.val().swap_dims(0, 1);
        let rows = Rows::new(&step.name, weight, d_input, &linear.quantizer, linear.folded_steps())?;
        let bias = linear.bias.as_ref().map(|bias| bias.val());
        Ok(runtime::Linear {
            name: self.layer_name(step),
            weights: rows.weights(&step.name, bias, x.qparams.scale, x.code_type)?,
            d_input,
            d_output,
            clamp,
        })
    }

    fn adaptive_avg_pool2d(&self, step: &Step, pool: &QuantAdaptiveAvgPool2d, x: &ValueInfo) -> Result<Op, ConvertError> {
        let size = pool.output_size();
        let divides = |axis: usize| x.shape.get(axis + 1).is_some_and(|side| side.is_multiple_of(size[axis]));
        if !(divides(0) && divides(1)) {
            let found = format!("{:?} from {:?}", size, &x.shape[1..]);
            return Err(self.unsupported(step, "an adaptive pool whose output size divides its input", found));
        }
        let kernel = [x.shape[1] / size[0], x.shape[2] / size[1]];
        Ok(Op::AvgPool2d(runtime::AvgPool2d { kernel, stride: kernel, padding: [0; 4], count_include_pad: false }))
    }

    fn gather(&self, step: &Step, embedding: &QuantEmbedding) -> Result<runtime::Gather, ConvertError> {
        let [rows, width] = embedding.weight.val().dims();
        let place = format!("weight of {}", step.name);
        let (codes, _) = table(&place, embedding.weight.val().into_data(), embedding.format())?;
        let codes: Vec<i8> = codes.into_iter().map(|code| code as i8).collect();
        Ok(runtime::Gather { name: self.layer_name(step), table: pack(&step.name, &codes, embedding.format())?, rows, width })
    }

    fn constant(&self, step: &Step, constant: &QuantConstant) -> Result<Codes, ConvertError> {
        let codes = match constant.fixed_step() {
            Some(_) => vec![0; constant.shape().iter().product()],
            None => table(&step.name, constant.value.val().into_data(), constant.codes())?.0,
        };
        Ok(match self.code_type {
            CodeType::Int16 => Codes::Int16(codes.into_iter().map(|code| code as i16).collect()),
            _ => Codes::Int8(codes.into_iter().map(|code| code as i8).collect()),
        })
    }

    fn function(&self, step: &Step, function: Function) -> Result<runtime::Function, ConvertError> {
        Ok(match function {
            Function::Sigmoid => runtime::Function::Sigmoid,
            Function::Tanh => runtime::Function::Tanh,
            Function::HardSwish => runtime::Function::HardSwish,
            Function::Gelu => runtime::Function::Gelu,
            Function::GeluTanh => runtime::Function::GeluTanh,
            Function::LeakyRelu { slope } => runtime::Function::LeakyRelu { slope },
            other => return Err(self.unsupported(step, "a function that the integer engine has", other.name().into())),
        })
    }

    /// What the layer's weights are called, whichever of its steps this is.
    fn layer_name(&self, step: &Step) -> String {
        self.model.first_step(step.layer).name.clone()
    }

    fn found(&self, what: &str) -> String {
        format!("{what} on {} codes under the rules of {}", self.code_type.name(), self.rules)
    }

    fn unsupported(&self, step: &Step, expected: &'static str, found: String) -> ConvertError {
        ConvertError::Unsupported { layer: step.name.clone(), expected, found }
    }

    /// The shape of one sample of an activation.
    fn shape(&mut self, layer: &str, value: ValueId) -> Vec<usize> {
        let value = &self.model.topology().values[value.0];
        let batch_first =
            value.shape.first() == Some(&Dim::Batch(1)) && value.shape[1..].iter().all(|dim| matches!(dim, Dim::Fixed(_)));
        if !batch_first {
            self.obstacles.push(ConvertError::Unsupported {
                layer: layer.into(),
                expected: "the batch as first dimension and nowhere else",
                found: format!("{:?}", value.shape),
            });
        }
        value.sample_shape()
    }

    fn define(&mut self, value: ValueId, info: ValueInfo) -> runtime::ValueId {
        self.values.push(info);
        let id = runtime::ValueId(self.values.len() - 1);
        self.ids[value.0] = Some(id);
        id
    }

    fn id(&self, value: ValueId) -> runtime::ValueId {
        self.ids[value.0].expect("steps stand in execution order")
    }
}

fn calibrated(layer: &str, mode: Mode) -> Result<(), ConvertError> {
    if mode == Mode::Quantize { Ok(()) } else { Err(ConvertError::NotCalibrated { layer: layer.into(), mode }) }
}

fn grid(layer: &str, quantizer: &FakeQuantize) -> Result<runtime::QParams, ConvertError> {
    calibrated(layer, quantizer.mode())?;
    let (min, max) = quantizer.range();
    if let Some(found) = [min, max].into_iter().find(|end| !end.is_finite()) {
        return Err(ConvertError::NotFinite { place: format!("range of the output of {layer}"), found });
    }
    let QParams { scale, zero_point, .. } = quantizer.qparams();
    Ok(runtime::QParams { scale, zero_point })
}

/// The codes that activations of a format may have, among those that they are stored as (Q70).
fn codes(format: IntegerFormat, code_type: CodeType) -> runtime::Clamp {
    if format.bits() >= 8 {
        return runtime::Clamp::full(code_type);
    }
    let format = format.with_range(CodeRange::Full);
    runtime::Clamp { min: format.quant_min() as i16, max: format.quant_max() as i16 }
}

/// Codes of an output of `format` with real bounds (Q61), (Q70).
fn clamp(bounds: qat::Clamp, y: &ValueInfo, format: IntegerFormat) -> runtime::Clamp {
    let all = codes(format, y.code_type);
    let format = format.with_range(CodeRange::Full);
    let code = |bound: f32, all: i16| match bound.is_infinite() {
        true => all,
        false => quantize(bound, y.qparams.scale, y.qparams.zero_point, format) as i16,
    };
    runtime::Clamp { min: code(bounds.min, all.min), max: code(bounds.max, all.max) }
}

/// Whether the layer's operation has a grid of its own for its output and no clamp to keep codes in a range.
fn emits_all_codes(layer: &QatLayer) -> bool {
    match layer {
        QatLayer::AvgPool2d(_)
        | QatLayer::AdaptiveAvgPool2d(_)
        | QatLayer::Mean(_)
        | QatLayer::Unary(_)
        | QatLayer::Softmax(_)
        | QatLayer::Requantize(_) => true,
        QatLayer::Conv2d(_)
        | QatLayer::ConvTranspose2d(_)
        | QatLayer::Linear(_)
        | QatLayer::MatMul(_)
        | QatLayer::Add(_)
        | QatLayer::Sub(_)
        | QatLayer::Mul(_)
        | QatLayer::Concat(_)
        | QatLayer::MaxPool2d(_)
        | QatLayer::Clamp(_)
        | QatLayer::Reshape(_)
        | QatLayer::Transpose(_)
        | QatLayer::Pad(_)
        | QatLayer::Slice(_)
        | QatLayer::ResizeNearest(_)
        | QatLayer::Embedding(_)
        | QatLayer::Constant(_) => false,
    }
}

/// `[top, left, bottom, right]` of `[(top, bottom), (left, right)]`.
fn edges(padding: [(usize, usize); 2]) -> [usize; 4] {
    let [(top, bottom), (left, right)] = padding;
    [top, left, bottom, right]
}
