//! A TFLite file under construction: one subgraph, its tensors, constants and operators.

use std::collections::BTreeMap;

use qat_formats::tflite::{
    BuiltinOperator, BuiltinOptions, Metadata, Model, Operator, OperatorCode, QuantizationParameters, SignatureDef, SubGraph,
    Tensor, TensorMap, TensorType,
};

/// A subgraph to which tensors and operators are added.
pub(super) struct Graph {
    model: Model,
    subgraph: SubGraph,
    integers: BTreeMap<(Vec<i32>, Vec<i32>), i32>,
    /// The buffer of each content: a layer that is applied several times has its constants once.
    buffers: BTreeMap<Vec<u8>, u32>,
    /// Whether the first size of computed tensors varies.
    any_batch: bool,
}

/// A step and a zero point for a whole tensor.
pub(super) fn per_tensor(scale: f32, zero_point: i64) -> QuantizationParameters {
    QuantizationParameters { scale: vec![scale], zero_point: vec![zero_point], ..QuantizationParameters::default() }
}

/// Steps along `dimension` with zero points 0; one for the tensor where all are equal.
pub(super) fn per_channel(scale: &[f32], dimension: i32) -> QuantizationParameters {
    match scale {
        [first, rest @ ..] if rest.iter().all(|scale| scale == first) => per_tensor(*first, 0),
        _ => QuantizationParameters {
            scale: scale.to_vec(),
            zero_point: vec![0; scale.len()],
            quantized_dimension: dimension,
            ..QuantizationParameters::default()
        },
    }
}

impl Graph {
    pub(super) fn new(any_batch: bool) -> Self {
        let model = Model { description: concat!("qat ", env!("CARGO_PKG_VERSION")).to_owned(), ..Model::default() };
        let subgraph = SubGraph { name: "main".to_owned(), ..SubGraph::default() };
        Self { model, subgraph, integers: BTreeMap::new(), buffers: BTreeMap::new(), any_batch }
    }

    fn push(&mut self, tensor: Tensor) -> i32 {
        self.subgraph.tensors.push(tensor);
        (self.subgraph.tensors.len() - 1) as i32
    }

    /// A tensor that an operator or the caller fills; `shape` begins with the batch, 1.
    pub(super) fn computed(
        &mut self,
        name: String,
        r#type: TensorType,
        shape: Vec<i32>,
        quantization: Option<QuantizationParameters>,
    ) -> i32 {
        let mut shape_signature = Vec::new();
        if self.any_batch {
            shape_signature.clone_from(&shape);
            shape_signature[0] = -1;
        }
        self.push(Tensor { shape, r#type, name, quantization, shape_signature, ..Tensor::default() })
    }

    /// A constant of little-endian bytes.
    pub(super) fn constant(
        &mut self,
        name: String,
        r#type: TensorType,
        shape: Vec<i32>,
        data: Vec<u8>,
        quantization: Option<QuantizationParameters>,
    ) -> i32 {
        let model = &mut self.model;
        let buffer = *self.buffers.entry(data).or_insert_with_key(|data| model.add_buffer(data.clone()));
        self.push(Tensor { shape, r#type, buffer, name, quantization, ..Tensor::default() })
    }

    /// An f32 tensor that is computed from constants, of the same shape for every batch.
    pub(super) fn widened(&mut self, name: String, shape: Vec<i32>) -> i32 {
        self.push(Tensor { shape, r#type: TensorType::FLOAT32, name, ..Tensor::default() })
    }

    /// A constant of int32 numbers: shapes, axes, amounts of padding. Equal ones are kept once.
    pub(super) fn integers(&mut self, shape: &[i32], values: &[i32]) -> i32 {
        let key = (shape.to_vec(), values.to_vec());
        if let Some(&tensor) = self.integers.get(&key) {
            return tensor;
        }
        let data = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = format!("integers/{}", self.integers.len());
        let tensor = self.constant(name, TensorType::INT32, shape.to_vec(), data, None);
        self.integers.insert(key, tensor);
        tensor
    }

    /// An operator with one result.
    pub(super) fn operator(
        &mut self,
        operator: BuiltinOperator,
        version: i32,
        inputs: &[i32],
        output: i32,
        builtin_options: BuiltinOptions,
    ) {
        let opcode_index = self.model.intern_operator(OperatorCode::builtin(operator, version));
        self.subgraph.operators.push(Operator {
            opcode_index,
            inputs: inputs.to_vec(),
            outputs: vec![output],
            builtin_options,
            ..Operator::default()
        });
    }

    /// The sizes of a tensor, batch included.
    pub(super) fn shape(&self, tensor: i32) -> &[i32] {
        &self.subgraph.tensors[tensor as usize].shape
    }

    /// Calls a tensor by another name.
    pub(super) fn rename(&mut self, tensor: i32, name: &str) {
        self.subgraph.tensors[tensor as usize].name = name.to_owned();
    }

    /// Whether an operator computes the tensor.
    pub(super) fn is_computed(&self, tensor: i32) -> bool {
        self.subgraph.operators.iter().any(|operator| operator.outputs.contains(&tensor))
    }

    /// What stands for the batch in a shape that an operator is told.
    pub(super) fn batch(&self) -> i32 {
        if self.any_batch { -1 } else { 1 }
    }

    /// The file, from one input to one output, with the names of both in its signature.
    pub(super) fn finish(mut self, input: i32, output: i32, notes: &[(&str, &str)]) -> Model {
        let map = |tensor: i32| {
            let name = self.subgraph.tensors[tensor as usize].name.clone();
            vec![TensorMap { name, tensor_index: tensor as u32, ..TensorMap::default() }]
        };
        let signature = SignatureDef {
            inputs: map(input),
            outputs: map(output),
            signature_key: "serving_default".to_owned(),
            ..SignatureDef::default()
        };
        for (name, text) in notes {
            let buffer = self.model.add_buffer(text.as_bytes().to_vec());
            self.model.metadata.push(Metadata { name: (*name).to_owned(), buffer, ..Metadata::default() });
        }
        self.subgraph.inputs = vec![input];
        self.subgraph.outputs = vec![output];
        self.model.subgraphs.push(self.subgraph);
        self.model.signature_defs.push(signature);
        self.model
    }
}
