//! safetensors files of real weights: read whole, written with PyTorch's names.

use std::{collections::HashMap, path::Path};

use burn::{
    store::{bridge, burn_pack::Tensor as PackTensor},
    tensor::{DType, TensorData},
};
use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize},
};

use super::Layout;

/// Key of the header's metadata that an integer checkpoint has.
const INTEGERS: &str = "qat";

/// The tensors of a file and how they are laid out; `Err` says what is wrong.
pub(super) fn tensors(bytes: &[u8]) -> Result<(Layout, Vec<PackTensor>), String> {
    let metadata = metadata(bytes)?;
    if metadata.contains_key(INTEGERS) {
        return Err("an integer checkpoint of this program".into());
    }
    // Burn's store says so unless a PyTorch tool has written the file.
    let layout = if metadata.get("producer").is_some_and(|producer| producer == "burn") { Layout::Burn } else { Layout::PyTorch };
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let tensor = |(name, view): (String, TensorView<'_>)| {
        let dtype = dtype(view.dtype()).ok_or_else(|| format!("{name}: elements of type {}", view.dtype()))?;
        let data = TensorData::try_from_bytes_vec(view.data().to_vec(), view.shape(), dtype);
        Ok(bridge::from_data(data.map_err(|error| format!("{name}: {error}"))?, name, None))
    };
    Ok((layout, file.tensors().into_iter().map(tensor).collect::<Result<_, String>>()?))
}

/// A file of such tensors, as PyTorch's tools expect it.
pub(super) fn bytes(tensors: Vec<(String, TensorData)>) -> Result<Vec<u8>, String> {
    let views = tensors.iter().map(|(name, data)| {
        let dtype = safetensors_dtype(data.dtype()).ok_or_else(|| format!("{name}: elements of type {:?}", data.dtype()))?;
        let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes());
        Ok((name.as_str(), view.map_err(|error| format!("{name}: {error}"))?))
    });
    let views = views.collect::<Result<Vec<_>, String>>()?;
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    serialize(views, Some(metadata)).map_err(|error| error.to_string())
}

/// Whether a `.safetensors` file is an integer checkpoint of this program; `None` where its header cannot be read.
pub fn is_integer_checkpoint(path: &Path) -> Option<bool> {
    let bytes = std::fs::read(path).ok()?;
    Some(metadata(&bytes).ok()?.contains_key(INTEGERS))
}

fn metadata(bytes: &[u8]) -> Result<HashMap<String, String>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    Ok(header.metadata().clone().unwrap_or_default())
}

const DTYPES: [(Dtype, DType); 12] = [
    (Dtype::F64, DType::F64),
    (Dtype::F32, DType::F32),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I64, DType::I64),
    (Dtype::I32, DType::I32),
    (Dtype::I16, DType::I16),
    (Dtype::I8, DType::I8),
    (Dtype::U64, DType::U64),
    (Dtype::U32, DType::U32),
    (Dtype::U16, DType::U16),
    (Dtype::U8, DType::U8),
];

fn dtype(dtype: Dtype) -> Option<DType> {
    DTYPES.iter().find(|(theirs, _)| *theirs == dtype).map(|(_, ours)| *ours)
}

fn safetensors_dtype(dtype: DType) -> Option<Dtype> {
    DTYPES.iter().find(|(_, ours)| *ours == dtype).map(|(theirs, _)| *theirs)
}
