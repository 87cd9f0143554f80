//! Integer models with random weights, for the tests of the writers.

// Each test binary uses some of the models.
#![allow(dead_code)]

use qat_runtime::{
    AvgPool2d, Clamp as Codes, Conv2d, Elementwise, IntegerModel, Linear, MaxPool2d, Node, Op, PackedCodes, QParams, Rules,
    ValueId, ValueInfo, Weights,
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
    /// From the zero point up, which is the lowest code.
    Relu,
    /// From the zero point up, which is another code.
    ReluAt(i32),
    /// A range of its own.
    Range(i16, i16),
}

impl Clamp {
    /// Zero point and codes of the output.
    fn codes(self, random: &mut Random) -> (i32, Codes) {
        match self {
            Self::None => (random.int(-20, 20), Codes::INT8),
            Self::Relu => (-128, Codes::INT8),
            Self::ReluAt(zero_point) => (zero_point, Codes { min: zero_point as i16, ..Codes::INT8 }),
            Self::Range(min, max) => (random.int(-20, 20), Codes { min, max }),
        }
    }
}

/// A model under construction: each method adds a node and returns its value.
pub struct Builder {
    random: Random,
    values: Vec<ValueInfo>,
    nodes: Vec<Node>,
}

impl Builder {
    pub fn new(seed: u64, input: &[usize]) -> (Self, ValueId) {
        println!("seed {seed}");
        let mut builder = Self { random: Random(seed), values: Vec::new(), nodes: Vec::new() };
        let qparams = QParams { scale: builder.random.float(0.01, 0.05), zero_point: builder.random.int(-20, 20) };
        let input = builder.value("input", input.to_vec(), qparams);
        (builder, input)
    }

    pub fn finish(self, output: ValueId) -> IntegerModel {
        IntegerModel { rules: Rules::OnnxRuntime, values: self.values, nodes: self.nodes, input: ValueId(0), output }
    }

    fn value(&mut self, name: &str, shape: Vec<usize>, qparams: QParams) -> ValueId {
        self.values.push(ValueInfo::int8(name, &shape, qparams));
        ValueId(self.values.len() - 1)
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], name: &str, shape: Vec<usize>, qparams: QParams) -> ValueId {
        let output = self.value(name, shape, qparams);
        self.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    fn shape(&self, id: ValueId) -> Vec<usize> {
        self.values[id.0].shape.clone()
    }

    fn qparams(&self, id: ValueId) -> QParams {
        self.values[id.0].qparams
    }

    /// Constants of a layer with `inner` products to a sum, scaled so that the output codes spread over their range.
    fn constants(&mut self, input: ValueId, c_out: usize, inner: usize, clamp: Clamp) -> (Weights, Codes, QParams) {
        let random = &mut self.random;
        let s_in = self.values[input.0].qparams.scale;
        let codes: Vec<i8> = (0..c_out * inner).map(|_| random.int(-127, 127) as i8).collect();
        let weight_scale = (0..c_out).map(|_| random.float(0.001, 0.003)).collect();
        // Codes and weights spread by about 73, sums by the square root of their number more.
        let spread = 73.0 * 73.0 * (inner as f32).sqrt();
        let bias = (0..c_out).map(|_| random.int(-(spread as i32), spread as i32).into()).collect();
        let (zero_point, clamp) = clamp.codes(random);
        let scale = s_in * 0.002 * spread / 90.0;
        let weights = Weights { codes: PackedCodes::eight(&codes), scale: weight_scale, bias };
        (weights, clamp, QParams { scale, zero_point })
    }

    pub fn conv(&mut self, name: &str, input: ValueId, c_out: usize, groups: usize, window: Window, clamp: Clamp) -> ValueId {
        let shape = self.shape(input);
        let c_in = shape[0];
        let inner = c_in / groups * window.kernel[0] * window.kernel[1];
        let (weights, clamp, qparams) = self.constants(input, c_out, inner, clamp);
        let Window { kernel, stride, padding, dilation } = window;
        let name = name.to_owned();
        let output = format!("{name}.output{}", self.nodes.len());
        let conv = Conv2d { name, weights, c_out, c_in, kernel, stride, padding, dilation, groups, clamp };
        self.node(Op::Conv2d(conv), &[input], &output, window.output(&shape, c_out), qparams)
    }

    pub fn linear(&mut self, name: &str, input: ValueId, d_output: usize, clamp: Clamp) -> ValueId {
        let d_input = self.shape(input)[0];
        let (weights, clamp, qparams) = self.constants(input, d_output, d_input, clamp);
        let output = format!("{name}.output{}", self.nodes.len());
        let linear = Linear { name: name.to_owned(), weights, d_input, d_output, clamp };
        self.node(Op::Linear(linear), &[input], &output, vec![d_output], qparams)
    }

    pub fn add(&mut self, name: &str, a: ValueId, b: ValueId, clamp: Clamp) -> ValueId {
        let (zero_point, clamp) = clamp.codes(&mut self.random);
        let scale = (self.qparams(a).scale + self.qparams(b).scale) * self.random.float(0.6, 0.9);
        self.node(Op::Add(Elementwise { clamp }), &[a, b], name, self.shape(a), QParams { scale, zero_point })
    }

    pub fn max_pool(&mut self, name: &str, input: ValueId, window: Window) -> ValueId {
        let Window { kernel, stride, padding, dilation } = window;
        let shape = self.shape(input);
        let shape = window.output(&shape, shape[0]);
        self.node(Op::MaxPool2d(MaxPool2d { kernel, stride, padding, dilation }), &[input], name, shape, self.qparams(input))
    }

    /// An average pool whose output has `gain` times the input's resolution; 1 keeps its parameters.
    pub fn avg_pool(&mut self, name: &str, input: ValueId, window: Window, count_include_pad: bool, gain: f32) -> ValueId {
        let Window { kernel, stride, padding, .. } = window;
        let shape = self.shape(input);
        let shape = window.output(&shape, shape[0]);
        let QParams { scale, zero_point } = self.qparams(input);
        let qparams = QParams { scale: scale / gain, zero_point };
        self.node(Op::AvgPool2d(AvgPool2d { kernel, stride, padding, count_include_pad }), &[input], name, shape, qparams)
    }

    pub fn global_avg_pool(&mut self, name: &str, input: ValueId, gain: f32) -> ValueId {
        let shape = self.shape(input);
        let window = Window { kernel: [shape[1], shape[2]], stride: [1, 1], padding: [0; 4], dilation: [1, 1] };
        self.avg_pool(name, input, window, false, gain)
    }

    pub fn relu(&mut self, name: &str, input: ValueId) -> ValueId {
        let clamp = Codes { min: self.qparams(input).zero_point as i16, ..Codes::INT8 };
        self.node(Op::Clamp(clamp), &[input], name, self.shape(input), self.qparams(input))
    }

    pub fn reshape(&mut self, name: &str, input: ValueId, shape: &[usize]) -> ValueId {
        self.node(Op::Reshape, &[input], name, shape.to_vec(), self.qparams(input))
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
