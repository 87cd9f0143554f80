//! The door for ONNX files: a graph out of a float model as PyTorch, Keras, scikit-learn and others export it.
//!
//! Operator sets 7 to 25 are understood as far as [`Op`] goes, and what exporters make of these: products and sums for layers,
//! arithmetic on shapes, constants made of constants, hard-swish and gelu in pieces, recurrent layers, which are unrolled over
//! time. Weights may be in a second file beside the model. `docs/import.md` lists the operators.
//!
//! Nodes are read in their order. What a node gives is an *operand*: an activation of the graph, or a constant, whose integers may
//! be multiples of the batch size (`tensor`). Nodes on constants alone are computed (`fold`); all others become operations of the
//! graph, one file for each family. A graph has the batch as first axis. Where a file has it elsewhere, as
//! recurrent layers do, the activation stays and its operand remembers where the file's batch axis is (see [`Placed`]).
//!
//! A hostile file is refused, or becomes a graph that is no larger than the file accounts for: elements that constants are stretched
//! to, operations that recurrences are unrolled to, and sizes of activations are limited. Not here: quantized files, training graphs,
//! control flow, operators of other domains, functions defined in the file.

mod activation;
mod arithmetic;
mod attributes;
mod build;
mod convolution;
mod file;
mod fold;
mod interface;
mod linear;
mod movement;
mod norm;
mod pool;
mod recurrent;
mod refusal;
mod shape;
mod tensor;
mod tied;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use qat_formats::onnx;

use super::{ConstantId, Graph, ImportError, ValueId};
use attributes::NodeView;
use file::ModelFile;
use refusal::{CUT, FOREIGN, NORMALIZE, Outcome, REPLACE, Refusal, UNQUANTIZED, UNROLL};
use tensor::Tensor;

/// The oldest and the newest operator set that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 7..=25;

/// What is read; for messages.
const KNOWN: &str = "Conv, ConvTranspose, Gemm, MatMul, BatchNormalization, LSTM, GRU, RNN, a pool, ReduceMean, Add, Sub, Mul, Div by \
     a constant, Pow to 2 or 3, Relu, Clip, Sigmoid, Tanh, HardSigmoid, HardSwish, Gelu, LeakyRelu, PRelu, Softmax, Reshape, Flatten, \
     Squeeze, Unsqueeze, Transpose, Concat, Split, Slice, Gather, Pad, nearest Resize, Identity, Dropout, or arithmetic on shapes \
     and constants";

/// The graph of the float ONNX model in the file `path`; weights that it keeps in another file are read from there.
///
/// # Errors
/// [`ImportError`] for a file that cannot be read, is no ONNX model, has an interface other than one float (or index) input and one
/// output with the batch first, or has an operator that no graph has, with the file, the operator, the node and what to do.
pub fn import_onnx(path: &Path) -> Result<Graph, ImportError> {
    let mut file = ModelFile::read(path)?;
    let model = std::mem::take(&mut file.model);
    let Some(graph) = &model.graph else { unreachable!("a model that was read has a graph") };
    let opset = interface::opset(path, &model)?;
    Importer::new(file, graph, opset).read()
}

/// An activation of the graph, and which axis of the file's tensor is the batch axis, the graph's first. The other axes are in the
/// same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    value: ValueId,
    batch_axis: usize,
}

impl Placed {
    /// With the batch first.
    fn first(value: ValueId) -> Self {
        Self { value, batch_axis: 0 }
    }

    /// The graph's axis that is `axis` of the file's tensor.
    fn graph_axis(self, axis: usize) -> usize {
        match axis.cmp(&self.batch_axis) {
            std::cmp::Ordering::Less => axis + 1,
            std::cmp::Ordering::Equal => 0,
            std::cmp::Ordering::Greater => axis,
        }
    }

    /// The file's order of the graph's axes.
    fn file_order<T: Copy>(self, dims: &[T]) -> Vec<T> {
        (0..dims.len()).map(|axis| dims[self.graph_axis(axis)]).collect()
    }
}

/// Part of a gelu in pieces: `scale · (1 + erf(x / √2))`, times `x` once that is taken in.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gate {
    x: ValueId,
    scale: f32,
    has_one: bool,
    has_x: bool,
}

/// What a name of the file stands for.
#[derive(Clone, Debug)]
enum Operand {
    Value(Placed),
    Constant(Rc<Tensor>),
    Gate(Gate),
}

/// Reads one graph.
struct Importer<'a> {
    file: ModelFile,
    source: &'a onnx::Graph,
    opset: i64,
    /// Initializers that nothing has read yet.
    initializers: HashMap<&'a str, &'a onnx::Tensor>,
    operands: HashMap<&'a str, Operand>,
    /// How often a name is read, by the model's output too.
    uses: HashMap<&'a str, usize>,
    graph: Graph,
    /// Names of nodes, and how many there are of each.
    names: HashMap<String, usize>,
    /// Constants that something has read as an activation.
    activations: HashMap<ConstantId, ValueId>,
    /// The batch size that the file fixes.
    batch: Option<usize>,
    /// Elements of the constants that were read, and of those that were computed from them.
    elements: [usize; 2],
    /// The file's name of the node under reading.
    node_name: String,
}

/// What one node or initializer comes to.
enum Failure {
    Refused(Refusal),
    File(ImportError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl<'a> Importer<'a> {
    fn new(file: ModelFile, source: &'a onnx::Graph, opset: i64) -> Self {
        let mut uses = HashMap::new();
        for name in source
            .node
            .iter()
            .flat_map(|node| &node.input)
            .chain(source.output.iter().map(|output| output.name.as_ref().unwrap_or(&EMPTY)))
        {
            *uses.entry(name.as_str()).or_insert(0) += 1;
        }
        Self {
            file,
            source,
            opset,
            initializers: source.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect(),
            operands: HashMap::new(),
            uses,
            graph: Graph::empty(),
            names: HashMap::new(),
            activations: HashMap::new(),
            batch: None,
            elements: [0; 2],
            node_name: String::new(),
        }
    }

    fn read(mut self) -> Result<Graph, ImportError> {
        self.input()?;
        let live = self.live();
        let source = self.source;
        for (index, node) in source.node.iter().enumerate().filter(|(index, _)| live[*index]) {
            let view = NodeView { node, index, opset: self.opset };
            self.node_name = node.name().trim_start_matches('/').to_owned();
            match self.node(&view) {
                Ok(()) => {}
                Err(Failure::File(error)) => return Err(error),
                Err(Failure::Refused(Refusal { expected, found, advice })) => {
                    let (operator, node) = (view.operator().to_owned(), view.name());
                    return Err(ImportError::Operator { path: self.file.path, operator, node, expected, found, advice });
                }
            }
        }
        self.output()?;
        Ok(tied::untie(self.graph))
    }

    /// Which nodes the output depends on; others are not read.
    fn live(&self) -> Vec<bool> {
        let mut wanted: HashSet<&str> = self.source.output.iter().map(onnx::ValueInfo::name).collect();
        let mut live = vec![false; self.source.node.len()];
        for (index, node) in self.source.node.iter().enumerate().rev() {
            live[index] = node.output.iter().any(|name| wanted.contains(name.as_str()));
            if live[index] {
                wanted.extend(node.input.iter().map(String::as_str));
            }
        }
        live
    }

    fn node(&mut self, node: &NodeView<'a>) -> Result<(), Failure> {
        refuse(node)?;
        for name in node.node.input.iter().filter(|name| !name.is_empty()) {
            self.load(name)?;
        }
        let is_constant =
            |name: &String| name.is_empty() || matches!(self.operands.get(name.as_str()), Some(Operand::Constant(_)));
        if node.node.input.iter().all(is_constant) {
            return Ok(self.fold(node)?);
        }
        Ok(self.operation(node)?)
    }

    /// Makes an initializer an operand.
    fn load(&mut self, name: &'a str) -> Result<(), Failure> {
        let Some(tensor) = self.initializers.remove(name) else { return Ok(()) };
        let tensor = self.file.with_elements(tensor).map_err(Failure::File)?;
        let mut tensor = Tensor::of_file(&tensor)?;
        self.elements[0] = self.elements[0].saturating_add(tensor.len());
        tensor.path = Some(name.to_owned());
        self.operands.insert(name, Operand::Constant(Rc::new(tensor)));
        Ok(())
    }

    /// The operations, by family.
    fn operation(&mut self, node: &NodeView<'a>) -> Outcome {
        match node.operator() {
            "Conv" => self.conv(node),
            "ConvTranspose" => self.conv_transpose(node),
            "Gemm" => self.gemm(node),
            "MatMul" => self.mat_mul(node),
            "BatchNormalization" => self.batch_norm(node),
            "LSTM" | "GRU" | "RNN" => self.recurrent(node),
            "MaxPool" | "AveragePool" | "GlobalAveragePool" | "GlobalMaxPool" => self.pool(node),
            "ReduceMean" | "ReduceSum" | "ReduceMax" => self.reduce(node),
            "Add" | "Sub" | "Mul" | "Div" => self.arithmetic(node),
            "Sum" => self.sum(node),
            "Neg" => self.neg(node),
            "Pow" => self.pow(node),
            "Max" | "Min" => self.bound(node),
            "Relu" | "Clip" | "Sigmoid" | "Tanh" | "HardSigmoid" | "HardSwish" | "Gelu" | "LeakyRelu" | "PRelu" | "Erf"
            | "Swish" => self.activation(node),
            "Softmax" => self.softmax(node),
            "Shape" | "Size" => self.shape(node),
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" => self.reshape(node),
            "Transpose" => self.transpose(node),
            "Concat" => self.concat(node),
            "Split" => self.split(node),
            "Slice" => self.slice(node),
            "Gather" => self.gather(node),
            "Pad" => self.pad(node),
            "Resize" | "Upsample" => self.resize(node),
            "Identity" | "Dropout" | "Cast" => self.identity(node),
            other => Err(Refusal { advice: REPLACE, ..Refusal::new(KNOWN, other) }),
        }
    }
}

/// Refuses what no graph has, whatever its operands.
fn refuse(node: &NodeView) -> Outcome {
    if !matches!(node.node.domain(), "" | "ai.onnx") {
        let found = format!("{} of domain {}", node.operator(), node.node.domain());
        let expected = "an operator of the standard domain";
        return Err(Refusal { advice: FOREIGN, ..Refusal::new(expected, found) });
    }
    let (expected, advice) = match node.operator() {
        "QuantizeLinear"
        | "DequantizeLinear"
        | "DynamicQuantizeLinear"
        | "QLinearConv"
        | "QLinearMatMul"
        | "ConvInteger"
        | "MatMulInteger" => ("an operator of a float model", UNQUANTIZED),
        "LayerNormalization"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "RMSNormalization"
        | "LRN"
        | "LpNormalization"
        | "MeanVarianceNormalization" => ("a normalization that has an integer form", NORMALIZE),
        "LogSoftmax" | "ArgMax" | "ArgMin" | "TopK" => ("a model that gives logits or a softmax", CUT),
        "If" | "Loop" | "Scan" => ("a graph without control flow", UNROLL),
        _ => return Ok(()),
    };
    Err(Refusal { advice, ..Refusal::new(expected, node.operator()) })
}

static EMPTY: String = String::new();
