//! The file and the files beside it that hold its weights.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use qat_formats::onnx::{self, ExternalData, Model};

use crate::graph::ImportError;

/// How often the bytes of a file with weights may be read: tensors may share them.
const READS: u64 = 4;

/// A model's file, read.
pub(super) struct ModelFile {
    pub(super) path: PathBuf,
    pub(super) model: Model,
    /// Length of each file with weights.
    lengths: HashMap<PathBuf, u64>,
    /// Bytes that may still be read from them.
    left: u64,
}

impl ModelFile {
    pub(super) fn read(path: &Path) -> Result<Self, ImportError> {
        let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
        let model = onnx::read(&bytes).map_err(|source| ImportError::Onnx { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), model, lengths: HashMap::new(), left: 0 })
    }

    /// A tensor with its elements, wherever the file keeps them.
    pub(super) fn with_elements(&mut self, tensor: &onnx::Tensor) -> Result<onnx::Tensor, ImportError> {
        let external = ExternalData::of(tensor).map_err(|source| ImportError::Onnx { path: self.path.clone(), source })?;
        match external {
            None => Ok(tensor.clone()),
            Some(external) => {
                let raw_data = Some(self.external(tensor, &external)?);
                let name = tensor.name.clone();
                Ok(onnx::Tensor {
                    name,
                    raw_data,
                    dims: tensor.dims.clone(),
                    data_type: tensor.data_type,
                    ..onnx::Tensor::default()
                })
            }
        }
    }

    fn external(&mut self, tensor: &onnx::Tensor, external: &ExternalData) -> Result<Vec<u8>, ImportError> {
        let refuse = |expected, found: String| ImportError::Weights {
            path: self.path.clone(),
            tensor: tensor.name().to_owned(),
            expected,
            found,
        };
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let path = folder.join(&external.location);
        let unreadable = |source| ImportError::Read { path: path.clone(), source };
        // Names do not leave the folder, which the reader of the format checks; links could.
        let (real, home) = (path.canonicalize().map_err(unreadable)?, folder.canonicalize().map_err(unreadable)?);
        if !real.starts_with(&home) {
            return Err(refuse("a file inside the model's folder", real.display().to_string()));
        }
        let mut file = File::open(&real).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(refuse("a plain file", real.display().to_string()));
        }
        let count = tensor.element_count().zip(tensor.element_type().and_then(onnx::DataType::bits));
        let Some(bytes) = count.and_then(|(count, bits)| Some(count.checked_mul(bits)?.div_ceil(8) as u64)) else {
            return Err(refuse("elements of a fixed size", format!("{:?}", tensor.element_type())));
        };
        let end = external.offset.checked_add(bytes);
        if end.is_none_or(|end| end > metadata.len()) {
            return Err(refuse(
                "a file that has all elements",
                format!("{} bytes at {} of {} in {}", bytes, external.offset, metadata.len(), external.location),
            ));
        }
        let over_read = refuse("tensors with bytes of their own", format!("more bytes than {} has", external.location));
        if self.lengths.insert(real, metadata.len()).is_none() {
            self.left = self.left.saturating_add(metadata.len().saturating_mul(READS));
        }
        self.left = self.left.checked_sub(bytes).ok_or(over_read)?;
        let mut raw = vec![0; bytes as usize];
        file.seek(SeekFrom::Start(external.offset)).and_then(|_| file.read_exact(&mut raw)).map_err(unreadable)?;
        Ok(raw)
    }
}
