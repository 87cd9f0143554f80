//! A full-integer TFLite file as an integer model.
//!
//! The caller's tensors keep the file's order: an input `[batch, H, W, C]` is a sample `[H, W, C]`, turned to `[C, H, W]` by the
//! first operation. What follows stays in that order as long as operators allow it, so that transposes are few. Quantizations
//! at the edges of a file with float or uint8 inputs and outputs are left out: the model takes and gives the int8 codes.

use std::collections::BTreeMap;

use qat_formats::tflite::{
    ActivationFunctionType, BuiltinOperator, BuiltinOptions, Model, Operator, Padding, QuantizationParameters, SubGraph, Tensor,
    TensorType,
};
use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Codes, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, IntegerModel, Linear,
    MatMul, MaxPool2d, Mean, Node, Op, PackedCodes, Pad, QParams, ResizeNearest, Rules, Slice, Softmax, Transpose, Unary,
    ValueId, ValueInfo, WeightBits, Weights, softmax_table, unary_table,
};

use super::{
    order::{Order, transpose},
    padding,
};
use crate::{error::TfliteError, names};

/// The model that the file holds, with the arithmetic of `rules`.
pub(super) fn read(file: &Model, rules: Rules) -> Result<IntegerModel, TfliteError> {
    // `check` has found at least one.
    let subgraph = &file.subgraphs[0];
    let [input, output] = [("input", &subgraph.inputs), ("output", &subgraph.outputs)].map(|(end, tensors)| match tensors[..] {
        [tensor] => Ok(tensor as usize),
        _ => Err(unsupported(format!("{end}s"), "one tensor", tensors.len().to_string())),
    });
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

/// An image and the window that a pool lays over it.
struct PoolOperand {
    x: ValueId,
    /// `[top, left, bottom, right]`.
    padding: [usize; 4],
    kernel: [usize; 2],
    stride: [usize; 2],
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
        Ok((code_type, QParams { scale: *scale, zero_point }))
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
        Ok(self.moved(Op::Transpose(op), image, "nhwc", vec![h, w, c]))
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
                BuiltinOptions::LeakyRelu(options) => self.unary(site, Function::LeakyRelu { slope: options.alpha }),
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

    /// Codes of `y` under a fused activation.
    fn clamp(&self, site: &Site, function: ActivationFunctionType, y: usize) -> Result<Clamp, TfliteError> {
        let (code_type, QParams { scale, zero_point }) = self.codes(y)?;
        let full = Clamp::full(code_type);
        let code = |real: f32| {
            let code = f64::from((real / scale).round()) + f64::from(zero_point);
            code.clamp(full.min.into(), full.max.into()) as i16
        };
        Ok(match function {
            ActivationFunctionType::NONE => full,
            ActivationFunctionType::RELU => Clamp { min: code(0.0), max: full.max },
            ActivationFunctionType::RELU6 => Clamp { min: code(0.0), max: code(6.0) },
            ActivationFunctionType::RELU_N1_TO_1 => Clamp { min: code(-1.0), max: code(1.0) },
            other => return Err(site.unsupported("a fused relu or none", format!("{other:?}"))),
        })
    }

    /// An image operand, `[c, h, w]`, with the padding that stands before the operator if it reads the result of one.
    fn image_operand(&mut self, site: &Site, tensor: usize) -> Result<(ValueId, [usize; 4]), TfliteError> {
        let (tensor, amounts) = match self.padded.get(&tensor) {
            Some(padded) => (padded.source, padded.amounts),
            None => (tensor, [0; 4]),
        };
        if self.sample(tensor).len() != 3 || self.batch_axes(tensor) != 1 {
            let found = format!("{:?}", self.tensor(tensor).shape);
            return Err(site.unsupported("one image, [1, height, width, channels]", found));
        }
        Ok((self.want(site, tensor, &Order::image())?, amounts))
    }

    /// `[top, left, bottom, right]` of a window over the image `x`, of which `before` stands before the operator.
    fn window_padding(
        &self,
        site: &Site,
        padding: Padding,
        x: ValueId,
        [kernel, stride, dilation]: [[usize; 2]; 3],
        before: [usize; 4],
    ) -> Result<[usize; 4], TfliteError> {
        let shape = &self.values[x.0].shape;
        match padding {
            Padding::VALID => Ok(before),
            Padding::SAME if before == [0; 4] => Ok(padding::same([shape[1], shape[2]], kernel, stride, dilation)),
            other => Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
        }
    }

    /// Weights of a layer from its tensors: `codes` are brought from the file's shape to the model's by a permutation.
    fn weights(
        &self,
        site: &Site,
        kernel: usize,
        bias: Option<usize>,
        dimension: usize,
        permutation: &[usize],
    ) -> Result<Weights, TfliteError> {
        let info = self.tensor(kernel);
        let shape: Vec<usize> = info.shape.iter().map(|&size| size as usize).collect();
        if shape.len() != permutation.len() {
            return Err(site.unsupported("weights of the operator's rank", format!("{shape:?} in {}", self.place(kernel))));
        }
        let bits = match info.r#type {
            TensorType::INT8 => WeightBits::Eight,
            TensorType::INT4 => WeightBits::Four,
            TensorType::INT2 => WeightBits::Two,
            other => return Err(site.unsupported("weights of 8, 4 or 2 bits", format!("{other:?} in {}", self.place(kernel)))),
        };
        let data = self.file.data(info);
        let count = info.element_count().filter(|&count| count > 0 && bits.bytes(count) == data.len());
        let Some(count) = count else {
            return Err(site.unsupported("constant weights", self.place(kernel)));
        };
        let mut bytes = data.to_vec();
        // Unused bits of the last byte mean nothing.
        let used = count % (8 / bits.bits()) * bits.bits();
        if let Some(last) = bytes.last_mut().filter(|_| used != 0) {
            *last &= (1 << used) - 1;
        }
        let Some(packed) = PackedCodes::from_bytes(bytes, count, bits) else {
            return Err(site.unsupported("constant weights", self.place(kernel)));
        };
        let codes = if permutation.is_sorted() {
            packed
        } else {
            let codes = transpose(&packed.unpack(), &shape, permutation);
            PackedCodes::pack(&codes, bits).unwrap_or(packed)
        };

        let channels = shape[dimension];
        let quantization = info.quantization.as_ref();
        let Some(quantization) = quantization.filter(|quantization| !quantization.scale.is_empty()) else {
            return Err(site.unsupported("weights with a scale", self.place(kernel)));
        };
        self.known(kernel, quantization)?;
        if quantization.zero_point.iter().any(|&zero_point| zero_point != 0) {
            return Err(site.unsupported("weights with zero point 0", self.place(kernel)));
        }
        let scale = match quantization.scale[..] {
            [scale] => vec![scale; channels],
            _ if quantization.quantized_dimension as usize == dimension => quantization.scale.clone(),
            _ => {
                let found = format!("scales along dimension {}", quantization.quantized_dimension);
                return Err(site.unsupported("one scale for each output channel", found));
            }
        };
        let bias = match bias {
            None => vec![0; channels],
            Some(tensor) => {
                let bias = self.tensor(tensor);
                let is_bias = matches!(bias.r#type, TensorType::INT32 | TensorType::INT64) && bias.unread.is_empty();
                let values = if is_bias { bias.to_i64s(self.file.data(bias)) } else { None };
                let values = values.filter(|values| values.len() == channels);
                values.ok_or_else(|| site.unsupported("a constant bias of one integer for each channel", self.place(tensor)))?
            }
        };
        Ok(Weights { codes, scale, bias })
    }

    /// The layer's name: the weights' without its ending.
    fn layer(&self, kernel: usize) -> String {
        let name = self.name(kernel);
        name.strip_suffix(".weight").map(str::to_owned).unwrap_or(name)
    }

    fn kernel_shape(&self, site: &Site, kernel: usize) -> Result<[usize; 4], TfliteError> {
        let shape = &self.tensor(kernel).shape;
        let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        sizes.try_into().map_err(|_| site.unsupported("weights of four axes", format!("{shape:?}")))
    }

    fn conv2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Conv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let [c_out, k_h, k_w, c_in_group] = self.kernel_shape(site, kernel)?;
        let c_in = self.values[x.0].shape[0];
        if c_in_group == 0 || !c_in.is_multiple_of(c_in_group) {
            let found = format!("{c_in_group} for {c_in}");
            return Err(site.unsupported("weights whose channels divide the input's", found));
        }
        let kernel_size = [k_h, k_w];
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let padding = self.window_padding(site, options.padding, x, [kernel_size, stride, dilation], before)?;
        let weights = self.weights(site, kernel, site.optional(2), 0, &[0, 3, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = Conv2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            dilation,
            groups: c_in / c_in_group,
            clamp,
        };
        self.finish(Op::Conv2d(op), &[x], y, Order::image())
    }

    fn depthwise_conv2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::DepthwiseConv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let [one, k_h, k_w, c_out] = self.kernel_shape(site, kernel)?;
        let c_in = self.values[x.0].shape[0];
        if one != 1 || c_in == 0 || !c_out.is_multiple_of(c_in) {
            let found = format!("{:?} for {c_in} channels", [one, k_h, k_w, c_out]);
            return Err(site.unsupported("weights [1, height, width, a multiple of the channels]", found));
        }
        let kernel_size = [k_h, k_w];
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let padding = self.window_padding(site, options.padding, x, [kernel_size, stride, dilation], before)?;
        let weights = self.weights(site, kernel, site.optional(2), 3, &[3, 0, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = Conv2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            dilation,
            groups: c_in,
            clamp,
        };
        self.finish(Op::Conv2d(op), &[x], y, Order::image())
    }

    fn conv_transpose2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::TransposeConv(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(2)?)?;
        let [c_out, k_h, k_w, c_in] = self.kernel_shape(site, kernel)?;
        let (kernel_size, stride) = ([k_h, k_w], site.positive([options.stride_h, options.stride_w])?);
        let sample = self.sample(y);
        if sample.len() != 3 || before != [0; 4] {
            return Err(site.unsupported("an image from an image", format!("{:?}", self.tensor(y).shape)));
        }
        let (mut padding, mut output_padding) = ([0; 4], [0; 2]);
        for axis in 0..2 {
            let (input, output) = (self.values[x.0].shape[axis + 1], sample[axis]);
            let spread = input.saturating_sub(1).checked_mul(stride[axis]);
            let Some(natural) = spread.and_then(|spread| spread.checked_add(kernel_size[axis])) else {
                return Err(site.unsupported("an output within memory", format!("{:?}", self.tensor(y).shape)));
            };
            let cut = natural.saturating_sub(output);
            padding[axis] = match options.padding {
                Padding::SAME => cut / 2,
                Padding::VALID => 0,
                other => return Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
            };
            padding[axis + 2] = cut - padding[axis];
            output_padding[axis] = output.saturating_sub(natural);
        }
        let weights = self.weights(site, kernel, site.optional(3), 0, &[0, 3, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = ConvTranspose2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            output_padding,
            dilation: [1, 1],
            groups: 1,
            clamp,
        };
        self.finish(Op::ConvTranspose2d(op), &[x], y, Order::image())
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

    fn linear(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::FullyConnected(options) = site.options() else { return Err(site.wrong_options()) };
        if options.weights_format != qat_formats::tflite::WeightsFormat::DEFAULT {
            return Err(site.unsupported("weights in the default layout", format!("{:?}", options.weights_format)));
        }
        let (x, kernel, y) = (site.input(0)?, site.input(1)?, site.output()?);
        let weights = self.weights(site, kernel, site.optional(2), 0, &[0, 1])?;
        let [d_output, d_input] = self.tensor(kernel).shape[..] else {
            return Err(site.unsupported("weights of two axes", format!("{:?}", self.tensor(kernel).shape)));
        };
        let (d_output, d_input) = (d_output as usize, d_input as usize);
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let mut expected = self.sample(y);
        let Some(last) = expected.last_mut() else {
            return Err(site.unsupported("an output of at least one axis", "none"));
        };
        *last = d_input;
        let held = self.held(site, x)?;
        let (mut value, mut order) = (held.value, held.order.clone());
        if self.sample(x) != expected {
            // The operator takes its operand's numbers as rows, whatever its shape.
            value = self.flat(&held, expected.clone());
            order = Order::plain(expected.len());
        } else if !order.keeps_last() {
            order = Order::plain(expected.len());
            value = self.in_order(&held, &order);
        }
        let name = self.layer(kernel);
        self.finish(Op::Linear(Linear { name, weights, d_input, d_output, clamp }), &[value], y, order)
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

    fn mat_mul(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::BatchMatMul(options) = site.options() else { return Err(site.wrong_options()) };
        if options.adj_x {
            return Err(site.unsupported("a left operand that is not transposed", "adj_x"));
        }
        let y = site.output()?;
        let order = Order::plain(self.sample(y).len());
        let inputs = [self.want(site, site.input(0)?, &order)?, self.want(site, site.input(1)?, &order)?];
        let clamp = self.clamp(site, ActivationFunctionType::NONE, y)?;
        self.finish(Op::MatMul(MatMul { transpose_rhs: options.adj_y, clamp }), &inputs, y, order)
    }

    fn elementwise(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), TfliteError> {
        let (make, function): (fn(Elementwise) -> Op, _) = match (operator, site.options()) {
            (BuiltinOperator::ADD, BuiltinOptions::Add(options)) => (Op::Add, options.fused_activation_function),
            (BuiltinOperator::SUB, BuiltinOptions::Sub(options)) => (Op::Sub, options.fused_activation_function),
            (BuiltinOperator::MUL, BuiltinOptions::Mul(options)) => (Op::Mul, options.fused_activation_function),
            _ => return Err(site.wrong_options()),
        };
        let y = site.output()?;
        let rank = self.sample(y).len();
        let tensors = [site.input(0)?, site.input(1)?];
        let order = tensors.iter().find_map(|&tensor| self.held[tensor].as_ref()).map(|held| held.order.clone());
        let order = order.filter(|order| order.rank() == rank).unwrap_or_else(|| Order::plain(rank));
        let mut inputs = Vec::new();
        for tensor in tensors {
            inputs.push(self.broadcast_operand(site, tensor, &order)?);
        }
        let clamp = self.clamp(site, function, y)?;
        self.finish(make(Elementwise { clamp }), &inputs, y, order)
    }

    /// An operand with as many axes as the result: axes of size 1 are put before its own.
    fn broadcast_operand(&mut self, site: &Site, tensor: usize, order: &Order) -> Result<ValueId, TfliteError> {
        let shape = self.sample(tensor);
        let Some(missing) = order.rank().checked_sub(shape.len()) else {
            return Err(site.unsupported("operands of at most the result's rank", format!("{:?}", self.tensor(tensor).shape)));
        };
        let padded = [vec![1; missing], shape].concat();
        if self.held[tensor].is_none() && self.is_constant(tensor) {
            return self.constant(site, tensor, padded, order);
        }
        let held = self.held(site, tensor)?;
        if missing == 0 {
            return Ok(self.in_order(&held, order));
        }
        let value = self.flat(&held, padded);
        let held = Held { value, order: Order::plain(order.rank()) };
        Ok(self.in_order(&held, order))
    }

    fn concat(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Concatenation(options) = site.options() else { return Err(site.wrong_options()) };
        if options.fused_activation_function != ActivationFunctionType::NONE {
            let found = format!("{:?}", options.fused_activation_function);
            return Err(site.unsupported("a concatenation without activation", found));
        }
        let y = site.output()?;
        let at = self.axis(site, y, options.axis.into())?;
        let rank = self.sample(y).len();
        let tensors: Vec<usize> = (0..site.operator.inputs.len()).map(|at| site.input(at)).collect::<Result<_, _>>()?;
        let order = tensors.iter().find_map(|&tensor| self.held[tensor].as_ref()).map(|held| held.order.clone());
        let order = order.filter(|order| order.rank() == rank).unwrap_or_else(|| Order::plain(rank));
        let mut inputs = Vec::new();
        for tensor in tensors {
            inputs.push(self.want(site, tensor, &order)?);
        }
        let axis = order.axes()[at];
        self.finish(Op::Concat(Concat { axis }), &inputs, y, order)
    }

    /// Which axis of a tensor's sample, in the order of the file, an axis of the tensor is; negative ones count from the last.
    fn axis(&self, site: &Site, tensor: usize, axis: i64) -> Result<usize, TfliteError> {
        let rank = self.tensor(tensor).shape.len() as i64;
        let at = if axis < 0 { axis + rank } else { axis } - self.batch_axes(tensor) as i64;
        let found = usize::try_from(at).ok().filter(|&at| at < self.sample(tensor).len());
        found.ok_or_else(|| site.unsupported("an axis of the sample", format!("axis {axis} of {rank}")))
    }

    fn pool(&mut self, site: &Site) -> Result<PoolOperand, TfliteError> {
        let BuiltinOptions::Pool2D(options) = site.options() else { return Err(site.wrong_options()) };
        if options.fused_activation_function != ActivationFunctionType::NONE {
            let found = format!("{:?}", options.fused_activation_function);
            return Err(site.unsupported("a pool without activation", found));
        }
        let kernel = site.positive([options.filter_height, options.filter_width])?;
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let padding = self.window_padding(site, options.padding, x, [kernel, stride, [1, 1]], before)?;
        Ok(PoolOperand { x, padding, kernel, stride })
    }

    fn max_pool2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let PoolOperand { x, padding, kernel, stride } = self.pool(site)?;
        let op = MaxPool2d { kernel, stride, padding, dilation: [1, 1] };
        self.finish(Op::MaxPool2d(op), &[x], site.output()?, Order::image())
    }

    fn avg_pool2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let PoolOperand { x, padding, kernel, stride } = self.pool(site)?;
        let op = AvgPool2d { kernel, stride, padding, count_include_pad: false };
        self.finish(Op::AvgPool2d(op), &[x], site.output()?, Order::image())
    }

    fn mean(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Reducer(options) = site.options() else { return Err(site.wrong_options()) };
        let (x, y) = (site.input(0)?, site.output()?);
        let Held { value, order } = self.held(site, x)?;
        let mut axes = Vec::new();
        for axis in self.integers(site, site.input(1)?)? {
            axes.push(order.axes()[self.axis(site, x, axis)?]);
        }
        axes.sort_unstable();
        axes.dedup();
        let left = if options.keep_dims { order.clone() } else { order.without(&axes) };
        let op = Mean { axes, keep_dims: options.keep_dims };
        self.finish(Op::Mean(op), &[value], y, left)
    }

    fn activation(&mut self, site: &Site, function: ActivationFunctionType) -> Result<(), TfliteError> {
        let y = site.output()?;
        let clamp = self.clamp(site, function, y)?;
        let Held { value, order } = self.held(site, site.input(0)?)?;
        self.finish(Op::Clamp(clamp), &[value], y, order)
    }

    /// MINIMUM or MAXIMUM with one constant.
    fn bound(&mut self, site: &Site, is_low: bool) -> Result<(), TfliteError> {
        let (y, mut operands) = (site.output()?, [site.input(0)?, site.input(1)?]);
        if self.held[operands[0]].is_none() {
            operands.swap(0, 1);
        }
        let [x, bound] = operands;
        let (code_type, qparams) = self.codes(bound)?;
        let info = self.tensor(bound);
        let codes = if info.element_count() == Some(1) { info.to_i64s(self.file.data(info)) } else { None };
        let Some(&[code]) = codes.as_deref() else {
            return Err(site.unsupported("a bound of one constant", self.place(bound)));
        };
        if (code_type, qparams) != self.codes(y)? {
            return Err(site.unsupported("a bound with the result's parameters", self.place(bound)));
        }
        let full = Clamp::full(code_type);
        // An element of a type that holds such codes.
        let clamp = if is_low { Clamp { min: code as i16, ..full } } else { Clamp { max: code as i16, ..full } };
        let Held { value, order } = self.held(site, x)?;
        self.finish(Op::Clamp(clamp), &[value], y, order)
    }

    fn no_table(&self, site: &Site, function: &str) -> TfliteError {
        let found = format!("{function} under {}", self.rules);
        site.unsupported("a function that the rules have on such codes", found)
    }

    fn unary(&mut self, site: &Site, function: Function) -> Result<(), TfliteError> {
        let y = site.output()?;
        let Held { value, order } = self.held(site, site.input(0)?)?;
        if order.rank() != self.sample(y).len() {
            return Err(site.unsupported("a result of the operand's shape", format!("{:?}", self.tensor(y).shape)));
        }
        let output = self.define(y, order)?;
        let table = unary_table(self.rules, function, &self.values[value.0], &self.values[output.0]);
        let table = table.ok_or_else(|| self.no_table(site, function.name()))?;
        self.node(Op::Unary(Unary { function, table }), &[value], output);
        Ok(())
    }

    fn softmax(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Softmax(options) = site.options() else { return Err(site.wrong_options()) };
        if options.beta != 1.0 {
            return Err(site.unsupported("a softmax with beta 1", options.beta.to_string()));
        }
        let y = site.output()?;
        let held = self.held(site, site.input(0)?)?;
        let order = if held.order.keeps_last() { held.order.clone() } else { Order::plain(held.order.rank()) };
        let value = self.in_order(&held, &order);
        let table = softmax_table(self.rules, &self.values[value.0]).ok_or_else(|| self.no_table(site, "softmax"))?;
        self.finish(Op::Softmax(Softmax { table }), &[value], y, order)
    }

    fn quantize(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        match self.tensor(x).r#type {
            TensorType::FLOAT32 if x == self.input && self.input_value.is_none() => return self.take_input(y),
            TensorType::UINT8 if x == self.input => {}
            TensorType::INT8 | TensorType::INT16 => {}
            other => {
                let expected = "codes, or the float input, which is quantized once";
                return Err(site.unsupported(expected, format!("{other:?} in {}", self.place(x))));
            }
        }
        if self.tensor(y).r#type == TensorType::UINT8 && y != self.output {
            return Err(site.unsupported("uint8 codes at the edges alone", self.place(y)));
        }
        let Some(held) = self.held[x].clone() else {
            return Err(site.unsupported("a computed operand", self.place(x)));
        };
        if self.sample(x) != self.sample(y) {
            return Err(site.unsupported("a result of the operand's shape", format!("{:?}", self.tensor(y).shape)));
        }
        if self.codes(x)? == self.codes(y)? {
            // The same codes, or uint8 codes that are 128 apart.
            self.held[y] = Some(held);
            return Ok(());
        }
        let output = self.define(y, held.order)?;
        self.node(Op::Requantize, &[held.value], output);
        Ok(())
    }

    fn dequantize(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        if y != self.output || self.sample(x) != self.sample(y) {
            return Err(site.unsupported("a full-integer file: a DEQUANTIZE for its output alone", self.place(y)));
        }
        let held = self.held(site, x)?;
        self.held[y] = Some(held);
        Ok(())
    }

    fn reshape(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let held = self.held(site, x)?;
        let shape = self.sample(y);
        if self.sample(x) == shape && self.codes(x)? == self.codes(y)? {
            self.held[y] = Some(held);
            return Ok(());
        }
        let plain = Order::plain(held.order.rank());
        let value = match held.order.stands_as(&plain, &self.values[held.value.0].shape) {
            true => held.value,
            false => self.in_order(&held, &plain),
        };
        let (target, image) = (Order::plain(shape.len()), Order::image());
        let order = match shape.len() == 3 && target.stands_as(&image, &image.undo(&shape)) {
            true => image,
            false => target,
        };
        self.finish(Op::Reshape, &[value], y, order)
    }

    fn transpose(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let held = self.held(site, x)?;
        let permutation = self.integers(site, site.input(1)?)?;
        let mut axes = Vec::new();
        for axis in permutation.iter().skip(self.batch_axes(x)) {
            axes.push(self.axis(site, x, *axis)?);
        }
        let mut sorted = axes.clone();
        sorted.sort_unstable();
        let is_permutation = sorted.iter().copied().eq(0..held.order.rank());
        let keeps_batch = self.batch_axes(x) == 0 || permutation.first() == Some(&0);
        let expected: Vec<usize> = axes.iter().filter_map(|&at| self.sample(x).get(at).copied()).collect();
        if !is_permutation || !keeps_batch || expected != self.sample(y) || self.codes(x)? != self.codes(y)? {
            return Err(site.unsupported("a permutation of the sample's axes", format!("{permutation:?}")));
        }
        let order = held.order.in_transpose(&axes);
        self.held[y] = Some(Held { value: held.value, order });
        Ok(())
    }

    /// Amounts before and after each axis of a tensor's sample, in the order of the file.
    fn amounts(&self, site: &Site, x: usize) -> Result<[Vec<usize>; 2], TfliteError> {
        let list = self.integers(site, site.input(1)?)?;
        let shape = &self.tensor(x).shape;
        let sizes: Result<Vec<usize>, _> = list.iter().map(|&amount| usize::try_from(amount)).collect();
        let Some(sizes) = sizes.ok().filter(|sizes| sizes.len() == 2 * shape.len()) else {
            return Err(site.unsupported("two amounts for each axis", format!("{list:?}")));
        };
        let (before, after): (Vec<usize>, Vec<usize>) =
            sizes.as_chunks().0.iter().map(|&[before, after]| (before, after)).unzip();
        let batch = self.batch_axes(x);
        if before[..batch].iter().chain(&after[..batch]).any(|&amount| amount != 0) {
            return Err(site.unsupported("no padding of the batch", format!("{list:?}")));
        }
        Ok([before[batch..].to_vec(), after[batch..].to_vec()])
    }

    /// Whether every operator that reads a tensor is one of `operators`, without padding of its own.
    fn is_read_by(&self, tensor: usize, operators: &[BuiltinOperator]) -> bool {
        let is_one = |&reader: &usize| {
            let operator = &self.subgraph.operators[reader];
            let code = self.file.operator_code(operator).map(|code| code.builtin_code);
            let padding = match &operator.builtin_options {
                BuiltinOptions::Conv2D(options) => options.padding,
                BuiltinOptions::DepthwiseConv2D(options) => options.padding,
                BuiltinOptions::Pool2D(options) => options.padding,
                _ => return false,
            };
            padding == Padding::VALID && code.is_some_and(|code| operators.contains(&code))
        };
        tensor != self.output && self.readers[tensor].iter().all(is_one)
    }

    /// Notes the padding of an image for those that read it, if `operators` are all that do; whether it did.
    fn fold_padding(&mut self, x: usize, y: usize, amounts: &[Vec<usize>; 2], operators: &[BuiltinOperator]) -> bool {
        let ([&[top, left, 0], &[bottom, right, 0]], true) = ([&amounts[0][..], &amounts[1][..]], self.is_read_by(y, operators))
        else {
            return false;
        };
        self.padded.insert(y, Padded { source: x, amounts: [top, left, bottom, right] });
        true
    }

    fn pad(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let amounts = self.amounts(site, x)?;
        self.held(site, x)?;
        if self.codes(x)? == self.codes(y)?
            && self.fold_padding(x, y, &amounts, &[BuiltinOperator::CONV_2D, BuiltinOperator::DEPTHWISE_CONV_2D])
        {
            return Ok(());
        }
        self.pad_node(site, x, y, amounts)
    }

    fn pad_node(&mut self, site: &Site, x: usize, y: usize, [before, after]: [Vec<usize>; 2]) -> Result<(), TfliteError> {
        let Held { value, order } = self.held(site, x)?;
        let op = Pad { before: order.undo(&before), after: order.undo(&after) };
        self.finish(Op::Pad(op), &[value], y, order)
    }

    /// PADV2 with real 0, or with the lowest code before max pools.
    fn pad_v2(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y, fill) = (site.input(0)?, site.output()?, site.input(2)?);
        let amounts = self.amounts(site, x)?;
        self.held(site, x)?;
        let (code_type, qparams) = self.codes(x)?;
        let info = self.tensor(fill);
        let code = if info.element_count() == Some(1) { info.to_i64s(self.file.data(info)) } else { None };
        let Some(&[code]) = code.as_deref() else {
            return Err(site.unsupported("one constant to fill with", self.place(fill)));
        };
        if self.codes(fill)? != (code_type, qparams) || self.codes(y)? != (code_type, qparams) {
            return Err(site.unsupported("one scale and zero point throughout", self.place(fill)));
        }
        let is_lowest = code == i64::from(code_type.min());
        if is_lowest && self.fold_padding(x, y, &amounts, &[BuiltinOperator::MAX_POOL_2D]) {
            return Ok(());
        }
        if code != i64::from(qparams.zero_point) {
            return Err(site.unsupported("a padding with real 0, or with the lowest code before max pools", code.to_string()));
        }
        self.pad_node(site, x, y, amounts)
    }

    /// A box of `x`, lists being in the order of the file without the batch.
    fn slice_node(&mut self, site: &Site, x: usize, y: usize, lists: [Vec<usize>; 3]) -> Result<(), TfliteError> {
        let Held { value, order } = self.held(site, x)?;
        if lists.iter().any(|list| list.len() != order.rank()) {
            return Err(site.unsupported("one entry for each axis", format!("{lists:?}")));
        }
        let [start, end, step] = lists.map(|list| order.undo(&list));
        self.finish(Op::Slice(Slice { start, end, step }), &[value], y, order)
    }

    /// Whether a range of the batch is all of it; the rest of the list.
    fn without_batch(&self, site: &Site, x: usize, ranges: Vec<[i64; 3]>) -> Result<[Vec<usize>; 3], TfliteError> {
        let batch = self.batch_axes(x);
        let found = || site.unsupported("a box inside the sample", format!("{ranges:?}"));
        if ranges.len() != self.tensor(x).shape.len() || ranges[..batch].iter().any(|&range| range != [0, 1, 1]) {
            return Err(found());
        }
        let mut lists = [Vec::new(), Vec::new(), Vec::new()];
        for range in &ranges[batch..] {
            for (list, &entry) in lists.iter_mut().zip(range) {
                list.push(usize::try_from(entry).map_err(|_| found())?);
            }
        }
        Ok(lists)
    }

    fn slice(&mut self, site: &Site) -> Result<(), TfliteError> {
        let (x, y) = (site.input(0)?, site.output()?);
        let (begin, size) = (self.integers(site, site.input(1)?)?, self.integers(site, site.input(2)?)?);
        let sizes = &self.tensor(x).shape;
        let ranges = begin.iter().zip(&size).zip(sizes).map(|((&begin, &size), &whole)| {
            let end = if size == -1 { whole.into() } else { begin.saturating_add(size) };
            [begin, end, 1]
        });
        let lists = self.without_batch(site, x, ranges.collect())?;
        self.slice_node(site, x, y, lists)
    }

    fn strided_slice(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::StridedSlice(options) = site.options() else { return Err(site.wrong_options()) };
        let masks = [options.ellipsis_mask, options.new_axis_mask, options.shrink_axis_mask];
        if masks != [0; 3] || options.offset {
            return Err(site.unsupported("a slice that keeps all axes", format!("masks {masks:?}")));
        }
        let (x, y) = (site.input(0)?, site.output()?);
        let mut lists = Vec::new();
        for operand in 1..4 {
            lists.push(self.integers(site, site.input(operand)?)?);
        }
        let sizes = self.tensor(x).shape.clone();
        if lists.iter().any(|list| list.len() != sizes.len()) {
            return Err(site.unsupported("one entry for each axis", format!("{lists:?}")));
        }
        let ranges = sizes.iter().enumerate().map(|(axis, &size)| {
            let size = i64::from(size);
            let place = |entry: i64| if entry < 0 { entry.saturating_add(size) } else { entry }.clamp(0, size);
            let is_set = |mask: i32| mask >> axis & 1 == 1;
            let begin = if is_set(options.begin_mask) { 0 } else { place(lists[0][axis]) };
            let end = if is_set(options.end_mask) { size } else { place(lists[1][axis]) };
            [begin, end, lists[2][axis]]
        });
        let lists = self.without_batch(site, x, ranges.collect())?;
        self.slice_node(site, x, y, lists)
    }

    fn split(&mut self, site: &Site) -> Result<(), TfliteError> {
        let x = site.input(1)?;
        let [axis] = self.integers(site, site.input(0)?)?[..] else {
            return Err(site.unsupported("one axis", "another number"));
        };
        let at = self.axis(site, x, axis)?;
        let parts = site.operator.outputs.len();
        let size = self.sample(x)[at];
        if parts == 0 || !size.is_multiple_of(parts) {
            return Err(site.unsupported("parts of one size", format!("{parts} of {size}")));
        }
        self.parts(site, x, at, vec![size / parts; parts])
    }

    fn split_v(&mut self, site: &Site) -> Result<(), TfliteError> {
        let x = site.input(0)?;
        let [axis] = self.integers(site, site.input(2)?)?[..] else {
            return Err(site.unsupported("one axis", "another number"));
        };
        let at = self.axis(site, x, axis)?;
        let list = self.integers(site, site.input(1)?)?;
        let known: i64 = list.iter().filter(|&&size| size >= 0).fold(0, |sum, &size| sum.saturating_add(size));
        let rest = self.sample(x)[at] as i64 - known;
        let sizes: Result<Vec<usize>, _> =
            list.iter().map(|&size| usize::try_from(if size == -1 { rest } else { size })).collect();
        let Some(sizes) = sizes.ok().filter(|sizes| sizes.len() == site.operator.outputs.len()) else {
            return Err(site.unsupported("one size for each part", format!("{list:?}")));
        };
        self.parts(site, x, at, sizes)
    }

    /// One slice for each part along an axis.
    fn parts(&mut self, site: &Site, x: usize, at: usize, sizes: Vec<usize>) -> Result<(), TfliteError> {
        let whole = self.sample(x);
        let mut first = 0usize;
        for (&y, size) in site.operator.outputs.iter().zip(sizes) {
            let (mut start, mut end) = (vec![0; whole.len()], whole.clone());
            (start[at], end[at]) = (first, first.saturating_add(size));
            first = end[at];
            self.slice_node(site, x, y as usize, [start, end, vec![1; whole.len()]])?;
        }
        Ok(())
    }

    fn resize_nearest(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::ResizeNearestNeighbor(options) = site.options() else { return Err(site.wrong_options()) };
        let y = site.output()?;
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let (from, to) = (self.values[x.0].shape.clone(), self.sample(y));
        let factor = [0, 1].map(|axis| to.get(axis).map_or(0, |&size| size / from[axis + 1].max(1)));
        let is_block = |axis: usize| {
            let (from, to) = (from[axis + 1], to[axis]);
            let offset = if options.half_pixel_centers { 0.5 } else { 0.0 };
            let scale = from as f32 / to as f32;
            // Beyond this, runtimes lose whole pixels in f32.
            to < 1 << 20
                && from * factor[axis] == to
                && (0..to).all(|at| ((at as f32 + offset) * scale) as usize == at / factor[axis])
        };
        if to.len() != 3 || before != [0; 4] || options.align_corners || factor.contains(&0) || !(0..2).all(is_block) {
            let found = format!("{from:?} in [channels, height, width] to {to:?} in [height, width, channels]");
            return Err(site.unsupported("a resize by whole factors, every pixel a block", found));
        }
        self.finish(Op::ResizeNearest(ResizeNearest { factor }), &[x], y, Order::image())
    }

    fn gather(&mut self, site: &Site, table: usize, indices: usize) -> Result<(), TfliteError> {
        let y = site.output()?;
        let info = self.tensor(table);
        let ([rows, width], TensorType::INT8, true) = (&info.shape[..], info.r#type, self.is_constant(table)) else {
            return Err(site.unsupported("a constant table of int8, [rows, width]", self.place(table)));
        };
        if self.codes(table)? != self.codes(y)? {
            return Err(site.unsupported("a table with the result's parameters", self.place(table)));
        }
        let held = self.held(site, indices)?;
        let order = Order::plain(held.order.rank());
        let value = self.in_order(&held, &order);
        let codes: Vec<i8> = self.file.data(info).iter().map(|byte| byte.cast_signed()).collect();
        let op =
            Gather { name: self.layer(table), table: PackedCodes::eight(&codes), rows: *rows as usize, width: *width as usize };
        self.finish(Op::Gather(op), &[value], y, Order::plain(order.rank() + 1))
    }
}
