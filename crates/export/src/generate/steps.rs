//! From the nodes of a model to calls of kernels with their constants.
//!
//! Geometry becomes numbers that the kernels count with, scales become integer multipliers by the model's rules, movements become
//! copies of boxes. Sizes stay below 2^28, so that no index of a program overflows 32 bits.

use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Concat, Conv2d, ConvTranspose2d, FixedMultiplier, Function, Gather, IntegerModel, Linear, MatMul,
    MaxPool2d, Mean, Node, Op, PackedCodes, Pad, ResizeNearest, Slice, Softmax, SoftmaxTable, Transpose, Unary, ValueId,
    ValueInfo, WeightBits, Weights,
};

use super::{
    kernel::{Form, Kernel},
    walk::{Walk, strides},
};
use crate::obstacle::Obstacle;

/// Largest size, count or distance in a program.
const MAX_SIZE: usize = 1 << 28;

/// Integers of a constant table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Values {
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
}

/// A constant of a kernel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    Number(i32),
    Size(usize),
    /// A number of elements that a slice of Rust carries by itself; for C alone.
    Length(usize),
    Pair([usize; 2]),
    /// Sizes of the outer axes of a walk, filled up with 1 in front.
    Sizes(Vec<usize>),
    /// Steps along the outer axes of a walk, filled up with 0 in front.
    Steps(Vec<usize>),
    Table(Values),
}

/// A call of a kernel.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kernel: Kernel,
    pub(crate) fields: Vec<(&'static str, Field)>,
    pub(crate) inputs: Vec<ValueId>,
}

/// The calls that compute a node of a valid model; none for nodes that compute nothing.
pub(crate) fn calls(model: &IntegerModel, node: &Node) -> Result<Vec<Call>, Obstacle> {
    let inputs: Vec<&ValueInfo> = node.inputs.iter().map(|id| &model.values[id.0]).collect();
    let place = Place { model, node, inputs, y: &model.values[node.output.0] };
    let calls = place.calls()?;
    let oversized = calls.iter().flat_map(|call| &call.fields).find_map(|(_, field)| oversized(field));
    match oversized {
        Some(size) => Err(place.obstacle("sizes below 2^28", size.to_string())),
        None => Ok(calls),
    }
}

/// A size that a program cannot count with.
fn oversized(field: &Field) -> Option<usize> {
    let sizes = match field {
        Field::Number(_) => &[][..],
        Field::Size(size) | Field::Length(size) => std::slice::from_ref(size),
        Field::Pair(sizes) => sizes,
        Field::Sizes(sizes) | Field::Steps(sizes) => sizes,
        Field::Table(values) => return Some(values.len()).filter(|&length| length > MAX_SIZE),
    };
    sizes.iter().copied().find(|&size| size > MAX_SIZE)
}

impl Values {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::I8(values) => values.len(),
            Self::U8(values) => values.len(),
            Self::I16(values) => values.len(),
            Self::I32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }

    /// Weights as they are stored.
    fn packed(codes: &PackedCodes) -> Self {
        match codes.bits() {
            WeightBits::Eight => Self::I8(codes.unpack()),
            WeightBits::Four | WeightBits::Two => Self::U8(codes.as_bytes().to_vec()),
        }
    }
}

/// Steps of an operand whose dimensions of 1 stretch.
fn stretched(shape: &[usize]) -> Vec<usize> {
    strides(shape).into_iter().zip(shape).map(|(step, &size)| if size == 1 { 0 } else { step }).collect()
}

/// `[c, h, w]` of an image value.
fn image(value: &ValueInfo) -> [usize; 3] {
    [value.shape[0], value.shape[1], value.shape[2]]
}

/// The factor of a window along each axis, or 1 where there is one position only and any factor does.
fn where_several(factor: [usize; 2], positions: [usize; 2]) -> [usize; 2] {
    [0, 1].map(|axis| if positions[axis] == 1 { 1 } else { factor[axis] })
}

/// A node in its model.
struct Place<'a> {
    model: &'a IntegerModel,
    node: &'a Node,
    inputs: Vec<&'a ValueInfo>,
    y: &'a ValueInfo,
}

impl Place<'_> {
    fn obstacle(&self, expected: &'static str, found: String) -> Obstacle {
        Obstacle { place: format!("node of value {:?}", self.y.name), expected, found }
    }

    fn call(&self, form: Form, fields: Vec<(&'static str, Field)>) -> Call {
        Call { kernel: Kernel::plain(form, self.y.code_type), fields, inputs: self.node.inputs.clone() }
    }

    /// Elements of the output.
    fn length(&self) -> usize {
        self.y.shape.iter().product()
    }

    /// The node's integer multipliers, as many as its rule has.
    fn multipliers(&self) -> Result<Vec<FixedMultiplier>, Obstacle> {
        let multipliers = self.model.rules.fixed_multipliers(&self.node.op, &self.inputs, self.y);
        multipliers
            .ok_or_else(|| self.obstacle("integer multipliers", format!("{} under {}", self.node.op.kind(), self.model.rules)))
    }

    fn calls(&self) -> Result<Vec<Call>, Obstacle> {
        let x = self.inputs.first().copied();
        Ok(match (&self.node.op, x) {
            (Op::Constant(_) | Op::Reshape, _) => Vec::new(),
            (Op::Conv2d(op), Some(x)) => vec![self.conv2d(op, x)?],
            (Op::ConvTranspose2d(op), Some(x)) => vec![self.conv_transpose2d(op, x)?],
            (Op::Linear(op), Some(x)) => vec![self.linear(op, x)?],
            (Op::MatMul(op), Some(x)) => vec![self.mat_mul(*op, x, self.inputs[1])?],
            (Op::Add(op), Some(x)) => vec![self.add(op.clamp, 1, x, self.inputs[1])?],
            (Op::Sub(op), Some(x)) => vec![self.add(op.clamp, -1, x, self.inputs[1])?],
            (Op::Mul(op), Some(x)) => vec![self.mul(op.clamp, x, self.inputs[1])?],
            (Op::Concat(op), Some(_)) => self.concat(*op),
            (Op::MaxPool2d(op), Some(x)) => vec![self.max_pool2d(*op, x)],
            (Op::AvgPool2d(op), Some(x)) => vec![self.avg_pool2d(*op, x)?],
            (Op::Mean(op), Some(x)) => vec![self.mean(op, x)?],
            (Op::Clamp(clamp), Some(_)) => vec![self.call(
                Form::Clamp,
                vec![
                    ("length", Field::Length(self.length())),
                    ("min", Field::Number(clamp.min.into())),
                    ("max", Field::Number(clamp.max.into())),
                ],
            )],
            (Op::Unary(op), Some(x)) => vec![self.unary(op, x)?],
            (Op::Softmax(op), Some(x)) => vec![self.softmax(op, x)?],
            (Op::Requantize, Some(x)) => vec![self.requantize(x)?],
            (Op::Transpose(op), Some(x)) => vec![self.transpose(op, x)],
            (Op::Pad(op), Some(x)) => self.pad(op, x),
            (Op::Slice(op), Some(x)) => vec![self.slice(op, x)],
            (Op::ResizeNearest(op), Some(x)) => vec![self.resize_nearest(*op, x)],
            (Op::Gather(op), Some(x)) => vec![self.gather(op, x)],
            (op, _) => return Err(self.obstacle("an operation that generated code has", op.kind().into())),
        })
    }

    /// Zero points and clamp of a layer with weights, then its tables.
    fn weighted(
        &self,
        form: Form,
        mut fields: Vec<(&'static str, Field)>,
        weights: &Weights,
        clamp: Clamp,
    ) -> Result<Call, Obstacle> {
        let (x, y) = (self.inputs[0], self.y);
        let multipliers = self.multipliers()?;
        let bias = match x.code_type {
            CodeType::Int16 => Values::I64(weights.bias.clone()),
            // Validation keeps the biases of int8 layers within int32.
            CodeType::Int8 | CodeType::Int32 => Values::I32(weights.bias.iter().map(|&bias| bias as i32).collect()),
        };
        fields.extend([
            ("zero_in", Field::Number(x.qparams.zero_point)),
            ("zero_out", Field::Number(y.qparams.zero_point)),
            ("min", Field::Number(clamp.min.into())),
            ("max", Field::Number(clamp.max.into())),
            ("weights", Field::Table(Values::packed(&weights.codes))),
            ("bias", Field::Table(bias)),
            ("m0", Field::Table(Values::I32(multipliers.iter().map(|multiplier| multiplier.m0).collect()))),
            ("shift", Field::Table(Values::I8(multipliers.iter().map(|multiplier| multiplier.shift as i8).collect()))),
        ]);
        let mut call = self.call(form, fields);
        call.kernel.bits = Some(weights.codes.bits());
        Ok(call)
    }

    fn conv2d(&self, op: &Conv2d, x: &ValueInfo) -> Result<Call, Obstacle> {
        let ([_, h_in, w_in], [c_out, h_out, w_out]) = (image(x), image(self.y));
        let fields = vec![
            ("h_in", Field::Size(h_in)),
            ("w_in", Field::Size(w_in)),
            ("c_out", Field::Size(c_out)),
            ("h_out", Field::Size(h_out)),
            ("w_out", Field::Size(w_out)),
            ("group_in", Field::Size(op.c_in / op.groups)),
            ("group_out", Field::Size(op.c_out / op.groups)),
            ("kernel", Field::Pair(op.kernel)),
            ("stride", Field::Pair(where_several(op.stride, [h_out, w_out]))),
            ("padding", Field::Pair([op.padding[0], op.padding[1]])),
            ("dilation", Field::Pair(where_several(op.dilation, op.kernel))),
        ];
        self.weighted(Form::Conv2d, fields, &op.weights, op.clamp)
    }

    fn conv_transpose2d(&self, op: &ConvTranspose2d, x: &ValueInfo) -> Result<Call, Obstacle> {
        let ([_, h_in, w_in], [c_out, h_out, w_out]) = (image(x), image(self.y));
        let fields = vec![
            ("h_in", Field::Size(h_in)),
            ("w_in", Field::Size(w_in)),
            ("c_out", Field::Size(c_out)),
            ("h_out", Field::Size(h_out)),
            ("w_out", Field::Size(w_out)),
            ("group_in", Field::Size(op.c_in / op.groups)),
            ("group_out", Field::Size(op.c_out / op.groups)),
            ("kernel", Field::Pair(op.kernel)),
            ("stride", Field::Pair(where_several(op.stride, [h_in, w_in]))),
            ("padding", Field::Pair([op.padding[0], op.padding[1]])),
            ("dilation", Field::Pair(where_several(op.dilation, op.kernel))),
        ];
        self.weighted(Form::ConvTranspose2d, fields, &op.weights, op.clamp)
    }

    fn linear(&self, op: &Linear, x: &ValueInfo) -> Result<Call, Obstacle> {
        let rows = x.shape.iter().product::<usize>() / op.d_input;
        let fields =
            vec![("rows", Field::Size(rows)), ("d_input", Field::Size(op.d_input)), ("d_output", Field::Size(op.d_output))];
        self.weighted(Form::Linear, fields, &op.weights, op.clamp)
    }

    /// Zero points of two operands and the output, and the clamp.
    fn zeros(&self, a: &ValueInfo, b: &ValueInfo, clamp: Clamp) -> [(&'static str, Field); 5] {
        [
            ("a_zero", Field::Number(a.qparams.zero_point)),
            ("b_zero", Field::Number(b.qparams.zero_point)),
            ("y_zero", Field::Number(self.y.qparams.zero_point)),
            ("min", Field::Number(clamp.min.into())),
            ("max", Field::Number(clamp.max.into())),
        ]
    }

    /// The multipliers of a rule that has `N` of them.
    fn multiplier<const N: usize>(&self) -> Result<[FixedMultiplier; N], Obstacle> {
        let multipliers = self.multipliers()?;
        let found = multipliers.len();
        multipliers.try_into().map_err(|_| self.obstacle("a rule with as many multipliers as its kernel has", found.to_string()))
    }

    fn mat_mul(&self, op: MatMul, a: &ValueInfo, b: &ValueInfo) -> Result<Call, Obstacle> {
        let [multiplier] = self.multiplier()?;
        let (m, k) = (a.shape[a.shape.len() - 2], a.shape[a.shape.len() - 1]);
        let n = self.y.shape[self.y.shape.len() - 1];
        let (k_step, n_step) = if op.transpose_rhs { (1, k) } else { (n, 1) };
        let mut fields = vec![
            ("batches", Field::Size(self.length() / (m * n))),
            ("m", Field::Size(m)),
            ("k", Field::Size(k)),
            ("n", Field::Size(n)),
            ("k_step", Field::Size(k_step)),
            ("n_step", Field::Size(n_step)),
        ];
        fields.extend(self.zeros(a, b, op.clamp));
        fields.extend([("m0", Field::Number(multiplier.m0)), ("shift", Field::Number(multiplier.shift))]);
        Ok(self.call(Form::MatMul, fields))
    }

    /// The walk of two operands that stretch to the output.
    fn pairs(&self, a: &ValueInfo, b: &ValueInfo) -> [(&'static str, Field); 7] {
        let walk = Walk::new(&self.y.shape, &[stretched(&a.shape), stretched(&b.shape), strides(&self.y.shape)]);
        [
            ("rows", Field::Size(walk.rows())),
            ("length", Field::Size(walk.length)),
            ("a_inner", Field::Size(walk.inner[0])),
            ("b_inner", Field::Size(walk.inner[1])),
            ("size", Field::Sizes(walk.size)),
            ("a_step", Field::Steps(walk.steps[0].clone())),
            ("b_step", Field::Steps(walk.steps[1].clone())),
        ]
    }

    /// `a + sign · b`.
    fn add(&self, clamp: Clamp, sign: i32, a: &ValueInfo, b: &ValueInfo) -> Result<Call, Obstacle> {
        let [to_a, to_b, to_y] = self.multiplier()?;
        // The grid of both terms is finer by what leaves an int32 room for their sum.
        let left = if self.y.code_type == CodeType::Int8 { 20 } else { 15 };
        let mut fields: Vec<_> = self.pairs(a, b).into_iter().chain(self.zeros(a, b, clamp)).collect();
        fields.extend([
            ("left", Field::Number(left)),
            ("a_m0", Field::Number(to_a.m0)),
            ("a_shift", Field::Number(to_a.shift)),
            ("b_m0", Field::Number(to_b.m0)),
            ("b_shift", Field::Number(to_b.shift)),
            ("y_m0", Field::Number(to_y.m0)),
            ("y_shift", Field::Number(to_y.shift)),
            ("sign", Field::Number(sign)),
        ]);
        Ok(self.call(Form::Add, fields))
    }

    fn mul(&self, clamp: Clamp, a: &ValueInfo, b: &ValueInfo) -> Result<Call, Obstacle> {
        let [multiplier] = self.multiplier()?;
        let mut fields: Vec<_> = self.pairs(a, b).into_iter().chain(self.zeros(a, b, clamp)).collect();
        fields.extend([("m0", Field::Number(multiplier.m0)), ("shift", Field::Number(multiplier.shift))]);
        Ok(self.call(Form::Mul, fields))
    }

    /// A copy of a box of this shape.
    fn copy(&self, input: ValueId, shape: &[usize], x: (usize, Vec<usize>), y: (usize, Vec<usize>)) -> Call {
        let walk = Walk::new(shape, &[x.1, y.1]);
        let fields = vec![
            ("rows", Field::Size(walk.rows())),
            ("length", Field::Size(walk.length)),
            ("x_first", Field::Size(x.0)),
            ("x_inner", Field::Size(walk.inner[0])),
            ("y_first", Field::Size(y.0)),
            ("y_inner", Field::Size(walk.inner[1])),
            ("size", Field::Sizes(walk.size)),
            ("x_step", Field::Steps(walk.steps[0].clone())),
            ("y_step", Field::Steps(walk.steps[1].clone())),
        ];
        Call { inputs: vec![input], ..self.call(Form::Copy, fields) }
    }

    fn concat(&self, op: Concat) -> Vec<Call> {
        let steps = strides(&self.y.shape);
        let mut first = 0;
        let mut calls = Vec::new();
        for (&id, input) in self.node.inputs.iter().zip(&self.inputs) {
            calls.push(self.copy(id, &input.shape, (0, strides(&input.shape)), (first * steps[op.axis], steps.clone())));
            first += input.shape[op.axis];
        }
        calls
    }

    fn transpose(&self, op: &Transpose, x: &ValueInfo) -> Call {
        let from = strides(&x.shape);
        let from = op.permutation.iter().map(|&axis| from[axis]).collect();
        self.copy(self.node.inputs[0], &self.y.shape, (0, from), (0, strides(&self.y.shape)))
    }

    fn pad(&self, op: &Pad, x: &ValueInfo) -> Vec<Call> {
        let steps = strides(&self.y.shape);
        let first = op.before.iter().zip(&steps).map(|(before, step)| before * step).sum();
        let zero = Field::Number(self.y.qparams.zero_point);
        let fill = self.call(Form::Fill, vec![("length", Field::Length(self.length())), ("code", zero)]);
        let copy = self.copy(self.node.inputs[0], &x.shape, (0, strides(&x.shape)), (first, steps));
        vec![Call { inputs: Vec::new(), ..fill }, copy]
    }

    fn slice(&self, op: &Slice, x: &ValueInfo) -> Call {
        let from = strides(&x.shape);
        let first = op.start.iter().zip(&from).map(|(start, step)| start * step).sum();
        // A step past the only element of an axis is not taken.
        let step = |axis: usize| if self.y.shape[axis] == 1 { 0 } else { from[axis] * op.step[axis] };
        let from = (0..from.len()).map(step).collect();
        self.copy(self.node.inputs[0], &self.y.shape, (first, from), (0, strides(&self.y.shape)))
    }

    fn resize_nearest(&self, op: ResizeNearest, x: &ValueInfo) -> Call {
        let ([c, h, w], [_, h_out, w_out], [down, across]) = (image(x), image(self.y), op.factor);
        let shape = [c, h, down, w, across];
        let to = vec![h_out * w_out, down * w_out, w_out, across, 1];
        self.copy(self.node.inputs[0], &shape, (0, vec![h * w, w, 0, 1, 0]), (0, to))
    }

    fn max_pool2d(&self, op: MaxPool2d, x: &ValueInfo) -> Call {
        let ([channels, h_in, w_in], [_, h_out, w_out]) = (image(x), image(self.y));
        self.call(
            Form::MaxPool2d,
            vec![
                ("channels", Field::Size(channels)),
                ("h_in", Field::Size(h_in)),
                ("w_in", Field::Size(w_in)),
                ("h_out", Field::Size(h_out)),
                ("w_out", Field::Size(w_out)),
                ("kernel", Field::Pair(op.kernel)),
                ("stride", Field::Pair(where_several(op.stride, [h_out, w_out]))),
                ("padding", Field::Pair([op.padding[0], op.padding[1]])),
                ("dilation", Field::Pair(where_several(op.dilation, op.kernel))),
            ],
        )
    }

    fn avg_pool2d(&self, op: AvgPool2d, x: &ValueInfo) -> Result<Call, Obstacle> {
        let ([channels, h_in, w_in], [_, h_out, w_out]) = (image(x), image(self.y));
        // Raw codes and half of their number are summed in an int32.
        let bound = (op.kernel[0].min(h_in) * op.kernel[1].min(w_in)) as i64 * (1 - i64::from(x.code_type.min()));
        if bound > i32::MAX.into() {
            return Err(self.obstacle("windows whose sums fit int32", format!("{:?} of {}", op.kernel, x.code_type.name())));
        }
        let fields = vec![
            ("channels", Field::Size(channels)),
            ("h_in", Field::Size(h_in)),
            ("w_in", Field::Size(w_in)),
            ("h_out", Field::Size(h_out)),
            ("w_out", Field::Size(w_out)),
            ("kernel", Field::Pair(op.kernel)),
            ("stride", Field::Pair(where_several(op.stride, [h_out, w_out]))),
            ("padding", Field::Pair([op.padding[0], op.padding[1]])),
        ];
        Ok(self.call(Form::AvgPool2d, fields))
    }

    fn mean(&self, op: &Mean, x: &ValueInfo) -> Result<Call, Obstacle> {
        let [multiplier] = self.multiplier()?;
        let count = op.count(&x.shape);
        let deviation = i64::from(x.code_type.max()) - i64::from(x.code_type.min());
        if count as i64 * deviation > i32::MAX.into() {
            return Err(self.obstacle("means whose sums fit int32", format!("{count} codes of {}", x.code_type.name())));
        }
        let from = strides(&x.shape);
        let axes = |reduced: bool| (0..x.shape.len()).filter(move |axis| op.axes.contains(axis) == reduced);
        let shape = |reduced| axes(reduced).map(|axis| x.shape[axis]).collect::<Vec<_>>();
        let steps = |reduced| axes(reduced).map(|axis| from[axis]).collect::<Vec<_>>();
        let inner = Walk::new(&shape(true), &[steps(true)]);
        // A last axis of size 1 keeps all axes that stay in the outer part.
        let mut outer = Walk::new(&shape(false), &[steps(false)]);
        outer.size.push(outer.length);
        outer.steps[0].push(outer.inner[0]);
        let fields = vec![
            ("count", Field::Length(self.length())),
            ("size", Field::Sizes(outer.size)),
            ("step", Field::Steps(outer.steps[0].clone())),
            ("rows", Field::Size(inner.rows())),
            ("length", Field::Size(inner.length)),
            ("inner", Field::Size(inner.inner[0])),
            ("inner_size", Field::Sizes(inner.size)),
            ("inner_step", Field::Steps(inner.steps[0].clone())),
            ("zero_in", Field::Number(x.qparams.zero_point)),
            ("zero_out", Field::Number(self.y.qparams.zero_point)),
            ("m0", Field::Number(multiplier.m0)),
            ("shift", Field::Number(multiplier.shift)),
        ];
        Ok(self.call(Form::Mean, fields))
    }

    fn unary(&self, op: &Unary, x: &ValueInfo) -> Result<Call, Obstacle> {
        let length = ("length", Field::Length(self.length()));
        if x.code_type == CodeType::Int8 {
            let table = op.table.iter().map(|&code| code as i8).collect();
            return Ok(self.call(Form::Lookup, vec![length, ("table", Field::Table(Values::I8(table)))]));
        }
        let form = match op.function {
            Function::Sigmoid => Form::Sigmoid,
            Function::Tanh => Form::Tanh,
            Function::LeakyRelu { slope } => {
                let [above, below] = self.multiplier()?;
                let fields = vec![
                    length,
                    ("above_m0", Field::Number(above.m0)),
                    ("above_shift", Field::Number(above.shift)),
                    ("below_m0", Field::Number(below.m0)),
                    ("below_shift", Field::Number(below.shift)),
                    ("sign", Field::Number(if slope < 0.0 { -1 } else { 1 })),
                ];
                return Ok(self.call(Form::LeakyRelu, fields));
            }
            function => return Err(self.obstacle("a function of int16 codes that generated code has", function.name().into())),
        };
        let [input] = self.multiplier()?;
        let fields = vec![
            length,
            ("multiplier", Field::Number(input.m0)),
            ("shift", Field::Number(input.shift)),
            ("table", Field::Table(Values::I16(op.table.clone()))),
        ];
        Ok(self.call(form, fields))
    }

    fn softmax(&self, op: &Softmax, x: &ValueInfo) -> Result<Call, Obstacle> {
        let depth = x.shape[x.shape.len() - 1];
        let mut fields = vec![("rows", Field::Length(self.length() / depth)), ("depth", Field::Size(depth))];
        match &op.table {
            SoftmaxTable::Fixed(table) => {
                fields.push(("table", Field::Table(Values::I32(table.clone()))));
                Ok(self.call(Form::Softmax, fields))
            }
            SoftmaxTable::Interpolated { exp, reciprocal } => {
                let [multiplier] = self.multiplier()?;
                fields.extend([
                    ("m0", Field::Number(multiplier.m0)),
                    ("shift", Field::Number(multiplier.shift)),
                    ("exp", Field::Table(Values::I16(exp.clone()))),
                    ("reciprocal", Field::Table(Values::I16(reciprocal.clone()))),
                ]);
                Ok(self.call(Form::SoftmaxWide, fields))
            }
            _ => Err(self.obstacle("a table of integers", "a table of real numbers".into())),
        }
    }

    fn requantize(&self, x: &ValueInfo) -> Result<Call, Obstacle> {
        let [multiplier] = self.multiplier()?;
        let fields = vec![
            ("length", Field::Length(self.length())),
            ("zero_in", Field::Number(x.qparams.zero_point)),
            ("zero_out", Field::Number(self.y.qparams.zero_point)),
            ("m0", Field::Number(multiplier.m0)),
            ("shift", Field::Number(multiplier.shift)),
        ];
        let mut call = self.call(Form::Requantize, fields);
        call.kernel.x = x.code_type;
        Ok(call)
    }

    fn gather(&self, op: &Gather, x: &ValueInfo) -> Call {
        let fields = vec![
            ("length", Field::Length(x.shape.iter().product())),
            ("rows", Field::Size(op.rows)),
            ("width", Field::Size(op.width)),
            ("zero", Field::Number(self.y.qparams.zero_point)),
            ("weights", Field::Table(Values::packed(&op.table))),
        ];
        let mut call = self.call(Form::Gather, fields);
        call.kernel.x = CodeType::Int32;
        call.kernel.bits = Some(op.table.bits());
        call
    }
}
