//! Models that the integration tests and benchmarks share: builders and a seeded generator.

#![allow(dead_code, reason = "each test takes what it needs")]

use qat_runtime::{
    AvgPool2d, Clamp, Concat, Conv2d, Elementwise, IntegerModel, Linear, MaxPool2d, Node, Op, PackedCodes, Pad, QParams,
    ResizeNearest, Rules, Slice, Transpose, ValueId, ValueInfo, Weights,
};

/// A generator of one 64-bit state (xorshift64*), so that tests need no dependency and repeat everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        eprintln!("seed {seed}");
        Self::quiet(seed)
    }

    /// Without telling the seed.
    pub fn quiet(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Uniform in `[low, high]`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.next() >> 11).rem_euclid((high - low + 1) as u64) as i64
    }

    pub fn codes(&mut self, length: usize) -> Vec<i8> {
        (0..length).map(|_| self.range(-128, 127) as i8).collect()
    }
}

/// Builds a model node by node; every new value's parameters are drawn unless they are shared with the input.
pub struct Builder {
    pub model: IntegerModel,
    random: Random,
}

impl Builder {
    pub fn new(shape: &[usize], seed: u64) -> Self {
        let model =
            IntegerModel { rules: Rules::OnnxRuntime, values: vec![], nodes: vec![], input: ValueId(0), output: ValueId(0) };
        let mut builder = Self { model, random: Random::new(seed) };
        let qparams = builder.qparams();
        builder.value(shape, qparams);
        builder
    }

    fn qparams(&mut self) -> QParams {
        QParams { scale: self.random.range(1, 64) as f32 / 256.0, zero_point: self.random.range(-128, 127) as i32 }
    }

    fn value(&mut self, shape: &[usize], qparams: QParams) -> ValueId {
        let id = ValueId(self.model.values.len());
        self.model.values.push(ValueInfo::int8(&format!("v{}", id.0), shape, qparams));
        self.model.output = id;
        id
    }

    pub fn shape(&self, id: ValueId) -> Vec<usize> {
        self.model.values[id.0].shape.clone()
    }

    fn node(&mut self, op: Op, inputs: &[ValueId], shape: &[usize], shared: bool) -> ValueId {
        let qparams = if shared { self.model.values[inputs[0].0].qparams } else { self.qparams() };
        let output = self.value(shape, qparams);
        self.model.nodes.push(Node { op, inputs: inputs.to_vec(), output });
        output
    }

    /// Weights, bias and an output scale that spreads the sums over the codes.
    fn weights(&mut self, x: ValueId, channels: usize, row: usize) -> (Weights, f32) {
        let codes: Vec<i8> = (0..channels * row).map(|_| self.random.range(-127, 127) as i8).collect();
        let scale = (0..channels).map(|_| self.random.range(1, 100) as f32 * 1e-4).collect();
        let bias = (0..channels).map(|_| self.random.range(-20_000, 20_000)).collect();
        let spread = 73.0 * 73.0 * (row as f32).sqrt();
        let weights = Weights { codes: PackedCodes::eight(&codes), scale, bias };
        (weights, self.model.values[x.0].qparams.scale * 5e-3 * spread / 50.0)
    }

    pub fn conv2d(&mut self, x: ValueId, c_out: usize, kernel: usize, stride: usize, groups: usize, relu: bool) -> ValueId {
        let padding = [(kernel - 1) / 2, (kernel - 1) / 2, kernel / 2, kernel / 2];
        self.conv2d_padded(x, c_out, kernel, stride, groups, padding, relu)
    }

    pub fn conv2d_unpadded(&mut self, x: ValueId, c_out: usize, kernel: usize) -> ValueId {
        self.conv2d_padded(x, c_out, kernel, 1, 1, [0; 4], true)
    }

    #[allow(clippy::too_many_arguments, reason = "the attributes of a convolution")]
    fn conv2d_padded(
        &mut self,
        x: ValueId,
        c_out: usize,
        kernel: usize,
        stride: usize,
        groups: usize,
        padding: [usize; 4],
        relu: bool,
    ) -> ValueId {
        let c_in = self.shape(x)[0];
        let (weights, scale) = self.weights(x, c_out, c_in / groups * kernel * kernel);
        let op = Conv2d {
            name: format!("conv{}", self.model.nodes.len()),
            weights,
            c_out,
            c_in,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding,
            dilation: [1, 1],
            groups,
            clamp: Clamp::INT8,
        };
        let shape = op.output_shape(&self.shape(x)).expect("the kernel fits");
        let y = self.value(&shape, QParams { scale, zero_point: if relu { -128 } else { 3 } });
        self.model.nodes.push(Node { op: Op::Conv2d(op), inputs: vec![x], output: y });
        y
    }

    pub fn linear(&mut self, x: ValueId, d_output: usize, relu: bool) -> ValueId {
        let d_input = self.shape(x)[0];
        let (weights, scale) = self.weights(x, d_output, d_input);
        let y = self.value(&[d_output], QParams { scale, zero_point: if relu { -128 } else { -7 } });
        let name = format!("fc{}", self.model.nodes.len());
        let op = Linear { name, weights, d_input, d_output, clamp: Clamp::INT8 };
        self.model.nodes.push(Node { op: Op::Linear(op), inputs: vec![x], output: y });
        y
    }

    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let shape = self.shape(a);
        self.node(Op::Add(Elementwise { clamp: Clamp::INT8 }), &[a, b], &shape, false)
    }

    /// An addition with a fused relu.
    pub fn add_relu(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let [a_scale, b_scale] = [a, b].map(|id| self.model.values[id.0].qparams.scale);
        let shape = self.shape(a);
        let y = self.value(&shape, QParams { scale: (a_scale + b_scale) / 2.0, zero_point: -128 });
        self.model.nodes.push(Node { op: Op::Add(Elementwise { clamp: Clamp::INT8 }), inputs: vec![a, b], output: y });
        y
    }

    pub fn max_pool2d(&mut self, x: ValueId) -> ValueId {
        let op = MaxPool2d { kernel: [2, 2], stride: [2, 2], padding: [0; 4], dilation: [1, 1] };
        let shape = op.output_shape(&self.shape(x)).expect("the window fits");
        self.node(Op::MaxPool2d(op), &[x], &shape, true)
    }

    pub fn avg_pool2d(&mut self, x: ValueId, kernel: usize) -> ValueId {
        self.avg_pool2d_on(x, kernel, false)
    }

    /// A pool whose output has the input's parameters.
    pub fn avg_pool2d_shared(&mut self, x: ValueId, kernel: usize) -> ValueId {
        self.avg_pool2d_on(x, kernel, true)
    }

    fn avg_pool2d_on(&mut self, x: ValueId, kernel: usize, shared: bool) -> ValueId {
        let op = AvgPool2d { kernel: [kernel; 2], stride: [kernel; 2], padding: [0; 4], count_include_pad: false };
        let shape = op.output_shape(&self.shape(x)).expect("the window fits");
        self.node(Op::AvgPool2d(op), &[x], &shape, shared)
    }

    pub fn relu(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let min = self.model.values[x.0].qparams.zero_point as i16;
        self.node(Op::Clamp(Clamp { min, max: 127 }), &[x], &shape, true)
    }

    pub fn flatten(&mut self, x: ValueId) -> ValueId {
        let elements = self.shape(x).iter().product();
        self.node(Op::Reshape, &[x], &[elements], true)
    }
}

/// LeNet-5 on 1 × 28 × 28: two convolutions with max pools, three linear layers.
pub fn lenet(seed: u64) -> IntegerModel {
    let mut b = Builder::new(&[1, 28, 28], seed);
    let x = b.conv2d(ValueId(0), 6, 5, 1, 1, true);
    let x = b.max_pool2d(x);
    let x = b.conv2d(x, 16, 5, 1, 1, true);
    let x = b.max_pool2d(x);
    let x = b.flatten(x);
    let x = b.linear(x, 120, true);
    let x = b.linear(x, 84, true);
    b.linear(x, 10, false);
    b.model
}

/// A small residual net with every operation of the contract: shortcut, depthwise, both average pools, an unfused relu.
pub fn residual(seed: u64) -> IntegerModel {
    let mut b = Builder::new(&[3, 12, 12], seed);
    let stem = b.conv2d(ValueId(0), 8, 3, 1, 1, true);
    let x = b.conv2d(stem, 8, 3, 1, 8, true);
    let x = b.conv2d(x, 8, 1, 1, 1, false);
    let x = b.add(x, stem);
    let x = b.relu(x);
    let shortcut = b.conv2d(x, 12, 1, 2, 2, false);
    let y = b.avg_pool2d(x, 2);
    let y = b.conv2d(y, 12, 3, 1, 4, false);
    let x = b.add(shortcut, y);
    let x = b.avg_pool2d(x, 6);
    let x = b.flatten(x);
    b.linear(x, 10, false);
    b.model
}

/// A residual net on 3 × 32 × 32: three stages of `blocks` blocks with 16, 32 and 64 channels. One block a stage is ResNet-8,
/// three are ResNet-20.
pub fn resnet(blocks: usize, seed: u64) -> IntegerModel {
    let mut b = Builder::new(&[3, 32, 32], seed);
    let mut x = b.conv2d(ValueId(0), 16, 3, 1, 1, true);
    for (stage, channels) in [16, 32, 64].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let y = b.conv2d(x, channels, 3, stride, 1, true);
            let y = b.conv2d(y, channels, 3, 1, 1, false);
            let shortcut = if stride == 2 { b.conv2d(x, channels, 1, 2, 1, false) } else { x };
            x = b.add_relu(y, shortcut);
        }
    }
    let x = b.avg_pool2d_shared(x, 8);
    let x = b.flatten(x);
    b.linear(x, 10, false);
    b.model
}

/// The LeNet that this workspace trains: two unpadded convolutions with max pools, two linear layers.
pub fn lenet_wide(seed: u64) -> IntegerModel {
    let mut b = Builder::new(&[1, 28, 28], seed);
    let x = b.conv2d_unpadded(ValueId(0), 12, 5);
    let x = b.max_pool2d(x);
    let x = b.conv2d_unpadded(x, 24, 5);
    let x = b.max_pool2d(x);
    let x = b.flatten(x);
    let x = b.linear(x, 128, true);
    b.linear(x, 10, false);
    b.model
}

/// A chain of operations, each drawn at random; not every rules define all of them.
pub fn chain(random: &mut Random) -> IntegerModel {
    let below = |random: &mut Random, limit: usize| random.range(0, limit as i64 - 1) as usize;
    let shape = [1 + below(random, 20), 1 + below(random, 9), 1 + below(random, 9)];
    let mut b = Builder::new(&shape, random.next());
    b.model.rules = Rules::NAMES[below(random, Rules::NAMES.len())].1;
    let mut x = ValueId(0);
    for _ in 0..1 + below(random, 6) {
        let shape = b.shape(x);
        let rank = shape.len();
        let image = rank == 3;
        x = match below(random, 12) {
            0 | 1 if image => {
                let (c_out, kernel) = (1 + below(random, 24), 1 + below(random, 3));
                b.conv2d(x, c_out, kernel, 1 + below(random, 2), 1, random.next().is_multiple_of(2))
            }
            2 if image => {
                let kernel = 1 + below(random, 2.min(shape[1]).min(shape[2]));
                let op = MaxPool2d { kernel: [kernel; 2], stride: [1 + below(random, 2); 2], padding: [0; 4], dilation: [1, 1] };
                let shape = op.output_shape(&shape).expect("the window fits");
                b.node(Op::MaxPool2d(op), &[x], &shape, true)
            }
            3 if image => {
                let kernel = 1 + below(random, shape[1].min(shape[2]));
                b.avg_pool2d(x, kernel)
            }
            4 if image && shape.iter().product::<usize>() < 2000 => {
                let op = ResizeNearest { factor: [1 + below(random, 3), 1 + below(random, 3)] };
                let shape = op.output_shape(&shape).expect("an image");
                b.node(Op::ResizeNearest(op), &[x], &shape, true)
            }
            5 => {
                let mut permutation: Vec<usize> = (0..rank).collect();
                for axis in (1..rank).rev() {
                    permutation.swap(axis, below(random, axis + 1));
                }
                let op = Transpose { permutation };
                let shape = op.output_shape(&shape).expect("a permutation");
                b.node(Op::Transpose(op), &[x], &shape, true)
            }
            6 if shape.iter().product::<usize>() < 2000 => {
                let mut sides = || (0..rank).map(|_| below(random, 3)).collect();
                let op = Pad { before: sides(), after: sides() };
                let shape = op.output_shape(&shape).expect("the rank fits");
                b.node(Op::Pad(op), &[x], &shape, true)
            }
            7 => {
                let start: Vec<usize> = shape.iter().map(|&size| below(random, size)).collect();
                let end = (0..rank).map(|axis| start[axis] + 1 + below(random, shape[axis] - start[axis])).collect();
                let op = Slice { start, end, step: (0..rank).map(|_| 1 + below(random, 3)).collect() };
                let shape = op.output_shape(&shape).expect("the box lies inside");
                b.node(Op::Slice(op), &[x], &shape, true)
            }
            8 => {
                let op = Concat { axis: below(random, rank) };
                let shape = op.output_shape(&[&shape, &shape]).expect("equal shapes");
                b.node(Op::Concat(op), &[x, x], &shape, true)
            }
            9 => {
                let sizes = [vec![shape.iter().product()], vec![shape[0], shape[1..].iter().product()], {
                    let mut turned = shape.clone();
                    turned.reverse();
                    turned
                }];
                b.node(Op::Reshape, &[x], &sizes[below(random, 3)], true)
            }
            10 => {
                let (low, high) = (random.range(-128, 127) as i16, random.range(-128, 127) as i16);
                b.node(Op::Clamp(Clamp { min: low.min(high), max: low.max(high) }), &[x], &shape, true)
            }
            _ => b.node(Op::Add(Elementwise { clamp: Clamp::INT8 }), &[x, ValueId(x.0)], &shape, false),
        };
    }
    b.model
}
