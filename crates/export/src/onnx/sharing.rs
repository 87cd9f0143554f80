//! Constants that several nodes have, once: a layer that is applied several times has its weights as often in the model.

use std::collections::HashMap;

use qat_formats::onnx::{Node, Tensor};

/// Bytes below which a tensor is left alone, and zeros of any length are: what different layers have alike by chance keeps the
/// names of its layers.
const SMALL: usize = 64;

/// What makes two constants equal: data type, dimensions, bytes.
type Content = (Option<i32>, Vec<i64>, Vec<u8>);

/// Removes initializers that are equal to an earlier one, and has their readers read that one.
pub(super) fn share_constants(initializers: &mut Vec<Tensor>, nodes: &mut [Node]) {
    let mut first: HashMap<Content, String> = HashMap::new();
    let mut instead = HashMap::new();
    initializers.retain(|tensor| {
        let bytes = tensor.raw_data.clone().unwrap_or_default();
        if bytes.len() < SMALL || bytes.iter().all(|&byte| byte == 0) {
            return true;
        }
        let key = (tensor.data_type, tensor.dims.clone(), bytes);
        match first.get(&key) {
            Some(name) => {
                instead.insert(tensor.name().to_owned(), name.clone());
                false
            }
            None => {
                first.insert(key, tensor.name().to_owned());
                true
            }
        }
    });
    for input in nodes.iter_mut().flat_map(|node| &mut node.input) {
        if let Some(name) = instead.get(input) {
            input.clone_from(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_formats::onnx::DataType;

    #[test]
    fn equal_constants_are_kept_once_and_small_ones_as_they_are() {
        let tensor =
            |name: &str, byte: u8, length: usize| Tensor::new(name, DataType::Int8, &[length as i64], vec![byte; length]);
        let mut initializers =
            vec![tensor("a", 1, 64), tensor("b", 1, 64), tensor("c", 2, 64), tensor("d", 1, 4), tensor("e", 1, 4)];
        initializers.extend([tensor("f", 0, 64), tensor("g", 0, 64)]);
        let mut nodes = [Node::new("Concat", "n", &["a", "b", "c", "d", "e", "g"], &["y"])];
        share_constants(&mut initializers, &mut nodes);
        assert_eq!(initializers.iter().map(Tensor::name).collect::<Vec<_>>(), ["a", "c", "d", "e", "f", "g"]);
        assert_eq!(nodes[0].input, ["a", "a", "c", "d", "e", "g"]);
    }
}
