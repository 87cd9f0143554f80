//! What no layer has taken in becomes operations that have an integer form.
//!
//! | recorded | becomes |
//! | --- | --- |
//! | `x + c`, `x · c` with a number or a constant | a constant activation and an addition or a product |
//! | `−x + c` | the constant minus `x` |
//! | `hard_sigmoid(x)` | `clamp(x · α + β, 0, 1)` |
//! | batch norm | a depthwise convolution of 1 by 1 with the fixed weight 1, and the batch norm |

use burn::tensor::TensorData;
use burn::tensor::ops::ConvOptions;

use crate::clamp::Clamp;
use crate::graph::{Constant, ConstantId, Dim, Graph, Node, Op, Value, ValueId};

/// Lowers all such operations.
pub(super) fn lower(mut graph: Graph) -> Graph {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut lowering = Lowering { graph, nodes: Vec::with_capacity(nodes.len()), taken: names(&nodes) };
    for node in nodes {
        lowering.node(node);
    }
    lowering.graph.nodes = lowering.nodes;
    super::dead_code::remove(lowering.graph)
}

fn names(nodes: &[Node]) -> Vec<String> {
    nodes.iter().map(|node| node.name.clone()).collect()
}

struct Lowering {
    graph: Graph,
    nodes: Vec<Node>,
    taken: Vec<String>,
}

impl Lowering {
    fn node(&mut self, mut node: Node) {
        match node.op {
            Op::AddConstant(constant) => {
                let constant = self.constant(&node.name, constant, node.output);
                node.inputs.push(constant);
                node.op = Op::Add;
            }
            Op::MulScalar(factor) => {
                let factor = self.scalar(&node.name, factor, node.output);
                node.inputs.push(factor);
                node.op = Op::Mul;
            }
            Op::AddScalar(offset) => {
                let negated = self.negated(node.inputs[0]);
                let offset = self.scalar(&node.name, offset, node.output);
                (node.op, node.inputs) = match negated {
                    Some(x) => (Op::Sub, vec![offset, x]),
                    None => (Op::Add, vec![node.inputs[0], offset]),
                };
            }
            Op::HardSigmoid { alpha, beta } => {
                let scaled = self.value_like(node.output);
                let factor = self.scalar(&node.name, alpha, node.output);
                self.push("scaled", &node.name, Op::Mul, vec![node.inputs[0], factor], scaled);
                let offset = self.scalar(&node.name, beta, node.output);
                node.op = Op::Add;
                node.inputs = vec![scaled, offset];
                node.clamp = Clamp { min: 0.0, max: 1.0 };
            }
            Op::BatchNorm(norm) => {
                let channels = self.graph.constants[norm.gamma.0].data.num_elements();
                let data = TensorData::new(vec![1.0f32; channels], [channels, 1, 1, 1]);
                let weight = self.graph.constant(Constant { path: None, data });
                let options = ConvOptions::new([1, 1], [0, 0], [1, 1], channels);
                node.op = Op::Conv2d { weight, bias: None, norm: Some(norm), options };
            }
            _ => {}
        }
        self.nodes.push(node);
    }

    /// `x` where `value` is `−x`.
    fn negated(&self, value: ValueId) -> Option<ValueId> {
        let node = self.nodes.iter().find(|node| node.output == value)?;
        let [x, factor] = node.inputs[..] else { return None };
        let factor = self.nodes.iter().find(|node| node.output == factor)?;
        let Op::Constant(factor) = factor.op else { return None };
        let is_minus_one = self.graph.constants[factor.0].data.iter::<f32>().all(|x| x == -1.0);
        (node.op == Op::Mul && self.graph.constants[factor.0].path.is_none() && is_minus_one).then_some(x)
    }

    /// A constant of shape `[1, ..]` as an activation that fits `like`.
    fn constant(&mut self, of: &str, id: ConstantId, like: ValueId) -> ValueId {
        let sizes = self.graph.constants[id.0].data.shape().to_vec();
        let mut shape: Vec<Dim> = sizes.into_iter().map(Dim::Fixed).collect();
        shape[0] = self.graph.values[like.0].shape[0];
        let is_there = |node: &&Node| node.op == Op::Constant(id) && self.graph.values[node.output.0].shape == shape;
        if let Some(node) = self.nodes.iter().find(is_there) {
            return node.output;
        }
        self.graph.values.push(Value { shape });
        let value = ValueId(self.graph.values.len() - 1);
        self.push("constant", of, Op::Constant(id), Vec::new(), value);
        value
    }

    /// A number as an activation that fits `like`.
    fn scalar(&mut self, of: &str, number: f32, like: ValueId) -> ValueId {
        let rank = self.graph.values[like.0].shape.len();
        let data = TensorData::new(vec![number], vec![1; rank]);
        let id = self.graph.constant(Constant { path: None, data });
        self.constant(of, id, like)
    }

    fn value_like(&mut self, like: ValueId) -> ValueId {
        let value = self.graph.values[like.0].clone();
        self.graph.values.push(value);
        ValueId(self.graph.values.len() - 1)
    }

    fn push(&mut self, what: &str, of: &str, op: Op, inputs: Vec<ValueId>, output: ValueId) {
        let mut name = format!("{of}.{what}");
        let mut copy = 1;
        while self.taken.contains(&name) {
            name = format!("{of}.{what}.{copy}");
            copy += 1;
        }
        self.taken.push(name.clone());
        self.nodes.push(Node { name, op, clamp: Clamp::NONE, inputs, output });
    }
}
