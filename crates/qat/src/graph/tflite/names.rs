//! Names for layers out of the names of tensors, which converters join from those of the source model's operations.

use qat_formats::tflite::Model;

use super::{Reader, Site};

/// How the last part of an operation's name begins, behind that of its layer.
const OPERATIONS: [&str; 9] = [
    "Conv2D",
    "convolution",
    "depthwise",
    "MatMul",
    "Tensordot",
    "conv2d_transpose",
    "conv_transpose",
    "embedding_lookup",
    "BiasAdd",
];

/// The layer that a tensor's name speaks of, as in `model/conv2d` of `model/conv2d/Conv2D;model/conv2d/BiasAdd`; `None` if it
/// names none.
fn layer_of(name: &str) -> Option<&str> {
    let without_operation = |path: &str| -> Option<usize> {
        let (layer, operation) = path.rsplit_once('/')?;
        let operation = operation.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
        (OPERATIONS.contains(&operation) && !layer.is_empty()).then_some(layer.len())
    };
    name.split(';').find_map(|part| {
        // An operation may consist of others, as in `dense/Tensordot/MatMul`.
        let mut layer = &part[..without_operation(part)?];
        while let Some(length) = without_operation(layer) {
            layer = &layer[..length];
        }
        Some(layer)
    })
}

/// What the caller knows an input or output of the first subgraph by: its name in the signature, else its tensor's.
pub(super) fn of_caller(file: &Model, tensor: usize, is_input: bool) -> String {
    let signature = file.signature_defs.iter().find(|signature| signature.subgraph_index == 0);
    let maps = signature.map(|signature| if is_input { &signature.inputs } else { &signature.outputs });
    let map = maps.into_iter().flatten().find(|map| map.tensor_index as usize == tensor);
    let name = map.map_or(file.subgraphs[0].tensors[tensor].name.as_str(), |map| map.name.as_str());
    match name {
        "" if is_input => "input".into(),
        "" => "output".into(),
        name => name.to_owned(),
    }
}

impl Reader<'_> {
    /// The name of the layer with a weight: what its tensors say, else the operator and its position.
    pub(super) fn layer_name(&self, site: &Site, weight: usize) -> String {
        let weight = &self.tensor(weight).name;
        let output = site.output().map(|y| self.tensor(y).name.as_str()).unwrap_or_default();
        if let Some(layer) = layer_of(weight).or_else(|| layer_of(output)) {
            return layer.to_owned();
        }
        // A name of the file's author; those of compilers say nothing.
        let own = weight.strip_suffix(".weight").unwrap_or(weight);
        match own.is_empty() || own.starts_with("arith.") || own.starts_with("tfl.") || own.contains(';') {
            true => format!("{}_{}", site.name.to_lowercase(), site.index),
            false => own.to_owned(),
        }
    }

    /// A name that no other node has.
    pub(super) fn unique(&mut self, name: String) -> String {
        let mut unique = name.clone();
        let mut copy = 1;
        while !self.taken.insert(unique.clone()) {
            unique = format!("{name}.{copy}");
            copy += 1;
        }
        unique
    }

    /// A path that no other layer's parameters have.
    pub(super) fn unique_path(&self, name: &str) -> String {
        let is_taken = |path: &str| {
            let weight = format!("{path}.weight");
            self.graph.constants.iter().any(|constant| constant.path.as_deref() == Some(&weight))
        };
        let mut path = name.to_owned();
        let mut copy = 1;
        while is_taken(&path) {
            path = format!("{name}.{copy}");
            copy += 1;
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::layer_of;

    #[test]
    fn layers_are_found_in_joined_names() {
        assert_eq!(layer_of("model/conv2d_1/Conv2D"), Some("model/conv2d_1"));
        assert_eq!(
            layer_of("model/activation/Relu;model/batch_norm/FusedBatchNormV3;model/conv2d/Conv2D1"),
            Some("model/conv2d")
        );
        assert_eq!(layer_of("functional_1/dense_1/MatMul"), Some("functional_1/dense_1"));
        assert_eq!(layer_of("model/rows/Tensordot/MatMul"), Some("model/rows"));
        assert_eq!(layer_of("arith.constant12"), None);
        assert_eq!(layer_of(""), None);
    }
}
