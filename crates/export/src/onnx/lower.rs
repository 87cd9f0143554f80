//! One node of the model after another as ONNX operators.
//!
//! | operation | QDQ | integer operators |
//! | --- | --- | --- |
//! | conv2d, linear | Conv, Gemm | QLinearConv |
//! | mat_mul | MatMul | QLinearMatMul |
//! | add, sub, mul, avg_pool2d, mean, unary, softmax, conv_transpose2d | float operator | the same, between a pair |
//! | max_pool2d, clamp, concat, reshape, transpose, pad, slice, resize_nearest | float operator | the operator on codes |
//! | requantize | Concat of one operand | the same, between a pair |
//! | gather, constant | on codes | on codes |
//!
//! A requantization by itself would be two neighbouring pairs, of which ONNX Runtime makes one on a grid of its own; a Concat of
//! one operand keeps them apart.

use qat_formats::onnx::{Attribute, Node};
use qat_runtime::{Clamp, Codes, Function, MatMul, Mean, Op, Unary, ValueId};

use super::{
    attributes::{self, int},
    graph::{Domain, Writer},
    opset::AXES_INPUT,
};
use crate::names;

/// A node of the model at its place in the graph.
#[derive(Clone, Copy)]
pub(super) struct Site<'a> {
    /// Of the ONNX node, and of the layer's constants.
    pub(super) name: &'a str,
    /// Operands.
    pub(super) inputs: &'a [ValueId],
    /// What the node defines.
    pub(super) output: ValueId,
}

/// An axis of the sample as one of the batch.
fn axis(axis: usize) -> i64 {
    int(axis) + 1
}

impl Writer<'_> {
    /// All nodes, from the graph's input to its output.
    pub(super) fn body(&mut self) {
        let model = self.model;
        let layers = names::unique(model.nodes.iter().map(|node| node.op.layer().unwrap_or(&model.values[node.output.0].name)));
        self.enter();
        for (node, name) in model.nodes.iter().zip(&layers) {
            self.parameters(node.output);
            self.lower(&node.op, Site { name, inputs: &node.inputs, output: node.output });
        }
        self.leave();
    }

    fn lower(&mut self, op: &Op, site: Site) {
        let Site { name, inputs, output } = site;
        let full = Clamp::full(self.code_type(output));
        let moved = self.domain();
        match op {
            Op::Conv2d(conv) => self.conv2d(conv, site),
            Op::ConvTranspose2d(conv) => self.conv_transpose2d(conv, site),
            Op::Linear(linear) => self.linear(linear, site),
            Op::MatMul(product) => self.mat_mul(product, site),
            Op::Add(add) => self.operator("Add", site, Domain::Real, add.clamp, |node| node),
            Op::Sub(sub) => self.operator("Sub", site, Domain::Real, sub.clamp, |node| node),
            Op::Mul(mul) => self.operator("Mul", site, Domain::Real, mul.clamp, |node| node),
            Op::Concat(concat) => {
                self.operator("Concat", site, moved, full, |node| node.with(Attribute::int("axis", axis(concat.axis))))
            }
            Op::MaxPool2d(pool) => {
                self.operator("MaxPool", site, moved, full, |node| attributes::max_pool(node, pool));
            }
            Op::AvgPool2d(pool) if pool.is_global(self.shape(inputs[0])) => {
                self.operator("GlobalAveragePool", site, Domain::Real, full, |node| node);
            }
            Op::AvgPool2d(pool) => {
                let attributes = |node| attributes::average_pool(node, pool);
                self.operator("AveragePool", site, Domain::Real, full, attributes);
            }
            Op::Mean(mean) => self.mean(mean, site),
            Op::Clamp(range) => self.clamp(*range, site),
            Op::Unary(Unary { function, .. }) => self.unary(*function, site),
            Op::Softmax(_) => self.operator("Softmax", site, Domain::Real, full, |node| node.with(Attribute::int("axis", -1))),
            Op::Requantize => self.operator("Concat", site, Domain::Real, full, |node| node.with(Attribute::int("axis", 1))),
            Op::Reshape => match self.shape(output) {
                [_] => self.operator("Flatten", site, moved, full, |node| node.with(Attribute::int("axis", 1))),
                shape => {
                    // A 0 copies the batch dimension from the input.
                    let dims: Vec<i64> = [0].into_iter().chain(shape.iter().map(|&size| int(size))).collect();
                    let constants = [self.constant(output, "shape", &dims)];
                    self.with_constants("Reshape", site, &constants, |node| node);
                }
            },
            Op::Transpose(transpose) => {
                let permutation: Vec<i64> = [0].into_iter().chain(transpose.permutation.iter().map(|&i| axis(i))).collect();
                self.operator("Transpose", site, moved, full, |node| node.with(Attribute::ints("perm", &permutation)));
            }
            Op::Pad(pad) => {
                let sides = [&pad.before, &pad.after].into_iter();
                let pads: Vec<i64> = sides.flat_map(|side| [0].into_iter().chain(side.iter().map(|&n| int(n)))).collect();
                let mut constants = vec![self.constant(output, "pads", &pads)];
                if moved == Domain::Codes {
                    // What is padded with is real 0.
                    constants.push(self.tensor(output, "zero_point"));
                }
                let attributes = |node: Node| node.with(Attribute::string("mode", "constant"));
                self.with_constants("Pad", site, &constants, attributes);
            }
            Op::Slice(slice) => {
                let axes: Vec<i64> = (0..slice.start.len()).map(axis).collect();
                let lists = [("starts", &slice.start), ("ends", &slice.end), ("steps", &slice.step)]
                    .map(|(part, list)| self.constant(output, part, &list.iter().map(|&n| int(n)).collect::<Vec<_>>()));
                let [starts, ends, steps] = lists;
                let constants = [starts, ends, self.constant(output, "axes", &axes), steps];
                self.with_constants("Slice", site, &constants, |node| node);
            }
            Op::ResizeNearest(resize) => {
                let scales = self.tensor(output, "factors");
                self.floats(&scales, &[4], &[1.0, 1.0, resize.factor[0] as f32, resize.factor[1] as f32]);
                // No region of interest.
                let constants = [String::new(), scales];
                self.with_constants("Resize", site, &constants, attributes::resize_nearest);
            }
            Op::Gather(gather) => {
                let table = format!("{name}.table");
                let codes: Vec<i32> = gather.table.unpack().into_iter().map(i32::from).collect();
                self.code_constant(&table, self.code_type(output), &[gather.rows, gather.width], &codes);
                let (indices, target) = (self.codes(inputs[0]), self.codes(output));
                self.nodes.push(Node::new("Gather", name, &[&table, &indices], &[&target]).with(Attribute::int("axis", 0)));
                self.finish(output, Domain::Codes, full);
            }
            Op::Constant(codes) => self.constant_value(codes, site),
            // Obstacles name every operation that stands nowhere above.
            _ => {}
        }
    }

    /// An operator whose inputs are the operands alone.
    fn operator(&mut self, op_type: &str, site: Site, domain: Domain, range: Clamp, attributes: impl FnOnce(Node) -> Node) {
        let Site { name, inputs, output } = site;
        let operands: Vec<String> = inputs.iter().map(|&id| self.operand(id, domain)).collect();
        let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
        let target = self.begin(output, domain, range);
        self.nodes.push(attributes(Node::new(op_type, name, &operands, &[&target])));
        self.finish(output, domain, range);
    }

    /// An operator that moves the numbers of one operand, as constants say.
    fn with_constants(&mut self, op_type: &str, site: Site, constants: &[String], attributes: impl FnOnce(Node) -> Node) {
        let Site { name, inputs, output } = site;
        let (domain, full) = (self.domain(), Clamp::full(self.code_type(output)));
        let operand = self.operand(inputs[0], domain);
        let inputs: Vec<&str> = [&operand].into_iter().chain(constants).map(String::as_str).collect();
        let target = self.begin(output, domain, full);
        self.nodes.push(attributes(Node::new(op_type, name, &inputs, &[&target])));
        self.finish(output, domain, full);
    }

    /// A list of integers that belongs to a value; returns its name.
    fn constant(&mut self, id: ValueId, part: &str, values: &[i64]) -> String {
        let name = self.tensor(id, part);
        self.integers(&name, values);
        name
    }

    fn mat_mul(&mut self, product: &MatMul, Site { name, inputs, output }: Site) {
        let domain = self.domain();
        let [lhs, mut rhs] = [0, 1].map(|operand| self.operand(inputs[operand], domain));
        if product.transpose_rhs {
            let rank = int(self.shape(inputs[1]).len()) + 1;
            let permutation: Vec<i64> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
            let (transpose, turned) = (self.tensor(output, "rhs_transpose"), self.tensor(output, "rhs"));
            let node = Node::new("Transpose", &transpose, &[&rhs], &[&turned]).with(Attribute::ints("perm", &permutation));
            self.nodes.push(node);
            rhs = if domain == Domain::Real { self.pair(output, "rhs", inputs[1]) } else { turned };
        }
        let target = self.begin(output, domain, product.clamp);
        let node = match domain {
            Domain::Real => Node::new("MatMul", name, &[&lhs, &rhs], &[&target]),
            Domain::Codes => {
                let [a, b, y] =
                    [inputs[0], inputs[1], output].map(|id| ["scale", "zero_point"].map(|part| self.tensor(id, part)));
                let inputs = [&lhs, &a[0], &a[1], &rhs, &b[0], &b[1], &y[0], &y[1]];
                Node::new("QLinearMatMul", name, &inputs.map(String::as_str), &[&target])
            }
        };
        self.nodes.push(node);
        self.finish(output, domain, product.clamp);
    }

    fn mean(&mut self, mean: &Mean, Site { name, inputs, output }: Site) {
        let full = Clamp::full(self.code_type(output));
        let axes: Vec<i64> = mean.axes.iter().map(|&i| axis(i)).collect();
        let x = self.real(inputs[0]);
        let [target, reduced] = [self.begin(output, Domain::Real, full), self.tensor(output, "reduced")];
        // The other choice of axes than the output's, so that a Reshape follows: ONNX Runtime moves the transposes around its
        // convolutions across a ReduceMean, which sums in another order then, but not across a Reshape.
        let keep_dims = Attribute::int("keepdims", (!mean.keep_dims).into());
        let node = if self.opset < AXES_INPUT {
            Node::new("ReduceMean", name, &[&x], &[&reduced]).with(Attribute::ints("axes", &axes))
        } else {
            let axes = self.constant(output, "axes", &axes);
            Node::new("ReduceMean", name, &[&x, &axes], &[&reduced]).with(Attribute::int("noop_with_empty_axes", 0))
        };
        self.nodes.push(node.with(keep_dims));
        let dims: Vec<i64> = [0].into_iter().chain(self.shape(output).iter().map(|&size| int(size))).collect();
        self.reshape(output, "back", &reduced, &dims, &target);
        self.finish(output, Domain::Real, full);
    }

    fn clamp(&mut self, range: Clamp, Site { name, inputs, output }: Site) {
        let (domain, full) = (self.domain(), Clamp::full(self.code_type(output)));
        let x = self.operand(inputs[0], domain);
        let target = self.begin(output, domain, full);
        match domain {
            Domain::Real => self.clamp_reals(output, name, range, &x, &target),
            Domain::Codes => self.clip_codes(output, name, range, &x, &target),
        }
        self.finish(output, domain, full);
    }

    fn unary(&mut self, function: Function, site: Site) {
        let full = Clamp::full(self.code_type(site.output));
        let approximate = |how: &str| Some(Attribute::string("approximate", how));
        let (op_type, attribute) = match function {
            Function::Sigmoid => ("Sigmoid", None),
            Function::Tanh => ("Tanh", None),
            Function::HardSwish => ("HardSwish", None),
            Function::Gelu => ("Gelu", approximate("none")),
            Function::GeluTanh => ("Gelu", approximate("tanh")),
            Function::LeakyRelu { slope } => ("LeakyRelu", Some(Attribute::float("alpha", slope))),
            // Obstacles name every function that does not stand above.
            _ => return,
        };
        self.operator(op_type, site, Domain::Real, full, |node| match attribute {
            Some(attribute) => node.with(attribute),
            None => node,
        });
    }

    /// Codes that are the same for every sample: with a batch dimension of 1 where all readers stretch it, else of the batch.
    fn constant_value(&mut self, codes: &Codes, Site { name, output, .. }: Site) {
        let (shape, code_type) = (self.shape(output), self.code_type(output));
        let dims: Vec<usize> = [1].into_iter().chain(shape.iter().copied()).collect();
        if self.is_stretched(output) {
            self.code_constant(&self.codes(output), code_type, &dims, &codes.to_i32s());
        } else {
            let [sample, whole, batch, sizes, rest, index] =
                ["sample_codes", "input_shape", "batch", "shape", "sample_shape", "batch_index"]
                    .map(|part| self.tensor(output, part));
            self.code_constant(&sample, code_type, &dims, &codes.to_i32s());
            self.integers(&index, &[0]);
            self.integers(&rest, &shape.iter().map(|&size| int(size)).collect::<Vec<_>>());
            let target = self.codes(output);
            let node = |op_type: &str, part: &str, inputs: &[&str], output: &str| Node::new(op_type, part, inputs, &[output]);
            self.nodes.extend([
                node("Shape", &whole, &[&self.model.input_info().name], &whole),
                node("Gather", &batch, &[&whole, &index], &batch).with(Attribute::int("axis", 0)),
                node("Concat", &sizes, &[&batch, &rest], &sizes).with(Attribute::int("axis", 0)),
                node("Expand", name, &[&sample, &sizes], &target),
            ]);
        }
        self.finish(output, Domain::Codes, Clamp::full(code_type));
    }

    /// Whether every reader of a constant is an operation that stretches a batch of 1 to that of another operand.
    fn is_stretched(&self, id: ValueId) -> bool {
        let is_constant =
            |value: ValueId| self.model.nodes.iter().any(|node| node.output == value && matches!(node.op, Op::Constant(_)));
        let mut readers = self.model.nodes.iter().filter(|node| node.inputs.contains(&id));
        let stretches = |node: &qat_runtime::Node| {
            matches!(node.op, Op::Add(_) | Op::Sub(_) | Op::Mul(_)) && !node.inputs.iter().all(|&input| is_constant(input))
        };
        id != self.model.output && readers.all(stretches)
    }
}
