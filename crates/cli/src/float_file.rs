//! Float models in files: weights of a network of the zoo, or a graph.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use qat::graph::{import_onnx, import_tflite};
use qat::{Mode, QConfig, QatModel};
use qat_train::pretrained::{Rename, Weights};
use qat_train::zoo::{ZooModel, ZooNet};
use qat_train::{Pretrained, RunDirectory, recipe};

use crate::error::CliError;

/// A float model in a file.
#[derive(Clone, Debug)]
pub struct FloatFile {
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub kind: FloatKind,
}

/// What a file of a float model holds.
#[derive(Clone, Debug)]
pub enum FloatKind {
    /// The weights of a network of the zoo.
    Weights {
        /// The network.
        zoo: ZooModel,
        /// Rules that give the file's tensors the network's names.
        rename: Vec<String>,
    },
    /// An ONNX graph.
    Onnx,
    /// A TensorFlow Lite graph.
    Tflite,
}

impl FloatFile {
    /// The copy that a run keeps of its pretrained model; `None` for a run that trained its own.
    ///
    /// # Errors
    /// The run is of a model that there is not.
    pub fn of_run(run: &RunDirectory) -> Result<Option<Self>, CliError> {
        let manifest = run.manifest();
        let (Some(path), Some(pretrained)) = (run.source(), &manifest.pretrained) else { return Ok(None) };
        let kind = match path.extension().and_then(|extension| extension.to_str()) {
            _ if manifest.model != pretrained.file => {
                FloatKind::Weights { zoo: crate::model::zoo(&manifest.model, run.path())?, rename: pretrained.rename.clone() }
            }
            Some("tflite") => FloatKind::Tflite,
            _ => FloatKind::Onnx,
        };
        Ok(Some(Self { path, kind }))
    }

    /// The network of the zoo, unless the file has its own graph.
    pub fn zoo(&self) -> Option<ZooModel> {
        match self.kind {
            FloatKind::Weights { zoo, .. } => Some(zoo),
            FloatKind::Onnx | FloatKind::Tflite => None,
        }
    }

    /// Where a run keeps the file.
    pub fn pretrained(&self) -> Pretrained {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let rename = if let FloatKind::Weights { rename, .. } = &self.kind { rename.clone() } else { Vec::new() };
        Pretrained { file: format!("source/{name}"), rename }
    }

    /// The files beside it that it needs, by their paths from its folder.
    pub fn beside(&self) -> Vec<PathBuf> {
        use qat_formats::onnx;
        if !matches!(self.kind, FloatKind::Onnx) {
            return Vec::new();
        }
        let Some(model) = std::fs::read(&self.path).ok().and_then(|bytes| onnx::read(&bytes).ok()) else { return Vec::new() };
        let tensors = model.graph.iter().flat_map(|graph| &graph.initializer);
        let places = tensors.filter_map(|tensor| onnx::ExternalData::of(tensor).ok().flatten());
        let mut files: Vec<PathBuf> = places.map(|place| place.location.into()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// What a run calls its model.
    pub fn model_name(&self) -> String {
        self.zoo().map_or_else(|| self.pretrained().file, |zoo| zoo.name().to_owned())
    }

    /// The network with the file's weights; `None` for a graph.
    ///
    /// # Errors
    /// The file does not fit the network, with all that is wrong.
    pub fn net(&self, device: &Device) -> Result<Option<ZooNet>, CliError> {
        let FloatKind::Weights { zoo, rename } = &self.kind else { return Ok(None) };
        let rename = rules(rename)?.then(zoo.rename());
        Ok(Some(Weights::open(&self.path)?.load_into(zoo.init(device, 0), &rename)?))
    }

    /// The model with quantizers in place, computing in float.
    ///
    /// # Errors
    /// The file cannot be read, or its model cannot be quantized.
    pub fn prepared(&self, config: &QConfig, device: &Device) -> Result<QatModel, CliError> {
        let model = match (self.net(device)?, &self.kind) {
            (Some(net), _) => recipe::prepare(&net, net.model().input_shape(), config)?,
            (None, FloatKind::Tflite) => QatModel::from_imported(import_tflite(&self.path)?, config, device)?,
            (None, _) => QatModel::from_imported(import_onnx(&self.path)?, config, device)?,
        };
        Ok(model.with_mode(Mode::Float))
    }
}

/// Rules of renaming as the command line takes them.
///
/// # Errors
/// The first that is none.
pub fn rules(rename: &[String]) -> Result<Rename, CliError> {
    Ok(rename.iter().try_fold(Rename::none(), |rules, rule| rules.with_rule(rule))?)
}

/// Whether a `.tflite` file takes real numbers and has no integers inside; `false` for what cannot be read.
pub fn is_float_tflite(path: &Path) -> bool {
    use qat_formats::tflite::{TensorType, read};
    let Some(file) = std::fs::read(path).ok().and_then(|bytes| read(&bytes).ok()) else { return false };
    let codes = [TensorType::INT8, TensorType::UINT8, TensorType::INT16];
    file.subgraphs.iter().all(|graph| {
        let tensor = |index: &i32| usize::try_from(*index).ok().and_then(|index| graph.tensors.get(index));
        let activations = graph.operators.iter().flat_map(|operator| &operator.outputs).chain(&graph.inputs);
        !activations.filter_map(tensor).any(|tensor| codes.contains(&tensor.r#type))
    })
}
