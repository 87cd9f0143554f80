//! Weights that were trained elsewhere: PyTorch, safetensors and Burn files into any Burn module, and back.
//!
//! ```text
//! .pt .pth .th ─┐                        ┌─▶ the user's own module
//! .safetensors ─┼─▶ Weights ─ Rename ────┤
//! .bpk .mpk ────┘                        └─◀ a .safetensors file with the same keys
//! ```
//!
//! PyTorch keeps a linear layer's matrix as `[d_output, d_input]` and calls a batch norm's γ and β `weight` and `bias`; Burn's adapters
//! translate. Everything is compared before anything is loaded: what is missing, unknown or of another shape is told at once, in the
//! file's own words. Not here: networks (see [`crate::zoo`]), files that hold a graph (the `qat` crate).
//!
//! ```no_run
//! use burn::tensor::Device;
//! use qat_train::pretrained::{Rename, Weights};
//! use qat_train::zoo::ZooModel;
//!
//! let network = ZooModel::ResNet20.init(&Device::default(), 1);
//! let network = Weights::open("resnet20.th".as_ref())?.load_into(network, &Rename::none())?;
//! # Ok::<(), qat_train::PretrainedError>(())
//! ```

mod error;
mod keys;
mod message_pack;
mod safetensors;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    store::{
        BurnToPyTorchAdapter, ChainAdapter, FloatCastAdapter, IdentityAdapter, ModuleAdapter, ModuleSnapshot,
        PyTorchToBurnAdapter, bridge,
        burn_pack::{Reader, Tensor as PackTensor},
        pytorch::PytorchReader,
    },
    tensor::{Bytes, DType, TensorData},
};

use crate::atomic;

pub use error::{Described, Differences, PretrainedError, Reshaped};
pub use keys::Rename;
pub use safetensors::is_integer_checkpoint;

/// Extensions of the files that hold weights alone.
pub const EXTENSIONS: [&str; 6] = ["pt", "pth", "th", "safetensors", "bpk", "mpk"];

/// PyTorch's count of batches that a batch norm has seen; Burn's has none.
const BATCH_COUNT: &str = "num_batches_tracked";

/// How layers' tensors are named and laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    PyTorch,
    Burn,
}

/// The tensors of a file, not yet read where the format allows it.
pub struct Weights {
    path: PathBuf,
    layout: Layout,
    /// Sorted by name.
    tensors: BTreeMap<String, PackTensor>,
}

/// A tensor of a file and the tensor of a network that it fits.
struct Fit<'a> {
    /// As the file names it.
    key: &'a str,
    /// The same without what names the part of the checkpoint that holds the network.
    own_key: &'a str,
    /// As the network names it, in the file's layout.
    name: String,
    /// The network's shape, in the file's layout.
    shape: Vec<usize>,
}

impl Weights {
    /// Reads the names and shapes of a `.pt`, `.pth`, `.th` (of any PyTorch), `.safetensors`, `.bpk` or `.mpk` file.
    ///
    /// # Errors
    /// [`PretrainedError::Extension`], [`PretrainedError::Read`], [`PretrainedError::Malformed`].
    pub fn open(path: &Path) -> Result<Self, PretrainedError> {
        let read = || fs::read(path).map_err(|source| PretrainedError::Read { path: path.into(), source });
        let malformed = |expected, found: String| PretrainedError::Malformed { path: path.into(), expected, found };
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let (layout, tensors) = match extension.as_deref() {
            Some("pt" | "pth" | "th") => (Layout::PyTorch, pytorch(path)?),
            Some("safetensors") => {
                safetensors::tensors(&read()?).map_err(|found| malformed("a .safetensors file of weights", found))?
            }
            Some("bpk") => {
                let reader = Reader::from_bytes(Bytes::from_bytes_vec(read()?)).and_then(Reader::into_tensors);
                let found = reader.map_err(|error| malformed("a burnpack record, .bpk", error.to_string()))?;
                (Layout::Burn, found)
            }
            Some("mpk") => {
                let found = message_pack::parameters(&read()?);
                (Layout::Burn, found.map_err(|found| malformed("a record of an earlier Burn, .mpk", found))?)
            }
            other => {
                let found = other.map_or_else(|| "no extension".into(), |other| format!(".{other}"));
                return Err(PretrainedError::Extension { path: path.into(), found });
            }
        };
        let tensors = tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Ok(Self { path: path.into(), layout, tensors })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names and shapes of all tensors, in alphabetical order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, Vec<usize>)> {
        self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.shape.to_vec()))
    }

    /// `module` with these weights and running statistics in place of its own, as float32.
    ///
    /// # Errors
    /// [`PretrainedError::Parameters`] lists everything that does not fit; [`PretrainedError::NonFinite`] for NaN and infinities;
    /// [`PretrainedError::Malformed`] for data that cannot be read.
    pub fn load_into<M: Module>(&self, mut module: M, rename: &Rename) -> Result<M, PretrainedError> {
        let fits = self.fit(&module, rename)?;
        let tensors = fits.iter().map(|fit| self.finite(fit)).collect::<Result<Vec<_>, _>>()?;
        let to_burn: Box<dyn ModuleAdapter> = match self.layout {
            Layout::PyTorch => Box::new(ChainAdapter::new(PyTorchToBurnAdapter, FloatCastAdapter::to(DType::F32))),
            Layout::Burn => Box::new(ChainAdapter::new(IdentityAdapter, FloatCastAdapter::to(DType::F32))),
        };
        // A statistic that the module has not taken in yet would take the place of what is loaded; a snapshot flushes it.
        drop(module.valid());
        let result = module.apply(tensors, None, Some(to_burn), self.layout == Layout::PyTorch);
        if let Some(error) = result.errors.first() {
            return Err(self.malformed(error.to_string()));
        }
        if let Some((name, _)) = result.missing.first() {
            return Err(self.malformed(format!("no use of {name}")));
        }
        Ok(module)
    }

    /// The bytes of a `.safetensors` file with the keys and shapes that the network has in this file, batch counts included, and the
    /// weights of `module`, which this file fits. Numbers are float32.
    ///
    /// # Errors
    /// As [`Weights::load_into`].
    pub fn with_weights_of<M: Module>(&self, module: &M, rename: &Rename) -> Result<Vec<u8>, PretrainedError> {
        let fits = self.fit(module, rename)?;
        let mut values: BTreeMap<String, PackTensor> =
            self.layout.of(module).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let mut tensors = Vec::new();
        for fit in &fits {
            let tensor = values.remove(&fit.name).ok_or_else(|| self.malformed(format!("no use of {}", fit.name)))?;
            let shape = self.tensors[fit.key].shape.to_vec();
            tensors.push((fit.own_key.to_owned(), reshaped(self.data(tensor)?, shape)));
        }
        let part = fits.first().map_or("", |fit| fit.key.strip_suffix(fit.own_key).unwrap_or(""));
        for (key, tensor) in self.tensors.iter().filter(|(key, _)| self.is_batch_count(key)) {
            if let Some(own_key) = key.strip_prefix(part) {
                tensors.push((own_key.to_owned(), self.data(tensor.clone())?));
            }
        }
        safetensors::bytes(tensors).map_err(|found| self.malformed(found))
    }

    /// Which tensor of the file is which of the network.
    fn fit<M: Module>(&self, module: &M, rename: &Rename) -> Result<Vec<Fit<'_>>, PretrainedError> {
        let expected: BTreeMap<String, PackTensor> =
            self.layout.of(module).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        let keys: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        let wanted: BTreeSet<&str> = expected.keys().map(String::as_str).collect();
        let keys::Named { part, names } = keys::named(&keys, &wanted, rename);

        let mut differences = Differences::default();
        let mut fits: Vec<Fit<'_>> = Vec::new();
        let described = |name: &str, tensor: &PackTensor| Described { name: name.into(), shape: tensor.shape.to_vec() };
        for (key, name) in keys.into_iter().zip(names) {
            let Some(name) = name else { continue };
            let found = &self.tensors[key];
            match expected.get(&name) {
                None if self.is_batch_count(key) => {}
                None => differences.unknown.push(described(key, found)),
                Some(_) if fits.iter().any(|fit| fit.name == name) => differences.ambiguous.push(name),
                Some(wanted) => {
                    if !is_same_layer(&wanted.shape.to_vec(), &found.shape.to_vec()) {
                        let (expected, found) = (wanted.shape.to_vec(), found.shape.to_vec());
                        differences.shapes.push(Reshaped { name: key.into(), expected, found });
                    } else if wanted.dtype.is_float() != found.dtype.is_float() {
                        differences.kinds.push(key.into());
                    }
                    let shape = wanted.shape.to_vec();
                    fits.push(Fit { key, shape, own_key: key.strip_prefix(part.as_str()).unwrap_or(key), name });
                }
            }
        }
        let is_there = |name: &str| fits.iter().any(|fit| fit.name == name);
        let missing = expected.iter().filter(|(name, _)| !is_there(name));
        differences.missing = missing.map(|(name, tensor)| described(name, tensor)).collect();
        if !differences.is_empty() {
            return Err(PretrainedError::Parameters {
                path: self.path.clone(),
                expected: expected.len(),
                differences: differences.into(),
            });
        }
        Ok(fits)
    }

    /// The tensor under the network's name, read and looked through.
    fn finite(&self, fit: &Fit<'_>) -> Result<PackTensor, PretrainedError> {
        let data = self.data(self.tensors[fit.key].clone())?;
        if data.dtype().is_float()
            && let Some((element, value)) = data.iter::<f64>().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(PretrainedError::NonFinite { path: self.path.clone(), tensor: fit.key.into(), element, value });
        }
        Ok(bridge::from_data(reshaped(data, fit.shape.clone()), fit.name.clone(), None))
    }

    fn data(&self, tensor: PackTensor) -> Result<TensorData, PretrainedError> {
        let name = tensor.name.clone();
        bridge::into_data(tensor).map_err(|error| self.malformed(format!("{name}: {error}")))
    }

    fn is_batch_count(&self, key: &str) -> bool {
        self.layout == Layout::PyTorch && key.rsplit('.').next() == Some(BATCH_COUNT)
    }

    fn malformed(&self, found: String) -> PretrainedError {
        PretrainedError::Malformed { path: self.path.clone(), expected: "readable weights", found }
    }
}

/// Whether shapes are equal, but for axes of 1 at the end: a linear layer's matrix is a convolution's of 1 by 1.
fn is_same_layer(a: &[usize], b: &[usize]) -> bool {
    let [a, b] = [a, b].map(|shape| shape.iter().rposition(|size| *size != 1).map_or(&shape[..0], |last| &shape[..=last]));
    a == b
}

/// The same numbers under a shape of as many.
fn reshaped(data: TensorData, shape: Vec<usize>) -> TensorData {
    let dtype = data.dtype();
    TensorData::from_bytes(data.into_bytes(), shape, dtype)
}

impl Layout {
    /// The tensors of a module, named and laid out so.
    fn of<M: Module>(self, module: &M) -> Vec<PackTensor> {
        match self {
            Self::PyTorch => module.collect(None, Some(Box::new(BurnToPyTorchAdapter)), true),
            Self::Burn => module.collect(None, None, false),
        }
    }
}

/// Writes the weights of `module` to a `.safetensors` file, named and laid out as PyTorch has them.
///
/// # Errors
/// [`PretrainedError::Write`]; the file that was there before is then untouched.
pub fn save_pytorch<M: Module>(path: &Path, module: &M) -> Result<(), PretrainedError> {
    let malformed = |found| PretrainedError::Malformed { path: path.into(), expected: "weights that can be written", found };
    let read = |tensor: PackTensor| Ok((tensor.name.clone(), bridge::into_data(tensor).map_err(|error| error.to_string())?));
    let tensors = Layout::PyTorch.of(&module.valid()).into_iter().map(read).collect::<Result<Vec<_>, _>>();
    let bytes = tensors.and_then(safetensors::bytes).map_err(malformed)?;
    save_bytes(path, &bytes)
}

/// Writes a file of weights as [`Weights::with_weights_of`] gives it.
///
/// # Errors
/// [`PretrainedError::Write`]; the file that was there before is then untouched.
pub fn save_bytes(path: &Path, bytes: &[u8]) -> Result<(), PretrainedError> {
    atomic::replace(path, bytes).map_err(|source| PretrainedError::Write { path: path.into(), source })
}

/// The tensors of a PyTorch file, whatever it keeps them in.
fn pytorch(path: &Path) -> Result<Vec<PackTensor>, PretrainedError> {
    // The system's own words are better than those of a reader of archives.
    fs::File::open(path).map_err(|source| PretrainedError::Read { path: path.into(), source })?;
    let malformed =
        |found: String| PretrainedError::Malformed { path: path.into(), expected: "a file that torch.save has written", found };
    let reader = PytorchReader::new(path).map_err(|error| malformed(error.to_string()))?;
    if reader.is_empty() {
        return Err(malformed("no tensors".into()));
    }
    Ok(reader.into_tensors().into_values().map(bridge::from_pytorch).collect())
}
