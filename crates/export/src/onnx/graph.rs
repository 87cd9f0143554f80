//! The graph under construction: tensors of values, constants, and the pairs between real numbers and codes.

use std::collections::HashSet;

use qat_formats::onnx::{DataType, DimensionValue, Node, Tensor, ValueInfo};
use qat_runtime::{Clamp, CodeType, IntegerModel, QParams, ValueId};

use super::{ActivationCodes, Form, Interface, OnnxOptions, attributes::int};

/// What the tensors of an operator hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// Real numbers as float.
    Real,
    /// Codes.
    Codes,
}

/// The graph under construction.
///
/// Tensors of a value end in `/float`, `/codes` and the like, those of a layer in `.weight`, `.bias_scale` and the like. No
/// ending of the one kind is one of the other, so names clash only where names of values do.
pub(super) struct Writer<'a> {
    pub(super) model: &'a IntegerModel,
    pub(super) options: OnnxOptions,
    pub(super) opset: i64,
    pub(super) nodes: Vec<Node>,
    pub(super) initializers: Vec<Tensor>,
    /// Values whose dequantized tensor is there.
    dequantized: HashSet<ValueId>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(model: &'a IntegerModel, options: OnnxOptions, opset: i64) -> Self {
        Self { model, options, opset, nodes: Vec::new(), initializers: Vec::new(), dequantized: HashSet::new() }
    }

    pub(super) fn shape(&self, id: ValueId) -> &'a [usize] {
        &self.model.values[id.0].shape
    }

    pub(super) fn code_type(&self, id: ValueId) -> CodeType {
        self.model.values[id.0].code_type
    }

    /// How far the file's codes of a value lie above the model's.
    fn offset(&self, code_type: CodeType) -> i32 {
        if code_type == CodeType::Int8 && self.options.activation == ActivationCodes::Uint8 { 128 } else { 0 }
    }

    pub(super) fn data_type(&self, code_type: CodeType) -> DataType {
        match code_type {
            CodeType::Int8 if self.options.activation == ActivationCodes::Uint8 => DataType::Uint8,
            CodeType::Int8 => DataType::Int8,
            CodeType::Int16 => DataType::Int16,
            CodeType::Int32 => DataType::Int32,
        }
    }

    /// Whether the graph's input or output is the value's codes.
    fn is_code_interface(&self, id: ValueId) -> bool {
        self.options.interface == Interface::Codes || self.code_type(id) == CodeType::Int32
    }

    /// The name of the graph's input.
    pub(super) fn input_name(&self) -> &'a str {
        &self.model.input_info().name
    }

    /// The name of the graph's output, which is no other tensor's where the model's output is its input.
    pub(super) fn output_name(&self) -> String {
        if self.model.output == self.model.input {
            self.tensor(self.model.output, "output")
        } else {
            self.model.output_info().name.clone()
        }
    }

    /// The first name that two tensors have: an imported model may call its input or output as the file calls one in between.
    pub(super) fn taken_name(&self) -> Option<String> {
        let mut names = HashSet::from([self.input_name()]);
        let constants = self.initializers.iter().map(Tensor::name);
        let results = self.nodes.iter().flat_map(|node| node.output.iter().map(String::as_str));
        constants.chain(results).find(|name| !names.insert(name)).map(str::to_owned)
    }

    /// The graph's input or output.
    pub(super) fn interface(&self, name: &str, id: ValueId) -> ValueInfo {
        let batch = DimensionValue::DimParam("batch".to_owned());
        let dims = self.shape(id).iter().map(|&size| DimensionValue::DimValue(int(size)));
        let data_type = if self.is_code_interface(id) { self.data_type(self.code_type(id)) } else { DataType::Float };
        ValueInfo::tensor(name, data_type, [batch].into_iter().chain(dims).collect())
    }

    /// Name of a tensor that belongs to a value.
    pub(super) fn tensor(&self, id: ValueId, part: &str) -> String {
        format!("{}/{part}", self.model.values[id.0].name)
    }

    /// Name of the codes of a value.
    pub(super) fn codes(&self, id: ValueId) -> String {
        if !self.is_code_interface(id) {
            return self.tensor(id, "codes");
        }
        if id == self.model.input {
            self.input_name().to_owned()
        } else if id == self.model.output {
            self.output_name()
        } else {
            self.tensor(id, "codes")
        }
    }

    /// Name of the dequantized tensor of a value, which is made where it is not there.
    pub(super) fn real(&mut self, id: ValueId) -> String {
        let is_output = id == self.model.output && !self.is_code_interface(id);
        let real = if is_output { self.output_name() } else { self.tensor(id, "dequantized") };
        if self.dequantized.insert(id) {
            let (codes, name) = (self.codes(id), self.tensor(id, "dequantize"));
            self.dequantize(id, &name, &codes, &real);
        }
        real
    }

    /// Name of a value's tensor in a domain.
    pub(super) fn operand(&mut self, id: ValueId, domain: Domain) -> String {
        match domain {
            Domain::Real => self.real(id),
            Domain::Codes => self.codes(id),
        }
    }

    /// The graph's input as the codes of the model's input.
    pub(super) fn enter(&mut self) {
        let id = self.model.input;
        self.parameters(id);
        if !self.is_code_interface(id) {
            let (name, codes) = (self.tensor(id, "quantize"), self.codes(id));
            self.quantize(id, &name, self.input_name(), &codes);
        }
        if self.options.form == Form::Qdq && self.code_type(id) != CodeType::Int32 {
            self.real(id);
        }
    }

    /// The model's output as the graph's output.
    pub(super) fn leave(&mut self) {
        let id = self.model.output;
        if !self.is_code_interface(id) {
            self.real(id);
        } else if id == self.model.input {
            let output = self.output_name();
            self.nodes.push(Node::new("Identity", &output, &[self.input_name()], &[&output]));
        }
    }

    /// Scale and zero point of a value. Indices have none.
    pub(super) fn parameters(&mut self, id: ValueId) {
        let code_type = self.code_type(id);
        if code_type == CodeType::Int32 {
            return;
        }
        let QParams { scale, zero_point } = self.model.values[id.0].qparams;
        self.floats(&self.tensor(id, "scale"), &[], &[scale]);
        self.code_constant(&self.tensor(id, "zero_point"), code_type, &[], &[zero_point]);
    }

    /// QuantizeLinear with the parameters of a value.
    pub(super) fn quantize(&mut self, id: ValueId, name: &str, source: &str, target: &str) {
        let (scale, zero_point) = (self.tensor(id, "scale"), self.tensor(id, "zero_point"));
        self.nodes.push(Node::new("QuantizeLinear", name, &[source, &scale, &zero_point], &[target]));
    }

    /// DequantizeLinear with the parameters of a value.
    fn dequantize(&mut self, id: ValueId, name: &str, source: &str, target: &str) {
        let (scale, zero_point) = (self.tensor(id, "scale"), self.tensor(id, "zero_point"));
        self.nodes.push(Node::new("DequantizeLinear", name, &[source, &scale, &zero_point], &[target]));
    }

    /// A pair with the parameters of `like`, from the tensor `PART` of a value to its tensor `PART_dequantized`, whose name is
    /// returned.
    pub(super) fn pair(&mut self, id: ValueId, part: &str, like: ValueId) -> String {
        let name = |suffix: &str| self.tensor(id, &format!("{part}{suffix}"));
        let [source, codes, real] = ["", "_codes", "_dequantized"].map(name);
        let [quantize, dequantize] = ["_quantize", "_dequantize"].map(name);
        self.quantize(like, &quantize, &source, &codes);
        self.dequantize(like, &dequantize, &codes, &real);
        real
    }

    /// Name of the tensor that the operator of a value has to write, before [`Writer::finish`].
    pub(super) fn begin(&self, id: ValueId, domain: Domain, range: Clamp) -> String {
        match domain {
            Domain::Real if self.options.form == Form::Qdq && self.clamps_reals(id, range) => self.tensor(id, "unclamped"),
            Domain::Real => self.tensor(id, "float"),
            Domain::Codes if self.is_full(id, range) => self.codes(id),
            Domain::Codes => self.tensor(id, "unclamped_codes"),
        }
    }

    /// From what the operator of a value wrote to the value's codes within `range`.
    pub(super) fn finish(&mut self, id: ValueId, domain: Domain, range: Clamp) {
        let codes = self.codes(id);
        match (self.options.form, domain) {
            (Form::Qdq, Domain::Real) if self.clamps_reals(id, range) => {
                let unclamped = self.pair(id, "unclamped", id);
                let [clamp, source, quantize] = ["clamp", "clamped", "quantize"].map(|part| self.tensor(id, part));
                self.clamp_reals(id, &clamp, range, &unclamped, &source);
                self.quantize(id, &quantize, &source, &codes);
            }
            // A clamp of codes between a quantizer and a dequantizer leaves the operator before and that after it fused.
            (_, Domain::Real) => {
                let (source, quantize) = (self.tensor(id, "float"), self.tensor(id, "quantize"));
                let target = self.begin(id, Domain::Codes, range);
                self.quantize(id, &quantize, &source, &target);
                self.clamp_codes(id, range);
            }
            (_, Domain::Codes) => self.clamp_codes(id, range),
        }
        if self.options.form == Form::Qdq && self.code_type(id) != CodeType::Int32 {
            self.real(id);
        }
    }

    fn is_full(&self, id: ValueId, range: Clamp) -> bool {
        range == Clamp::full(self.code_type(id))
    }

    /// Whether a range that leaves codes out is kept by an operator on real numbers in the QDQ form: that of a relu, which has an
    /// operator of its own, and one of int16 codes, of which ONNX Runtime has no Clip.
    fn clamps_reals(&self, id: ValueId, range: Clamp) -> bool {
        let code_type = self.code_type(id);
        let is_relu =
            i32::from(range.min) == self.model.values[id.0].qparams.zero_point && i32::from(range.max) == code_type.max();
        !self.is_full(id, range) && (is_relu || code_type == CodeType::Int16)
    }

    /// From `/unclamped_codes` to the codes of a value, where the range leaves some out.
    fn clamp_codes(&mut self, id: ValueId, range: Clamp) {
        if !self.is_full(id, range) {
            let [name, source] = ["clamp", "unclamped_codes"].map(|part| self.tensor(id, part));
            let target = self.codes(id);
            self.clip_codes(id, &name, range, &source, &target);
        }
    }

    /// Confines codes of a value to a range.
    pub(super) fn clip_codes(&mut self, id: ValueId, name: &str, range: Clamp, source: &str, target: &str) {
        let code_type = self.code_type(id);
        let [min, max] = ["clamp_min", "clamp_max"].map(|part| self.tensor(id, part));
        for (bound, code) in [(&min, range.min), (&max, range.max)] {
            self.code_constant(bound, code_type, &[], &[code.into()]);
        }
        self.nodes.push(Node::new("Clip", name, &[source, &min, &max], &[target]));
    }

    /// Confines real numbers to those of a range of codes.
    pub(super) fn clamp_reals(&mut self, id: ValueId, name: &str, range: Clamp, source: &str, target: &str) {
        let QParams { scale, zero_point } = self.model.values[id.0].qparams;
        if i32::from(range.min) == zero_point && i32::from(range.max) == self.code_type(id).max() {
            return self.nodes.push(Node::new("Relu", name, &[source], &[target]));
        }
        let [min, max] = ["clamp_min", "clamp_max"].map(|part| self.tensor(id, part));
        for (bound, code) in [(&min, range.min), (&max, range.max)] {
            self.floats(bound, &[], &[(i32::from(code) - zero_point) as f32 * scale]);
        }
        self.nodes.push(Node::new("Clip", name, &[source, &min, &max], &[target]));
    }

    /// A constant of floats.
    pub(super) fn floats(&mut self, name: &str, dims: &[usize], values: &[f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Float, dims, bytes);
    }

    /// A constant of 64-bit integers, as shapes and axes are.
    pub(super) fn integers(&mut self, name: &str, values: &[i64]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(name, DataType::Int64, &[values.len()], bytes);
    }

    /// A constant of activation codes, given as the model has them.
    pub(super) fn code_constant(&mut self, name: &str, code_type: CodeType, dims: &[usize], codes: &[i32]) {
        let offset = self.offset(code_type);
        let bytes = codes.iter().flat_map(|&code| {
            // int8 codes become uint8 codes 128 above; the low byte is the code in either type.
            let bytes = (code + offset).to_le_bytes();
            bytes.into_iter().take(code_type.bytes())
        });
        let bytes = bytes.collect();
        self.initializer(name, self.data_type(code_type), dims, bytes);
    }

    pub(super) fn initializer(&mut self, name: &str, data_type: DataType, dims: &[usize], bytes: Vec<u8>) {
        let dims: Vec<i64> = dims.iter().map(|&size| int(size)).collect();
        self.initializers.push(Tensor::new(name, data_type, &dims, bytes));
    }
}
