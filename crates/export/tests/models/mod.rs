//! Integer models with random weights, for the tests of the writers.
//!
//! [`Builder`] adds one node a call; [`operations`] has one small model for every operation; the functions at the end are nets.

// Each test binary uses some of the models.
#![allow(dead_code)]

mod tables;

use qat_runtime::{
    AvgPool2d, Clamp as Range, CodeType, Codes, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, IntegerModel,
    Linear, MatMul, MaxPool2d, Mean, ModelError, Node, Op, PackedCodes, Pad, QParams, ResizeNearest, Rules, Slice, Softmax,
    Transpose, Unary, ValueId, ValueInfo, WeightBits, Weights, broadcast,
};

/// The generator splitmix64: any seed gives a good sequence.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high]`.
    pub fn int(&mut self, low: i32, high: i32) -> i32 {
        low + (self.bits() % (high - low + 1) as u64) as i32
    }

    /// Uniform in `[low, high)`.
    pub fn float(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / (1u64 << 24) as f32)
    }
}

/// Random codes for `samples` inputs of a model; indices lie in the table that they go into.
pub fn input_codes(model: &IntegerModel, samples: usize, random: &mut Random) -> Codes {
    let input = model.input_info();
    let count = samples * input.elements().unwrap();
    let rows = model.nodes.iter().find_map(|node| match &node.op {
        Op::Gather(gather) if node.inputs == [model.input] => Some(gather.rows),
        _ => None,
    });
    codes(random, input.code_type, count, rows.unwrap_or(1) as i32 - 1)
}

/// Random codes of a type; those of [`CodeType::Int32`] are in `0..=last`.
fn codes(random: &mut Random, code_type: CodeType, count: usize, last: i32) -> Codes {
    let draws = 0..count;
    match code_type {
        CodeType::Int8 => Codes::Int8(draws.map(|_| random.int(-128, 127) as i8).collect()),
        CodeType::Int16 => Codes::Int16(draws.map(|_| random.int(-32768, 32767) as i16).collect()),
        CodeType::Int32 => Codes::Int32(draws.map(|_| random.int(0, last)).collect()),
    }
}

/// What is drawn besides the seed.
#[derive(Clone, Copy)]
pub struct Draw {
    /// Whose arithmetic the model has.
    pub rules: Rules,
    /// Of the model's input, and so of most values.
    pub code_type: CodeType,
    /// Width of weights.
    pub bits: WeightBits,
    /// One weight scale for all channels.
    pub per_tensor: bool,
    /// How scales are drawn.
    pub scales: Scales,
}

impl Draw {
    /// int8 activations, int8 weights per channel, random scales.
    pub fn int8(rules: Rules) -> Self {
        Self { rules, code_type: CodeType::Int8, bits: WeightBits::Eight, per_tensor: false, scales: Scales::Random }
    }
}

/// How scales are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scales {
    /// Any; outputs spread over their codes.
    Random,
    /// Powers of two: many results lie midway between codes.
    Ties,
    /// Outputs too narrow for their numbers by a factor of 8.
    Saturating,
}

/// What varies between convolutions.
#[derive(Clone, Copy)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
}

impl Window {
    /// A square kernel that keeps the image's size at stride 1.
    pub fn same(kernel: usize, stride: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [kernel / 2; 4], dilation: [1, 1] }
    }

    fn output(&self, shape: &[usize], channels: usize) -> Vec<usize> {
        let size = |axis: usize| {
            let padded = shape[axis + 1] + self.padding[axis] + self.padding[axis + 2];
            (padded - self.dilation[axis] * (self.kernel[axis] - 1) - 1) / self.stride[axis] + 1
        };
        vec![channels, size(0), size(1)]
    }
}

/// Which codes a layer may give.
#[derive(Clone, Copy)]
pub enum Clamp {
    /// All of them.
    None,
    /// From the zero point up, which is the lowest code (of int16 codes: from 0 up).
    Relu,
    /// From the zero point up, which is another code (of int16 codes: from 0 up).
    ReluAt(i32),
    /// A range of its own, in int8 codes.
    Range(i16, i16),
}

impl Clamp {
    /// Zero point and codes of the output.
    fn codes(self, code_type: CodeType, random: &mut Random) -> (i32, Range) {
        if code_type == CodeType::Int16 {
            let range = match self {
                Self::None => Range::INT16,
                Self::Relu | Self::ReluAt(_) => Range { min: 0, ..Range::INT16 },
                Self::Range(min, max) => Range { min: min * 256, max: max * 256 },
            };
            return (0, range);
        }
        match self {
            Self::None => (random.int(-20, 20), Range::INT8),
            Self::Relu => (-128, Range::INT8),
            Self::ReluAt(zero_point) => (zero_point, Range { min: zero_point as i16, ..Range::INT8 }),
            Self::Range(min, max) => (random.int(-20, 20), Range { min, max }),
        }
    }
}

/// A model under construction: each method adds a node and returns its value.
pub struct Builder {
    random: Random,
    draw: Draw,
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
}

impl Builder {
    /// A model for ONNX Runtime with int8 codes.
    pub fn new(seed: u64, input: &[usize]) -> (Self, ValueId) {
        Self::with(seed, Draw::int8(Rules::OnnxRuntime), input)
    }

    pub fn with(seed: u64, draw: Draw, input: &[usize]) -> (Self, ValueId) {
        println!("seed {seed}");
        let mut builder = Self { random: Random(seed), draw, values: Vec::new(), nodes: Vec::new() };
        let (scale, zero_point) = (builder.random.float(0.01, 0.05), builder.random.int(-20, 20));
        let qparams = match draw.code_type {
            CodeType::Int8 => QParams { scale: builder.power(scale), zero_point },
            CodeType::Int16 => QParams { scale: builder.power(scale / 256.0), zero_point: 0 },
            CodeType::Int32 => QParams { scale: 1.0, zero_point: 0 },
        };
        builder.values.push(ValueInfo { name: "input".to_owned(), shape: input.to_vec(), code_type: draw.code_type, qparams });
        (builder, ValueId(0))
    }

    pub fn finish(self, output: ValueId) -> IntegerModel {
        IntegerModel { rules: self.draw.rules, values: self.values, nodes: self.nodes, input: ValueId(0), output }
    }

    /// A scale as it is, or a power of two nearby.
    fn power(&self, scale: f32) -> f32 {
        if self.draw.scales == Scales::Ties { scale.log2().round().exp2() } else { scale }
    }

    /// The scale of an output that would spread over its codes at `scale`.
    fn output_scale(&self, scale: f32) -> f32 {
        self.power(if self.draw.scales == Scales::Saturating { scale / 8.0 } else { scale })
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], value: ValueInfo) -> ValueId {
        self.values.push(value);
        let output = ValueId(self.values.len() - 1);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    /// A node whose output shares type and parameters with the first input.
    fn moved(&mut self, op: Op, inputs: &[ValueId], name: &str, shape: Option<Vec<usize>>) -> ValueId {
        let ValueInfo { code_type, qparams, .. } = self.values[inputs[0].0];
        let value = ValueInfo { name: name.to_owned(), shape: shape.unwrap(), code_type, qparams };
        self.node(op, inputs, value)
    }

    /// A value with the code type of `like`.
    fn value(&self, name: &str, shape: Option<Vec<usize>>, like: ValueId, qparams: QParams) -> ValueInfo {
        ValueInfo { name: name.to_owned(), shape: shape.unwrap(), code_type: self.code_type(like), qparams }
    }

    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.values[id.0].shape.clone()
    }

    pub fn qparams(&self, id: ValueId) -> QParams {
        self.values[id.0].qparams
    }

    fn code_type(&self, id: ValueId) -> CodeType {
        self.values[id.0].code_type
    }

    /// Root mean square of uniform codes of a value.
    fn spread(&self, id: ValueId) -> f32 {
        if self.code_type(id) == CodeType::Int16 { 73.0 * 256.0 } else { 73.0 }
    }

    /// Constants of a layer with `inner` products to a sum, scaled so that the output codes spread over their range.
    fn constants(&mut self, input: ValueId, c_out: usize, inner: usize, clamp: Clamp) -> (Weights, Range, QParams) {
        let code_type = self.code_type(input);
        let s_in = self.qparams(input).scale;
        let (bits, spread) = (self.draw.bits, self.spread(input));
        let random = &mut self.random;
        let highest = i32::from(bits.max());
        let codes: Vec<i8> = (0..c_out * inner).map(|_| random.int(-highest, highest) as i8).collect();
        let wide = 127.0 / highest as f32;
        let mut weight_scale: Vec<f32> = (0..c_out).map(|_| random.float(0.001, 0.003) * wide).collect();
        // Sums spread as the square root of their number of terms.
        let spread = spread * (73.0 / wide) * (inner as f32).sqrt();
        let bias = (0..c_out).map(|_| random.int(-(spread as i32), spread as i32).into()).collect();
        let (zero_point, clamp) = clamp.codes(code_type, random);
        for scale in &mut weight_scale {
            *scale = self.power(*scale);
        }
        if self.draw.per_tensor {
            let first = weight_scale[0];
            weight_scale.fill(first);
        }
        let codes_out = if code_type == CodeType::Int16 { 90.0 * 256.0 } else { 90.0 };
        let scale = self.output_scale(s_in * 0.002 * wide * spread / codes_out);
        let weights = Weights { codes: PackedCodes::pack(&codes, bits).unwrap(), scale: weight_scale, bias };
        (weights, clamp, QParams { scale, zero_point })
    }

    pub fn conv(&mut self, name: &str, input: ValueId, c_out: usize, groups: usize, window: Window, clamp: Clamp) -> ValueId {
        let shape = self.shape(input);
        let c_in = shape[0];
        let inner = c_in / groups * window.kernel[0] * window.kernel[1];
        let (weights, clamp, qparams) = self.constants(input, c_out, inner, clamp);
        let Window { kernel, stride, padding, dilation } = window;
        let output = format!("{name}.output{}", self.nodes.len());
        let conv = Conv2d { name: name.to_owned(), weights, c_out, c_in, kernel, stride, padding, dilation, groups, clamp };
        let value = self.value(&output, conv.output_shape(&shape), input, qparams);
        self.node(Op::Conv2d(conv), &[input], value)
    }

    /// `padding` of the window is what is cut from the output.
    #[expect(clippy::too_many_arguments, reason = "what a convolution has, and one thing more")]
    pub fn conv_transpose(
        &mut self,
        name: &str,
        input: ValueId,
        c_out: usize,
        groups: usize,
        window: Window,
        output_padding: [usize; 2],
        clamp: Clamp,
    ) -> ValueId {
        let shape = self.shape(input);
        let c_in = shape[0];
        let Window { kernel, stride, padding, dilation } = window;
        let inner = c_in / groups * kernel[0] * kernel[1];
        let (weights, clamp, qparams) = self.constants(input, c_out, inner, clamp);
        let output = format!("{name}.output{}", self.nodes.len());
        let name = name.to_owned();
        let conv =
            ConvTranspose2d { name, weights, c_out, c_in, kernel, stride, padding, output_padding, dilation, groups, clamp };
        let value = self.value(&output, conv.output_shape(&shape), input, qparams);
        self.node(Op::ConvTranspose2d(conv), &[input], value)
    }

    /// On the last axis, `[.., d_input]` to `[.., d_output]`.
    pub fn linear(&mut self, name: &str, input: ValueId, d_output: usize, clamp: Clamp) -> ValueId {
        let mut shape = self.shape(input);
        let d_input = shape.pop().unwrap();
        shape.push(d_output);
        let (weights, clamp, qparams) = self.constants(input, d_output, d_input, clamp);
        let output = format!("{name}.output{}", self.nodes.len());
        let linear = Linear { name: name.to_owned(), weights, d_input, d_output, clamp };
        let value = self.value(&output, Some(shape), input, qparams);
        self.node(Op::Linear(linear), &[input], value)
    }

    pub fn mat_mul(&mut self, name: &str, a: ValueId, b: ValueId, transpose_rhs: bool, clamp: Clamp) -> ValueId {
        let (zero_point, clamp) = clamp.codes(self.code_type(a), &mut self.random);
        let op = MatMul { transpose_rhs, clamp };
        let (lhs, rhs) = (self.shape(a), self.shape(b));
        let inner = *lhs.last().unwrap() as f32;
        let scale = self.qparams(a).scale * self.qparams(b).scale * self.spread(b) * inner.sqrt() * 0.8;
        let qparams = QParams { scale: self.output_scale(scale), zero_point };
        let value = self.value(name, op.output_shape(&lhs, &rhs), a, qparams);
        self.node(Op::MatMul(op), &[a, b], value)
    }

    fn elementwise(
        &mut self,
        op: fn(Elementwise) -> Op,
        name: &str,
        a: ValueId,
        b: ValueId,
        clamp: Clamp,
        scale: f32,
    ) -> ValueId {
        let (zero_point, clamp) = clamp.codes(self.code_type(a), &mut self.random);
        let scale = scale * self.random.float(0.6, 0.9);
        let qparams = QParams { scale: self.output_scale(scale), zero_point };
        let value = self.value(name, broadcast(&self.shape(a), &self.shape(b)), a, qparams);
        self.node(op(Elementwise { clamp }), &[a, b], value)
    }

    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId, clamp: Clamp) -> ValueId {
        let scale = self.qparams(a).scale + self.qparams(b).scale;
        self.elementwise(Op::Add, name, a, b, clamp, scale)
    }

    pub fn sub(&mut self, name: &str, a: ValueId, b: ValueId, clamp: Clamp) -> ValueId {
        let scale = self.qparams(a).scale + self.qparams(b).scale;
        self.elementwise(Op::Sub, name, a, b, clamp, scale)
    }

    pub fn mul(&mut self, name: &str, a: ValueId, b: ValueId, clamp: Clamp) -> ValueId {
        let scale = self.qparams(a).scale * self.qparams(b).scale * self.spread(b);
        self.elementwise(Op::Mul, name, a, b, clamp, scale)
    }

    /// All inputs have the parameters of the first.
    pub fn concat(&mut self, name: &str, inputs: &[ValueId], axis: usize) -> ValueId {
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|&id| self.shape(id)).collect();
        let op = Concat { axis };
        let shape = op.output_shape(&shapes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        self.moved(Op::Concat(op), inputs, name, shape)
    }

    pub fn max_pool(&mut self, name: &str, input: ValueId, window: Window) -> ValueId {
        let Window { kernel, stride, padding, dilation } = window;
        let pool = MaxPool2d { kernel, stride, padding, dilation };
        self.moved(Op::MaxPool2d(pool), &[input], name, pool.output_shape(&self.shape(input)))
    }

    /// An average pool whose output has `gain` times the input's resolution; 1 keeps its parameters.
    pub fn avg_pool(&mut self, name: &str, input: ValueId, window: Window, count_include_pad: bool, gain: f32) -> ValueId {
        let Window { kernel, stride, padding, .. } = window;
        let QParams { scale, zero_point } = self.qparams(input);
        let pool = AvgPool2d { kernel, stride, padding, count_include_pad };
        let qparams = QParams { scale: self.power(scale / gain), zero_point };
        let value = self.value(name, pool.output_shape(&self.shape(input)), input, qparams);
        self.node(Op::AvgPool2d(pool), &[input], value)
    }

    pub fn global_avg_pool(&mut self, name: &str, input: ValueId, gain: f32) -> ValueId {
        let shape = self.shape(input);
        let window = Window { kernel: [shape[1], shape[2]], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
        self.avg_pool(name, input, window, false, gain)
    }

    /// A mean whose output has `gain` times the input's resolution; 1 keeps its parameters.
    pub fn mean(&mut self, name: &str, input: ValueId, axes: &[usize], keep_dims: bool, gain: f32) -> ValueId {
        let QParams { scale, zero_point } = self.qparams(input);
        let op = Mean { axes: axes.to_vec(), keep_dims };
        let qparams = QParams { scale: self.power(scale / gain), zero_point };
        let value = self.value(name, op.output_shape(&self.shape(input)), input, qparams);
        self.node(Op::Mean(op), &[input], value)
    }

    pub fn relu(&mut self, name: &str, input: ValueId) -> ValueId {
        let full = Range::full(self.code_type(input));
        self.clamp(name, input, self.qparams(input).zero_point as i16, full.max)
    }

    pub fn clamp(&mut self, name: &str, input: ValueId, min: i16, max: i16) -> ValueId {
        self.moved(Op::Clamp(Range { min, max }), &[input], name, Some(self.shape(input)))
    }

    /// Sigmoid and tanh have the output parameters that TFLite fixes, the others those that fit what they give.
    pub fn unary(&mut self, name: &str, input: ValueId, function: Function) -> ValueId {
        let wide = self.code_type(input) == CodeType::Int16;
        let QParams { scale, .. } = self.qparams(input);
        let (scale, zero_point) = match function {
            Function::Sigmoid if wide => (1.0 / 32768.0, 0),
            Function::Sigmoid => (1.0 / 256.0, -128),
            Function::Tanh if wide => (1.0 / 32768.0, 0),
            Function::Tanh => (1.0 / 128.0, 0),
            _ if wide => (self.output_scale(scale), 0),
            _ => {
                let scale = scale * self.random.float(0.6, 0.9);
                (self.output_scale(scale), self.random.int(-100, -20))
            }
        };
        let value = self.value(name, Some(self.shape(input)), input, QParams { scale, zero_point });
        let table = tables::unary(self.draw.rules, function, &self.values[input.0], &value);
        self.node(Op::Unary(Unary { function, table }), &[input], value)
    }

    /// Over the last axis, with the output parameters that TFLite fixes.
    pub fn softmax(&mut self, name: &str, input: ValueId) -> ValueId {
        let qparams = match self.code_type(input) {
            CodeType::Int16 => QParams { scale: 1.0 / 32768.0, zero_point: 0 },
            _ => QParams { scale: 1.0 / 256.0, zero_point: -128 },
        };
        let value = self.value(name, Some(self.shape(input)), input, qparams);
        let table = tables::softmax(self.draw.rules, &self.values[input.0]);
        self.node(Op::Softmax(Softmax { table }), &[input], value)
    }

    /// On a grid of another scale, by `gain`, and zero point, in codes of a type.
    pub fn requantize(&mut self, name: &str, input: ValueId, code_type: CodeType, gain: f32) -> ValueId {
        let steps = |code_type| if code_type == CodeType::Int16 { 256.0 } else { 1.0 };
        let scale = self.qparams(input).scale * steps(self.code_type(input)) / steps(code_type) / gain;
        let zero_point = if code_type == CodeType::Int8 { self.random.int(-20, 20) } else { 0 };
        let qparams = QParams { scale: self.power(scale), zero_point };
        let value = ValueInfo { name: name.to_owned(), shape: self.shape(input), code_type, qparams };
        self.node(Op::Requantize, &[input], value)
    }

    /// On the grid of `like`, so that the two can be concatenated.
    pub fn requantize_like(&mut self, name: &str, input: ValueId, like: ValueId) -> ValueId {
        let value = self.value(name, Some(self.shape(input)), like, self.qparams(like));
        self.node(Op::Requantize, &[input], value)
    }

    pub fn reshape(&mut self, name: &str, input: ValueId, shape: &[usize]) -> ValueId {
        self.moved(Op::Reshape, &[input], name, Some(shape.to_vec()))
    }

    pub fn transpose(&mut self, name: &str, input: ValueId, permutation: &[usize]) -> ValueId {
        let op = Transpose { permutation: permutation.to_vec() };
        let shape = op.output_shape(&self.shape(input));
        self.moved(Op::Transpose(op), &[input], name, shape)
    }

    pub fn pad(&mut self, name: &str, input: ValueId, before: &[usize], after: &[usize]) -> ValueId {
        let op = Pad { before: before.to_vec(), after: after.to_vec() };
        let shape = op.output_shape(&self.shape(input));
        self.moved(Op::Pad(op), &[input], name, shape)
    }

    pub fn slice(&mut self, name: &str, input: ValueId, start: &[usize], end: &[usize], step: &[usize]) -> ValueId {
        let op = Slice { start: start.to_vec(), end: end.to_vec(), step: step.to_vec() };
        let shape = op.output_shape(&self.shape(input));
        self.moved(Op::Slice(op), &[input], name, shape)
    }

    pub fn resize_nearest(&mut self, name: &str, input: ValueId, factor: [usize; 2]) -> ValueId {
        let op = ResizeNearest { factor };
        let shape = op.output_shape(&self.shape(input));
        self.moved(Op::ResizeNearest(op), &[input], name, shape)
    }

    /// Rows of a random table by the int32 indices `input`, `[..]` to `[.., width]`.
    pub fn gather(&mut self, name: &str, input: ValueId, rows: usize, width: usize) -> ValueId {
        let qparams = QParams { scale: self.random.float(0.01, 0.05), zero_point: self.random.int(-20, 20) };
        let qparams = QParams { scale: self.power(qparams.scale), ..qparams };
        let table: Vec<i8> = (0..rows * width).map(|_| self.random.int(-128, 127) as i8).collect();
        let mut shape = self.shape(input);
        shape.push(width);
        let value = ValueInfo::int8(&format!("{name}.output{}", self.nodes.len()), &shape, qparams);
        let gather = Gather { name: name.to_owned(), table: PackedCodes::eight(&table), rows, width };
        self.node(Op::Gather(gather), &[input], value)
    }

    /// Random codes of one sample with the type and parameters of `like`.
    pub fn constant(&mut self, name: &str, shape: &[usize], like: ValueId) -> ValueId {
        let value = self.value(name, Some(shape.to_vec()), like, self.qparams(like));
        let codes = codes(&mut self.random, value.code_type, value.elements().unwrap(), 0);
        self.node(Op::Constant(codes), &[], value)
    }
}

impl Builder {
    /// A time step of a long short-term memory: the new hidden state of `[input, hidden, cell]`, whose last two parts have `width`
    /// elements each.
    fn lstm_cell(&mut self, x: ValueId, width: usize) -> ValueId {
        let length = self.shape(x)[0];
        let read = self.slice("read", x, &[0], &[length - width], &[1]);
        let cell = self.slice("cell", x, &[length - width], &[length], &[1]);
        let [input, forget, candidate, output] = ["input", "forget", "candidate", "output"].map(|gate| {
            let sum = self.linear(gate, read, width, Clamp::None);
            let function = if gate == "candidate" { Function::Tanh } else { Function::Sigmoid };
            self.unary(&format!("{gate}.gate"), sum, function)
        });
        let kept = self.mul("kept", forget, cell, Clamp::None);
        let new = self.mul("new", input, candidate, Clamp::None);
        let cell = self.add("cell.next", kept, new, Clamp::None);
        let shown = self.unary("shown", cell, Function::Tanh);
        self.mul("hidden.next", output, shown, Clamp::None)
    }

    /// A time step of a gated recurrent unit: the new state of `[input, state]`, whose last part has `width` elements.
    fn gru_cell(&mut self, x: ValueId, width: usize) -> ValueId {
        let length = self.shape(x)[0];
        let read = self.slice("read", x, &[0], &[length - width], &[1]);
        let state = self.slice("state", x, &[length - width], &[length], &[1]);
        let [update, reset] = ["update", "reset"].map(|gate| {
            let [read, state] = [("input", read), ("state", state)]
                .map(|(part, value)| self.linear(&format!("{gate}.{part}"), value, width, Clamp::None));
            let sum = self.add(&format!("{gate}.sum"), read, state, Clamp::None);
            self.unary(&format!("{gate}.gate"), sum, Function::Sigmoid)
        });
        let read = self.linear("candidate.input", read, width, Clamp::None);
        let remembered = self.linear("candidate.state", state, width, Clamp::None);
        let remembered = self.mul("candidate.reset", reset, remembered, Clamp::None);
        let candidate = self.add("candidate.sum", read, remembered, Clamp::None);
        let candidate = self.unary("candidate", candidate, Function::Tanh);
        let difference = self.sub("difference", state, candidate, Clamp::None);
        let difference = self.mul("difference.kept", update, difference, Clamp::None);
        self.add("state.next", candidate, difference, Clamp::None)
    }
}

/// One small model for every operation that the drawn rules have on the drawn code type, with the operation's name.
pub fn operations(seed: u64, draw: Draw) -> Vec<(&'static str, IntegerModel)> {
    let mut models = problems(seed, draw);
    models.retain(|(_, model)| !matches!(model.validate(), Err(ModelError::Rules { .. })));
    models
}

/// One small model for every operation, whether the drawn rules have it or not, with the operation's name. What an operation varies
/// in appears: every attribute has a value that is not its default.
pub fn problems(seed: u64, draw: Draw) -> Vec<(&'static str, IntegerModel)> {
    let odd = Window { kernel: [3, 2], stride: [2, 1], padding: [2, 0, 1, 1], dilation: [1, 2] };
    let plain = |kernel, stride| Window { kernel: [kernel; 2], stride: [stride; 2], padding: [0; 4], dilation: [1, 1] };
    let mut models: Vec<(&'static str, IntegerModel)> = Vec::new();
    let mut add = |name, shape: &[usize], build: &dyn Fn(&mut Builder, ValueId) -> ValueId| {
        let (mut b, x) = Builder::with(seed, draw, shape);
        let y = build(&mut b, x);
        models.push((name, b.finish(y)));
    };
    add("conv2d", &[4, 9, 8], &|b, x| b.conv("conv", x, 6, 2, odd, Clamp::ReluAt(-40)));
    add("conv2d_depthwise", &[5, 8, 8], &|b, x| b.conv("conv", x, 5, 5, Window::same(3, 1), Clamp::Relu));
    add("conv2d_pointwise", &[6, 5, 5], &|b, x| b.conv("conv", x, 4, 1, Window::same(1, 1), Clamp::None));
    add("conv1d", &[4, 1, 20], &|b, x| {
        let window = Window { kernel: [1, 3], stride: [1, 2], padding: [0, 2, 0, 1], dilation: [1, 2] };
        b.conv("conv", x, 6, 1, window, Clamp::Relu)
    });
    add("conv_transpose2d", &[3, 5, 4], &|b, x| {
        let window = Window { kernel: [3, 4], stride: [2, 3], padding: [1, 0, 0, 2], dilation: [1, 1] };
        b.conv_transpose("deconv", x, 4, 1, window, [1, 0], Clamp::None)
    });
    add("conv_transpose2d_groups", &[6, 4, 3], &|b, x| {
        let window = Window { kernel: [2, 3], stride: [2, 2], padding: [0, 1, 1, 0], dilation: [2, 1] };
        b.conv_transpose("deconv", x, 4, 2, window, [0, 1], Clamp::Range(-80, 120))
    });
    add("linear", &[24], &|b, x| b.linear("fc", x, 10, Clamp::None));
    add("linear_rows", &[5, 12], &|b, x| b.linear("fc", x, 7, Clamp::Relu));
    add("linear_planes", &[2, 3, 12], &|b, x| b.linear("fc", x, 7, Clamp::Range(-90, 80)));
    add("mat_mul", &[4, 8], &|b, x| {
        let rhs = b.slice("rhs", x, &[0, 1], &[3, 8], &[1, 1]);
        let lhs = b.slice("lhs", x, &[1, 2], &[4, 8], &[1, 2]);
        b.mat_mul("product", lhs, rhs, false, Clamp::None)
    });
    add("mat_mul_transposed", &[2, 6, 8], &|b, x| {
        let q = b.slice("q", x, &[0, 0, 0], &[2, 3, 8], &[1, 1, 1]);
        let k = b.slice("k", x, &[0, 3, 0], &[2, 6, 8], &[1, 1, 1]);
        b.mat_mul("product", q, k, true, Clamp::None)
    });
    let halves = |b: &mut Builder, x| {
        let lower = b.slice("lower", x, &[0, 0, 0], &[3, 5, 6], &[1, 1, 1]);
        let upper = b.slice("upper", x, &[3, 0, 0], &[6, 5, 6], &[1, 1, 1]);
        (lower, b.requantize("other", upper, b.code_type(upper), 1.3))
    };
    add("add", &[6, 5, 6], &|b, x| {
        let (lower, upper) = halves(b, x);
        b.add("sum", lower, upper, Clamp::Relu)
    });
    add("sub", &[6, 5, 6], &|b, x| {
        let (lower, upper) = halves(b, x);
        b.sub("difference", lower, upper, Clamp::None)
    });
    add("mul", &[6, 5, 6], &|b, x| {
        let (lower, upper) = halves(b, x);
        b.mul("product", lower, upper, Clamp::None)
    });
    add("mul_channel", &[6, 5, 6], &|b, x| {
        let gate = b.constant("gate", &[6, 1, 1], x);
        b.mul("product", x, gate, Clamp::Range(-100, 110))
    });
    add("concat", &[6, 5, 6], &|b, x| {
        let (lower, upper) = halves(b, x);
        let upper = b.requantize_like("upper_like_lower", upper, lower);
        b.concat("joined", &[lower, upper, lower], 2)
    });
    add("max_pool2d", &[3, 9, 8], &|b, x| {
        let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 1, 1], dilation: [1, 1] };
        b.max_pool("pool", x, window)
    });
    add("max_pool2d_dilated", &[3, 9, 8], &|b, x| {
        let window = Window { kernel: [3, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 2] };
        b.max_pool("pool", x, window)
    });
    add("avg_pool2d", &[3, 8, 8], &|b, x| b.avg_pool("pool", x, plain(2, 2), false, 1.0));
    add("avg_pool2d_padded", &[3, 8, 8], &|b, x| {
        let window = Window { kernel: [2, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 1] };
        b.avg_pool("pool", x, window, false, 1.0)
    });
    add("avg_pool2d_padding_counted", &[3, 8, 8], &|b, x| {
        let window = Window { kernel: [2, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 1] };
        b.avg_pool("pool", x, window, true, 1.0)
    });
    add("avg_pool2d_global", &[3, 7, 6], &|b, x| b.global_avg_pool("pool", x, 1.0));
    add("mean", &[3, 7, 6], &|b, x| b.mean("mean", x, &[1, 2], false, 1.7));
    add("mean_keep_dims", &[4, 10], &|b, x| b.mean("mean", x, &[1], true, 1.7));
    add("mean_of_all", &[4, 10], &|b, x| b.mean("mean", x, &[0, 1], false, 2.0));
    add("relu", &[3, 5], &|b, x| b.relu("relu", x));
    add("clamp", &[3, 5], &|b, x| {
        let unit = if b.code_type(x) == CodeType::Int16 { 256 } else { 1 };
        b.clamp("clamp", x, -60 * unit, 70 * unit)
    });
    add("relu6", &[3, 5], &|b, x| {
        let QParams { scale, zero_point } = b.qparams(x);
        // Real 6 lies beyond the codes of a narrow grid, where a relu remains.
        let highest = (6.0 / scale).round_ties_even() as i32 + zero_point;
        let highest = highest.min(Range::full(b.code_type(x)).max.into());
        b.clamp("relu6", x, zero_point as i16, highest as i16)
    });
    for function in [Function::Sigmoid, Function::Tanh, Function::HardSwish, Function::Gelu, Function::GeluTanh] {
        add(function.name(), &[64], &|b, x| b.unary("function", x, function));
    }
    add("leaky_relu", &[64], &|b, x| b.unary("function", x, Function::LeakyRelu { slope: 0.1 }));
    add("softmax", &[4, 10], &|b, x| b.softmax("softmax", x));
    add("requantize", &[40], &|b, x| b.requantize("grid", x, b.code_type(x), 0.7));
    add("requantize_type", &[40], &|b, x| {
        let other = if b.code_type(x) == CodeType::Int8 { CodeType::Int16 } else { CodeType::Int8 };
        b.requantize("grid", x, other, 1.0)
    });
    add("reshape", &[2, 3, 4], &|b, x| b.reshape("turned", x, &[4, 6]));
    add("transpose", &[2, 3, 4], &|b, x| b.transpose("turned", x, &[1, 2, 0]));
    add("pad", &[2, 3, 4], &|b, x| b.pad("padded", x, &[0, 1, 0], &[0, 2, 3]));
    add("slice", &[4, 5, 6], &|b, x| b.slice("box", x, &[1, 0, 1], &[3, 5, 6], &[1, 2, 2]));
    add("split", &[4, 5, 6], &|b, x| {
        let first = b.slice("first", x, &[0, 0, 0], &[4, 2, 6], &[1, 1, 1]);
        let second = b.slice("second", x, &[0, 2, 0], &[4, 5, 6], &[1, 1, 1]);
        b.concat("swapped", &[second, first], 1)
    });
    add("resize_nearest", &[2, 3, 4], &|b, x| b.resize_nearest("large", x, [2, 3]));
    add("constant", &[3, 4], &|b, x| {
        let constant = b.constant("constant", &[3, 4], x);
        b.add("sum", x, constant, Clamp::None)
    });
    add("constant_alone", &[3, 4], &|b, x| {
        let constant = b.constant("constant", &[2, 4], x);
        b.concat("joined", &[x, constant], 0)
    });
    add("lstm_cell", &[40], &|b, x| b.lstm_cell(x, 16));
    add("gru_cell", &[24], &|b, x| b.gru_cell(x, 16));
    if draw.code_type == CodeType::Int8 {
        let (mut b, x) = Builder::with(seed, Draw { code_type: CodeType::Int32, ..draw }, &[6]);
        let y = b.gather("embedding", x, 11, 5);
        models.push(("gather", b.finish(y)));
    }
    models
}

/// A chain of ten operations, drawn from all that the rules have, on a sample of rank 3; earlier values come back as second
/// operands. What runtimes make of neighbours shows here and not in [`operations`].
pub fn chain(seed: u64, draw: Draw) -> IntegerModel {
    let (mut b, input) = Builder::with(seed, draw, &[4, 8, 8]);
    let mut values = vec![input];
    let model = |b: &Builder, output: ValueId| {
        let (values, nodes) = (b.values.clone(), b.nodes.clone());
        IntegerModel { rules: b.draw.rules, values, nodes, input: ValueId(0), output }
    };
    while values.len() <= 10 {
        let (x, kept) = (*values.last().unwrap(), (b.values.clone(), b.nodes.clone()));
        let choice = b.random.int(0, 27);
        let y = b.link(choice, x, &values);
        // What the rules do not have is drawn again.
        if model(&b, y).validate().is_err() {
            (b.values, b.nodes) = kept;
        } else {
            values.push(y);
        }
    }
    let output = *values.last().unwrap();
    b.finish(output)
}

impl Builder {
    /// The operation number `choice` of [`chain`] on a value of rank 3.
    fn link(&mut self, choice: i32, x: ValueId, earlier: &[ValueId]) -> ValueId {
        let shape = self.shape(x);
        let &[c, h, w] = shape.as_slice() else { unreachable!("chains have rank 3") };
        let name = format!("link{}", self.nodes.len());
        let (name, is_small) = (name.as_str(), c * h * w <= 1024);
        let window = Window { kernel: [2, 2], stride: [1, 2], padding: [1, 0, 0, 1], dilation: [1, 1] };
        match choice {
            0 => self.conv(name, x, 6, 1, Window::same(3, 1), Clamp::Relu),
            1 => self.conv(name, x, c, c, Window::same(3, 1), Clamp::ReluAt(-30)),
            2 if is_small => self.conv_transpose(name, x, 3, 1, Window { padding: [0; 4], ..window }, [0, 1], Clamp::None),
            3 => self.linear(name, x, 7, Clamp::Range(-100, 100)),
            4 => self.mat_mul(name, x, x, true, Clamp::None),
            5..=8 => {
                let other = earlier.iter().rev().find(|&&other| other != x && self.shape(other) == shape).copied();
                let other = other.unwrap_or_else(|| self.constant(&format!("{name}.constant"), &[c, 1, w], x));
                match choice {
                    5 => self.add(name, x, other, Clamp::Relu),
                    6 => self.sub(name, x, other, Clamp::None),
                    7 => self.mul(name, other, x, Clamp::None),
                    _ => {
                        let other = self.requantize_like(&format!("{name}.like"), other, x);
                        self.concat(name, &[other, x], 1)
                    }
                }
            }
            9 if h > 2 && w > 2 => self.max_pool(name, x, window),
            10 if h > 2 && w > 2 => self.avg_pool(name, x, window, true, 1.0),
            11 if h > 2 && w > 2 => self.avg_pool(name, x, window, false, 1.3),
            12 => self.mean(name, x, &[1], true, 1.5),
            13 => self.relu(name, x),
            14 => self.clamp(name, x, -70, 90),
            15 => self.unary(name, x, Function::Sigmoid),
            16 => self.unary(name, x, Function::Tanh),
            17 => self.unary(name, x, Function::HardSwish),
            18 => self.unary(name, x, Function::Gelu),
            19 => self.unary(name, x, Function::LeakyRelu { slope: 0.2 }),
            20 => self.softmax(name, x),
            21 => self.requantize(name, x, self.code_type(x), 1.4),
            22 => self.reshape(name, x, &[h, c, w]),
            23 => self.transpose(name, x, &[2, 0, 1]),
            24 => self.pad(name, x, &[0, 1, 0], &[1, 0, 2]),
            25 if w > 2 => self.slice(name, x, &[0, 0, 1], &[c, h, w], &[1, 1, 2]),
            26 if is_small => self.resize_nearest(name, x, [1, 2]),
            _ => self.requantize(name, x, self.code_type(x), 0.9),
        }
    }
}

/// Two residual blocks, one with a strided shortcut, a pool, a depthwise convolution and a classifier; `[3, 16, 16]` to `[10]`.
pub fn residual(seed: u64) -> IntegerModel {
    let (mut b, input) = Builder::new(seed, &[3, 16, 16]);
    let stem = b.conv("stem", input, 8, 1, Window::same(3, 1), Clamp::Relu);
    let a = b.conv("block1.a", stem, 8, 1, Window::same(3, 1), Clamp::Relu);
    let a = b.conv("block1.b", a, 8, 1, Window::same(3, 1), Clamp::None);
    let block1 = b.add("block1.add", stem, a, Clamp::Relu);
    let c = b.conv("block2.a", block1, 16, 1, Window::same(3, 2), Clamp::Relu);
    let c = b.conv("block2.b", c, 16, 1, Window::same(3, 1), Clamp::None);
    let shortcut = b.conv("block2.shortcut", block1, 16, 1, Window::same(1, 2), Clamp::None);
    let block2 = b.add("block2.add", shortcut, c, Clamp::Relu);
    let window = Window { kernel: [2, 2], stride: [2, 2], padding: [0; 4], dilation: [1, 1] };
    let pooled = b.max_pool("pool", block2, window);
    let depthwise = b.conv("depthwise", pooled, 16, 16, Window::same(3, 1), Clamp::Relu);
    let mean = b.global_avg_pool("mean", depthwise, 2.0);
    let flat = b.reshape("flat", mean, &[16]);
    let fc = b.linear("fc", flat, 10, Clamp::None);
    b.finish(fc)
}

/// One layer of every kind that no rounding but the contract's touches: exact on every runtime that follows it.
pub fn exact(seed: u64) -> IntegerModel {
    let (mut b, input) = Builder::new(seed, &[4, 15, 13]);
    let odd = Window { kernel: [3, 2], stride: [2, 1], padding: [2, 0, 1, 1], dilation: [1, 2] };
    let x = b.conv("odd", input, 8, 2, odd, Clamp::ReluAt(-40));
    let x = b.conv("same", x, 8, 1, Window::same(3, 1), Clamp::Range(-100, 90));
    let x = b.relu("relu", x);
    let x = b.max_pool("pool", x, Window { kernel: [3, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 2] });
    // A module that is applied twice.
    let x = b.conv("shared", x, 8, 8, Window::same(3, 1), Clamp::None);
    let x = b.conv("shared", x, 8, 8, Window::same(3, 1), Clamp::None);
    let [c, h, w] = b.shape(x).try_into().unwrap();
    let x = b.reshape("turned", x, &[h, c, w]);
    let x = b.reshape("flat", x, &[c * h * w]);
    let x = b.linear("fc1", x, 32, Clamp::Relu);
    let x = b.linear("fc2", x, 10, Clamp::ReluAt(-3));
    b.finish(x)
}

/// An image flattened into fully connected layers, `[1, 28, 28]` to `[10]`.
pub fn mlp(seed: u64) -> IntegerModel {
    let (mut b, input) = Builder::new(seed, &[1, 28, 28]);
    let x = b.reshape("flat", input, &[784]);
    let x = b.linear("fc1", x, 64, Clamp::Relu);
    let x = b.linear("fc2", x, 32, Clamp::Relu);
    let x = b.linear("fc3", x, 10, Clamp::None);
    b.finish(x)
}

/// Average pools and additions, whose rounding differs between runtimes.
pub fn averages(seed: u64) -> IntegerModel {
    let (mut b, input) = Builder::new(seed, &[3, 12, 12]);
    let window = Window { kernel: [2, 3], stride: [2, 1], padding: [1, 1, 0, 1], dilation: [1, 1] };
    let included = b.avg_pool("included", input, window, true, 1.0);
    let excluded = b.avg_pool("excluded", input, window, false, 1.0);
    let sum = b.add("sum", included, excluded, Clamp::ReluAt(-50));
    // Raised to the zero point by a node of its own, then pooled with one window for the whole image.
    let relu = b.relu("relu", sum);
    let twice = b.add("twice", relu, relu, Clamp::Relu);
    let strided = Window { kernel: [1, 2], stride: [1, 2], padding: [0; 4], dilation: [1, 1] };
    let x = b.avg_pool("strided", twice, strided, false, 1.5);
    b.finish(x)
}
