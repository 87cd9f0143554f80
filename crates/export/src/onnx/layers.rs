//! Layers with weights: convolutions and linear layers, their constants included.
//!
//! In the QDQ form weights and biases stand behind DequantizeLinear nodes, per channel, the bias at scale `f32(s_in · s_w[c])`;
//! that is the pattern that ONNX Runtime fuses. A linear layer is a Gemm, which has a bias and takes matrices, so that samples
//! of higher rank are reshaped around it. In the form of integer operators a linear layer is a pointwise QLinearConv:
//! QLinearMatMul has no bias.

use qat_formats::onnx::{Attribute, DataType, Node};
use qat_runtime::{CodeType, Conv2d, ConvTranspose2d, Linear, PackedCodes, ValueId, ValueInfo, WeightBits, Weights};

use super::{
    Form, WeightCodes,
    attributes::{self, int},
    graph::{Domain, Writer},
    lower::Site,
};

/// Scales of a layer's biases, one for each output channel.
pub(super) fn bias_scales(weights: &Weights, input: &ValueInfo) -> impl Iterator<Item = f32> {
    let input_scale = input.qparams.scale;
    weights.scale.iter().map(move |&scale| input_scale * scale)
}

/// Names of a layer's dequantized constants.
struct Constants {
    weight: String,
    bias: String,
}

impl Writer<'_> {
    pub(super) fn conv2d(&mut self, conv: &Conv2d, site: Site) {
        let Site { name, inputs, output } = site;
        let dims = [conv.c_out, conv.c_in / conv.groups, conv.kernel[0], conv.kernel[1]];
        let domain = self.domain();
        let target = self.begin(output, domain, conv.clamp);
        let node = match domain {
            Domain::Real => {
                let x = self.real(inputs[0]);
                let Constants { weight, bias } = self.dequantized_constants(name, inputs[0], &dims, &conv.weights);
                Node::new("Conv", name, &[&x, &weight, &bias], &[&target])
            }
            Domain::Codes => {
                let x = self.codes(inputs[0]);
                self.q_linear_conv(site, &x, &dims, &conv.weights, &target)
            }
        };
        self.nodes.push(attributes::conv(node, conv));
        self.finish(output, domain, conv.clamp);
    }

    pub(super) fn linear(&mut self, linear: &Linear, site: Site) {
        let (Site { name, output, .. }, input) = (site, site.inputs[0]);
        let Linear { d_input, d_output, weights, clamp, .. } = linear;
        let domain = self.domain();
        let target = self.begin(output, domain, *clamp);
        let back: Vec<i64> = [-1].into_iter().chain(self.shape(output).iter().map(|&size| int(size))).collect();
        match domain {
            Domain::Real => {
                let x = self.real(input);
                let is_matrix = self.shape(input).len() == 1;
                let x = if is_matrix {
                    x
                } else {
                    let rows = self.tensor(output, "rows");
                    self.reshape(output, "rows", &x, &[-1, int(*d_input)], &rows);
                    self.pair(output, "rows", input)
                };
                let Constants { weight, bias } = self.dequantized_constants(name, input, &[*d_output, *d_input], weights);
                let product = if is_matrix { target.clone() } else { self.tensor(output, "product") };
                self.nodes.push(attributes::gemm(Node::new("Gemm", name, &[&x, &weight, &bias], &[&product])));
                if !is_matrix {
                    let product = self.pair(output, "product", output);
                    self.reshape(output, "back", &product, &back, &target);
                }
            }
            Domain::Codes => {
                let [pixels, product] = ["pixels", "product"].map(|part| self.tensor(output, part));
                let x = self.codes(input);
                self.reshape(output, "pixels", &x, &[-1, int(*d_input), 1, 1], &pixels);
                let dims = [*d_output, *d_input, 1, 1];
                let node = self.q_linear_conv(site, &pixels, &dims, weights, &product);
                self.nodes.push(attributes::pointwise(node));
                self.reshape(output, "back", &product, &back, &target);
            }
        }
        self.finish(output, domain, *clamp);
    }

    /// Real in both forms: the standard has no integer operator for it.
    pub(super) fn conv_transpose2d(&mut self, conv: &ConvTranspose2d, site: Site) {
        let (Site { name, output, .. }, input) = (site, site.inputs[0]);
        let x = self.real(input);
        let target = self.begin(output, Domain::Real, conv.clamp);
        let Constants { weight, bias } =
            if conv.groups == 1 { self.turned_constants(conv, name, input) } else { self.turned_reals(conv, name, input) };
        let node = Node::new("ConvTranspose", name, &[&x, &weight, &bias], &[&target]);
        self.nodes.push(attributes::conv_transpose(node, conv));
        self.finish(output, Domain::Real, conv.clamp);
    }

    /// Weights as ONNX has them, `[c_in, c_out, k_h, k_w]`.
    fn turned_constants(&mut self, conv: &ConvTranspose2d, name: &str, input: ValueId) -> Constants {
        let pixels = conv.kernel[0] * conv.kernel[1];
        let at = |index: usize| {
            let (c_in, c_out, pixel) = (index / (conv.c_out * pixels), index / pixels % conv.c_out, index % pixels);
            (c_out * conv.c_in + c_in) * pixels + pixel
        };
        let codes: Vec<i8> = (0..conv.weights.codes.len()).map(|index| conv.weights.codes.get(at(index))).collect();
        let [h, w] = conv.kernel;
        self.weight_constants(name, &[conv.c_in, conv.c_out, h, w], &codes, &conv.weights);
        let weight = self.dequantize_constant(name, "weight", 1);
        Constants { weight, bias: self.dequantized_bias(name, input, &conv.weights) }
    }

    /// Weights `[c_out, c_in / groups, k_h, k_w]` that become `[c_in, c_out / groups, k_h, k_w]` once they are dequantized: the
    /// scales go with output channels, of which ONNX's axis 1 has one group's only.
    fn turned_reals(&mut self, conv: &ConvTranspose2d, name: &str, input: ValueId) -> Constants {
        let (inner, outer, [h, w]) = (conv.c_in / conv.groups, conv.c_out / conv.groups, conv.kernel);
        let Constants { weight, bias } = self.dequantized_constants(name, input, &[conv.c_out, inner, h, w], &conv.weights);
        let [grouped, swapped, turned, grouped_shape, turned_shape] =
            ["grouped", "swapped", "turned", "grouped_shape", "turned_shape"].map(|part| format!("{name}.weight_{part}"));
        self.integers(&grouped_shape, &[conv.groups, outer, inner, h, w].map(int));
        self.integers(&turned_shape, &[conv.c_in, outer, h, w].map(int));
        let transpose = Node::new("Transpose", &swapped, &[&grouped], &[&swapped]);
        self.nodes.extend([
            Node::new("Reshape", &grouped, &[&weight, &grouped_shape], &[&grouped]),
            transpose.with(Attribute::ints("perm", &[0, 2, 1, 3, 4])),
            Node::new("Reshape", &turned, &[&swapped, &turned_shape], &[&turned]),
        ]);
        Constants { weight: turned, bias }
    }

    /// A Reshape that belongs to a value.
    pub(super) fn reshape(&mut self, id: ValueId, part: &str, source: &str, dims: &[i64], target: &str) {
        let [name, shape] = ["reshape", "shape"].map(|suffix| self.tensor(id, &format!("{part}_{suffix}")));
        self.integers(&shape, dims);
        self.nodes.push(Node::new("Reshape", &name, &[source, &shape], &[target]));
    }

    /// A QLinearConv without its attributes, from codes of the node's input in `x` to codes of its output in `target`.
    fn q_linear_conv(&mut self, site: Site, x: &str, dims: &[usize], weights: &Weights, target: &str) -> Node {
        let (Site { name, output, .. }, input) = (site, site.inputs[0]);
        self.weight_constants(name, dims, &weights.codes.unpack(), weights);
        self.bias_constant(name, weights);
        let [weight, weight_scale, weight_zero_point, bias] =
            ["weight", "weight_scale", "weight_zero_point", "bias"].map(|part| format!("{name}.{part}"));
        let [x_scale, x_zero_point] = ["scale", "zero_point"].map(|part| self.tensor(input, part));
        let [y_scale, y_zero_point] = ["scale", "zero_point"].map(|part| self.tensor(output, part));
        let inputs = [x, &x_scale, &x_zero_point, &weight, &weight_scale, &weight_zero_point, &y_scale, &y_zero_point, &bias];
        Node::new("QLinearConv", name, &inputs, &[target])
    }

    /// Weight, output channels first, and bias behind their DequantizeLinear nodes.
    fn dequantized_constants(&mut self, name: &str, input: ValueId, dims: &[usize], weights: &Weights) -> Constants {
        self.weight_constants(name, dims, &weights.codes.unpack(), weights);
        let weight = self.dequantize_constant(name, "weight", 0);
        Constants { weight, bias: self.dequantized_bias(name, input, weights) }
    }

    /// Name of a layer's bias as real numbers.
    fn dequantized_bias(&mut self, name: &str, input: ValueId, weights: &Weights) -> String {
        let input = &self.model.values[input.0];
        let scales: Vec<f32> = bias_scales(weights, input).collect();
        let channels = [weights.bias.len()];
        // Biases of int16 layers go beyond int32, and their layers are computed in float in any case.
        if input.code_type == CodeType::Int16 {
            let reals: Vec<f32> = weights.bias.iter().zip(&scales).map(|(&bias, scale)| scale * bias as f32).collect();
            let bias = format!("{name}.bias_dequantized");
            self.floats(&bias, &channels, &reals);
            return bias;
        }
        self.bias_constant(name, weights);
        self.floats(&format!("{name}.bias_scale"), &channels, &scales);
        self.initializer(&format!("{name}.bias_zero_point"), DataType::Int32, &channels, vec![0; 4 * channels[0]]);
        self.dequantize_constant(name, "bias", 0)
    }

    fn dequantize_constant(&mut self, name: &str, which: &str, axis: i64) -> String {
        let part = |suffix: &str| format!("{name}.{which}{suffix}");
        let [constant, scale, zero_point, real] = ["", "_scale", "_zero_point", "_dequantized"].map(part);
        let node = Node::new("DequantizeLinear", &real, &[&constant, &scale, &zero_point], &[&real]);
        self.nodes.push(node.with(Attribute::int("axis", axis)));
        real
    }

    /// Weight codes, in the order of `dims`, with their scales and zero points.
    fn weight_constants(&mut self, name: &str, dims: &[usize], codes: &[i8], weights: &Weights) {
        let channels = weights.scale.len();
        let is_packed = weights.codes.bits() < WeightBits::Eight && self.options.weights == WeightCodes::Packed;
        let packed = is_packed.then(|| PackedCodes::pack(codes, WeightBits::Four)).flatten();
        let (data_type, bits) = match packed {
            Some(_) => (DataType::Int4, WeightBits::Four),
            None => (DataType::Int8, WeightBits::Eight),
        };
        let packed = packed.unwrap_or_else(|| PackedCodes::eight(codes));
        self.initializer(&format!("{name}.weight"), data_type, dims, packed.as_bytes().to_vec());
        self.floats(&format!("{name}.weight_scale"), &[channels], &weights.scale);
        self.initializer(&format!("{name}.weight_zero_point"), data_type, &[channels], vec![0; bits.bytes(channels)]);
    }

    /// Biases of int8 layers, which validation keeps within int32.
    fn bias_constant(&mut self, name: &str, weights: &Weights) {
        let bytes = weights.bias.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect();
        self.initializer(&format!("{name}.bias"), DataType::Int32, &[weights.bias.len()], bytes);
    }

    /// What operators work on that exist for codes as for real numbers.
    pub(super) fn domain(&self) -> Domain {
        if self.options.form == Form::Qdq { Domain::Real } else { Domain::Codes }
    }
}
