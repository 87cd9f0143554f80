//! An integer model as an ONNX file in QDQ form (quantize–dequantize), opset 13.
//!
//! Every value `v` is a float tensor followed by QuantizeLinear and DequantizeLinear with its scale and zero point; weights are
//! int8 initializers and biases int32 initializers, each behind a DequantizeLinear along axis 0, the bias at scale
//! `f32(s_in · s_w[c])`. A runtime that fuses the pattern computes in integers; one that does not computes the same network in
//! float. ONNX Runtime fuses all of it, and its fused kernels have the arithmetic of [`Rules::OnnxRuntime`].
//!
//! The input is the float tensor `input`, the output the float tensor `output`, both with the batch dimension `batch`. A fused
//! relu whose zero point is the lowest code needs no node, since QuantizeLinear's own clamp does it; any other clamp of the
//! codes is a Relu or a Clip between two pairs with the same parameters, which is exact.
//!
//! Not here: operators on integers (QLinearConv and the like), the float model.

use std::path::Path;

use qat_formats::onnx::{
    self, Attribute, DataType, DimensionValue, Graph, Model, Node, OperatorSetId, StringStringEntry, Tensor, ValueInfo,
};
use qat_runtime::{AvgPool2d, Clamp, Conv2d, IntegerModel, MaxPool2d, Op, QParams, Rules, ValueId, Weights};

use crate::{error::ExportError, file::write_atomically, names};

/// Operator set of the file: the first in which scales and zero points can be given per channel.
const OPSET: i64 = 13;
/// Version of the file structures that goes with operator set 13 and later.
const IR_VERSION: i64 = 8;

/// How activation codes are stored in the file; the numbers they mean are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActivationCodes {
    /// uint8 codes and zero points, 128 above the integer model's. ONNX Runtime's default session fuses these everywhere.
    #[default]
    Uint8,
    /// The integer model's own int8 codes. ONNX Runtime's default session leaves values with several readers in float unless
    /// `session.qdqisint8allowed` is set.
    Int8,
}

/// Choices of the ONNX writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// How activation codes are stored. Default: uint8.
    pub activation: ActivationCodes,
}

/// Writes `model` as the ONNX file `path`, made or replaced as a whole. Equal models give equal bytes.
///
/// # Errors
///
/// Those of [`to_onnx`], and [`ExportError::Write`] or [`ExportError::NotAFile`] if the file cannot be written.
pub fn write_onnx(model: &IntegerModel, options: &OnnxOptions, path: &Path) -> Result<(), ExportError> {
    write_atomically(path, &onnx::write(&to_onnx(model, options)?))
}

/// The QDQ graph of `model`.
///
/// # Errors
///
/// [`ExportError::Model`] if the model contradicts itself, [`ExportError::Unsupported`] for a contract that no ONNX runtime
/// follows, an operation that this writer does not know, or a bias whose scale is too small or large for a 32-bit float.
pub fn to_onnx(model: &IntegerModel, options: &OnnxOptions) -> Result<Model, ExportError> {
    model.validate()?;
    if model.rules != Rules::OnnxRuntime {
        return Err(ExportError::Unsupported {
            format: "ONNX",
            place: "rules".to_owned(),
            expected: "a model converted for onnx-runtime",
            found: model.rules.name().to_owned(),
        });
    }
    let activations = match options.activation {
        ActivationCodes::Uint8 => "uint8",
        ActivationCodes::Int8 => "int8",
    };
    let property = |key: &str, value: &str| StringStringEntry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
    let mut writer = Writer { model, activation: options.activation, nodes: Vec::new(), initializers: Vec::new() };
    writer.body()?;
    let graph = Graph {
        name: Some("qat".to_owned()),
        node: writer.nodes,
        initializer: writer.initializers,
        input: vec![float_value("input", &model.values[model.input.0].shape)],
        output: vec![float_value("output", &model.values[model.output.0].shape)],
        ..Graph::default()
    };
    Ok(Model {
        ir_version: Some(IR_VERSION),
        producer_name: Some("qat".to_owned()),
        producer_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        graph: Some(graph),
        opset_import: vec![OperatorSetId { domain: Some(String::new()), version: Some(OPSET) }],
        metadata_props: vec![property("qat.contract", model.rules.contract().name()), property("qat.activations", activations)],
        ..Model::default()
    })
}

fn float_value(name: &str, shape: &[usize]) -> ValueInfo {
    let batch = DimensionValue::DimParam("batch".to_owned());
    let dims = shape.iter().map(|&size| DimensionValue::DimValue(int(size)));
    ValueInfo::tensor(name, DataType::Float, [batch].into_iter().chain(dims).collect())
}

/// The graph under construction.
///
/// Tensors of a value end in `/float`, `/codes` and the like, those of a layer in `.weight`, `.bias_scale` and the like. No
/// ending of the one kind is one of the other, so names clash only where names of values do.
struct Writer<'a> {
    model: &'a IntegerModel,
    activation: ActivationCodes,
    nodes: Vec<Node>,
    initializers: Vec<Tensor>,
}

impl Writer<'_> {
    fn body(&mut self) -> Result<(), ExportError> {
        let model = self.model;
        let layers = names::unique(model.nodes.iter().map(|node| node.op.layer().unwrap_or(&model.values[node.output.0].name)));
        self.quantize(model.input, "input", Clamp::INT8);
        for (node, name) in model.nodes.iter().zip(&layers) {
            let inputs: Vec<String> = node.inputs.iter().map(|&id| self.real(id)).collect();
            let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
            let output = self.tensor(node.output, "float");
            let out = [output.as_str()];
            let (onnx_node, range) = match &node.op {
                Op::Conv2d(conv) => {
                    let constants = self.constants(
                        name,
                        node.inputs[0],
                        &[conv.c_out, conv.c_in / conv.groups, conv.kernel[0], conv.kernel[1]],
                        &conv.weights,
                    )?;
                    let node = Node::new("Conv", name, &[inputs[0], &constants.weight, &constants.bias], &out);
                    (conv_attributes(node, conv), conv.clamp)
                }
                Op::Linear(linear) => {
                    let constants = self.constants(name, node.inputs[0], &[linear.d_output, linear.d_input], &linear.weights)?;
                    let node = Node::new("Gemm", name, &[inputs[0], &constants.weight, &constants.bias], &out)
                        .with(Attribute::float("alpha", 1.0))
                        .with(Attribute::float("beta", 1.0))
                        .with(Attribute::int("transA", 0))
                        .with(Attribute::int("transB", 1));
                    (node, linear.clamp)
                }
                Op::Add(add) => (Node::new("Add", name, &inputs, &out), add.clamp),
                Op::MaxPool2d(pool) => (max_pool(Node::new("MaxPool", name, &inputs, &out), pool), Clamp::INT8),
                Op::AvgPool2d(pool) => {
                    let image = &model.values[node.inputs[0].0].shape;
                    let node = if is_global(pool, image) {
                        Node::new("GlobalAveragePool", name, &inputs, &out)
                    } else {
                        average_pool(Node::new("AveragePool", name, &inputs, &out), pool)
                    };
                    (node, Clamp::INT8)
                }
                &Op::Clamp(clamp) => {
                    let x = self.model.values[node.inputs[0].0].qparams;
                    (self.clamp_node(node.output, name, clamp, x, &inputs[0].to_owned(), &output), Clamp::INT8)
                }
                Op::Reshape => {
                    let node = match model.values[node.output.0].shape.as_slice() {
                        [_] => Node::new("Flatten", name, &inputs, &out).with(Attribute::int("axis", 1)),
                        shape => {
                            // A 0 copies the batch dimension from the input.
                            let dims = [0].into_iter().chain(shape.iter().map(|&size| int(size))).collect::<Vec<i64>>();
                            let constant = self.tensor(node.output, "shape");
                            let bytes = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
                            self.initializers.push(Tensor::new(&constant, DataType::Int64, &[int(dims.len())], bytes));
                            Node::new("Reshape", name, &[inputs[0], &constant], &out)
                        }
                    };
                    (node, Clamp::INT8)
                }
                other => {
                    return Err(ExportError::Unsupported {
                        format: "ONNX",
                        place: format!("node of value {:?}", model.values[node.output.0].name),
                        expected: "a convolution, linear layer, addition, pool, relu or reshape",
                        found: format!("{other:?}"),
                    });
                }
            };
            self.nodes.push(onnx_node);
            self.quantize(node.output, &output, range);
        }
        Ok(())
    }

    /// Name of a tensor that belongs to a value.
    fn tensor(&self, id: ValueId, part: &str) -> String {
        format!("{}/{part}", self.model.values[id.0].name)
    }

    /// Name of the dequantized tensor that readers of a value take.
    fn real(&self, id: ValueId) -> String {
        if id == self.model.output { "output".to_owned() } else { self.tensor(id, "dequantized") }
    }

    /// Quantizes the float tensor `source` to the codes of a value within `range`, and dequantizes it for its readers.
    fn quantize(&mut self, id: ValueId, source: &str, range: Clamp) {
        let qparams = self.model.values[id.0].qparams;
        let (scale, zero_point) = (self.tensor(id, "scale"), self.tensor(id, "zero_point"));
        self.initializers.push(floats(&scale, &[], &[qparams.scale]));
        self.initializers.push(match self.activation {
            ActivationCodes::Int8 => Tensor::new(&zero_point, DataType::Int8, &[], vec![qparams.zero_point as u8]),
            ActivationCodes::Uint8 => Tensor::new(&zero_point, DataType::Uint8, &[], vec![(qparams.zero_point + 128) as u8]),
        });
        let real = self.real(id);
        if range == Clamp::INT8 {
            return self.pair(id, "", source, &real);
        }
        let (unclamped, clamped) = (self.tensor(id, "unclamped_dequantized"), self.tensor(id, "clamped"));
        self.pair(id, "unclamped_", source, &unclamped);
        let name = self.tensor(id, "clamp");
        let clamp = self.clamp_node(id, &name, range, qparams, &unclamped, &clamped);
        self.nodes.push(clamp);
        self.pair(id, "", &clamped, &real);
    }

    /// Confines real numbers to those of a range of codes.
    fn clamp_node(&mut self, id: ValueId, name: &str, range: Clamp, qparams: QParams, source: &str, target: &str) -> Node {
        if i32::from(range.min) == qparams.zero_point && range.max == Clamp::INT8.max {
            return Node::new("Relu", name, &[source], &[target]);
        }
        let bounds = [("clamp_min", range.min), ("clamp_max", range.max)].map(|(part, code)| {
            let bound = self.tensor(id, part);
            let value = (i32::from(code) - qparams.zero_point) as f32 * qparams.scale;
            self.initializers.push(floats(&bound, &[], &[value]));
            bound
        });
        Node::new("Clip", name, &[source, &bounds[0], &bounds[1]], &[target])
    }

    /// QuantizeLinear and DequantizeLinear with the parameters of a value; `prefix` tells its pairs apart.
    fn pair(&mut self, id: ValueId, prefix: &str, source: &str, target: &str) {
        let name = |part: &str| self.tensor(id, &format!("{prefix}{part}"));
        let (scale, zero_point) = (self.tensor(id, "scale"), self.tensor(id, "zero_point"));
        let codes = name("codes");
        let quantize = Node::new("QuantizeLinear", &name("quantize"), &[source, &scale, &zero_point], &[&codes]);
        let dequantize = Node::new("DequantizeLinear", &name("dequantize"), &[&codes, &scale, &zero_point], &[target]);
        self.nodes.extend([quantize, dequantize]);
    }

    /// Writes weight and bias behind their DequantizeLinear nodes, and returns the names of the dequantized tensors.
    fn constants(&mut self, name: &str, input: ValueId, dims: &[usize], weights: &Weights) -> Result<Constants, ExportError> {
        let dims: Vec<i64> = dims.iter().map(|&size| int(size)).collect();
        let Weights { codes, scale: weight_scale, bias } = weights;
        let channels = [int(bias.len())];
        let input_scale = self.model.values[input.0].qparams.scale;
        let bias_scale: Vec<f32> = weight_scale.iter().map(|&scale| input_scale * scale).collect();
        if let Some(scale) = bias_scale.iter().find(|scale| !(scale.is_finite() && **scale > 0.0)) {
            return Err(ExportError::Unsupported {
                format: "ONNX",
                place: format!("bias of {name:?}"),
                expected: "scales whose product s_in * s_w is a finite number above 0",
                found: scale.to_string(),
            });
        }
        let weight = codes.unpack().iter().map(|code| code.cast_unsigned()).collect();
        let zero_points = vec![0; bias.len()];
        // Validation keeps biases of int8 layers within int32.
        let bias_bytes = bias.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect();
        let part = |part: &str| format!("{name}.{part}");
        self.initializers.extend([
            Tensor::new(&part("weight"), DataType::Int8, &dims, weight),
            floats(&part("weight_scale"), &channels, weight_scale),
            Tensor::new(&part("weight_zero_point"), DataType::Int8, &channels, zero_points),
            Tensor::new(&part("bias"), DataType::Int32, &channels, bias_bytes),
            floats(&part("bias_scale"), &channels, &bias_scale),
            Tensor::new(&part("bias_zero_point"), DataType::Int32, &channels, vec![0; 4 * bias.len()]),
        ]);
        let [weight, bias] = ["weight", "bias"].map(|which| {
            let [scale, zero_point, real] =
                ["scale", "zero_point", "dequantized"].map(|suffix| part(&format!("{which}_{suffix}")));
            let inputs = [part(which), scale, zero_point];
            let node = Node::new("DequantizeLinear", &real, &inputs.each_ref().map(String::as_str), &[&real]);
            self.nodes.push(node.with(Attribute::int("axis", 0)));
            real
        });
        Ok(Constants { weight, bias })
    }
}

/// Names of a layer's dequantized constants.
struct Constants {
    weight: String,
    bias: String,
}

fn conv_attributes(node: Node, conv: &Conv2d) -> Node {
    node.with(Attribute::string("auto_pad", "NOTSET"))
        .with(Attribute::ints("dilations", &conv.dilation.map(int)))
        .with(Attribute::int("group", int(conv.groups)))
        .with(Attribute::ints("kernel_shape", &conv.kernel.map(int)))
        .with(Attribute::ints("pads", &conv.padding.map(int)))
        .with(Attribute::ints("strides", &conv.stride.map(int)))
}

fn max_pool(node: Node, pool: &MaxPool2d) -> Node {
    node.with(Attribute::int("ceil_mode", 0))
        .with(Attribute::ints("dilations", &pool.dilation.map(int)))
        .with(Attribute::ints("kernel_shape", &pool.kernel.map(int)))
        .with(Attribute::ints("pads", &pool.padding.map(int)))
        .with(Attribute::ints("strides", &pool.stride.map(int)))
}

fn average_pool(node: Node, pool: &AvgPool2d) -> Node {
    node.with(Attribute::int("ceil_mode", 0))
        .with(Attribute::int("count_include_pad", pool.count_include_pad.into()))
        .with(Attribute::ints("kernel_shape", &pool.kernel.map(int)))
        .with(Attribute::ints("pads", &pool.padding.map(int)))
        .with(Attribute::ints("strides", &pool.stride.map(int)))
}

/// Whether the pool takes the mean of the whole image of shape `[c, h, w]`, once.
fn is_global(pool: &AvgPool2d, image: &[usize]) -> bool {
    pool.padding == [0; 4] && image.get(1..) == Some(&pool.kernel)
}

fn floats(name: &str, dims: &[i64], values: &[f32]) -> Tensor {
    Tensor::new(name, DataType::Float, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

/// A size as ONNX writes it. Sizes of a valid model index into memory and so fit.
fn int(size: usize) -> i64 {
    size as i64
}
