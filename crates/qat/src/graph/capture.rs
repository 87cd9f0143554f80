//! The door for Burn modules: a graph out of a module's own, unchanged `forward`.
//!
//! Burn records the operations of `forward` on a capture device. The module is first run once on its real device, since parameters
//! are lazy; then it is recorded at two batch sizes, and the dimensions that differ are the batch dimension. Parameters are
//! recognised by their tensor ids, so each constant knows its path in the module. Recording sees inference: batch norm is one
//! operation with running statistics, and dropout is gone.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::capture::{CaptureBackend, CapturedGraph, TensorId};
use burn::backend::ir::{
    ActivationOperationIr, BaseOperationIr, BinaryOpIr, FloatOperationIr, ModuleOperationIr, NumericOperationIr, OperationIr,
    ScalarIr, TensorIr,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};

use super::{BatchNorm, Constant, ConstantId, Dim, Graph, GraphError, Node, Op, Value, ValueId, reshaped};

/// The two batch sizes; coprime, so that no product of one looks like a product of the other.
const BATCHES: [usize; 2] = [2, 3];

/// Records `forward` of `module` for inputs of `input_shape`, whose first dimension is the batch and whose size there is ignored.
///
/// # Errors
/// An operation or operand that is not supported, shapes that depend on the batch size in other ways than by a factor, or a `forward`
/// that reads tensor values.
pub fn capture<M: Module, const I: usize, const O: usize>(
    module: &M,
    input_shape: [usize; I],
    forward: impl Fn(&M, Tensor<I>) -> Tensor<O>,
) -> Result<Graph, GraphError> {
    let [small, large] = BATCHES.map(|batch| {
        let mut shape = input_shape;
        shape[0] = batch;
        record(module, shape, &forward)
    });
    with_batch_dimension(small?, &large?)
}

fn record<M: Module, const I: usize, const O: usize>(
    module: &M,
    shape: [usize; I],
    forward: &impl Fn(&M, Tensor<I>) -> Tensor<O>,
) -> Result<Graph, GraphError> {
    let real = module.devices().into_iter().next().unwrap_or_default().inner();
    let module = module.valid();
    let device = Device::capture();
    let mut boundary = None;
    let mut paths = Paths::default();
    let recording = catch_unwind(AssertUnwindSafe(|| {
        // Forward on the real device initialises lazy parameters, which would else be recorded as random operations.
        let input = Tensor::zeros(shape, &real);
        forward(&module, input.clone());
        device.capture_scope(|scope| {
            let module = module.clone().to_device(&device);
            let input = input.to_device(&device);
            let input_id = id(&input);
            module.visit(&mut paths);
            let output = forward(&module, input);
            let output_id = id(&output);
            boundary = Some((input_id, output_id));
            scope.complete([input_id], [output_id])
        })
    }));
    let captured = recording
        .map_err(|panic| GraphError::ForwardPanicked { found: panic_message(panic.as_ref()) })?
        .map_err(|error| GraphError::Capture { found: error.to_string() })?;
    let (Some(input), Some(output)) = (captured.graph.inputs.first().copied(), captured.graph.outputs.first().copied()) else {
        return Err(GraphError::Capture { found: "no input or output".into() });
    };
    Reader::new(&captured, input, &paths.by_id).read(output)
}

fn id<const D: usize>(tensor: &Tensor<D>) -> TensorId {
    tensor.clone().try_into_primitive::<CaptureBackend>().expect("the tensor was moved to the capture device").id()
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no message").lines().collect::<Vec<_>>().join(" ")
}

/// Path of every float parameter and buffer, by tensor id.
#[derive(Default)]
struct Paths {
    current: Vec<String>,
    by_id: HashMap<TensorId, String>,
}

impl ModuleVisitor for Paths {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.current.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.current.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.by_id.insert(id(&param.val()), self.current.join("."));
    }
}

/// What a recorded tensor is.
#[derive(Clone, Copy)]
enum Operand {
    Value(ValueId),
    Constant(ConstantId),
}

/// Turns recorded operations into nodes; shapes are those of one recording.
struct Reader<'a> {
    captured: &'a CapturedGraph,
    paths: &'a HashMap<TensorId, String>,
    operands: HashMap<TensorId, Operand>,
    graph: Graph,
}

impl<'a> Reader<'a> {
    fn new(captured: &'a CapturedGraph, input: TensorId, paths: &'a HashMap<TensorId, String>) -> Self {
        let graph = Graph { values: Vec::new(), constants: Vec::new(), nodes: Vec::new(), input: ValueId(0), output: ValueId(0) };
        let mut reader = Self { captured, paths, operands: HashMap::new(), graph };
        let shape = captured.values.get(&input).map(|data| data.shape().to_vec()).unwrap_or_default();
        let value = reader.value(&shape);
        reader.operands.insert(input, Operand::Value(value));
        reader
    }

    fn read(mut self, output: TensorId) -> Result<Graph, GraphError> {
        for (index, operation) in self.captured.graph.operations.iter().enumerate() {
            self.operation(index, operation)?;
        }
        match self.operands.get(&output) {
            Some(Operand::Value(value)) => self.graph.output = *value,
            _ => {
                return Err(GraphError::UnsupportedOperand {
                    place: "output".into(),
                    expected: "a result that depends on the input",
                    found: "a constant".into(),
                });
            }
        }
        Ok(self.graph)
    }

    fn operation(&mut self, index: usize, operation: &OperationIr) -> Result<(), GraphError> {
        match operation {
            OperationIr::Init(init) => {
                if !self.operands.contains_key(&init.out.id) {
                    self.initial(index, init.out.id)?;
                }
                Ok(())
            }
            OperationIr::BaseFloat(BaseOperationIr::Reshape(op)) => match self.operand(index, &op.input)? {
                Operand::Constant(constant) => {
                    let Constant { path, data } = self.graph.constants[constant.0].clone();
                    let data = reshaped(&data, &op.out.shape);
                    self.constant(op.out.id, Constant { path, data });
                    Ok(())
                }
                Operand::Value(value) => self.node(Op::Reshape, vec![value], &op.out),
            },
            OperationIr::Module(ModuleOperationIr::Conv2d(op)) => {
                let input = self.activation(index, &op.x)?;
                let weight = self.parameter(index, "conv2d", &op.weight)?;
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "conv2d", bias)).transpose()?;
                let o = &op.options;
                let options = ConvOptions::new_with_padding(o.stride, o.padding, o.dilation, o.groups);
                self.node(Op::Conv2d { weight, bias, norm: None, options }, vec![input], &op.out)
            }
            OperationIr::Module(ModuleOperationIr::BatchNorm(op)) => {
                let input = self.activation(index, &op.x)?;
                let norm = BatchNorm {
                    gamma: self.parameter(index, "batch_norm", &op.gamma)?,
                    beta: self.parameter(index, "batch_norm", &op.beta)?,
                    mean: self.parameter(index, "batch_norm", &op.mean)?,
                    variance: self.parameter(index, "batch_norm", &op.variance)?,
                    epsilon: number(op.epsilon),
                };
                self.node(Op::BatchNorm(norm), vec![input], &op.out)
            }
            OperationIr::Module(ModuleOperationIr::Linear(op)) => {
                let input = self.activation(index, &op.x)?;
                let weight = self.parameter(index, "linear", &op.weight)?;
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "linear", bias)).transpose()?;
                self.node(Op::Linear { weight, bias }, vec![input], &op.out)
            }
            OperationIr::Float(_, FloatOperationIr::Matmul(op)) => {
                let input = self.activation(index, &op.lhs)?;
                let weight = self.parameter(index, "matmul", &op.rhs)?;
                let weight = self.matrix(index, weight)?;
                self.node(Op::Linear { weight, bias: None }, vec![input], &op.out)
            }
            OperationIr::NumericFloat(_, NumericOperationIr::Add(op)) => self.add(index, op),
            OperationIr::Activation(ActivationOperationIr::Relu(op)) => {
                let input = self.activation(index, &op.input)?;
                self.node(Op::Relu, vec![input], &op.out)
            }
            OperationIr::Module(ModuleOperationIr::MaxPool2d(op)) => {
                let input = self.activation(index, &op.x)?;
                let options = MaxPoolOptions::new(op.kernel_size)
                    .with_stride(op.stride)
                    .with_padding(op.padding)
                    .with_dilation(op.dilation)
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "max_pool2d", op.ceil_mode)?;
                self.node(Op::MaxPool2d(options), vec![input], &op.out)
            }
            OperationIr::Module(ModuleOperationIr::AvgPool2d(op)) => {
                let input = self.activation(index, &op.x)?;
                let options = AvgPoolOptions::new(op.kernel_size)
                    .with_stride(op.stride)
                    .with_padding(op.padding)
                    .with_count_include_pad(op.count_include_pad)
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "avg_pool2d", op.ceil_mode)?;
                self.node(Op::AvgPool2d(options), vec![input], &op.out)
            }
            OperationIr::Module(ModuleOperationIr::AdaptiveAvgPool2d(op)) => {
                let input = self.activation(index, &op.x)?;
                self.node(Op::AdaptiveAvgPool2d(op.output_size), vec![input], &op.out)
            }
            other => Err(GraphError::UnsupportedOperation {
                place: self.place(index),
                expected: "conv2d, batch_norm, linear, matmul, relu, add, max_pool2d, avg_pool2d, adaptive_avg_pool2d or reshape",
                found: operation_name(other),
            }),
        }
    }

    fn add(&mut self, index: usize, op: &BinaryOpIr) -> Result<(), GraphError> {
        match (self.operand(index, &op.lhs)?, self.operand(index, &op.rhs)?) {
            (Operand::Value(lhs), Operand::Value(rhs)) => {
                if op.lhs.shape != op.rhs.shape {
                    return Err(GraphError::UnsupportedOperand {
                        place: self.place(index),
                        expected: "an addition of equal shapes",
                        found: format!("{:?} + {:?}", op.lhs.shape.to_vec(), op.rhs.shape.to_vec()),
                    });
                }
                self.node(Op::Add, vec![lhs, rhs], &op.out)
            }
            (Operand::Value(value), Operand::Constant(constant)) | (Operand::Constant(constant), Operand::Value(value)) => {
                self.node(Op::AddConstant(constant), vec![value], &op.out)
            }
            (Operand::Constant(_), Operand::Constant(_)) => Err(GraphError::UnsupportedOperand {
                place: self.place(index),
                expected: "an addition that depends on the input",
                found: "two constants".into(),
            }),
        }
    }

    fn refuse_ceil_mode(&self, index: usize, name: &'static str, ceil_mode: bool) -> Result<(), GraphError> {
        if ceil_mode {
            return Err(GraphError::UnsupportedOperand {
                place: format!("{name}, {}", self.place(index)),
                expected: "ceil_mode = false",
                found: "ceil_mode = true".into(),
            });
        }
        Ok(())
    }

    fn initial(&mut self, index: usize, id: TensorId) -> Result<(), GraphError> {
        let data = self.captured.values.get(&id).cloned().ok_or_else(|| GraphError::UnsupportedOperand {
            place: self.place(index),
            expected: "a tensor with values",
            found: "one without".into(),
        })?;
        let path = self.paths.get(&id).cloned();
        self.constant(id, Constant { path, data });
        Ok(())
    }

    fn constant(&mut self, id: TensorId, constant: Constant) {
        self.graph.constants.push(constant);
        self.operands.insert(id, Operand::Constant(ConstantId(self.graph.constants.len() - 1)));
    }

    fn value(&mut self, shape: &[usize]) -> ValueId {
        self.graph.values.push(Value { shape: shape.iter().copied().map(Dim::Fixed).collect() });
        ValueId(self.graph.values.len() - 1)
    }

    fn operand(&mut self, index: usize, tensor: &TensorIr) -> Result<Operand, GraphError> {
        if let Some(operand) = self.operands.get(&tensor.id) {
            return Ok(*operand);
        }
        self.initial(index, tensor.id)?;
        Ok(self.operands[&tensor.id])
    }

    fn activation(&mut self, index: usize, tensor: &TensorIr) -> Result<ValueId, GraphError> {
        match self.operand(index, tensor)? {
            Operand::Value(value) => Ok(value),
            Operand::Constant(constant) => Err(GraphError::UnsupportedOperand {
                place: self.place(index),
                expected: "an operand that depends on the input",
                found: self.graph.constants[constant.0].path.clone().unwrap_or_else(|| "a constant".into()),
            }),
        }
    }

    fn parameter(&mut self, index: usize, name: &'static str, tensor: &TensorIr) -> Result<ConstantId, GraphError> {
        match self.operand(index, tensor)? {
            Operand::Constant(constant) => Ok(constant),
            Operand::Value(_) => Err(GraphError::UnsupportedOperand {
                place: format!("{name}, {}", self.place(index)),
                expected: "a parameter",
                found: "an activation".into(),
            }),
        }
    }

    /// The constant as a matrix: leading dimensions of 1, which a product of higher rank needs, go.
    fn matrix(&mut self, index: usize, id: ConstantId) -> Result<ConstantId, GraphError> {
        let Constant { path, data } = &self.graph.constants[id.0];
        let shape = data.shape().to_vec();
        match shape[..] {
            [_, _] => Ok(id),
            [ref leading @ .., d_input, d_output] if leading.iter().all(|size| *size == 1) => {
                let matrix = Constant { path: path.clone(), data: reshaped(data, [d_input, d_output]) };
                self.graph.constants.push(matrix);
                Ok(ConstantId(self.graph.constants.len() - 1))
            }
            _ => Err(GraphError::UnsupportedOperand {
                place: format!("matmul, {}", self.place(index)),
                expected: "one matrix as the right factor",
                found: format!("{} of shape {shape:?}", path.as_deref().unwrap_or("a constant")),
            }),
        }
    }

    fn node(&mut self, op: Op, inputs: Vec<ValueId>, out: &TensorIr) -> Result<(), GraphError> {
        let output = self.value(&out.shape.to_vec());
        self.operands.insert(out.id, Operand::Value(output));
        let name = self.node_name(&op);
        self.graph.nodes.push(Node { name, op, relu: false, inputs, output });
        Ok(())
    }

    /// The path of the module that owns the weight, else the operation and its position; made unique.
    fn node_name(&self, op: &Op) -> String {
        let weight = match op {
            Op::Conv2d { weight, .. } | Op::Linear { weight, .. } => self.graph.constants[weight.0].path.as_deref(),
            _ => None,
        };
        let base = match weight {
            Some(path) => path.strip_suffix(".weight").unwrap_or(path).to_owned(),
            None => format!("{}_{}", op.name(), self.graph.nodes.len()),
        };
        let taken = |name: &str| self.graph.nodes.iter().any(|node| node.name == name);
        let mut name = base.clone();
        let mut copy = 1;
        while taken(&name) {
            name = format!("{base}.{copy}");
            copy += 1;
        }
        name
    }

    fn place(&self, index: usize) -> String {
        // The recording begins with the module's parameters, which are no operations to its author.
        let before = &self.captured.graph.operations[..index.min(self.captured.graph.operations.len())];
        let number = 1 + before.iter().filter(|operation| !matches!(operation, OperationIr::Init(_))).count();
        match self.graph.nodes.iter().rfind(|node| !matches!(node.op, Op::AddConstant(_))) {
            Some(node) => format!("operation {number} of the recording, after {}", node.name),
            None => format!("operation {number} of the recording, before any layer"),
        }
    }
}

fn number(scalar: ScalarIr) -> f64 {
    match scalar {
        ScalarIr::Float(value) => value,
        ScalarIr::Int(value) => value as f64,
        ScalarIr::UInt(value) => value as f64,
        ScalarIr::Bool(value) => f64::from(u8::from(value)),
    }
}

/// The variant names of a recorded operation, as in `Activation::Gelu`.
fn operation_name(operation: &OperationIr) -> String {
    let debug = format!("{operation:?}");
    let names: Vec<&str> =
        debug.split(['(', ' ', '{', ',']).filter(|part| part.chars().next().is_some_and(char::is_uppercase)).take(3).collect();
    let names: Vec<&str> =
        names.into_iter().filter(|name| !matches!(*name, "F32" | "F16" | "BF16" | "F64" | "I64" | "I32")).collect();
    names.into_iter().filter(|name| !name.ends_with("Ir")).take(2).collect::<Vec<_>>().join("::")
}

/// The small recording with each dimension that scales with the batch marked, after both recordings agreed on all else.
fn with_batch_dimension(mut small: Graph, large: &Graph) -> Result<Graph, GraphError> {
    let differ = |place: String, expected: String, found: String| GraphError::BatchDependent { place, expected, found };
    if small.nodes.len() != large.nodes.len() {
        return Err(differ("operations".into(), small.nodes.len().to_string(), large.nodes.len().to_string()));
    }
    for (a, b) in small.nodes.iter().zip(&large.nodes) {
        if a != b {
            let alike = a.op.name() == b.op.name() && a.name == b.name;
            let describe =
                |node: &Node| if alike { format!("{:?}", node.op) } else { format!("{} {}", node.op.name(), node.name) };
            return Err(differ(a.name.clone(), describe(a), describe(b)));
        }
    }
    for (index, (a, b)) in small.values.iter_mut().zip(&large.values).enumerate() {
        let place = || match small.nodes.iter().find(|node| node.output.0 == index) {
            Some(node) => format!("output of {}", node.name),
            None => "input".into(),
        };
        if a.shape.len() != b.shape.len() {
            return Err(differ(place(), format!("rank {}", a.shape.len()), format!("rank {}", b.shape.len())));
        }
        for (dim, other) in a.shape.iter_mut().zip(&b.shape) {
            let (Dim::Fixed(x), Dim::Fixed(y)) = (*dim, *other) else { continue };
            if x == y {
                continue;
            }
            if x % BATCHES[0] != 0 || x / BATCHES[0] * BATCHES[1] != y {
                return Err(differ(place(), format!("a multiple of {}", BATCHES[0]), format!("{x} and {y}")));
            }
            *dim = Dim::Batch(x / BATCHES[0]);
        }
    }
    Ok(small)
}
