//! A full-integer TFLite file as an integer model.
//!
//! The caller's tensors keep the file's order: an input `[batch, H, W, C]` is a sample `[H, W, C]`, turned to `[C, H, W]` by the
//! first operation. What follows stays in that order as long as operators allow it, so that transposes are few. Quantizations
//! at the edges of a file with float or uint8 inputs and outputs are left out: the model takes and gives the int8 codes.

mod activation;
mod layers;
mod movement;
mod windows;

use std::collections::BTreeMap;

use qat_formats::tflite::{
    ActivationFunctionType, BuiltinOperator, BuiltinOptions, Model, Operator, QuantizationParameters, SubGraph, Tensor,
    TensorType,
};
use qat_runtime::{CodeType, Codes, Function, IntegerModel, Node, Op, QParams, Rules, Transpose, ValueId, ValueInfo};

use super::order::{Order, transpose};
use crate::{error::TfliteError, lower::check_qparams, names};

/// The model that the file holds, with the arithmetic of `rules`.
pub(super) fn read(file: &Model, rules: Rules) -> Result<IntegerModel, TfliteError> {
    // `check` has found at least one.
    let subgraph = &file.subgraphs[0];
    let [input, output] = [("input", &subgraph.inputs), ("output", &subgraph.outputs)].map(|(end, tensors)| match tensors[..] {
        [tensor] => Ok(tensor as usize),
        _ => Err(unsupported(format!("{end}s"), "one tensor", tensors.len().to_string())),
    });
    check_constants(file, subgraph)?;
    let mut readers = vec![Vec::new(); subgraph.tensors.len()];
    for (index, operator) in subgraph.operators.iter().enumerate() {
        for &tensor in operator.inputs.iter().filter(|&&tensor| tensor >= 0) {
            readers[tensor as usize].push(index);
        }
    }
    let mut reader = Reader {
        file,
        subgraph,
        rules,
        values: Vec::new(),
        nodes: Vec::new(),
        held: vec![None; subgraph.tensors.len()],
        copies: BTreeMap::new(),
        padded: BTreeMap::new(),
        input: input?,
        output: output?,
        readers,
        input_value: None,
    };
    reader.begin()?;
    for index in 0..subgraph.operators.len() {
        reader.operator(index)?;
    }
    let output = reader.end()?;
    let Some(input) = reader.input_value else {
        return Err(unsupported("input".into(), "a tensor that a QUANTIZE reads", "a float tensor that none does".into()));
    };
    let Reader { mut values, nodes, .. } = reader;
    let unique = names::unique(values.iter().map(|value| value.name.as_str()));
    for (value, name) in values.iter_mut().zip(unique) {
        value.name = name;
    }
    let model = IntegerModel { rules, values, nodes, input, output };
    model.validate()?;
    Ok(model)
}

/// Bytes of constants that any file may have operators read, as often as they read them.
const MODEST: usize = 64 << 20;
/// How often operators may read the constants of a larger file on average.
const MOST_READS: usize = 64;

/// Operators may share a constant, and each gets a copy of its own: a small file must not ask for much memory that way.
fn check_constants(file: &Model, subgraph: &SubGraph) -> Result<(), TfliteError> {
    let stored: usize = file.buffers.iter().map(|buffer| buffer.data.len()).sum();
    let most = MODEST.max(stored.saturating_mul(MOST_READS));
    let constants = subgraph.operators.iter().flat_map(|operator| &operator.inputs).filter(|&&tensor| tensor >= 0);
    let read = constants.fold(0usize, |sum, &tensor| sum.saturating_add(file.data(&subgraph.tensors[tensor as usize]).len()));
    if read > most {
        let found = format!("{read} bytes of {stored}, of which {most} may be read");
        return Err(unsupported("constants of all operators".into(), "constants that are read a few times each", found));
    }
    Ok(())
}

fn unsupported(place: String, expected: &'static str, found: String) -> TfliteError {
    TfliteError::Unsupported { place, expected, found }
}

/// The value that a tensor is, and for each axis of the tensor's sample the axis of the value that it is.
#[derive(Clone)]
struct Held {
    value: ValueId,
    order: Order,
}

/// What an operator that reads the result of a padding is to read instead.
#[derive(Clone, Copy)]
struct Padded {
    source: usize,
    /// `[top, left, bottom, right]`.
    amounts: [usize; 4],
}

struct Reader<'f> {
    file: &'f Model,
    subgraph: &'f SubGraph,
    rules: Rules,
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
    held: Vec<Option<Held>>,
    /// Values with the axes of another in other order, and constants by their tensor.
    copies: BTreeMap<(Source, Vec<usize>), ValueId>,
    padded: BTreeMap<usize, Padded>,
    input: usize,
    output: usize,
    /// For each tensor, the operators that read it.
    readers: Vec<Vec<usize>>,
    /// `None` until the quantization of a float input is met.
    input_value: Option<ValueId>,
}

/// What a copy is of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Value(ValueId),
    Constant(usize),
}

/// An operator under reading: its place in messages, its operands.
struct Site<'f> {
    operator: &'f Operator,
    name: String,
    index: usize,
}

impl<'f> Site<'f> {
    fn unsupported(&self, expected: &'static str, found: impl Into<String>) -> TfliteError {
        unsupported(format!("operator {} ({})", self.index, self.name), expected, found.into())
    }

    /// Operand `at`; `None` where it is left out.
    fn optional(&self, at: usize) -> Option<usize> {
        self.operator.inputs.get(at).and_then(|&tensor| usize::try_from(tensor).ok())
    }

    fn input(&self, at: usize) -> Result<usize, TfliteError> {
        self.optional(at).ok_or_else(|| self.unsupported("an operand more", format!("{} operands", self.operator.inputs.len())))
    }

    fn output(&self) -> Result<usize, TfliteError> {
        match self.operator.outputs[..] {
            [tensor] => Ok(tensor as usize),
            _ => Err(self.unsupported("one result", self.operator.outputs.len().to_string())),
        }
    }

    fn options(&self) -> &'f BuiltinOptions {
        &self.operator.builtin_options
    }

    fn wrong_options(&self) -> TfliteError {
        let text = format!("{:?}", self.operator.builtin_options);
        self.unsupported("the options of the operator, all known", text.chars().take(80).collect::<String>())
    }

    fn positive(&self, values: [i32; 2]) -> Result<[usize; 2], TfliteError> {
        let found = || self.unsupported("strides, windows and dilations of at least 1", format!("{values:?}"));
        let [a, b] = values.map(|value| usize::try_from(value).ok().filter(|&value| value > 0));
        Ok([a.ok_or_else(found)?, b.ok_or_else(found)?])
    }
}

impl<'f> Reader<'f> {
    fn tensor(&self, tensor: usize) -> &'f Tensor {
        &self.subgraph.tensors[tensor]
    }

    /// How messages name a tensor.
    fn place(&self, tensor: usize) -> String {
        format!("tensor {tensor} ({:?})", self.tensor(tensor).name)
    }

    /// Sizes of a sample in the order of the file: without the batch, where there is one.
    fn sample(&self, tensor: usize) -> Vec<usize> {
        let shape = &self.tensor(tensor).shape;
        shape[self.batch_axes(tensor)..].iter().map(|&size| size as usize).collect()
    }

    /// 1 where the tensor's first axis is a batch of one sample, 0 where it belongs to the sample.
    fn batch_axes(&self, tensor: usize) -> usize {
        let shape = &self.tensor(tensor).shape;
        usize::from(shape.len() > 1 && shape[0] == 1)
    }

    fn is_constant(&self, tensor: usize) -> bool {
        !self.file.data(self.tensor(tensor)).is_empty()
    }

    /// Type and parameters of a tensor of codes.
    fn codes(&self, tensor: usize) -> Result<(CodeType, QParams), TfliteError> {
        let info = self.tensor(tensor);
        let (code_type, shift) = match info.r#type {
            TensorType::INT8 => (CodeType::Int8, 0),
            TensorType::UINT8 => (CodeType::Int8, 128),
            TensorType::INT16 => (CodeType::Int16, 0),
            TensorType::INT32 => return Ok((CodeType::Int32, QParams { scale: 1.0, zero_point: 0 })),
            other => {
                let expected = "int8 or int16 codes: a full-integer file";
                return Err(unsupported(self.place(tensor), expected, format!("{other:?}")));
            }
        };
        let Some(quantization) = &info.quantization else {
            return Err(unsupported(self.place(tensor), "a scale and a zero point", "none".into()));
        };
        self.known(tensor, quantization)?;
        let ([scale], [] | [_]) = (&quantization.scale[..], &quantization.zero_point[..]) else {
            let found = format!("{} scales", quantization.scale.len());
            return Err(unsupported(self.place(tensor), "one scale and one zero point", found));
        };
        let zero_point = quantization.zero_point.first().copied().unwrap_or(0);
        let Some(zero_point) = i32::try_from(zero_point).ok().and_then(|zero_point| zero_point.checked_sub(shift)) else {
            return Err(unsupported(self.place(tensor), "a zero point within int32", zero_point.to_string()));
        };
        let qparams = QParams { scale: *scale, zero_point };
        check_qparams(&self.place(tensor), code_type, qparams)?;
        Ok((code_type, qparams))
    }

    /// Nothing in the tensor's description is unknown.
    fn known(&self, tensor: usize, quantization: &QuantizationParameters) -> Result<(), TfliteError> {
        let unread = [&self.tensor(tensor).unread[..], &quantization.unread].concat();
        if unread.is_empty() {
            return Ok(());
        }
        Err(unsupported(self.place(tensor), "a plain tensor with affine codes", format!("fields {unread:?} besides")))
    }

    fn name(&self, tensor: usize) -> String {
        match self.tensor(tensor).name.as_str() {
            "" => format!("tensor{tensor}"),
            name => name.to_owned(),
        }
    }

    fn push_value(&mut self, name: String, shape: Vec<usize>, code_type: CodeType, qparams: QParams) -> ValueId {
        self.values.push(ValueInfo { name, shape, code_type, qparams });
        ValueId(self.values.len() - 1)
    }

    /// The value that a tensor is from here on, in an order of axes.
    fn define(&mut self, tensor: usize, order: Order) -> Result<ValueId, TfliteError> {
        let (code_type, qparams) = self.codes(tensor)?;
        let shape = order.undo(&self.sample(tensor));
        let value = self.push_value(self.name(tensor), shape, code_type, qparams);
        self.held[tensor] = Some(Held { value, order });
        Ok(value)
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], output: ValueId) {
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
    }

    /// An operation whose output has the parameters of its input.
    fn moved(&mut self, op: Op, input: ValueId, suffix: &str, shape: Vec<usize>) -> ValueId {
        let ValueInfo { name, code_type, qparams, .. } = &self.values[input.0];
        let (name, code_type, qparams) = (format!("{name}/{suffix}"), *code_type, *qparams);
        let output = self.push_value(name, shape, code_type, qparams);
        self.node(op, &[input], output);
        output
    }

    /// The same numbers under another shape.
    fn reshaped(&mut self, input: ValueId, shape: Vec<usize>) -> ValueId {
        if self.values[input.0].shape == shape { input } else { self.moved(Op::Reshape, input, "reshaped", shape) }
    }

    /// Values for the input.
    fn begin(&mut self) -> Result<(), TfliteError> {
        let input = self.input;
        if self.tensor(input).r#type == TensorType::FLOAT32 {
            // The quantization that reads it gives the model's input.
            return Ok(());
        }
        self.take_input(input)
    }

    /// Makes `tensor` the model's input.
    fn take_input(&mut self, tensor: usize) -> Result<(), TfliteError> {
        let rank = self.sample(tensor).len();
        let value = self.define(tensor, Order::plain(rank))?;
        self.input_value = Some(value);
        if rank == 3 {
            self.image(tensor);
        }
        Ok(())
    }

    /// Turns the value of an image `[h, w, c]` to `[c, h, w]`, in which it is used from here on; the first one stays at hand.
    fn image(&mut self, tensor: usize) {
        let Some(held) = self.held[tensor].clone() else { return };
        let &[h, w, c] = &self.values[held.value.0].shape[..] else { return };
        let op = Transpose { permutation: vec![2, 0, 1] };
        let turned = self.moved(Op::Transpose(op), held.value, "nchw", vec![c, h, w]);
        self.copies.insert((Source::Value(turned), vec![1, 2, 0]), held.value);
        self.held[tensor] = Some(Held { value: turned, order: Order::image() });
    }

    /// The value of the output tensor, in the order of the file.
    fn end(&mut self) -> Result<ValueId, TfliteError> {
        let output = self.output;
        let Some(held) = self.held[output].clone() else {
            return Err(unsupported(self.place(output), "an output that an operator computes", "another".into()));
        };
        let rank = self.sample(output).len();
        if rank != 3 {
            return Ok(self.in_order(&held, &Order::plain(rank)));
        }
        // As a model is written again, an image that it gives is turned last.
        let image = self.in_order(&held, &Order::image());
        let &[c, h, w] = &self.values[image.0].shape[..] else { return Ok(image) };
        let op = Transpose { permutation: vec![1, 2, 0] };
        let turned = self.moved(Op::Transpose(op), image, "nhwc", vec![h, w, c]);
        // The name is the file's for what the caller receives.
        let name = self.name(output);
        self.values[image.0].name = format!("{name}/nchw");
        self.values[turned.0].name = name;
        Ok(turned)
    }

    /// A value with the axes of `held` in another order.
    fn in_order(&mut self, held: &Held, order: &Order) -> ValueId {
        if held.order == *order {
            return held.value;
        }
        let shape = self.values[held.value.0].shape.clone();
        let permutation = order.undo(&held.order.axes());
        let key = (Source::Value(held.value), permutation.clone());
        if let Some(&value) = self.copies.get(&key) {
            return value;
        }
        let target: Vec<usize> = permutation.iter().map(|&axis| shape[axis]).collect();
        let moving = permutation.iter().filter(|&&axis| shape[axis] != 1);
        let value = match moving.is_sorted() {
            true => self.moved(Op::Reshape, held.value, "reshaped", target),
            false => self.moved(Op::Transpose(Transpose { permutation }), held.value, "transposed", target),
        };
        self.copies.insert(key, value);
        value
    }

    /// What a tensor of codes is that an operator reads.
    fn held(&self, site: &Site, tensor: usize) -> Result<Held, TfliteError> {
        if !matches!(self.tensor(tensor).r#type, TensorType::INT8 | TensorType::INT16 | TensorType::INT32) {
            let found = format!("{:?} in {}", self.tensor(tensor).r#type, self.place(tensor));
            return Err(site.unsupported("int8 or int16 operands: a full-integer file", found));
        }
        match &self.held[tensor] {
            Some(held) => Ok(held.clone()),
            None => Err(site.unsupported("a computed operand", self.place(tensor))),
        }
    }

    /// The value of a tensor with its axes in `order`; constants too.
    fn want(&mut self, site: &Site, tensor: usize, order: &Order) -> Result<ValueId, TfliteError> {
        if self.held[tensor].is_none() && self.is_constant(tensor) {
            let shape = self.sample(tensor);
            return self.constant(site, tensor, shape, order);
        }
        let held = self.held(site, tensor)?;
        if held.order.rank() != order.rank() {
            return Err(site.unsupported("operands of one rank", format!("{:?}", self.tensor(tensor).shape)));
        }
        Ok(self.in_order(&held, order))
    }

    /// A constant of codes as a value, `shape` being its sample's in the order of the file.
    fn constant(&mut self, site: &Site, tensor: usize, shape: Vec<usize>, order: &Order) -> Result<ValueId, TfliteError> {
        let (code_type, qparams) = self.codes(tensor)?;
        let info = self.tensor(tensor);
        let data = self.file.data(info);
        let permutation = order.undo(&Order::plain(order.rank()).axes());
        let key = (Source::Constant(tensor), [&shape[..], &permutation].concat());
        if let Some(&value) = self.copies.get(&key) {
            return Ok(value);
        }
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if order.rank() != shape.len() || count != info.element_count() {
            return Err(site.unsupported("constants of the operands' rank", format!("{:?}", info.shape)));
        }
        let codes = match info.r#type {
            TensorType::INT8 => {
                let codes: Vec<i8> = data.iter().map(|byte| byte.cast_signed()).collect();
                Codes::Int8(transpose(&codes, &shape, &permutation))
            }
            TensorType::INT16 => {
                let codes: Vec<i16> = data.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes)).collect();
                Codes::Int16(transpose(&codes, &shape, &permutation))
            }
            other => return Err(site.unsupported("int8 or int16 constants", format!("{other:?}"))),
        };
        let name = self.name(tensor);
        let value = self.push_value(name, order.undo(&shape), code_type, qparams);
        self.node(Op::Constant(codes), &[], value);
        self.copies.insert(key, value);
        Ok(value)
    }

    /// A constant list of integers: shapes, axes, amounts.
    fn integers(&self, site: &Site, tensor: usize) -> Result<Vec<i64>, TfliteError> {
        let info = self.tensor(tensor);
        // More than any list of axes has; a longer one is not read.
        let is_short = info.element_count().is_some_and(|count| count <= 64);
        let is_integer = matches!(info.r#type, TensorType::INT32 | TensorType::INT64);
        let values = if is_short && is_integer && info.unread.is_empty() { info.to_i64s(self.file.data(info)) } else { None };
        let values = values.filter(|values| Some(values.len()) == info.element_count());
        values.ok_or_else(|| site.unsupported("a short constant list of integers", self.place(tensor)))
    }

    fn operator(&mut self, index: usize) -> Result<(), TfliteError> {
        use BuiltinOperator as B;
        let operator = &self.subgraph.operators[index];
        // `check` has found the code.
        let code = &self.file.operator_codes[operator.opcode_index as usize];
        let name = match code.builtin_code.name() {
            _ if !code.custom_code.is_empty() => format!("custom {:?}", code.custom_code),
            Some(name) => name.to_owned(),
            None => format!("{:?}", code.builtin_code),
        };
        let site = &Site { operator, name, index };
        if let Some(slot) = operator.unread.first() {
            return Err(site.unsupported("an operator whose fields are all known", format!("slot {slot}")));
        }
        match code.builtin_code {
            B::CONV_2D => self.conv2d(site),
            B::DEPTHWISE_CONV_2D => self.depthwise_conv2d(site),
            B::TRANSPOSE_CONV => self.conv_transpose2d(site),
            B::FULLY_CONNECTED => self.linear(site),
            B::BATCH_MATMUL => self.mat_mul(site),
            B::ADD | B::SUB | B::MUL => self.elementwise(site, code.builtin_code),
            B::CONCATENATION => self.concat(site),
            B::MAX_POOL_2D => self.max_pool2d(site),
            B::AVERAGE_POOL_2D => self.avg_pool2d(site),
            B::MEAN => self.mean(site),
            B::RELU => self.activation(site, ActivationFunctionType::RELU),
            B::RELU6 => self.activation(site, ActivationFunctionType::RELU6),
            B::RELU_N1_TO_1 => self.activation(site, ActivationFunctionType::RELU_N1_TO_1),
            B::MINIMUM => self.bound(site, false),
            B::MAXIMUM => self.bound(site, true),
            B::LOGISTIC => self.unary(site, Function::Sigmoid),
            B::TANH => self.unary(site, Function::Tanh),
            B::HARD_SWISH => self.unary(site, Function::HardSwish),
            B::GELU => match site.options() {
                BuiltinOptions::Gelu(options) if options.approximate => self.unary(site, Function::GeluTanh),
                BuiltinOptions::Gelu(_) => self.unary(site, Function::Gelu),
                _ => Err(site.wrong_options()),
            },
            B::LEAKY_RELU => match site.options() {
                BuiltinOptions::LeakyRelu(options) if options.alpha.is_finite() => {
                    self.unary(site, Function::LeakyRelu { slope: options.alpha })
                }
                BuiltinOptions::LeakyRelu(options) => Err(site.unsupported("a finite slope", options.alpha.to_string())),
                _ => Err(site.wrong_options()),
            },
            B::SOFTMAX => self.softmax(site),
            B::QUANTIZE => self.quantize(site),
            B::DEQUANTIZE => self.dequantize(site),
            B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS => self.reshape(site),
            B::TRANSPOSE => self.transpose(site),
            B::PAD => self.pad(site),
            B::PADV2 => self.pad_v2(site),
            B::SLICE => self.slice(site),
            B::STRIDED_SLICE => self.strided_slice(site),
            B::SPLIT => self.split(site),
            B::SPLIT_V => self.split_v(site),
            B::RESIZE_NEAREST_NEIGHBOR => self.resize_nearest(site),
            B::GATHER => match site.options() {
                BuiltinOptions::Gather(options) if options.axis == 0 && options.batch_dims == 0 => {
                    self.gather(site, site.input(0)?, site.input(1)?)
                }
                BuiltinOptions::Gather(_) => Err(site.unsupported("rows of a table, axis 0", "another axis")),
                _ => Err(site.wrong_options()),
            },
            B::EMBEDDING_LOOKUP => self.gather(site, site.input(1)?, site.input(0)?),
            _ => Err(site.unsupported("an operator that integer models have", site.name.clone())),
        }
    }

    /// Defines `y` as the result of an operation.
    fn finish(&mut self, op: Op, inputs: &[ValueId], y: usize, order: Order) -> Result<(), TfliteError> {
        if order.rank() != self.sample(y).len() {
            let found = format!("{:?}", self.tensor(y).shape);
            return Err(unsupported(self.place(y), "a shape that follows from the operator", found));
        }
        if self.tensor(y).r#type == TensorType::UINT8 {
            return Err(unsupported(self.place(y), "int8 or int16 codes: a full-integer file", "UINT8".into()));
        }
        let output = self.define(y, order)?;
        self.node(op, inputs, output);
        Ok(())
    }

    /// The numbers of a tensor in the order of the file under another shape.
    fn flat(&mut self, held: &Held, shape: Vec<usize>) -> ValueId {
        let plain = Order::plain(held.order.rank());
        let source = match held.order.stands_as(&plain, &self.values[held.value.0].shape) {
            true => held.value,
            false => self.in_order(held, &plain),
        };
        self.reshaped(source, shape)
    }

    /// Which axis of a tensor's sample, in the order of the file, an axis of the tensor is; negative ones count from the last.
    fn axis(&self, site: &Site, tensor: usize, axis: i64) -> Result<usize, TfliteError> {
        let rank = self.tensor(tensor).shape.len() as i64;
        let at = if axis < 0 { axis + rank } else { axis } - self.batch_axes(tensor) as i64;
        let found = usize::try_from(at).ok().filter(|&at| at < self.sample(tensor).len());
        found.ok_or_else(|| site.unsupported("an axis of the sample", format!("axis {axis} of {rank}")))
    }
}
