//! An integer model as the operators and tensors of a TFLite file.
//!
//! Each node is written by itself; what one needs from another is only the tensor that holds a value and the order of its axes.
//! The obstacles met on the way are collected, so that one pass finds them all.

use std::collections::BTreeMap;

use qat_formats::tflite::{
    ActivationFunctionType, AddOptions, BatchMatMulOptions, BuiltinOperator as Operator, BuiltinOptions, ConcatenationOptions,
    Conv2DOptions, DepthwiseConv2DOptions, FullyConnectedOptions, GatherOptions, GeluOptions, LeakyReluOptions, Model,
    MulOptions, Padding, Pool2DOptions, ReducerOptions, ReshapeOptions, ResizeNearestNeighborOptions, SoftmaxOptions,
    StridedSliceOptions, SubOptions, TensorType, TransposeConvOptions,
};
use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Codes, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, IntegerModel, Linear,
    MatMul, MaxPool2d, Mean, Node, Op, PackedCodes, Pad, ResizeNearest, Rules, Slice, ValueId, ValueInfo, WeightBits, Weights,
    dequantize,
};

use super::{
    Edges, Form, TfliteOptions,
    graph::{Graph, per_channel, per_tensor},
    half,
    order::{Order, transpose},
    padding,
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

/// What a fused activation leaves to do.
struct Activation {
    function: ActivationFunctionType,
    /// Codes are not below this one.
    low: Option<i16>,
    /// Codes are not above this one.
    high: Option<i16>,
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
    fn type_of(&self, info: &ValueInfo) -> (TensorType, Option<qat_formats::tflite::QuantizationParameters>) {
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
    fn edge_type(&self, info: &ValueInfo) -> Option<(TensorType, Option<qat_formats::tflite::QuantizationParameters>)> {
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
            return if is_result { tensor } else { self.reshaped(tensor, info, &shape) };
        };
        let edge = self.graph.computed(format!("{}/edge", info.name), r#type, with_batch(1, &shape), quantization);
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

    /// The activation that an operator can fuse for these codes of `y`, and what is left.
    fn activation(&self, clamp: Clamp, y: &ValueInfo) -> Activation {
        let full = Clamp::full(y.code_type);
        let zero_point = y.qparams.zero_point;
        // The code of a bound; `None` where runtimes could round it differently.
        let code = |real: f32| {
            let steps = real / y.qparams.scale;
            let is_tie = (steps - steps.floor() - 0.5).abs() < 1e-3;
            let code = zero_point.saturating_add(steps.round() as i32).clamp(full.min.into(), full.max.into());
            (!is_tie).then_some(code)
        };
        let is = |low: Option<i32>, high: Option<i32>| low == Some(clamp.min.into()) && high == Some(clamp.max.into());
        let (zero, top) = (Some(zero_point), Some(i32::from(full.max)));
        let fused = |function| Activation { function, low: None, high: None };
        if !self.is_integer() && i32::from(clamp.min) == zero_point {
            // Numbers that saturate at real 0, or at 6, are those of a relu or relu6; floats need to be told.
            let highest = dequantize(clamp.max, y.qparams);
            let is_six = (highest - 6.0).abs() <= y.qparams.scale * 0.501;
            let function = if is_six { ActivationFunctionType::RELU6 } else { ActivationFunctionType::RELU };
            let high = (!is_six && clamp.max < full.max).then_some(clamp.max);
            Activation { function, low: None, high }
        } else if clamp == full {
            fused(ActivationFunctionType::NONE)
        } else if is(zero, top) {
            fused(ActivationFunctionType::RELU)
        } else if is(zero, code(6.0)) {
            fused(ActivationFunctionType::RELU6)
        } else if is(code(-1.0), code(1.0)) {
            fused(ActivationFunctionType::RELU_N1_TO_1)
        } else {
            let (low, high) = ((clamp.min > full.min).then_some(clamp.min), (clamp.max < full.max).then_some(clamp.max));
            Activation { function: ActivationFunctionType::NONE, low, high }
        }
    }

    /// Writes an operator with its fused activation, then what of the clamp cannot be fused.
    fn activated(
        &mut self,
        node: &Node,
        order: Order,
        clamp: Clamp,
        write: impl FnOnce(&mut Self, ActivationFunctionType, i32) -> Result<(), Obstacle>,
    ) -> Result<(), Obstacle> {
        let y = self.info(node.output);
        let activation = self.activation(clamp, y);
        if activation.low.is_none() && activation.high.is_none() {
            let tensor = self.define(node.output, order);
            return write(self, activation.function, tensor);
        }
        let shape = order.apply(&y.shape);
        let tensor = self.tensor_like(y, format!("{}/unclamped", y.name), &shape);
        write(self, activation.function, tensor)?;
        self.bounds(node, tensor, order, &activation);
        Ok(())
    }

    /// The numbers of `source`, confined, as the node's output.
    fn bounds(&mut self, node: &Node, source: i32, order: Order, activation: &Activation) {
        let y = self.info(node.output);
        let numbers = self.numbers_of(node.output);
        let shape = order.apply(&y.shape);
        let (r#type, quantization) = self.type_of(y);
        let mut source = source;
        let steps = [(Operator::MAXIMUM, activation.low, "low"), (Operator::MINIMUM, activation.high, "high")];
        let count = steps.iter().filter(|step| step.1.is_some()).count();
        let mut done = 0;
        for (operator, bound, name) in steps {
            let Some(bound) = bound else { continue };
            done += 1;
            let data = bytes(r#type, vec![i32::from(bound)], |code| dequantize(code, y.qparams));
            let bound = self.graph.constant(format!("{}/{name}", y.name), r#type, vec![1], data, quantization.clone());
            let target = match done == count {
                true => self.define(node.output, order.clone()),
                false => self.tensor_like(y, format!("{}/above_{name}", y.name), &shape),
            };
            self.graph.operator(operator, version(operator, numbers), &[source, bound], target, BuiltinOptions::MaximumMinimum);
            source = target;
        }
    }

    /// How a window's padding is said: by SAME, VALID, or a PAD before it, whose result is returned in place of `x`.
    fn window(
        &mut self,
        node: &Node,
        x: i32,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 4],
        dilation: [usize; 2],
    ) -> Result<(Padding, i32), Obstacle> {
        let info = self.info(node.inputs[0]);
        if padding == [0; 4] {
            return Ok((Padding::VALID, x));
        }
        if padding == padding::same([info.shape[1], info.shape[2]], kernel, stride, dilation) {
            return Ok((Padding::SAME, x));
        }
        let [top, left, bottom, right] = padding;
        let padded = self.padded(node, x, info, [[top, bottom], [left, right], [0, 0]], None)?;
        Ok((Padding::VALID, padded))
    }

    /// `x`, an image in the order of the file, with elements around it: real 0, or a code.
    fn padded(
        &mut self,
        node: &Node,
        x: i32,
        info: &ValueInfo,
        amounts: [[usize; 2]; 3],
        code: Option<i16>,
    ) -> Result<i32, Obstacle> {
        let mut list = vec![0, 0];
        let mut shape = Vec::new();
        for (axis, [before, after]) in amounts.into_iter().enumerate() {
            list.extend([self.number(node, before)?, self.number(node, after)?]);
            shape.push(self.graph.shape(x)[axis + 1] as usize + before + after);
        }
        let y = &self.info(node.output).name;
        let padded = self.tensor_like(info, format!("{y}/padded"), &shape);
        let amounts = self.graph.integers(&[4, 2], &list);
        let numbers = self.numbers_of(node.inputs[0]);
        match code {
            None => {
                let version = version(Operator::PAD, numbers);
                self.graph.operator(Operator::PAD, version, &[x, amounts], padded, BuiltinOptions::Pad);
            }
            Some(code) => {
                let (r#type, quantization) = self.type_of(info);
                // Below every number that a float graph meets.
                let data = bytes(r#type, vec![i32::from(code)], |_| f32::MIN);
                let fill = self.graph.constant(format!("{y}/fill"), r#type, vec![1], data, quantization);
                let version = version(Operator::PADV2, numbers);
                self.graph.operator(Operator::PADV2, version, &[x, amounts, fill], padded, BuiltinOptions::PadV2);
            }
        }
        Ok(padded)
    }

    /// Weight and bias tensors of a layer. `codes` stand in the order of the file, `dimension` is that of the output channels.
    fn weights(
        &mut self,
        index: usize,
        node: &Node,
        weights: &Weights,
        codes: Vec<i8>,
        shape: &[usize],
        dimension: i32,
        is_hybrid: bool,
    ) -> Result<[i32; 2], Obstacle> {
        let x = self.info(node.inputs[0]);
        let layer = self.layers[index].clone();
        let shape: Vec<i32> = shape.iter().map(|&size| self.number(node, size)).collect::<Result<_, _>>()?;
        let (name, bias_name) = (format!("{layer}.weight"), format!("{layer}.bias"));
        let channels = vec![shape[dimension as usize]];
        let bias_scale = weights.scale.iter().map(|&s_w| x.qparams.scale * s_w);
        let kernel = match self.options.form {
            Form::Integer => {
                let bits = self.model.rules.weight_storage(&node.op, x.code_type).unwrap_or(WeightBits::Eight);
                let packed = PackedCodes::pack(&codes, bits).unwrap_or_else(|| PackedCodes::eight(&codes));
                let r#type = match packed.bits() {
                    WeightBits::Eight => TensorType::INT8,
                    WeightBits::Four => TensorType::INT4,
                    WeightBits::Two => TensorType::INT2,
                };
                let quantization = per_channel(&weights.scale, dimension);
                self.graph.constant(name, r#type, shape, packed.as_bytes().to_vec(), Some(quantization))
            }
            Form::DynamicRange => {
                let data = codes.iter().map(|code| code.cast_unsigned()).collect();
                let quantization = per_channel(&weights.scale, dimension);
                let stored = match is_hybrid {
                    true => name.clone(),
                    false => format!("{name}/codes"),
                };
                let kernel = self.graph.constant(stored, TensorType::INT8, shape.clone(), data, Some(quantization));
                if is_hybrid { kernel } else { self.dequantized(kernel, name, shape, 5) }
            }
            Form::Float16 => {
                // The output channel of each code: how often the codes after that dimension repeat.
                let inner: i32 = shape[dimension as usize + 1..].iter().product();
                let channel = |at: usize| at / inner as usize % weights.scale.len();
                let reals = codes.iter().enumerate().map(|(at, &code)| f32::from(code) * weights.scale[channel(at)]);
                let reals: Vec<f32> = reals.collect();
                let halves = self.halves(node, format!("{name}/float16"), shape.clone(), &reals)?;
                self.dequantized(halves, name, shape, 3)
            }
        };
        let bias = match (self.options.form, x.code_type) {
            (Form::Integer, CodeType::Int16) => {
                let data = weights.bias.iter().flat_map(|bias| bias.to_le_bytes()).collect();
                let quantization = per_channel(&bias_scale.collect::<Vec<_>>(), 0);
                self.graph.constant(bias_name, TensorType::INT64, channels, data, Some(quantization))
            }
            (Form::Integer, _) => {
                // The model is valid: its sums, biases included, are within int32.
                let data = weights.bias.iter().flat_map(|&bias| (bias as i32).to_le_bytes()).collect();
                let quantization = per_channel(&bias_scale.collect::<Vec<_>>(), 0);
                self.graph.constant(bias_name, TensorType::INT32, channels, data, Some(quantization))
            }
            _ => {
                let reals = weights.bias.iter().zip(bias_scale).map(|(&bias, scale)| (bias as f64 * f64::from(scale)) as f32);
                let data = reals.flat_map(f32::to_le_bytes).collect();
                self.graph.constant(bias_name, TensorType::FLOAT32, channels, data, None)
            }
        };
        Ok([kernel, bias])
    }

    /// A constant of half-precision floats.
    fn halves(&mut self, node: &Node, name: String, shape: Vec<i32>, reals: &[f32]) -> Result<i32, Obstacle> {
        if let Some(&beyond) = reals.iter().find(|real| real.abs() > half::MAX) {
            return Err(self.obstacle(node, "weights within float16", format!("{beyond}")));
        }
        let data = reals.iter().flat_map(|&real| half::from_f32(real).to_le_bytes()).collect();
        Ok(self.graph.constant(name, TensorType::FLOAT16, shape, data, None))
    }

    /// A constant tensor as f32.
    fn dequantized(&mut self, source: i32, name: String, shape: Vec<i32>, version: i32) -> i32 {
        let target = self.graph.widened(name, shape);
        self.graph.operator(Operator::DEQUANTIZE, version, &[source], target, BuiltinOptions::Dequantize);
        target
    }

    fn layer_numbers(&self, node: &Node, is_hybrid: bool) -> Numbers {
        match self.options.form {
            Form::DynamicRange if is_hybrid => Numbers::Hybrid,
            _ => self.numbers_of(node.inputs[0]),
        }
    }

    fn conv2d(&mut self, index: usize, node: &Node, op: &Conv2d) -> Result<(), Obstacle> {
        let x = self.want(node.inputs[0], &Order::image());
        let (padding, x) = self.window(node, x, op.kernel, op.stride, op.padding, op.dilation)?;
        let [k_h, k_w] = op.kernel;
        let from = [op.c_out, op.c_in / op.groups, k_h, k_w];
        let codes = op.weights.codes.unpack();
        let is_depthwise = op.is_depthwise();
        let is_hybrid = is_depthwise || op.groups == 1;
        let [kernel, bias] = if is_depthwise {
            let codes = transpose(&codes, &from, &[1, 2, 3, 0]);
            self.weights(index, node, &op.weights, codes, &[1, k_h, k_w, op.c_out], 3, is_hybrid)?
        } else {
            let codes = transpose(&codes, &from, &[0, 2, 3, 1]);
            self.weights(index, node, &op.weights, codes, &[from[0], k_h, k_w, from[1]], 0, is_hybrid)?
        };
        let [stride_h, stride_w] = self.pair(node, op.stride)?;
        let [dilation_h_factor, dilation_w_factor] = self.pair(node, op.dilation)?;
        let depth_multiplier = self.number(node, op.c_out / op.c_in.max(1))?;
        let numbers = self.layer_numbers(node, is_hybrid);
        self.activated(node, Order::image(), op.clamp, |writer, fused_activation_function, y| {
            let (operator, options) = if is_depthwise {
                let options = DepthwiseConv2DOptions {
                    padding,
                    stride_w,
                    stride_h,
                    depth_multiplier,
                    fused_activation_function,
                    dilation_w_factor,
                    dilation_h_factor,
                };
                (Operator::DEPTHWISE_CONV_2D, options.into())
            } else {
                let options = Conv2DOptions {
                    padding,
                    stride_w,
                    stride_h,
                    fused_activation_function,
                    dilation_w_factor,
                    dilation_h_factor,
                    ..Conv2DOptions::default()
                };
                (Operator::CONV_2D, options.into())
            };
            writer.graph.operator(operator, version(operator, numbers), &[x, kernel, bias], y, options);
            Ok(())
        })
    }

    fn pair(&self, node: &Node, pair: [usize; 2]) -> Result<[i32; 2], Obstacle> {
        Ok([self.number(node, pair[0])?, self.number(node, pair[1])?])
    }

    fn conv_transpose2d(&mut self, index: usize, node: &Node, op: &ConvTranspose2d) -> Result<(), Obstacle> {
        if op.groups != 1 || op.dilation != [1, 1] {
            let found = format!("groups {} and dilation {:?}", op.groups, op.dilation);
            return Err(self.obstacle(node, "a transposed convolution without groups or dilation", found));
        }
        if op.output_padding[0] >= op.stride[0] || op.output_padding[1] >= op.stride[1] {
            let found = format!("{:?} at stride {:?}", op.output_padding, op.stride);
            return Err(self.obstacle(node, "an output padding below the stride", found));
        }
        let (x_info, y_info) = (self.info(node.inputs[0]), self.info(node.output));
        let x = self.want(node.inputs[0], &Order::image());
        let [k_h, k_w] = op.kernel;
        let codes = transpose(&op.weights.codes.unpack(), &[op.c_out, op.c_in, k_h, k_w], &[0, 2, 3, 1]);
        let [kernel, bias] = self.weights(index, node, &op.weights, codes, &[op.c_out, k_h, k_w, op.c_in], 0, false)?;
        let [stride_h, stride_w] = self.pair(node, op.stride)?;
        let numbers = self.numbers_of(node.inputs[0]);

        let (inputs, outputs) = ([x_info.shape[1], x_info.shape[2]], [y_info.shape[1], y_info.shape[2]]);
        let whole = [0, 1].map(|axis| (inputs[axis] - 1) * op.stride[axis] + op.kernel[axis] + op.output_padding[axis]);
        let [top, left, bottom, right] = op.padding;
        // SAME cuts what lies beyond the output, the odd row at the bottom; an output as large as it gets is not cut.
        let is_same = (0..2).all(|axis| {
            let natural = whole[axis] - op.output_padding[axis];
            let cut = natural.saturating_sub(outputs[axis]);
            op.padding[axis] == cut / 2 && outputs[axis].div_ceil(op.stride[axis]) == inputs[axis]
        });
        let padding = if is_same { Padding::SAME } else { Padding::VALID };
        let is_cut = !is_same && [top, left, bottom, right] != [0; 4];
        let size = if is_cut { whole } else { outputs };
        let shape = [1, self.number(node, size[0])?, self.number(node, size[1])?, self.number(node, op.c_out)?];
        let shape_operand = self.graph.integers(&[4], &shape);
        let write = move |writer: &mut Self, fused_activation_function, y| {
            let options = TransposeConvOptions {
                padding,
                stride_w,
                stride_h,
                fused_activation_function,
                ..TransposeConvOptions::default()
            };
            let version = version(Operator::TRANSPOSE_CONV, numbers);
            let operands = [shape_operand, kernel, x, bias];
            writer.graph.operator(Operator::TRANSPOSE_CONV, version, &operands, y, options.into());
        };
        self.activated(node, Order::image(), op.clamp, |writer, function, y| {
            if !is_cut {
                write(writer, function, y);
                return Ok(());
            }
            let uncut = writer.tensor_like(y_info, format!("{}/uncut", y_info.name), &[size[0], size[1], op.c_out]);
            write(writer, function, uncut);
            let begin = [0, writer.number(node, top)?, writer.number(node, left)?, 0];
            let size = [1, writer.number(node, outputs[0])?, writer.number(node, outputs[1])?, shape[3]];
            let operands = [uncut, writer.graph.integers(&[4], &begin), writer.graph.integers(&[4], &size)];
            writer.graph.operator(Operator::SLICE, version(Operator::SLICE, numbers), &operands, y, BuiltinOptions::Slice);
            Ok(())
        })
    }

    fn linear(&mut self, index: usize, node: &Node, op: &Linear) -> Result<(), Obstacle> {
        let input = node.inputs[0];
        let rank = self.info(input).shape.len();
        let order = Some(self.order_or_plain(input)).filter(Order::keeps_last).unwrap_or_else(|| Order::plain(rank));
        let x = self.want(input, &order);
        let mut codes = op.weights.codes.unpack();
        if let Some(&[c, h, w]) = self.flattened.get(&input) {
            codes = transpose(&codes, &[op.d_output, c, h, w], &[0, 2, 3, 1]);
        }
        let [kernel, bias] = self.weights(index, node, &op.weights, codes, &[op.d_output, op.d_input], 0, true)?;
        let numbers = self.layer_numbers(node, true);
        let asymmetric_quantize_inputs = numbers == Numbers::Hybrid;
        self.activated(node, order, op.clamp, |writer, fused_activation_function, y| {
            let options = FullyConnectedOptions {
                fused_activation_function,
                keep_num_dims: rank > 1,
                asymmetric_quantize_inputs,
                ..FullyConnectedOptions::default()
            };
            let version = version(Operator::FULLY_CONNECTED, numbers);
            writer.graph.operator(Operator::FULLY_CONNECTED, version, &[x, kernel, bias], y, options.into());
            Ok(())
        })
    }

    fn mat_mul(&mut self, node: &Node, op: MatMul) -> Result<(), Obstacle> {
        let operands = [0, 1].map(|at| {
            let input = node.inputs[at];
            self.want(input, &Order::plain(self.info(input).shape.len()))
        });
        let order = Order::plain(self.info(node.output).shape.len());
        let version = version(Operator::BATCH_MATMUL, self.numbers_of(node.inputs[0]));
        // The operator fuses no activation; what it could fuse elsewhere follows it.
        let full = Clamp::full(self.info(node.output).code_type);
        let options = BatchMatMulOptions { adj_y: op.transpose_rhs, ..BatchMatMulOptions::default() };
        if op.clamp == full {
            let y = self.define(node.output, order);
            self.graph.operator(Operator::BATCH_MATMUL, version, &operands, y, options.into());
            return Ok(());
        }
        let info = self.info(node.output);
        let y = self.tensor_like(info, format!("{}/unclamped", info.name), &info.shape);
        self.graph.operator(Operator::BATCH_MATMUL, version, &operands, y, options.into());
        self.clamped(node, y, order, op.clamp);
        Ok(())
    }

    /// The numbers of `source` confined to `clamp`, as the node's output.
    fn clamped(&mut self, node: &Node, source: i32, order: Order, clamp: Clamp) {
        let activation = self.activation(clamp, self.info(node.output));
        if activation.function == ActivationFunctionType::RELU && activation.high.is_some() {
            // No operator has both: the bound at 0 by a relu, the other by itself.
            let info = self.info(node.output);
            let relu = self.tensor_like(info, format!("{}/relu", info.name), &order.apply(&info.shape));
            let version = version(Operator::RELU, self.numbers_of(node.output));
            self.graph.operator(Operator::RELU, version, &[source], relu, BuiltinOptions::None);
            return self.bounds(node, relu, order, &activation);
        }
        let operator = match activation.function {
            ActivationFunctionType::RELU => Operator::RELU,
            ActivationFunctionType::RELU6 => Operator::RELU6,
            ActivationFunctionType::RELU_N1_TO_1 => Operator::RELU_N1_TO_1,
            _ => return self.bounds(node, source, order, &activation),
        };
        let y = self.define(node.output, order);
        self.graph.operator(operator, version(operator, self.numbers_of(node.output)), &[source], y, BuiltinOptions::None);
    }

    fn elementwise(&mut self, node: &Node, operator: Operator, op: Elementwise) -> Result<(), Obstacle> {
        let order = self.shared_order(node);
        let operands: Vec<i32> = node.inputs.iter().map(|&input| self.want(input, &order)).collect();
        let version = version(operator, self.numbers_of(node.inputs[0]));
        self.activated(node, order, op.clamp, |writer, fused_activation_function, y| {
            // Scales that are powers of two take the general path too.
            let options = match operator {
                Operator::ADD => AddOptions { fused_activation_function, pot_scale_int16: false }.into(),
                Operator::SUB => SubOptions { fused_activation_function, pot_scale_int16: false }.into(),
                _ => MulOptions { fused_activation_function }.into(),
            };
            writer.graph.operator(operator, version, &operands, y, options);
            Ok(())
        })
    }

    /// The order of the first operand that is no constant.
    fn shared_order(&self, node: &Node) -> Order {
        let found = node.inputs.iter().find_map(|&input| self.order(input));
        found.unwrap_or_else(|| Order::plain(self.info(node.output).shape.len()))
    }

    fn concat(&mut self, node: &Node, op: Concat) -> Result<(), Obstacle> {
        let order = self.shared_order(node);
        let operands: Vec<i32> = node.inputs.iter().map(|&input| self.want(input, &order)).collect();
        let axis = order.position(op.axis) as i32 + 1;
        let version = version(Operator::CONCATENATION, self.numbers_of(node.output));
        let y = self.define(node.output, order);
        let options = ConcatenationOptions { axis, ..ConcatenationOptions::default() };
        self.graph.operator(Operator::CONCATENATION, version, &operands, y, options.into());
        Ok(())
    }

    fn max_pool2d(&mut self, node: &Node, op: &MaxPool2d) -> Result<(), Obstacle> {
        if op.dilation != [1, 1] {
            return Err(self.obstacle(node, "a pool without dilation", format!("{:?}", op.dilation)));
        }
        let info = self.info(node.inputs[0]);
        let x = self.want(node.inputs[0], &Order::image());
        let is_same = op.padding == padding::same([info.shape[1], info.shape[2]], op.kernel, op.stride, [1, 1]);
        let (padding, x) = if op.padding == [0; 4] {
            (Padding::VALID, x)
        } else if is_same {
            (Padding::SAME, x)
        } else {
            // The lowest code never wins against another.
            let [top, left, bottom, right] = op.padding;
            let lowest = Clamp::full(info.code_type).min;
            (Padding::VALID, self.padded(node, x, info, [[top, bottom], [left, right], [0, 0]], Some(lowest))?)
        };
        self.pool(node, Operator::MAX_POOL_2D, x, padding, op.kernel, op.stride)
    }

    fn avg_pool2d(&mut self, node: &Node, op: &AvgPool2d) -> Result<(), Obstacle> {
        let (x_info, y_info) = (self.info(node.inputs[0]), self.info(node.output));
        if self.is_integer() && x_info.qparams != y_info.qparams {
            let expected = "an average pool that shares its input's parameters, as `for_target` makes it";
            let found = format!("scales {} and {}", x_info.qparams.scale, y_info.qparams.scale);
            return Err(self.obstacle(node, expected, found));
        }
        let x = self.want(node.inputs[0], &Order::image());
        let (padding, x) = if op.count_include_pad && op.padding != [0; 4] {
            let [top, left, bottom, right] = op.padding;
            (Padding::VALID, self.padded(node, x, x_info, [[top, bottom], [left, right], [0, 0]], None)?)
        } else if op.padding == [0; 4] {
            (Padding::VALID, x)
        } else if op.padding == padding::same([x_info.shape[1], x_info.shape[2]], op.kernel, op.stride, [1, 1]) {
            (Padding::SAME, x)
        } else {
            let expected = "SAME padding, or padding that counts in the divisor";
            return Err(self.obstacle(node, expected, format!("{:?} that does not", op.padding)));
        };
        self.pool(node, Operator::AVERAGE_POOL_2D, x, padding, op.kernel, op.stride)
    }

    fn pool(
        &mut self,
        node: &Node,
        operator: Operator,
        x: i32,
        padding: Padding,
        kernel: [usize; 2],
        stride: [usize; 2],
    ) -> Result<(), Obstacle> {
        let [filter_height, filter_width] = self.pair(node, kernel)?;
        let [stride_h, stride_w] = self.pair(node, stride)?;
        let y = self.define(node.output, Order::image());
        let options = Pool2DOptions { padding, stride_w, stride_h, filter_width, filter_height, ..Pool2DOptions::default() };
        self.graph.operator(operator, version(operator, self.numbers_of(node.output)), &[x], y, options.into());
        Ok(())
    }

    fn mean(&mut self, node: &Node, op: &Mean) -> Result<(), Obstacle> {
        let info = self.info(node.inputs[0]);
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let mut axes: Vec<i32> = op.axes.iter().map(|&axis| order.position(axis) as i32 + 1).collect();
        axes.sort_unstable();
        let axes = self.graph.integers(&[axes.len() as i32], &axes);
        let version = version(Operator::MEAN, self.numbers_of(node.inputs[0]));
        let is_everything = !op.keep_dims && op.axes.len() == info.shape.len();
        let options = ReducerOptions { keep_dims: op.keep_dims || is_everything }.into();
        if is_everything {
            // A mean over all axes would leave the batch alone, and a sample is a vector at least.
            let y_info = self.info(node.output);
            let ones = vec![1; info.shape.len()];
            let y = self.tensor_like(y_info, format!("{}/mean", y_info.name), &ones);
            self.graph.operator(Operator::MEAN, version, &[x, axes], y, options);
            let target = self.define(node.output, Order::plain(1));
            self.reshape(y, target, &[1]);
            return Ok(());
        }
        let y = self.define(node.output, if op.keep_dims { order } else { order.without(&op.axes) });
        self.graph.operator(Operator::MEAN, version, &[x, axes], y, options);
        Ok(())
    }

    fn clamp(&mut self, node: &Node, clamp: Clamp) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        if clamp == Clamp::full(self.info(node.output).code_type) {
            self.hold(node.output, x, order);
            return Ok(());
        }
        self.clamped(node, x, order, clamp);
        Ok(())
    }

    fn unary(&mut self, node: &Node, function: Function) -> Result<(), Obstacle> {
        let (operator, options) = match function {
            Function::Sigmoid => (Operator::LOGISTIC, BuiltinOptions::None),
            Function::Tanh => (Operator::TANH, BuiltinOptions::None),
            Function::HardSwish => (Operator::HARD_SWISH, BuiltinOptions::HardSwish),
            Function::Gelu => (Operator::GELU, GeluOptions { approximate: false }.into()),
            Function::GeluTanh => (Operator::GELU, GeluOptions { approximate: true }.into()),
            Function::LeakyRelu { slope } => (Operator::LEAKY_RELU, LeakyReluOptions { alpha: slope }.into()),
            _ => return Err(self.obstacle(node, "a function that TFLite has", function.name())),
        };
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let y = self.define(node.output, order);
        self.graph.operator(operator, version(operator, self.numbers_of(node.inputs[0])), &[x], y, options);
        Ok(())
    }

    fn softmax(&mut self, node: &Node) -> Result<(), Obstacle> {
        let input = node.inputs[0];
        let order = self.order_or_plain(input);
        let order = if order.keeps_last() { order } else { Order::plain(self.info(input).shape.len()) };
        let x = self.want(input, &order);
        let y = self.define(node.output, order);
        let version = version(Operator::SOFTMAX, self.numbers_of(input));
        self.graph.operator(Operator::SOFTMAX, version, &[x], y, SoftmaxOptions { beta: 1.0 }.into());
        Ok(())
    }

    fn requantize(&mut self, node: &Node) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        if !self.is_integer() {
            // The same real numbers, unless the other grid begins at 0.
            let y = self.info(node.output);
            match i32::from(Clamp::full(y.code_type).min) == y.qparams.zero_point {
                true => self.clamped(node, x, order, Clamp::full(y.code_type)),
                false => self.hold(node.output, x, order),
            }
            return Ok(());
        }
        let is_wide = [node.inputs[0], node.output].iter().any(|&value| self.numbers_of(value) == Numbers::Int16);
        let version = version(Operator::QUANTIZE, if is_wide { Numbers::Int16 } else { Numbers::Int8 });
        let y = self.define(node.output, order);
        self.graph.operator(Operator::QUANTIZE, version, &[x], y, BuiltinOptions::Quantize);
        Ok(())
    }

    fn reshape_node(&mut self, node: &Node) -> Result<(), Obstacle> {
        let (input, output) = (node.inputs[0], node.output);
        let (from, to) = (&self.info(input).shape, &self.info(output).shape);
        let plain = Order::plain(from.len());
        let order = self.order_or_plain(input);
        let is_read_by_linear_alone = self.readers[output.0].iter().all(|&at| matches!(self.model.nodes[at].op, Op::Linear(_)))
            && !self.readers[output.0].is_empty()
            && output != self.model.output;
        let (x, is_turned) = if order.stands_as(&plain, from) {
            (self.want(input, &order), false)
        } else if order == Order::image() && to.len() == 1 && is_read_by_linear_alone {
            // The columns of the layer's weights are put in the order of the file instead of the vector in the sample's.
            self.flattened.insert(output, [from[0], from[1], from[2]]);
            (self.want(input, &order), true)
        } else {
            (self.want(input, &plain), false)
        };
        let image_order = Order::image();
        // An image whose order does not matter is written as the operators that follow want it.
        let target_order = match to.len() == 3 && !is_turned && Order::plain(3).stands_as(&image_order, to) {
            true => image_order,
            false => Order::plain(to.len()),
        };
        let shape = target_order.apply(to);
        let y = self.define(output, target_order);
        self.reshape(x, y, &shape);
        Ok(())
    }

    fn pad(&mut self, node: &Node, op: &Pad) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let mut amounts = vec![0, 0];
        for (before, after) in order.apply(&op.before).into_iter().zip(order.apply(&op.after)) {
            amounts.extend([self.number(node, before)?, self.number(node, after)?]);
        }
        let amounts = self.graph.integers(&[(amounts.len() / 2) as i32, 2], &amounts);
        let y = self.define(node.output, order);
        let version = version(Operator::PAD, self.numbers_of(node.output));
        self.graph.operator(Operator::PAD, version, &[x, amounts], y, BuiltinOptions::Pad);
        Ok(())
    }

    fn slice(&mut self, node: &Node, op: &Slice) -> Result<(), Obstacle> {
        let order = self.order_or_plain(node.inputs[0]);
        let x = self.want(node.inputs[0], &order);
        let list = |writer: &Self, first: i32, values: Vec<usize>| {
            let values: Result<Vec<i32>, _> = values.into_iter().map(|value| writer.number(node, value)).collect();
            values.map(|values| [vec![first], values].concat())
        };
        let begin = list(self, 0, order.apply(&op.start))?;
        let rank = begin.len() as i32;
        let begin = self.graph.integers(&[rank], &begin);
        let numbers = self.numbers_of(node.output);
        let y = self.define(node.output, order.clone());
        if op.step.iter().all(|&step| step == 1) {
            let size = list(self, self.graph.batch(), order.apply(&self.info(node.output).shape))?;
            let size = self.graph.integers(&[rank], &size);
            let version = version(Operator::SLICE, numbers);
            self.graph.operator(Operator::SLICE, version, &[x, begin, size], y, BuiltinOptions::Slice);
            return Ok(());
        }
        let end = list(self, 1, order.apply(&op.end))?;
        let step = list(self, 1, order.apply(&op.step))?;
        let operands = [x, begin, self.graph.integers(&[rank], &end), self.graph.integers(&[rank], &step)];
        // All of the batch, whatever its size.
        let options = StridedSliceOptions { begin_mask: 1, end_mask: 1, ..StridedSliceOptions::default() };
        let version = version(Operator::STRIDED_SLICE, numbers);
        self.graph.operator(Operator::STRIDED_SLICE, version, &operands, y, options.into());
        Ok(())
    }

    fn resize_nearest(&mut self, node: &Node, _: ResizeNearest) -> Result<(), Obstacle> {
        let x = self.want(node.inputs[0], &Order::image());
        let shape = &self.info(node.output).shape;
        let size = [self.number(node, shape[1])?, self.number(node, shape[2])?];
        let size = self.graph.integers(&[2], &size);
        let version = version(Operator::RESIZE_NEAREST_NEIGHBOR, self.numbers_of(node.output));
        let y = self.define(node.output, Order::image());
        // Centres of pixels keep clear of the borders between them, so that no rounding moves one.
        let options = ResizeNearestNeighborOptions { align_corners: false, half_pixel_centers: true };
        self.graph.operator(Operator::RESIZE_NEAREST_NEIGHBOR, version, &[x, size], y, options.into());
        Ok(())
    }

    fn gather(&mut self, index: usize, node: &Node, op: &Gather) -> Result<(), Obstacle> {
        let (input, y_info) = (node.inputs[0], self.info(node.output));
        let rank = self.info(input).shape.len();
        let indices = self.want(input, &Order::plain(rank));
        let shape = vec![self.number(node, op.rows)?, self.number(node, op.width)?];
        let codes = op.table.unpack();
        let name = format!("{}.weight", self.layers[index]);
        let quantization = Some(per_tensor(y_info.qparams.scale, y_info.qparams.zero_point.into()));
        let data = codes.iter().map(|code| code.cast_unsigned()).collect();
        let options = GatherOptions { axis: 0, batch_dims: 0 }.into();
        let order = Order::plain(rank + 1);
        match self.options.form {
            Form::Integer => {
                let table = self.graph.constant(name, TensorType::INT8, shape, data, quantization);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::GATHER, 2, &[table, indices], y, options);
            }
            Form::DynamicRange => {
                let table = self.graph.constant(name, TensorType::INT8, shape, data, quantization.clone());
                let file_shape = with_batch(1, &y_info.shape);
                let codes = self.graph.computed(format!("{}/codes", y_info.name), TensorType::INT8, file_shape, quantization);
                self.graph.operator(Operator::GATHER, 2, &[table, indices], codes, options);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::DEQUANTIZE, 2, &[codes], y, BuiltinOptions::Dequantize);
            }
            Form::Float16 => {
                let reals: Vec<f32> = codes.iter().map(|&code| dequantize(code, y_info.qparams)).collect();
                let halves = self.halves(node, format!("{name}/float16"), shape.clone(), &reals)?;
                let table = self.dequantized(halves, name, shape, 3);
                let y = self.define(node.output, order);
                self.graph.operator(Operator::GATHER, 1, &[table, indices], y, options);
            }
        }
        Ok(())
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
