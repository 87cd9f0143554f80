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
    ActivationOperationIr, BaseOperationIr, BinaryOpIr, CatOpIr, FloatOperationIr, InterpolateModeIr, InterpolateOpIr,
    MatmulOpIr, ModuleOperationIr, NumericOperationIr, OperationIr, PadModeIr, PadOpIr, ScalarIr, ScalarOpIr, SliceAssignOpIr,
    SliceOpIr, TensorIr, UnaryOpIr,
};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Int, Slice, Tensor, TensorData};

use super::{BatchNorm, Constant, ConstantId, Dim, Graph, GraphError, Node, Op, Transposed, Value, ValueId};
use crate::clamp::Clamp;
use crate::nn::{Function, SliceRange};

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
        let input = |device: &Device| Tensor::<I>::zeros(shape, device);
        record(module, input, |input, device| input.to_device(device), id, &forward)
    });
    with_batch_dimension(small?, &large?)
}

/// As [`capture`], for a module whose input is indices into an embedding's table, `[batch, length]`.
///
/// # Errors
/// As [`capture`].
pub fn capture_indices<M: Module, const O: usize>(
    module: &M,
    input_shape: [usize; 2],
    forward: impl Fn(&M, Tensor<2, Int>) -> Tensor<O>,
) -> Result<Graph, GraphError> {
    let [small, large] = BATCHES.map(|batch| {
        let input = |device: &Device| Tensor::<2, Int>::zeros([batch, input_shape[1]], device);
        let id = |tensor: &Tensor<2, Int>| {
            tensor.clone().try_into_primitive::<CaptureBackend>().expect("the tensor was moved to the capture device").id()
        };
        let mut graph = record(module, input, |input, device| input.to_device(device), id, &forward)?;
        graph.input_is_indices = true;
        Ok(graph)
    });
    with_batch_dimension(small?, &large?)
}

/// One recording of `forward` on the input that `zeros` makes on a device.
fn record<M: Module, T: Clone, const O: usize>(
    module: &M,
    zeros: impl Fn(&Device) -> T,
    moved: impl Fn(T, &Device) -> T,
    input_id: impl Fn(&T) -> TensorId,
    forward: &impl Fn(&M, T) -> Tensor<O>,
) -> Result<Graph, GraphError> {
    let real = module.devices().into_iter().next().unwrap_or_default().inner();
    let module = module.valid();
    let device = Device::capture();
    let mut paths = Paths::default();
    let recording = catch_unwind(AssertUnwindSafe(|| {
        // Forward on the real device initialises lazy parameters, which would else be recorded as random operations.
        let input = zeros(&real);
        forward(&module, input.clone());
        device.capture_scope(|scope| {
            let module = module.clone().to_device(&device);
            let input = moved(input, &device);
            let input_id = input_id(&input);
            module.visit(&mut paths);
            let output = forward(&module, input);
            let output_id = id(&output);
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
#[derive(Clone)]
enum Operand {
    Value(ValueId),
    Constant(ConstantId),
    /// A tensor that is written slice by slice before it is read, as the outputs of a recurrent network are.
    Assembly(Assembly),
}

/// A tensor in the making: its shape, and the parts of one axis that have been written.
#[derive(Clone)]
struct Assembly {
    shape: Vec<usize>,
    axis: Option<usize>,
    parts: Vec<(usize, ValueId)>,
}

/// What the reader knows how to take; for messages.
const KNOWN: &str = "a convolution of 1 or 2 dimensions, transposed of 2, linear, matmul, batch_norm, embedding, a pool, mean_dim, \
     add, sub, mul, powers of 2 and 3, cat, relu, clamp, sigmoid, tanh, hard_sigmoid, hard_swish, gelu, gelu_approximate, \
     leaky_relu, softmax, reshape, permute, pad, slice or nearest interpolation";

/// Turns recorded operations into nodes; shapes are those of one recording.
struct Reader<'a> {
    captured: &'a CapturedGraph,
    paths: &'a HashMap<TensorId, String>,
    operands: HashMap<TensorId, Operand>,
    /// Constants that something has read as an activation.
    activations: HashMap<TensorId, ValueId>,
    batch: usize,
    graph: Graph,
}

impl<'a> Reader<'a> {
    fn new(captured: &'a CapturedGraph, input: TensorId, paths: &'a HashMap<TensorId, String>) -> Self {
        let graph = Graph::empty();
        let shape = captured.values.get(&input).map(|data| data.shape().to_vec()).unwrap_or_default();
        let batch = shape.first().copied().unwrap_or(1);
        let mut reader = Self { captured, paths, operands: HashMap::new(), activations: HashMap::new(), batch, graph };
        let value = reader.value(&shape);
        reader.operands.insert(input, Operand::Value(value));
        reader
    }

    fn read(mut self, output: TensorId) -> Result<Graph, GraphError> {
        for (index, operation) in self.captured.graph.operations.iter().enumerate() {
            self.operation(index, operation)?;
        }
        let end = self.captured.graph.operations.len();
        self.graph.output = match self.operands.get(&output).cloned() {
            Some(Operand::Value(value)) => value,
            Some(Operand::Assembly(assembly)) => self.assembled(end, &assembly)?,
            _ => {
                return Err(GraphError::UnsupportedOperand {
                    place: "output".into(),
                    expected: "a result that depends on the input",
                    found: "a constant".into(),
                });
            }
        };
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
            OperationIr::BaseFloat(op) => self.base(index, op, operation),
            OperationIr::NumericFloat(_, op) => self.numeric(index, op, operation),
            OperationIr::Activation(op) => self.function(index, op, operation),
            OperationIr::Module(op) => self.module(index, op, operation),
            OperationIr::Float(_, FloatOperationIr::Matmul(op)) => self.matmul(index, op),
            OperationIr::Float(_, FloatOperationIr::Tanh(op)) => self.unary(index, Op::Unary(Function::Tanh), op),
            other => Err(self.unknown(index, other)),
        }
    }

    fn unknown(&self, index: usize, operation: &OperationIr) -> GraphError {
        GraphError::UnsupportedOperation { place: self.place(index), expected: KNOWN, found: operation_name(operation) }
    }

    fn unsupported(&self, index: usize, name: &str, expected: &'static str, found: impl Into<String>) -> GraphError {
        GraphError::UnsupportedOperand { place: format!("{name}, {}", self.place(index)), expected, found: found.into() }
    }

    fn unary(&mut self, index: usize, op: Op, ir: &UnaryOpIr) -> Result<(), GraphError> {
        let input = self.activation(index, &ir.input)?;
        self.node(op, vec![input], &ir.out)
    }

    /// Shapes and moves.
    fn base(&mut self, index: usize, op: &BaseOperationIr, whole: &OperationIr) -> Result<(), GraphError> {
        match op {
            BaseOperationIr::Reshape(op) => match self.operand(index, &op.input)? {
                Operand::Constant(constant) => {
                    let constant = self.graph.constant_as(constant, &op.out.shape.to_vec());
                    self.operands.insert(op.out.id, Operand::Constant(constant));
                    Ok(())
                }
                _ => {
                    let value = self.activation(index, &op.input)?;
                    self.node(Op::Reshape, vec![value], &op.out)
                }
            },
            BaseOperationIr::SwapDims(op) => {
                let mut axes: Vec<usize> = (0..op.input.shape.to_vec().len()).collect();
                axes.swap(op.dim1, op.dim2);
                self.transpose(index, &op.input, axes, &op.out)
            }
            BaseOperationIr::Permute(op) => self.transpose(index, &op.input, op.axes.clone(), &op.out),
            BaseOperationIr::Slice(op) => self.slice(index, op),
            BaseOperationIr::SliceAssign(op) => self.slice_assign(index, op),
            BaseOperationIr::Cat(op) => self.cat(index, op),
            BaseOperationIr::Expand(op) => match self.operand(index, &op.input)? {
                // What reads a constant stretches it.
                Operand::Constant(constant) => {
                    self.operands.insert(op.out.id, Operand::Constant(constant));
                    Ok(())
                }
                _ if op.input.shape == op.out.shape => {
                    let value = self.activation(index, &op.input)?;
                    self.operands.insert(op.out.id, Operand::Value(value));
                    Ok(())
                }
                _ => Err(self.unknown(index, whole)),
            },
            BaseOperationIr::Empty(op) => {
                let assembly = Assembly { shape: op.out.shape.to_vec(), axis: None, parts: Vec::new() };
                self.operands.insert(op.out.id, Operand::Assembly(assembly));
                Ok(())
            }
            BaseOperationIr::Zeros(op) => self.filled(&op.out, 0.0),
            BaseOperationIr::Ones(op) => self.filled(&op.out, 1.0),
            _ => Err(self.unknown(index, whole)),
        }
    }

    /// Sums, products, means and clamps.
    fn numeric(&mut self, index: usize, op: &NumericOperationIr, whole: &OperationIr) -> Result<(), GraphError> {
        match op {
            NumericOperationIr::Add(op) => self.binary(index, Op::Add, op),
            NumericOperationIr::Sub(op) => self.binary(index, Op::Sub, op),
            NumericOperationIr::Mul(op) => self.binary(index, Op::Mul, op),
            NumericOperationIr::AddScalar(op) => self.scalar(index, op, Op::AddScalar),
            NumericOperationIr::SubScalar(op) => self.scalar(index, op, |x| Op::AddScalar(-x)),
            NumericOperationIr::MulScalar(op) => self.scalar(index, op, Op::MulScalar),
            NumericOperationIr::DivScalar(op) => self.scalar(index, op, |x| Op::MulScalar(1.0 / x)),
            NumericOperationIr::Neg(op) => self.with_number(index, &op.input, Op::MulScalar(-1.0), &op.out),
            NumericOperationIr::Full(op) => self.filled(&op.out, number(op.value) as f32),
            NumericOperationIr::Clamp(op) => {
                let clamp = Clamp { min: number(op.min) as f32, max: number(op.max) as f32 };
                let input = self.activation(index, &op.tensor)?;
                self.node(Op::Clamp(clamp), vec![input], &op.out)
            }
            NumericOperationIr::ClampMin(op) => self.scalar(index, op, |min| Op::Clamp(Clamp { min, max: f32::INFINITY })),
            NumericOperationIr::ClampMax(op) => self.scalar(index, op, |max| Op::Clamp(Clamp { min: f32::NEG_INFINITY, max })),
            NumericOperationIr::MeanDim(op) => {
                if op.axis == 0 {
                    return Err(self.unsupported(index, "mean", "axes other than the batch axis", "axis 0"));
                }
                let input = self.activation(index, &op.input)?;
                self.node(Op::Mean(vec![op.axis]), vec![input], &op.out)
            }
            NumericOperationIr::PowiScalar(op) => {
                let input = self.activation(index, &op.lhs)?;
                let shape = op.out.shape.to_vec();
                match number(op.rhs) {
                    2.0 => self.node(Op::Mul, vec![input, input], &op.out),
                    3.0 => {
                        let square = self.add_node(Op::Mul, vec![input, input], &shape);
                        self.node(Op::Mul, vec![square, input], &op.out)
                    }
                    other => Err(self.unsupported(index, "power", "an exponent of 2 or 3", other.to_string())),
                }
            }
            NumericOperationIr::Pad(op) => self.pad(index, op),
            _ => Err(self.unknown(index, whole)),
        }
    }

    /// Activation functions.
    fn function(&mut self, index: usize, op: &ActivationOperationIr, whole: &OperationIr) -> Result<(), GraphError> {
        match op {
            ActivationOperationIr::Relu(op) => self.unary(index, Op::Clamp(Clamp::RELU), op),
            ActivationOperationIr::Sigmoid(op) => self.unary(index, Op::Unary(Function::Sigmoid), op),
            ActivationOperationIr::Gelu(op) => self.unary(index, Op::Unary(Function::Gelu), op),
            ActivationOperationIr::LeakyRelu(op) => self.scalar(index, op, |slope| Op::Unary(Function::LeakyRelu { slope })),
            ActivationOperationIr::HardSigmoid(op) => {
                let input = self.activation(index, &op.tensor)?;
                let op_ = Op::HardSigmoid { alpha: number(op.alpha) as f32, beta: number(op.beta) as f32 };
                self.node(op_, vec![input], &op.out)
            }
            ActivationOperationIr::Softmax(op) => {
                let rank = op.input.shape.to_vec().len();
                if op.axis + 1 != rank {
                    return Err(self.unsupported(index, "softmax", "the last axis", format!("axis {} of {rank}", op.axis)));
                }
                let input = self.activation(index, &op.input)?;
                self.node(Op::Softmax, vec![input], &op.out)
            }
            _ => Err(self.unknown(index, whole)),
        }
    }

    /// Convolutions, pools and the like.
    fn module(&mut self, index: usize, op: &ModuleOperationIr, whole: &OperationIr) -> Result<(), GraphError> {
        match op {
            ModuleOperationIr::Conv2d(op) => {
                let input = self.activation(index, &op.x)?;
                let weight = self.parameter(index, "conv2d", &op.weight)?;
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "conv2d", bias)).transpose()?;
                let o = &op.options;
                let options = ConvOptions::new_with_padding(o.stride, o.padding, o.dilation, o.groups);
                self.node(Op::Conv2d { weight, bias, norm: None, options }, vec![input], &op.out)
            }
            ModuleOperationIr::Conv1d(op) => {
                let input = self.as_row(index, &op.x)?;
                let weight = self.parameter(index, "conv1d", &op.weight)?;
                let [c_out, c_in, k] = *self.graph.constants[weight.0].data.shape().to_vec() else {
                    return Err(self.unsupported(index, "conv1d", "a weight of rank 3", "another"));
                };
                let weight = self.graph.constant_as(weight, &[c_out, c_in, 1, k]);
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "conv1d", bias)).transpose()?;
                let o = &op.options;
                let options =
                    ConvOptions::new_with_padding([1, o.stride[0]], [(0, 0), o.padding[0]], [1, o.dilation[0]], o.groups);
                self.row_node(Op::Conv2d { weight, bias, norm: None, options }, input, &op.out)
            }
            ModuleOperationIr::ConvTranspose2d(op) => {
                let input = self.activation(index, &op.x)?;
                let weight = self.parameter(index, "conv_transpose2d", &op.weight)?;
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "conv_transpose2d", bias)).transpose()?;
                let o = &op.options;
                let options = Transposed {
                    stride: o.stride,
                    padding: o.padding,
                    output_padding: o.padding_out,
                    dilation: o.dilation,
                    groups: o.groups,
                };
                self.node(Op::ConvTranspose2d { weight, bias, norm: None, options }, vec![input], &op.out)
            }
            ModuleOperationIr::BatchNorm(op) => {
                let norm = BatchNorm {
                    gamma: self.parameter(index, "batch_norm", &op.gamma)?,
                    beta: self.parameter(index, "batch_norm", &op.beta)?,
                    mean: self.parameter(index, "batch_norm", &op.mean)?,
                    variance: self.parameter(index, "batch_norm", &op.variance)?,
                    epsilon: number(op.epsilon),
                };
                let shape = op.x.shape.to_vec();
                let input = self.activation(index, &op.x)?;
                match shape[..] {
                    [_, _, _, _] => self.node(Op::BatchNorm(norm), vec![input], &op.out),
                    [n, c, ref rest @ ..] => {
                        let image = [n, c, 1, rest.iter().product()];
                        let input = self.add_node(Op::Reshape, vec![input], &image);
                        let output = self.add_node(Op::BatchNorm(norm), vec![input], &image);
                        self.node(Op::Reshape, vec![output], &op.out)
                    }
                    _ => Err(self.unsupported(index, "batch_norm", "a channel axis", format!("{shape:?}"))),
                }
            }
            ModuleOperationIr::Linear(op) => {
                let input = self.activation(index, &op.x)?;
                let weight = self.parameter(index, "linear", &op.weight)?;
                let bias = op.bias.as_ref().map(|bias| self.parameter(index, "linear", bias)).transpose()?;
                self.node(Op::Linear { weight, bias }, vec![input], &op.out)
            }
            ModuleOperationIr::Embedding(op) => {
                let Operand::Value(indices) = self.operand(index, &op.indices)? else {
                    return Err(self.unsupported(index, "embedding", "the input's indices", "constant indices"));
                };
                let weight = self.parameter(index, "embedding", &op.weights)?;
                self.node(Op::Embedding(weight), vec![indices], &op.out)
            }
            ModuleOperationIr::MaxPool2d(op) => {
                let options = MaxPoolOptions::new(op.kernel_size)
                    .with_stride(op.stride)
                    .with_padding(op.padding)
                    .with_dilation(op.dilation)
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "max_pool2d", op.ceil_mode)?;
                let input = self.activation(index, &op.x)?;
                self.node(Op::MaxPool2d(options), vec![input], &op.out)
            }
            ModuleOperationIr::MaxPool1d(op) => {
                let options = MaxPoolOptions::new([1, op.kernel_size])
                    .with_stride([1, op.stride])
                    .with_padding([0, op.padding])
                    .with_dilation([1, op.dilation])
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "max_pool1d", op.ceil_mode)?;
                let input = self.as_row(index, &op.x)?;
                self.row_node(Op::MaxPool2d(options), input, &op.out)
            }
            ModuleOperationIr::AvgPool2d(op) => {
                let options = AvgPoolOptions::new(op.kernel_size)
                    .with_stride(op.stride)
                    .with_padding(op.padding)
                    .with_count_include_pad(op.count_include_pad)
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "avg_pool2d", op.ceil_mode)?;
                let input = self.activation(index, &op.x)?;
                self.node(Op::AvgPool2d(options), vec![input], &op.out)
            }
            ModuleOperationIr::AvgPool1d(op) => {
                let options = AvgPoolOptions::new([1, op.kernel_size])
                    .with_stride([1, op.stride])
                    .with_padding([0, op.padding])
                    .with_count_include_pad(op.count_include_pad)
                    .with_ceil_mode(op.ceil_mode);
                self.refuse_ceil_mode(index, "avg_pool1d", op.ceil_mode)?;
                let input = self.as_row(index, &op.x)?;
                self.row_node(Op::AvgPool2d(options), input, &op.out)
            }
            ModuleOperationIr::AdaptiveAvgPool2d(op) => {
                let input = self.activation(index, &op.x)?;
                self.node(Op::AdaptiveAvgPool2d(op.output_size), vec![input], &op.out)
            }
            ModuleOperationIr::AdaptiveAvgPool1d(op) => {
                let input = self.as_row(index, &op.x)?;
                self.row_node(Op::AdaptiveAvgPool2d([1, op.output_size]), input, &op.out)
            }
            ModuleOperationIr::Interpolate(op) => self.interpolate(index, op),
            _ => Err(self.unknown(index, whole)),
        }
    }

    fn matmul(&mut self, index: usize, op: &MatmulOpIr) -> Result<(), GraphError> {
        let input = self.activation(index, &op.lhs)?;
        if let Operand::Constant(weight) = self.operand(index, &op.rhs)? {
            let weight = self.matrix(index, weight)?;
            return self.node(Op::Linear { weight, bias: None }, vec![input], &op.out);
        }
        let rhs = self.activation(index, &op.rhs)?;
        let (a, b) = (op.lhs.shape.to_vec(), op.rhs.shape.to_vec());
        if a.len() < 3 || a[..a.len() - 2] != b[..b.len() - 2] {
            let expected = "matrices for each sample, the leading axes equal";
            return Err(self.unsupported(index, "matmul", expected, format!("{a:?} by {b:?}")));
        }
        self.node(Op::MatMul, vec![input, rhs], &op.out)
    }

    /// An operation with two operands, of which one may be a constant.
    fn binary(&mut self, index: usize, op: Op, ir: &BinaryOpIr) -> Result<(), GraphError> {
        let shapes = [ir.lhs.shape.to_vec(), ir.rhs.shape.to_vec()];
        match (self.operand(index, &ir.lhs)?, self.operand(index, &ir.rhs)?) {
            (Operand::Constant(_), Operand::Constant(_)) => {
                return Err(self.unsupported(index, op.name(), "an operand that depends on the input", "two constants"));
            }
            // A sum with a constant may be a layer's bias, and a difference the sum with the negative.
            (_, Operand::Constant(constant)) if op == Op::Add => {
                let value = self.activation(index, &ir.lhs)?;
                let constant = self.row(index, op.name(), constant)?;
                return self.node(Op::AddConstant(constant), vec![value], &ir.out);
            }
            (Operand::Constant(constant), _) if op == Op::Add => {
                let value = self.activation(index, &ir.rhs)?;
                let constant = self.row(index, op.name(), constant)?;
                return self.node(Op::AddConstant(constant), vec![value], &ir.out);
            }
            (Operand::Value(_) | Operand::Assembly(_), Operand::Value(_) | Operand::Assembly(_)) => {
                let fits = shapes[0].iter().zip(&shapes[1]).enumerate();
                let fits = fits.fold(true, |fits, (axis, (a, b))| fits && (a == b || (axis > 0 && (*a == 1 || *b == 1))));
                if !fits {
                    let found = format!("{:?} and {:?}", shapes[0], shapes[1]);
                    return Err(self.unsupported(index, op.name(), "equal axes, or one of size 1 in a sample", found));
                }
            }
            _ => {}
        }
        let (lhs, rhs) = (self.activation(index, &ir.lhs)?, self.activation(index, &ir.rhs)?);
        self.node(op, vec![lhs, rhs], &ir.out)
    }

    /// An operation with a number.
    fn scalar(&mut self, index: usize, ir: &ScalarOpIr, op: impl FnOnce(f32) -> Op) -> Result<(), GraphError> {
        self.with_number(index, &ir.lhs, op(number(ir.rhs) as f32), &ir.out)
    }

    fn with_number(&mut self, index: usize, input: &TensorIr, op: Op, out: &TensorIr) -> Result<(), GraphError> {
        let (factor, offset) = match op {
            Op::MulScalar(factor) => (factor, 0.0),
            Op::AddScalar(offset) => (1.0, offset),
            _ => (1.0, 0.0),
        };
        if !(factor.is_finite() && offset.is_finite()) {
            return Err(self.unsupported(index, op.name(), "a finite number", format!("{factor} or {offset}")));
        }
        // A constant that is no parameter is another constant then.
        if let (Operand::Constant(constant), Op::MulScalar(_) | Op::AddScalar(_)) = (self.operand(index, input)?, &op)
            && let Constant { path: None, data } = &self.graph.constants[constant.0]
        {
            let values: Vec<f32> = data.iter::<f32>().map(|x| x * factor + offset).collect();
            let data = TensorData::new(values, data.shape().to_vec());
            self.constant(out.id, Constant { path: None, data });
            return Ok(());
        }
        let input = self.activation(index, input)?;
        self.node(op, vec![input], out)
    }

    fn transpose(&mut self, index: usize, input: &TensorIr, axes: Vec<usize>, out: &TensorIr) -> Result<(), GraphError> {
        if let Operand::Constant(constant) = self.operand(index, input)? {
            let Constant { path, data } = &self.graph.constants[constant.0];
            if let Some(path) = path {
                let found = format!("a transposed {path}");
                return Err(self.unsupported(index, "transpose", "a parameter as it is, or an activation", found));
            }
            let constant = Constant { path: None, data: permuted(data, &axes) };
            self.constant(out.id, constant);
            return Ok(());
        }
        let input = self.activation(index, input)?;
        self.node(Op::Transpose(axes), vec![input], out)
    }

    fn slice(&mut self, index: usize, op: &SliceOpIr) -> Result<(), GraphError> {
        let shape = op.tensor.shape.to_vec();
        let mut ranges = Vec::new();
        for (axis, size) in shape.iter().enumerate() {
            match op.ranges.get(axis).map_or(Some(SliceRange { start: 0, end: *size, step: 1 }), |slice| range(slice, *size)) {
                Some(range) => ranges.push(range),
                None => return Err(self.unsupported(index, "slice", "a step of at least 1", "one backwards")),
            }
        }
        if ranges.first() != Some(&SliceRange { start: 0, end: shape[0], step: 1 }) {
            return Err(self.unsupported(index, "slice", "the whole batch", format!("{:?} of it", ranges.first())));
        }
        let input = self.activation(index, &op.tensor)?;
        self.node(Op::Slice(ranges.split_off(1)), vec![input], &op.out)
    }

    fn slice_assign(&mut self, index: usize, op: &SliceAssignOpIr) -> Result<(), GraphError> {
        const EXPECTED: &str = "slices along one axis of a sample that together make up the tensor";
        let Operand::Assembly(mut assembly) = self.operand(index, &op.tensor)? else {
            return Err(self.unsupported(index, "slice_assign", EXPECTED, "values that are overwritten"));
        };
        let mut part = None;
        for (axis, size) in assembly.shape.iter().enumerate() {
            let whole = SliceRange { start: 0, end: *size, step: 1 };
            let range = op.ranges.get(axis).map_or(Some(whole), |slice| range(slice, *size));
            match range {
                Some(range) if range == whole => {}
                Some(SliceRange { start, step: 1, .. }) if axis > 0 && part.is_none() => part = Some((axis, start)),
                _ => return Err(self.unsupported(index, "slice_assign", EXPECTED, format!("{:?}", op.ranges))),
            }
        }
        let value = self.activation(index, &op.value)?;
        let (axis, start) = part.map_or((assembly.axis, 0), |(axis, start)| (Some(axis), start));
        if assembly.axis.is_some() && assembly.axis != axis {
            return Err(self.unsupported(index, "slice_assign", EXPECTED, format!("{:?}", op.ranges)));
        }
        assembly.axis = axis;
        assembly.parts.push((start, value));
        self.operands.insert(op.out.id, Operand::Assembly(assembly));
        Ok(())
    }

    /// The tensor whose parts have been written: their concatenation.
    fn assembled(&mut self, index: usize, assembly: &Assembly) -> Result<ValueId, GraphError> {
        let mut parts = assembly.parts.clone();
        parts.sort_unstable_by_key(|(start, _)| *start);
        let size = |reader: &Self, value: ValueId, axis: usize| match reader.graph.values[value.0].shape[axis] {
            Dim::Fixed(size) | Dim::Batch(size) => size,
        };
        let axis = assembly.axis.unwrap_or(1);
        let mut end = 0;
        for (start, value) in &parts {
            if *start != end {
                break;
            }
            end += size(self, *value, axis);
        }
        let covered = parts.iter().map(|(_, value)| size(self, *value, axis)).sum::<usize>();
        if parts.is_empty() || end != assembly.shape[axis] || covered != end {
            let expected = "slices along one axis of a sample that together make up the tensor";
            return Err(self.unsupported(index, "slice_assign", expected, format!("{end} of {}", assembly.shape[axis])));
        }
        match parts[..] {
            [(_, value)] => Ok(value),
            _ => Ok(self.add_node(Op::Concat(axis), parts.into_iter().map(|(_, value)| value).collect(), &assembly.shape)),
        }
    }

    fn cat(&mut self, index: usize, op: &CatOpIr) -> Result<(), GraphError> {
        if op.dim == 0 {
            return Err(self.unsupported(index, "cat", "an axis other than the batch axis", "axis 0"));
        }
        let parts = op.tensors.iter().map(|part| self.activation(index, part)).collect::<Result<Vec<_>, _>>()?;
        self.node(Op::Concat(op.dim), parts, &op.out)
    }

    fn pad(&mut self, index: usize, op: &PadOpIr) -> Result<(), GraphError> {
        let is_zero = matches!(op.mode, PadModeIr::Constant(value) if number(value) == 0.0);
        if !is_zero || op.padding.first() != Some(&(0, 0)) {
            let found = format!("{:?} by {:?}", op.mode, op.padding);
            return Err(self.unsupported(index, "pad", "zeros around samples", found));
        }
        let input = self.activation(index, &op.input)?;
        self.node(Op::Pad(op.padding[1..].to_vec()), vec![input], &op.out)
    }

    fn interpolate(&mut self, index: usize, op: &InterpolateOpIr) -> Result<(), GraphError> {
        let is_nearest = matches!(op.options.mode, InterpolateModeIr::Nearest | InterpolateModeIr::NearestExact);
        let shape = op.x.shape.to_vec();
        let [_, _, h, w] = shape[..] else {
            return Err(self.unsupported(index, "interpolate", "images", format!("{shape:?}")));
        };
        let [h_out, w_out] = op.output_size;
        if !is_nearest || h == 0 || w == 0 || !h_out.is_multiple_of(h) || !w_out.is_multiple_of(w) {
            let found = format!("{:?} from {h} x {w} to {h_out} x {w_out}", op.options.mode);
            return Err(self.unsupported(index, "interpolate", "nearest neighbours by whole factors", found));
        }
        let input = self.activation(index, &op.x)?;
        self.node(Op::ResizeNearest([h_out / h, w_out / w]), vec![input], &op.out)
    }

    /// `[N, C, L]` as an image of height 1.
    fn as_row(&mut self, index: usize, tensor: &TensorIr) -> Result<ValueId, GraphError> {
        let input = self.activation(index, tensor)?;
        let [n, c, l] = tensor.shape.to_vec()[..] else {
            return Err(self.unsupported(index, "conv1d or pool1d", "rank 3", format!("{:?}", tensor.shape.to_vec())));
        };
        Ok(self.add_node(Op::Reshape, vec![input], &[n, c, 1, l]))
    }

    /// An operation on images of height 1, whose result is `[N, C, L]`.
    fn row_node(&mut self, op: Op, input: ValueId, out: &TensorIr) -> Result<(), GraphError> {
        let shape = out.shape.to_vec();
        let image = [shape[0], shape[1], 1, shape[2]];
        let output = self.add_node(op, vec![input], &image);
        self.node(Op::Reshape, vec![output], out)
    }

    /// A tensor of one number.
    fn filled(&mut self, out: &TensorIr, value: f32) -> Result<(), GraphError> {
        let shape = out.shape.to_vec();
        let data = TensorData::new(vec![value; shape.iter().product()], shape);
        self.constant(out.id, Constant { path: None, data });
        Ok(())
    }

    /// A constant as one that is the same for every sample, of shape `[1, ..]`.
    fn row(&mut self, index: usize, name: &str, id: ConstantId) -> Result<ConstantId, GraphError> {
        let Constant { path, data } = &self.graph.constants[id.0];
        let shape = data.shape().to_vec();
        let [samples, ref rest @ ..] = shape[..] else {
            return Err(self.unsupported(index, name, "a constant with a batch axis", "a number without axes"));
        };
        if samples == 1 {
            return Ok(id);
        }
        let values: Vec<f32> = data.iter().collect();
        let (first, others) = values.split_at(values.len() / samples.max(1));
        let is_uniform = samples == self.batch && others.chunks(first.len().max(1)).all(|other| other == first);
        if path.is_some() || !is_uniform {
            let found = format!("{} of shape {shape:?}", path.as_deref().unwrap_or("a constant"));
            return Err(self.unsupported(index, name, "a constant that is the same for every sample, [1, ..]", found));
        }
        let shape: Vec<usize> = [1].into_iter().chain(rest.iter().copied()).collect();
        let data = TensorData::new(first.to_vec(), shape);
        Ok(self.graph.constant(Constant { path: None, data }))
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
        let constant = self.graph.constant(constant);
        self.operands.insert(id, Operand::Constant(constant));
    }

    fn value(&mut self, shape: &[usize]) -> ValueId {
        self.graph.values.push(Value { shape: shape.iter().copied().map(Dim::Fixed).collect() });
        ValueId(self.graph.values.len() - 1)
    }

    fn operand(&mut self, index: usize, tensor: &TensorIr) -> Result<Operand, GraphError> {
        if !self.operands.contains_key(&tensor.id) {
            self.initial(index, tensor.id)?;
        }
        Ok(self.operands[&tensor.id].clone())
    }

    /// The operand as an activation; a constant becomes one that is the same for every sample.
    fn activation(&mut self, index: usize, tensor: &TensorIr) -> Result<ValueId, GraphError> {
        match self.operand(index, tensor)? {
            Operand::Value(value) => Ok(value),
            Operand::Assembly(assembly) => {
                let value = self.assembled(index, &assembly)?;
                self.operands.insert(tensor.id, Operand::Value(value));
                Ok(value)
            }
            Operand::Constant(constant) => {
                if let Some(value) = self.activations.get(&tensor.id) {
                    return Ok(*value);
                }
                let constant = self.row(index, "constant", constant)?;
                let mut shape = self.graph.constants[constant.0].data.shape().to_vec();
                shape[0] = self.batch;
                let value = self.add_node(Op::Constant(constant), Vec::new(), &shape);
                self.activations.insert(tensor.id, value);
                Ok(value)
            }
        }
    }

    fn parameter(&mut self, index: usize, name: &'static str, tensor: &TensorIr) -> Result<ConstantId, GraphError> {
        match self.operand(index, tensor)? {
            Operand::Constant(constant) => Ok(constant),
            _ => Err(GraphError::UnsupportedOperand {
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
                Ok(self.graph.constant_as(id, &[d_input, d_output]))
            }
            _ => Err(GraphError::UnsupportedOperand {
                place: format!("matmul, {}", self.place(index)),
                expected: "one matrix as the right factor",
                found: format!("{} of shape {shape:?}", path.as_deref().unwrap_or("a constant")),
            }),
        }
    }

    fn node(&mut self, op: Op, inputs: Vec<ValueId>, out: &TensorIr) -> Result<(), GraphError> {
        let output = self.add_node(op, inputs, &out.shape.to_vec());
        self.operands.insert(out.id, Operand::Value(output));
        Ok(())
    }

    fn add_node(&mut self, op: Op, inputs: Vec<ValueId>, shape: &[usize]) -> ValueId {
        let output = self.value(shape);
        let name = self.node_name(&op);
        self.graph.nodes.push(Node { name, op, clamp: Clamp::NONE, inputs, output });
        output
    }

    /// The path of the module that owns the weight, else the operation and its position; made unique.
    fn node_name(&self, op: &Op) -> String {
        let weight = match op {
            Op::Conv2d { weight, .. } | Op::ConvTranspose2d { weight, .. } | Op::Linear { weight, .. } => {
                self.graph.constants[weight.0].path.as_deref()
            }
            Op::Embedding(weight) | Op::Constant(weight) => self.graph.constants[weight.0].path.as_deref(),
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

/// The elements that a recorded slice of an axis of `size` takes; `None` backwards.
fn range(slice: &Slice, size: usize) -> Option<SliceRange> {
    let at =
        |position: isize| if position < 0 { size.saturating_sub(position.unsigned_abs()) } else { size.min(position as usize) };
    let step = usize::try_from(slice.step).ok().filter(|step| *step > 0)?;
    Some(SliceRange { start: at(slice.start), end: slice.end.map_or(size, at), step })
}

/// The same numbers with axes in another order.
fn permuted(data: &TensorData, axes: &[usize]) -> TensorData {
    let shape = data.shape().to_vec();
    let values: Vec<f32> = data.iter().collect();
    let stride = |axis: usize| shape[axis + 1..].iter().product::<usize>();
    let sizes: Vec<usize> = axes.iter().map(|axis| shape[*axis]).collect();
    let element = |index: usize| {
        let (mut rest, mut at) = (index, 0);
        for (size, axis) in sizes.iter().zip(axes).rev() {
            at += rest % size * stride(*axis);
            rest /= size;
        }
        values[at]
    };
    TensorData::new((0..values.len()).map(element).collect::<Vec<_>>(), sizes.clone())
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
