//! Models of one operation each, under the rules of TFLite-Micro, and whole networks; with random constants and input codes.

use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Codes, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, IntegerModel, Linear,
    MatMul, MaxPool2d, Mean, Node, Op, PackedCodes, Pad, QParams, ResizeNearest, Rules, Slice, Softmax, Transpose, Unary,
    ValueId, ValueInfo, WeightBits, Weights, softmax_table, unary_table,
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
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low + 1) as u64) as i64
    }

    /// Uniform in `[low, high)`.
    pub fn float(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * ((self.bits() >> 40) as f32 / (1u64 << 24) as f32)
    }
}

/// What a problem is meant to hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// Outputs spread over their codes.
    Random,
    /// All scales are powers of two, so that many results lie half way between codes.
    Ties,
    /// Outputs mostly beyond their codes.
    Saturating,
}

impl Flavour {
    pub const ALL: [Self; 3] = [Self::Random, Self::Ties, Self::Saturating];
}

/// A model under construction.
pub struct Builder {
    pub random: Random,
    pub flavour: Flavour,
    pub code_type: CodeType,
    pub bits: WeightBits,
    pub per_channel: bool,
    model: IntegerModel,
}

impl Builder {
    pub fn new(seed: u64, flavour: Flavour, code_type: CodeType, bits: WeightBits, per_channel: bool) -> Self {
        let model = IntegerModel {
            rules: Rules::TfliteMicro,
            values: Vec::new(),
            nodes: Vec::new(),
            input: ValueId(0),
            output: ValueId(0),
        };
        Self { random: Random(seed), flavour, code_type, bits, per_channel, model }
    }

    /// A problem of int8 codes and 8-bit weights.
    pub fn int8(seed: u64, flavour: Flavour) -> Self {
        Self::new(seed, flavour, CodeType::Int8, WeightBits::Eight, true)
    }

    pub fn finish(mut self, output: ValueId) -> IntegerModel {
        self.model.output = output;
        self.model.validate().unwrap_or_else(|error| panic!("{error}"));
        self.model
    }

    /// A scale near `scale`.
    fn scale(&mut self, scale: f32) -> f32 {
        match self.flavour {
            Flavour::Ties => scale.log2().round().exp2(),
            _ => scale * self.random.float(0.7, 1.4),
        }
    }

    /// A scale near `scale` for what is computed.
    fn output_scale(&mut self, scale: f32) -> f32 {
        let narrowing = if self.flavour == Flavour::Saturating { 16.0 } else { 1.0 };
        self.scale(scale / narrowing)
    }

    fn zero_point(&mut self) -> i32 {
        if self.code_type == CodeType::Int8 { self.random.int(-30, 30) as i32 } else { 0 }
    }

    /// Codes that a fused activation leaves.
    fn clamp(&mut self, zero_point: i32) -> Clamp {
        let full = Clamp::full(self.code_type);
        match self.random.int(0, 2) {
            0 => full,
            1 => Clamp { min: zero_point as i16, ..full },
            _ => Clamp { min: full.min / 2, max: full.max / 2 },
        }
    }

    pub fn value(&mut self, shape: &[usize], scale: f32, zero_point: i32) -> ValueId {
        let name = format!("value {}", self.model.values.len());
        let info = ValueInfo { code_type: self.code_type, ..ValueInfo::int8(&name, shape, QParams { scale, zero_point }) };
        self.model.values.push(info);
        ValueId(self.model.values.len() - 1)
    }

    /// The input of the model, which is its first value.
    pub fn input(&mut self, shape: &[usize]) -> ValueId {
        let (scale, zero_point) = (self.scale(0.02), self.zero_point());
        self.value(shape, scale, zero_point)
    }

    fn info(&self, id: ValueId) -> &ValueInfo {
        &self.model.values[id.0]
    }

    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.info(id).shape.clone()
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], output: ValueId) -> ValueId {
        self.model.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    /// A node whose output shares the first input's parameters.
    fn movement(&mut self, op: Op, inputs: &[ValueId], shape: &[usize]) -> ValueId {
        let QParams { scale, zero_point } = self.info(inputs[0]).qparams;
        let code_type = self.info(inputs[0]).code_type;
        let output = self.value(shape, scale, zero_point);
        self.model.values[output.0].code_type = code_type;
        self.node(op, inputs, output)
    }

    /// A constant on the grid of another value, or one of its own.
    pub fn constant(&mut self, shape: &[usize], like: Option<ValueId>) -> ValueId {
        let (scale, zero_point) = match like {
            Some(id) => (self.info(id).qparams.scale, self.info(id).qparams.zero_point),
            None => (self.scale(0.02), self.zero_point()),
        };
        let output = self.value(shape, scale, zero_point);
        let codes = codes(&mut self.random, self.code_type, shape.iter().product());
        self.node(Op::Constant(codes), &[], output)
    }

    /// Weights of `channels` rows of `row` products, and the scale that spreads the sums over all codes.
    fn weights(&mut self, input: ValueId, channels: usize, row: usize) -> (Weights, f32) {
        let s_in = self.info(input).qparams.scale;
        let highest = i64::from(self.bits.max());
        let list: Vec<i8> = (0..channels * row).map(|_| self.random.int(-highest, highest) as i8).collect();
        let weight_scale = 0.2 / highest as f32;
        let first = self.scale(weight_scale);
        let scale: Vec<f32> = (0..channels).map(|_| if self.per_channel { self.scale(weight_scale) } else { first }).collect();
        // Uniform codes deviate by their range over √3 from 0.
        let (x_deviation, w_deviation) = (self.code_type.max() as f32 / 1.7, (highest as f32 / 1.7).max(0.8));
        let spread = x_deviation * w_deviation * (row as f32).sqrt();
        let bias = (0..channels).map(|_| self.random.int(-(spread as i64), spread as i64)).collect();
        let output = s_in * weight_scale * spread * 2.5 / self.code_type.max() as f32;
        (Weights { codes: PackedCodes::pack(&list, self.bits).unwrap(), scale, bias }, output)
    }

    pub fn conv2d(&mut self, name: &str, input: ValueId, c_out: usize, window: Window) -> ValueId {
        let Window { kernel, stride, padding, dilation, groups } = window;
        let c_in = self.shape(input)[0];
        let (weights, scale) = self.weights(input, c_out, c_in / groups * kernel[0] * kernel[1]);
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let clamp = self.clamp(zero_point);
        let name = name.to_owned();
        let op = Conv2d { name, weights, c_out, c_in, kernel, stride, padding, dilation, groups, clamp };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::Conv2d(op), &[input], output)
    }

    pub fn conv_transpose2d(&mut self, input: ValueId, c_out: usize, window: Window, output_padding: [usize; 2]) -> ValueId {
        let Window { kernel, stride, padding, dilation, groups } = window;
        let c_in = self.shape(input)[0];
        let (weights, scale) = self.weights(input, c_out, c_in / groups * kernel[0] * kernel[1]);
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let (name, clamp) = ("up".to_owned(), self.clamp(zero_point));
        let op = ConvTranspose2d { name, weights, c_out, c_in, kernel, stride, padding, output_padding, dilation, groups, clamp };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::ConvTranspose2d(op), &[input], output)
    }

    pub fn linear(&mut self, name: &str, input: ValueId, d_output: usize) -> ValueId {
        let mut shape = self.shape(input);
        let d_input = shape.pop().unwrap();
        shape.push(d_output);
        let (weights, scale) = self.weights(input, d_output, d_input);
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let op = Linear { name: name.to_owned(), weights, d_input, d_output, clamp: self.clamp(zero_point) };
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::Linear(op), &[input], output)
    }

    pub fn mat_mul(&mut self, a: ValueId, b: ValueId, transpose_rhs: bool) -> ValueId {
        let op = MatMul { transpose_rhs, clamp: Clamp::full(self.code_type) };
        let shape = op.output_shape(&self.shape(a), &self.shape(b)).unwrap();
        let inner = *self.shape(a).last().unwrap() as f32;
        let scale = self.info(a).qparams.scale * self.info(b).qparams.scale * inner.sqrt() * self.code_type.max() as f32;
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::MatMul(op), &[a, b], output)
    }

    fn elementwise(&mut self, op: fn(Elementwise) -> Op, a: ValueId, b: ValueId, scale: f32) -> ValueId {
        let shape = qat_runtime::broadcast(&self.shape(a), &self.shape(b)).unwrap();
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let clamp = self.clamp(zero_point);
        let output = self.value(&shape, scale, zero_point);
        self.node(op(Elementwise { clamp }), &[a, b], output)
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let scale = self.info(a).qparams.scale.max(self.info(b).qparams.scale) * 1.5;
        self.elementwise(Op::Add, a, b, scale)
    }

    pub fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let scale = self.info(a).qparams.scale.max(self.info(b).qparams.scale) * 1.5;
        self.elementwise(Op::Sub, a, b, scale)
    }

    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let scale = self.info(a).qparams.scale * self.info(b).qparams.scale * self.code_type.max() as f32;
        self.elementwise(Op::Mul, a, b, scale)
    }

    pub fn concat(&mut self, inputs: &[ValueId], axis: usize) -> ValueId {
        let op = Concat { axis };
        let shapes: Vec<Vec<usize>> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shapes: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
        let shape = op.output_shape(&shapes).unwrap();
        self.movement(Op::Concat(op), inputs, &shape)
    }

    pub fn max_pool2d(&mut self, input: ValueId, window: Window) -> ValueId {
        let Window { kernel, stride, padding, dilation, .. } = window;
        let op = MaxPool2d { kernel, stride, padding, dilation };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::MaxPool2d(op), &[input], &shape)
    }

    pub fn avg_pool2d(&mut self, input: ValueId, window: Window) -> ValueId {
        let Window { kernel, stride, padding, .. } = window;
        let op = AvgPool2d { kernel, stride, padding, count_include_pad: false };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::AvgPool2d(op), &[input], &shape)
    }

    pub fn mean(&mut self, input: ValueId, axes: &[usize], keep_dims: bool) -> ValueId {
        let op = Mean { axes: axes.to_vec(), keep_dims };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        let scale = self.info(input).qparams.scale / (op.count(&self.shape(input)) as f32).sqrt();
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::Mean(op), &[input], output)
    }

    pub fn relu(&mut self, input: ValueId) -> ValueId {
        let info = self.info(input);
        let clamp = Clamp { min: info.qparams.zero_point as i16, ..Clamp::full(info.code_type) };
        let shape = self.shape(input);
        self.movement(Op::Clamp(clamp), &[input], &shape)
    }

    /// A function with the parameters that the rules fix, or a scale of its own.
    pub fn unary(&mut self, input: ValueId, function: Function) -> ValueId {
        let shape = self.shape(input);
        let (scale, zero_point) = match (function, self.code_type) {
            (Function::Sigmoid, CodeType::Int8) => (1.0 / 256.0, -128),
            (Function::Tanh, CodeType::Int8) => (1.0 / 128.0, 0),
            (Function::Sigmoid | Function::Tanh, _) => (1.0 / 32_768.0, 0),
            _ => {
                let scale = self.info(input).qparams.scale;
                (self.output_scale(scale), self.zero_point())
            }
        };
        let output = self.value(&shape, scale, zero_point);
        let table = unary_table(Rules::TfliteMicro, function, self.info(input), self.info(output)).unwrap();
        self.node(Op::Unary(Unary { function, table }), &[input], output)
    }

    pub fn softmax(&mut self, input: ValueId) -> ValueId {
        let shape = self.shape(input);
        let (scale, zero_point) = if self.code_type == CodeType::Int8 { (1.0 / 256.0, -128) } else { (1.0 / 32_768.0, 0) };
        let output = self.value(&shape, scale, zero_point);
        let table = softmax_table(Rules::TfliteMicro, self.info(input)).unwrap();
        self.node(Op::Softmax(Softmax { table }), &[input], output)
    }

    /// The same numbers, from now on in codes of this type.
    pub fn requantize(&mut self, input: ValueId, code_type: CodeType) -> ValueId {
        let (shape, scale) = (self.shape(input), self.info(input).qparams.scale);
        let scale = scale * self.info(input).code_type.max() as f32 / code_type.max() as f32;
        self.code_type = code_type;
        let (scale, zero_point) = (self.output_scale(scale), self.zero_point());
        let output = self.value(&shape, scale, zero_point);
        self.node(Op::Requantize, &[input], output)
    }

    pub fn reshape(&mut self, input: ValueId, shape: &[usize]) -> ValueId {
        self.movement(Op::Reshape, &[input], shape)
    }

    pub fn transpose(&mut self, input: ValueId, permutation: &[usize]) -> ValueId {
        let op = Transpose { permutation: permutation.to_vec() };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::Transpose(op), &[input], &shape)
    }

    pub fn pad(&mut self, input: ValueId, before: &[usize], after: &[usize]) -> ValueId {
        let op = Pad { before: before.to_vec(), after: after.to_vec() };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::Pad(op), &[input], &shape)
    }

    pub fn slice(&mut self, input: ValueId, start: &[usize], end: &[usize], step: &[usize]) -> ValueId {
        let op = Slice { start: start.to_vec(), end: end.to_vec(), step: step.to_vec() };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::Slice(op), &[input], &shape)
    }

    pub fn resize(&mut self, input: ValueId, factor: [usize; 2]) -> ValueId {
        let op = ResizeNearest { factor };
        let shape = op.output_shape(&self.shape(input)).unwrap();
        self.movement(Op::ResizeNearest(op), &[input], &shape)
    }

    /// Indices as the input of the model.
    pub fn indices(&mut self, shape: &[usize]) -> ValueId {
        let input = self.value(shape, 1.0, 0);
        self.model.values[input.0].code_type = CodeType::Int32;
        input
    }

    pub fn gather(&mut self, indices: ValueId, rows: usize, width: usize) -> ValueId {
        let highest = i64::from(self.bits.max());
        let list: Vec<i8> = (0..rows * width).map(|_| self.random.int(-highest, highest) as i8).collect();
        let mut shape = self.shape(indices);
        shape.push(width);
        let (scale, zero_point) = (self.scale(0.02), self.zero_point());
        let output = self.value(&shape, scale, zero_point);
        let table = PackedCodes::pack(&list, self.bits).unwrap();
        self.node(Op::Gather(Gather { name: "words".into(), table, rows, width }), &[indices], output)
    }
}

/// How a kernel slides.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub padding: [usize; 4],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl Window {
    /// A square kernel that keeps the image's size at stride 1.
    pub fn same(kernel: usize, stride: usize, groups: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [stride; 2], padding: [kernel / 2; 4], dilation: [1, 1], groups }
    }

    /// Square windows side by side.
    pub fn tiles(kernel: usize) -> Self {
        Self { kernel: [kernel; 2], stride: [kernel; 2], padding: [0; 4], dilation: [1, 1], groups: 1 }
    }

    /// Everything unequal.
    pub fn odd(groups: usize) -> Self {
        Self { kernel: [3, 2], stride: [2, 1], padding: [1, 0, 2, 1], dilation: [1, 2], groups }
    }
}

/// Codes of a type: mostly uniform, one in eight at an end or zero.
pub fn codes(random: &mut Random, code_type: CodeType, length: usize) -> Codes {
    let (low, high) = (i64::from(code_type.min()), i64::from(code_type.max()));
    let mut code = || match random.int(0, 23) {
        0 => low,
        1 => high,
        2 => 0,
        _ => random.int(low, high),
    };
    match code_type {
        CodeType::Int8 => Codes::Int8((0..length).map(|_| code() as i8).collect()),
        CodeType::Int16 => Codes::Int16((0..length).map(|_| code() as i16).collect()),
        // Indices into tables of about ten rows, some outside.
        CodeType::Int32 => {
            let mut index = || match random.int(0, 15) {
                0 => i32::MIN,
                1 => i32::MAX,
                _ => random.int(-1, 11) as i32,
            };
            Codes::Int32((0..length).map(|_| index()).collect())
        }
    }
}

/// A model and the name of what it is about.
pub struct Problem {
    pub name: String,
    pub model: IntegerModel,
}

/// One model for every operation, type of codes, width and granularity of weights, and flavour.
pub fn operations(seed: u64) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seed = seed;
    let types = [CodeType::Int8, CodeType::Int16];
    for flavour in Flavour::ALL {
        for code_type in types {
            for bits in WeightBits::ALL {
                // One multiplier for all channels is one for each.
                for per_channel in if bits == WeightBits::Eight { &[false, true][..] } else { &[true] } {
                    let per_channel = *per_channel;
                    let granularity = if per_channel { "per-channel" } else { "per-tensor" };
                    let what = format!("{} w{} {granularity} {flavour:?}", code_type.name(), bits.bits());
                    for (name, build) in weighted() {
                        seed += 1;
                        let mut b = Builder::new(seed, flavour, code_type, bits, per_channel);
                        let output = build(&mut b);
                        problems.push(Problem { name: format!("{name} {what}"), model: b.finish(output) });
                    }
                }
            }
            for (name, build) in others() {
                seed += 1;
                let mut b = Builder::new(seed, flavour, code_type, WeightBits::Eight, true);
                let output = build(&mut b);
                problems.push(Problem { name: format!("{name} {} {flavour:?}", code_type.name()), model: b.finish(output) });
            }
        }
        for bits in WeightBits::ALL {
            seed += 1;
            let mut b = Builder::new(seed, flavour, CodeType::Int8, bits, true);
            let indices = b.indices(&[2, 4]);
            let output = b.gather(indices, 11, 5);
            problems.push(Problem { name: format!("gather w{} {flavour:?}", bits.bits()), model: b.finish(output) });
        }
        for function in [Function::HardSwish, Function::LeakyRelu { slope: 0.1 }] {
            seed += 1;
            let mut b = Builder::int8(seed, flavour);
            let x = b.input(&[256]);
            let output = b.unary(x, function);
            problems.push(Problem { name: format!("{} int8 {flavour:?}", function.name()), model: b.finish(output) });
        }
    }
    problems
}

type Build = fn(&mut Builder) -> ValueId;

/// Operations with weights.
fn weighted() -> [(&'static str, Build); 7] {
    [
        ("conv2d", |b| {
            let x = b.input(&[3, 7, 6]);
            b.conv2d("conv", x, 4, Window::same(3, 2, 1))
        }),
        ("conv2d, grouped and odd", |b| {
            let x = b.input(&[4, 8, 7]);
            b.conv2d("conv", x, 6, Window::odd(2))
        }),
        ("conv2d, depthwise", |b| {
            let x = b.input(&[5, 6, 6]);
            b.conv2d("conv", x, 5, Window::same(3, 1, 5))
        }),
        ("conv1d", |b| {
            let x = b.input(&[3, 1, 12]);
            let window = Window { kernel: [1, 5], stride: [1, 2], padding: [0, 2, 0, 1], dilation: [1, 1], groups: 1 };
            b.conv2d("conv", x, 4, window)
        }),
        ("conv_transpose2d", |b| {
            let x = b.input(&[3, 4, 3]);
            let window = Window { kernel: [3, 2], stride: [2, 3], padding: [1, 0, 1, 0], dilation: [1, 1], groups: 1 };
            b.conv_transpose2d(x, 2, window, [1, 0])
        }),
        ("linear", |b| {
            let x = b.input(&[37]);
            b.linear("fc", x, 9)
        }),
        ("linear on rows", |b| {
            let x = b.input(&[2, 3, 5]);
            b.linear("fc", x, 4)
        }),
    ]
}

/// Operations without weights.
fn others() -> Vec<(&'static str, Build)> {
    vec![
        ("mat_mul", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.constant(&[2, 4, 5], None);
            b.mat_mul(x, y, false)
        }),
        ("mat_mul, transposed", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.relu(x);
            b.mat_mul(x, y, true)
        }),
        ("add", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.constant(&[2, 3, 4], None);
            b.add(x, y)
        }),
        ("add, stretched", |b| {
            let x = b.input(&[2, 1, 4]);
            let y = b.constant(&[1, 3, 1], None);
            let z = b.add(x, y);
            let channels = b.constant(&[2, 1, 1], None);
            b.add(z, channels)
        }),
        ("add to itself", |b| {
            let x = b.input(&[9]);
            b.add(x, x)
        }),
        ("sub", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.constant(&[1, 3, 4], None);
            b.sub(y, x)
        }),
        ("mul", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.constant(&[2, 1, 1], None);
            b.mul(x, y)
        }),
        ("concat", |b| {
            let x = b.input(&[2, 3, 4]);
            let y = b.constant(&[2, 2, 4], Some(x));
            b.concat(&[x, y, x], 1)
        }),
        ("max_pool2d", |b| {
            let x = b.input(&[2, 7, 6]);
            b.max_pool2d(x, Window { padding: [1, 0, 2, 1], ..Window::odd(1) })
        }),
        ("avg_pool2d", |b| {
            let x = b.input(&[2, 7, 6]);
            b.avg_pool2d(x, Window { dilation: [1, 1], ..Window::odd(1) })
        }),
        ("avg_pool2d, whole image", |b| {
            let x = b.input(&[3, 6, 5]);
            b.avg_pool2d(x, Window { kernel: [6, 5], ..Window::tiles(1) })
        }),
        ("mean of images", |b| {
            let x = b.input(&[3, 6, 5]);
            b.mean(x, &[1, 2], true)
        }),
        ("mean of outer axes", |b| {
            let x = b.input(&[3, 2, 5]);
            b.mean(x, &[0, 2], false)
        }),
        ("mean of all", |b| {
            let x = b.input(&[3, 1, 5]);
            b.mean(x, &[0, 1, 2], false)
        }),
        ("clamp", |b| {
            let x = b.input(&[40]);
            b.relu(x)
        }),
        ("sigmoid", |b| {
            let x = b.input(&[300]);
            b.unary(x, Function::Sigmoid)
        }),
        ("tanh", |b| {
            let x = b.input(&[300]);
            b.unary(x, Function::Tanh)
        }),
        ("leaky_relu", |b| {
            let x = b.input(&[100]);
            b.unary(x, Function::LeakyRelu { slope: 0.3 })
        }),
        ("leaky_relu with a falling slope", |b| {
            let x = b.input(&[100]);
            b.unary(x, Function::LeakyRelu { slope: -0.7 })
        }),
        ("softmax", |b| {
            let x = b.input(&[3, 10]);
            b.softmax(x)
        }),
        ("softmax of one", |b| {
            let x = b.input(&[4, 1]);
            b.softmax(x)
        }),
        ("softmax of many", |b| {
            let x = b.input(&[1, 400]);
            b.softmax(x)
        }),
        ("requantize to int8", |b| {
            let x = b.input(&[50]);
            b.requantize(x, CodeType::Int8)
        }),
        ("requantize to int16", |b| {
            let x = b.input(&[50]);
            b.requantize(x, CodeType::Int16)
        }),
        ("reshape", |b| {
            let x = b.input(&[2, 6]);
            b.reshape(x, &[3, 4])
        }),
        ("transpose", |b| {
            let x = b.input(&[2, 3, 4, 2]);
            b.transpose(x, &[2, 0, 3, 1])
        }),
        ("pad", |b| {
            let x = b.input(&[2, 3, 2]);
            b.pad(x, &[0, 1, 2], &[1, 0, 3])
        }),
        ("slice", |b| {
            let x = b.input(&[3, 5, 7]);
            b.slice(x, &[1, 0, 1], &[2, 5, 7], &[5, 2, 3])
        }),
        ("resize_nearest", |b| {
            let x = b.input(&[2, 2, 3]);
            b.resize(x, [2, 3])
        }),
        ("constant", |b| {
            b.input(&[3]);
            b.constant(&[2, 5], None)
        }),
        ("a reshaped constant and nothing else", |b| {
            b.input(&[3]);
            let x = b.constant(&[2, 5], None);
            b.reshape(x, &[10])
        }),
        ("the input itself", |b| b.input(&[6])),
        ("an output that is read again", |b| {
            let x = b.input(&[6]);
            let y = b.relu(x);
            b.add(y, x);
            y
        }),
    ]
}

/// LeNet-5 on 1 × 28 × 28.
pub fn lenet(seed: u64, code_type: CodeType, bits: WeightBits) -> IntegerModel {
    let mut b = Builder::new(seed, Flavour::Random, code_type, bits, true);
    let x = b.input(&[1, 28, 28]);
    let x = b.conv2d("conv1", x, 6, Window::same(5, 1, 1));
    let x = b.max_pool2d(x, Window::tiles(2));
    let x = b.conv2d("conv2", x, 16, Window { padding: [0; 4], ..Window::same(5, 1, 1) });
    let x = b.max_pool2d(x, Window::tiles(2));
    let x = b.reshape(x, &[400]);
    let x = b.linear("fc1", x, 120);
    let x = b.linear("fc2", x, 84);
    let x = b.linear("fc3", x, 10);
    b.finish(x)
}

/// Two residual blocks with shortcuts of two kinds.
pub fn residual(seed: u64) -> IntegerModel {
    let mut b = Builder::int8(seed, Flavour::Random);
    let x = b.input(&[3, 16, 16]);
    let stem = b.conv2d("stem", x, 8, Window::same(3, 1, 1));
    let x = b.conv2d("block1.a", stem, 8, Window::same(3, 1, 1));
    let x = b.conv2d("block1.b", x, 8, Window::same(3, 1, 1));
    let block1 = b.add(stem, x);
    let x = b.conv2d("block2.a", block1, 16, Window::same(3, 2, 1));
    let x = b.conv2d("block2.b", x, 16, Window::same(3, 1, 1));
    let shortcut = b.conv2d("block2.shortcut", block1, 16, Window::same(1, 2, 1));
    let block2 = b.add(shortcut, x);
    let x = b.avg_pool2d(block2, Window { kernel: [8, 8], ..Window::tiles(1) });
    let x = b.reshape(x, &[16]);
    let x = b.linear("fc", x, 10);
    b.finish(x)
}

/// Depthwise and pointwise convolutions, a mean and a softmax.
pub fn separable(seed: u64) -> IntegerModel {
    let mut b = Builder::int8(seed, Flavour::Random);
    let x = b.input(&[1, 20, 10]);
    let window = Window { kernel: [10, 4], stride: [2, 2], padding: [4, 1, 5, 2], dilation: [1, 1], groups: 1 };
    let mut x = b.conv2d("stem", x, 16, window);
    for block in 0..3 {
        x = b.conv2d(&format!("depthwise{block}"), x, 16, Window::same(3, 1, 16));
        x = b.conv2d(&format!("pointwise{block}"), x, 16, Window::same(1, 1, 1));
    }
    let x = b.mean(x, &[1, 2], false);
    let x = b.linear("fc", x, 12);
    let x = b.softmax(x);
    b.finish(x)
}

/// The gates of a recurrent cell over three words, by their parts.
pub fn recurrent(seed: u64) -> IntegerModel {
    let mut b = Builder::int8(seed, Flavour::Random);
    let indices = b.indices(&[3]);
    let words = b.gather(indices, 11, 8);
    let mut hidden: Option<ValueId> = None;
    for step in 0..3 {
        let x = b.slice(words, &[step, 0], &[step + 1, 8], &[1, 1]);
        let x = b.linear("input", x, 12);
        let x = match hidden {
            Some(hidden) => {
                let h = b.linear("hidden", hidden, 12);
                b.add(x, h)
            }
            None => x,
        };
        let gate = b.slice(x, &[0, 0], &[1, 6], &[1, 1]);
        let gate = b.unary(gate, Function::Sigmoid);
        let candidate = b.slice(x, &[0, 6], &[1, 12], &[1, 1]);
        let candidate = b.unary(candidate, Function::Tanh);
        hidden = Some(b.mul(gate, candidate));
    }
    let x = b.reshape(hidden.unwrap(), &[6]);
    let x = b.linear("fc", x, 4);
    b.finish(x)
}

/// int8 and int16 codes in one network, so that there are two arenas.
pub fn mixed(seed: u64) -> IntegerModel {
    let mut b = Builder::int8(seed, Flavour::Random);
    let x = b.input(&[2, 6, 6]);
    let x = b.conv2d("conv1", x, 4, Window::same(3, 1, 1));
    let x = b.requantize(x, CodeType::Int16);
    let y = b.conv2d("conv2", x, 4, Window::same(3, 1, 1));
    let x = b.add(x, y);
    let x = b.unary(x, Function::Tanh);
    let x = b.requantize(x, CodeType::Int8);
    let x = b.transpose(x, &[1, 2, 0]);
    let x = b.resize(x, [2, 1]);
    let x = b.mean(x, &[0], false);
    let x = b.linear("fc", x, 5);
    b.finish(x)
}
