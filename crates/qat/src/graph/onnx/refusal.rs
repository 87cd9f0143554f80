//! Why one node is refused, before it is known which file and node that is.

/// What to do about an operator that the graph does not have.
pub(super) const REPLACE: &str = "replace it in the float model by operators that are known, or cut the graph before it and \
     leave the rest outside the quantized model";
/// What to do about operands that are not what they could be.
pub(super) const EXPORT: &str = "export the model in inference mode with fixed sizes and constants folded (onnxsim, or \
     torch.onnx.export with dynamo=True), or change that part of the float model";
/// What to do about a file that is quantized already.
pub(super) const UNQUANTIZED: &str = "the file is quantized already: import the float model that it was made from";

/// What to do about a normalization by statistics of the sample itself.
pub(super) const NORMALIZE: &str =
    "normalize by BatchNormalization, which folds into the layer before it, or leave that part outside the quantized model";
/// What to do about an operator that chooses among the model's results.
pub(super) const CUT: &str = "cut the graph before it, so that the model's output is the logits";
/// What to do about control flow.
pub(super) const UNROLL: &str = "export the model with its loops unrolled (Keras: unroll=True) and its conditions decided";
/// What to do about operators that only one runtime knows, or the file itself defines.
pub(super) const FOREIGN: &str =
    "export to standard operators, with functions inlined (onnx.inliner) and without a runtime's own optimizations";

/// What was expected of a node, and what it is.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) expected: String,
    pub(super) found: String,
    pub(super) advice: &'static str,
}

impl Refusal {
    /// Operands or attributes that the graph cannot express.
    pub(super) fn new(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { expected: expected.into(), found: found.into(), advice: EXPORT }
    }

    /// An operator that the graph does not have.
    pub(super) fn operator(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { advice: REPLACE, ..Self::new(expected, found) }
    }
}

/// What comes of a node.
pub(super) type Outcome<T = ()> = Result<T, Refusal>;
