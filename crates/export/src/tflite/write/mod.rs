//! An integer model as the operators and tensors of a TFLite file.
//!
//! Each node is written by itself; what one needs from another is only the tensor that holds a value and the order of its axes.
//! The obstacles met on the way are collected, so that one pass finds them all.

mod activation;
mod layers;
mod movement;
mod windows;

use std::collections::BTreeMap;

use qat_formats::tflite::{
    BuiltinOperator as Operator, BuiltinOptions, Model, QuantizationParameters, ReshapeOptions, TensorType,
};
use qat_runtime::{CodeType, Codes, IntegerModel, Node, Op, Rules, ValueId, ValueInfo, dequantize};

use super::{
    Edges, Form, TfliteOptions,
    graph::{Graph, per_tensor},
    order::{Order, transpose},
    version::{Numbers, version},
};
use crate::{names, obstacle::Obstacle};

/// The most axes of a sample: with the batch, five.
const MAX_RANK: usize = 4;

/// The file, or everything that stands in its way. The model is valid.
pub(super) fn write(model: &IntegerModel, options: &TfliteOptions) -> Result<Model, Vec<Obstacle>> {
    let mut obstacles = model_obstacles(model, options);
    let mut writer = Writer::new(model, options);
    let input = writer.input();
    for index in 0..model.nodes.len() {
        if let Err(obstacle) = writer.node(index) {
            obstacles.push(obstacle);
            writer.give_up(index);
        }
    }
    let output = writer.output(input);
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    let form = match options.form {
        Form::Integer => "integer",
        Form::DynamicRange => "dynamic-range",
        Form::Float16 => "float16",
    };
    Ok(writer.graph.finish(input, output, &[("qat.rules", model.rules.name()), ("qat.form", form)]))
}

/// In which order the axes of input and output stand in the file.
pub(super) fn edge_orders(model: &IntegerModel) -> [Order; 2] {
    let turns = |node: &Node, permutation: [usize; 3]| matches!(&node.op, Op::Transpose(op) if op.permutation == permutation);
    let order = |value: ValueId, is_turned: bool| match model.values[value.0].shape.len() {
        3 if !is_turned => Order::image(),
        rank => Order::plain(rank),
    };
    // A model that turns what it gets from [h, w, c] to [c, h, w], or what it gives the other way, has it as it stands in the file.
    let mut nodes = model.nodes.iter();
    let input_is_turned = nodes.any(|node| node.inputs.contains(&model.input) && turns(node, [2, 0, 1]));
    let mut nodes = model.nodes.iter();
    let output_is_turned = nodes.any(|node| node.output == model.output && turns(node, [1, 2, 0]));
    [order(model.input, input_is_turned), order(model.output, output_is_turned)]
}

/// What is wrong with the model as a whole or with its values.
fn model_obstacles(model: &IntegerModel, options: &TfliteOptions) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let mut add = |place: String, expected, found: String| obstacles.push(Obstacle { place, expected, found });
    if options.form == Form::Integer && model.rules == Rules::OnnxRuntime {
        add("model".into(), "the rules of a TFLite runtime, as `for_target` gives them", model.rules.name().into());
    }
    for value in &model.values {
        if value.shape.len() > MAX_RANK {
            let place = format!("value {:?}", value.name);
            add(place, "at most four axes besides the batch", format!("{:?}", value.shape));
        }
    }
    if options.form == Form::Integer && options.edges == Edges::Uint8 {
        for (end, value) in [("input", model.input_info()), ("output", model.output_info())] {
            if value.code_type == CodeType::Int16 {
                let place = format!("model {end} {:?}", value.name);
                add(place, "int8 codes where uint8 is asked for", value.code_type.name().into());
            }
        }
    }
    obstacles
}

/// Where a value stands in the file.
#[derive(Clone)]
struct Held {
    /// `None` for a constant that nothing has asked for yet.
    tensor: Option<i32>,
    order: Order,
}

struct Writer<'m> {
    model: &'m IntegerModel,
    options: &'m TfliteOptions,
    graph: Graph,
    held: Vec<Option<Held>>,
    /// Tensors of a value in other orders than that in which it came to be.
    copies: BTreeMap<(ValueId, Order), i32>,
    /// Vectors whose elements are those of an image `[c, h, w]` in the order `[h, w, c]`.
    flattened: BTreeMap<ValueId, [usize; 3]>,
    /// For each value, the nodes that read it.
    readers: Vec<Vec<usize>>,
    /// For each node, the name of its constants.
    layers: Vec<String>,
}

impl<'m> Writer<'m> {
    fn new(model: &'m IntegerModel, options: &'m TfliteOptions) -> Self {
        let mut readers = vec![Vec::new(); model.values.len()];
        for (index, node) in model.nodes.iter().enumerate() {
            for input in &node.inputs {
                readers[input.0].push(index);
            }
        }
        let layers = names::unique(model.nodes.iter().filter_map(|node| node.op.layer()));
        let mut layers = layers.into_iter();
        let layers = model.nodes.iter().map(|node| node.op.layer().and_then(|_| layers.next()).unwrap_or_default()).collect();
        // TRANSPOSE_CONV is told the shape of its output, batch included.
        let any_batch = !model.nodes.iter().any(|node| matches!(node.op, Op::ConvTranspose2d(_)));
        let graph = Graph::new(any_batch);
        let held = vec![None; model.values.len()];
        Self { model, options, graph, held, copies: BTreeMap::new(), flattened: BTreeMap::new(), readers, layers }
    }

    fn is_integer(&self) -> bool {
        self.options.form == Form::Integer
    }

    fn info(&self, value: ValueId) -> &'m ValueInfo {
        &self.model.values[value.0]
    }

    fn obstacle(&self, node: &Node, expected: &'static str, found: impl Into<String>) -> Obstacle {
        let place = format!("{} of value {:?}", node.op.kind(), self.info(node.output).name);
        Obstacle { place, expected, found: found.into() }
    }

    /// A size or amount as the file spells it.
    fn number(&self, node: &Node, value: usize) -> Result<i32, Obstacle> {
        i32::try_from(value).map_err(|_| self.obstacle(node, "sizes and amounts within int32", value.to_string()))
    }

    fn numbers_of(&self, value: ValueId) -> Numbers {
        match (self.is_integer(), self.info(value).code_type) {
            (false, _) => Numbers::Float,
            (true, CodeType::Int16) => Numbers::Int16,
            (true, _) => Numbers::Int8,
        }
    }

    /// Type of a value's tensor, and what its codes mean.
    fn type_of(&self, info: &ValueInfo) -> (TensorType, Option<QuantizationParameters>) {
        let quantization = per_tensor(info.qparams.scale, info.qparams.zero_point.into());
        match (info.code_type, self.is_integer()) {
            (CodeType::Int32, _) => (TensorType::INT32, None),
            (_, false) => (TensorType::FLOAT32, None),
            (CodeType::Int8, true) => (TensorType::INT8, Some(quantization)),
            (CodeType::Int16, true) => (TensorType::INT16, Some(quantization)),
        }
    }

    /// A computed tensor with the type and meaning of a value; `shape` is without the batch, in the order of the file.
    fn tensor_like(&mut self, info: &ValueInfo, name: String, shape: &[usize]) -> i32 {
        let (r#type, quantization) = self.type_of(info);
        self.graph.computed(name, r#type, with_batch(1, shape), quantization)
    }

    /// The tensor that is to hold `value` in `order`.
    fn define(&mut self, value: ValueId, order: Order) -> i32 {
        let info = self.info(value);
        let tensor = self.tensor_like(info, info.name.clone(), &order.apply(&info.shape));
        self.hold(value, tensor, order);
        tensor
    }

    fn hold(&mut self, value: ValueId, tensor: i32, order: Order) {
        self.held[value.0] = Some(Held { tensor: Some(tensor), order });
    }

    /// The order in which a value came to be; `None` for a constant, which has any.
    fn order(&self, value: ValueId) -> Option<Order> {
        let held = self.held[value.0].as_ref()?;
        held.tensor.is_some().then(|| held.order.clone())
    }

    fn order_or_plain(&self, value: ValueId) -> Order {
        self.order(value).unwrap_or_else(|| Order::plain(self.info(value).shape.len()))
    }

    /// The tensor that holds a value in `order`, made if there is none yet.
    fn want(&mut self, value: ValueId, order: &Order) -> i32 {
        let info = self.info(value);
        let held = self.held[value.0].clone();
        let Some(held) = held else { return self.define(value, order.clone()) };
        if let Some(tensor) = held.tensor.filter(|_| held.order == *order) {
            return tensor;
        }
        if let Some(&tensor) = self.copies.get(&(value, order.clone())) {
            return tensor;
        }
        let shape = order.apply(&info.shape);
        let tensor = match held.tensor {
            None => self.constant(value, order),
            Some(tensor) if held.order.stands_as(order, &info.shape) => self.reshaped(tensor, info, &shape),
            Some(source) => {
                let permutation = held.order.permutation_to(order);
                let axes: Vec<i32> = std::iter::once(0).chain(permutation.iter().map(|&axis| axis as i32 + 1)).collect();
                let axes = self.graph.integers(&[axes.len() as i32], &axes);
                let tensor = self.tensor_like(info, format!("{}/transposed", info.name), &shape);
                let version = version(Operator::TRANSPOSE, self.numbers_of(value));
                self.graph.operator(Operator::TRANSPOSE, version, &[source, axes], tensor, BuiltinOptions::Transpose);
                tensor
            }
        };
        self.copies.insert((value, order.clone()), tensor);
        tensor
    }

    /// The numbers of a constant in an order.
    fn constant(&mut self, value: ValueId, order: &Order) -> i32 {
        let info = self.info(value);
        let codes = self.model.nodes.iter().find_map(|node| match &node.op {
            Op::Constant(codes) if node.output == value => Some(codes),
            _ => None,
        });
        let codes = codes.map(Codes::to_i32s).unwrap_or_default();
        let permutation = Order::plain(info.shape.len()).permutation_to(order);
        let codes = transpose(&codes, &info.shape, &permutation);
        let (r#type, quantization) = self.type_of(info);
        let data = bytes(r#type, codes, |code| dequantize(code, info.qparams));
        self.graph.constant(info.name.clone(), r#type, with_batch(1, &order.apply(&info.shape)), data, quantization)
    }

    /// A tensor with the numbers of another under another shape, which is without the batch.
    fn reshaped(&mut self, source: i32, info: &ValueInfo, shape: &[usize]) -> i32 {
        let tensor = self.tensor_like(info, format!("{}/reshaped", info.name), shape);
        self.reshape(source, tensor, shape);
        tensor
    }

    fn reshape(&mut self, source: i32, target: i32, shape: &[usize]) {
        let new_shape = with_batch(self.graph.batch(), shape);
        let operand = self.graph.integers(&[new_shape.len() as i32], &new_shape);
        let options = ReshapeOptions { new_shape };
        self.graph.operator(Operator::RESHAPE, 1, &[source, operand], target, options.into());
    }

    /// The tensor that the caller fills.
    fn input(&mut self) -> i32 {
        let input = self.model.input;
        let info = self.info(input);
        let [order, _] = edge_orders(self.model);
        let shape = order.apply(&info.shape);
        let Some((r#type, quantization)) = self.edge_type(info) else { return self.define(input, order) };
        let edge = self.graph.computed(info.name.clone(), r#type, with_batch(1, &shape), quantization);
        let codes = self.tensor_like(info, format!("{}/codes", info.name), &shape);
        let version = if r#type == TensorType::FLOAT32 { 1 } else { version(Operator::QUANTIZE, self.numbers_of(input)) };
        self.graph.operator(Operator::QUANTIZE, version, &[edge], codes, BuiltinOptions::Quantize);
        self.hold(input, codes, order);
        edge
    }

    /// Type and meaning of an input or output tensor that is not as inside.
    fn edge_type(&self, info: &ValueInfo) -> Option<(TensorType, Option<QuantizationParameters>)> {
        match self.options.edges {
            _ if !self.is_integer() || info.code_type == CodeType::Int32 => None,
            Edges::Codes => None,
            Edges::Uint8 => {
                let zero_point = i64::from(info.qparams.zero_point) + 128;
                Some((TensorType::UINT8, Some(per_tensor(info.qparams.scale, zero_point))))
            }
            Edges::Float32 => Some((TensorType::FLOAT32, None)),
        }
    }

    /// The tensor that the caller receives, another one than `input`.
    fn output(&mut self, input: i32) -> i32 {
        let output = self.model.output;
        let info = self.info(output);
        let [_, order] = edge_orders(self.model);
        let tensor = self.want(output, &order);
        let shape = order.apply(&info.shape);
        let Some((r#type, quantization)) = self.edge_type(info) else {
            // A file whose output is its input, or a constant, has no operator to run.
            let is_result = tensor != input && self.graph.is_computed(tensor);
            let tensor = if is_result { tensor } else { self.reshaped(tensor, info, &shape) };
            // A transpose that comes last is a reading of a tensor that another value has named.
            self.graph.rename(tensor, &info.name);
            return tensor;
        };
        // The caller knows the tensor by the model's name for it.
        let is_input = output == self.model.input;
        let name = if is_input { format!("{}/edge", info.name) } else { info.name.clone() };
        if !is_input {
            self.graph.rename(tensor, &format!("{}/codes", info.name));
        }
        let edge = self.graph.computed(name, r#type, with_batch(1, &shape), quantization);
        let (operator, options) = match r#type {
            TensorType::FLOAT32 => (Operator::DEQUANTIZE, BuiltinOptions::Dequantize),
            _ => (Operator::QUANTIZE, BuiltinOptions::Quantize),
        };
        self.graph.operator(operator, version(operator, self.numbers_of(output)), &[tensor], edge, options);
        edge
    }

    /// Stands in for the output of a node that cannot be written, so that the rest can be judged.
    fn give_up(&mut self, index: usize) {
        let output = self.model.nodes[index].output;
        if self.held[output.0].is_none() {
            self.define(output, Order::plain(self.info(output).shape.len()));
        }
    }

    fn node(&mut self, index: usize) -> Result<(), Obstacle> {
        let node = &self.model.nodes[index];
        match &node.op {
            Op::Conv2d(op) => self.conv2d(index, node, op),
            Op::ConvTranspose2d(op) => self.conv_transpose2d(index, node, op),
            Op::Linear(op) => self.linear(index, node, op),
            Op::MatMul(op) => self.mat_mul(node, *op),
            Op::Add(op) => self.elementwise(node, Operator::ADD, *op),
            Op::Sub(op) => self.elementwise(node, Operator::SUB, *op),
            Op::Mul(op) => self.elementwise(node, Operator::MUL, *op),
            Op::Concat(op) => self.concat(node, *op),
            Op::MaxPool2d(op) => self.max_pool2d(node, op),
            Op::AvgPool2d(op) => self.avg_pool2d(node, op),
            Op::Mean(op) => self.mean(node, op),
            Op::Clamp(clamp) => self.clamp(node, *clamp),
            Op::Unary(op) => self.unary(node, op.function),
            Op::Softmax(_) => self.softmax(node),
            Op::Requantize => self.requantize(node),
            Op::Reshape => self.reshape_node(node),
            Op::Transpose(op) => {
                let order = self.order_or_plain(node.inputs[0]);
                let tensor = self.want(node.inputs[0], &order);
                self.hold(node.output, tensor, order.transposed(&op.permutation));
                Ok(())
            }
            Op::Pad(op) => self.pad(node, op),
            Op::Slice(op) => self.slice(node, op),
            Op::ResizeNearest(op) => self.resize_nearest(node, *op),
            Op::Gather(op) => self.gather(index, node, op),
            Op::Constant(_) => {
                let order = Order::plain(self.info(node.output).shape.len());
                self.held[node.output.0] = Some(Held { tensor: None, order });
                Ok(())
            }
            _ => Err(self.obstacle(node, "an operation that TFLite has", node.op.kind())),
        }
    }

    fn pair(&self, node: &Node, pair: [usize; 2]) -> Result<[i32; 2], Obstacle> {
        Ok([self.number(node, pair[0])?, self.number(node, pair[1])?])
    }
}

/// Sizes with the batch before them. Those of a valid model are within int32.
fn with_batch(batch: i32, shape: &[usize]) -> Vec<i32> {
    std::iter::once(batch).chain(shape.iter().map(|&size| size as i32)).collect()
}

/// Little-endian elements of a type, from codes or, for floats, from the real numbers that they mean.
fn bytes(r#type: TensorType, codes: Vec<i32>, real: impl Fn(i32) -> f32) -> Vec<u8> {
    match r#type {
        TensorType::INT8 => codes.into_iter().map(|code| code as u8).collect(),
        TensorType::INT16 => codes.into_iter().flat_map(|code| (code as i16).to_le_bytes()).collect(),
        TensorType::FLOAT32 => codes.into_iter().flat_map(|code| real(code).to_le_bytes()).collect(),
        _ => codes.into_iter().flat_map(i32::to_le_bytes).collect(),
    }
}
