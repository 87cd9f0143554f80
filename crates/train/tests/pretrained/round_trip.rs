//! Back: the weights of a module in a file that the original's program takes.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, Tensor};
use qat_train::pretrained::{Rename, Weights, save_bytes, save_pytorch};
use qat_train::zoo::ZooModel;
use tempfile::TempDir;

use crate::resnet20::shared;
use crate::tiny::{Tiny, golden, loaded, rename};

/// Names and shapes.
fn listing(path: &Path) -> BTreeMap<String, Vec<usize>> {
    Weights::open(path).unwrap().tensors().map(|(name, shape)| (name.to_owned(), shape)).collect()
}

/// Stands for training.
struct Halve;

impl ModuleMapper for Halve {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor * 0.5)
    }
}

#[test]
fn a_trained_module_goes_back_under_the_files_own_keys() {
    let folder = TempDir::new().unwrap();
    let original = Weights::open(&golden("zip.pt")).unwrap();
    let trained = loaded("zip.pt").map(&mut Halve);
    let out = folder.path().join("trained.safetensors");
    save_bytes(&out, &original.with_weights_of(&trained, &rename()).unwrap()).unwrap();
    assert_eq!(listing(&out), listing(&golden("zip.pt")));

    let again = Weights::open(&out).unwrap().load_into(Tiny::init(&Device::flex()), &rename()).unwrap();
    assert_eq!(again.outputs(), trained.outputs());
    assert_ne!(again.outputs(), loaded("zip.pt").outputs());
}

#[test]
fn a_module_of_ones_own_goes_out_as_pytorch_names_it() {
    let folder = TempDir::new().unwrap();
    let net = loaded("zip.pt");
    let out = folder.path().join("own.safetensors");
    save_pytorch(&out, &net).unwrap();
    let found = listing(&out);
    assert_eq!(found["head.weight"], [5, 36], "a matrix as PyTorch lays it out");
    assert_eq!(found["bn1.weight"], [4]);
    assert_eq!(found["bn1.running_var"], [4]);
    let again = Weights::open(&out).unwrap().load_into(Tiny::init(&Device::flex()), &Rename::none()).unwrap();
    assert_eq!(again.outputs(), net.outputs());
}

/// Where `QAT_PYTHON` names an interpreter with safetensors and numpy.
#[test]
fn the_python_package_reads_what_is_written() {
    let Some(python) = std::env::var_os("QAT_PYTHON") else {
        eprintln!("skipped: QAT_PYTHON is not set");
        return;
    };
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("own.safetensors");
    save_pytorch(&out, &loaded("zip.pt")).unwrap();
    let program = "import sys, safetensors.numpy as s\n\
                   for k, v in sorted(s.load_file(sys.argv[1]).items()): print(k, *v.shape, v.dtype)";
    let output = Command::new(python).args(["-c", program]).arg(&out).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let expected: Vec<String> = listing(&out)
        .into_iter()
        .map(|(name, shape)| format!("{name} {} float32", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), expected, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn resnet20_goes_back_with_the_keys_it_came_with() {
    let Some(shared) = shared() else { return };
    let path = shared.join("models/resnet20-12fca82f.th");
    let original = Weights::open(&path).unwrap();
    let net = original.load_into(ZooModel::ResNet20.init(&Device::flex(), 1), &Rename::none()).unwrap();
    let folder = TempDir::new().unwrap();
    let out = folder.path().join("resnet20.safetensors");
    save_bytes(&out, &original.with_weights_of(&net, &Rename::none()).unwrap()).unwrap();
    let of_file: BTreeMap<String, Vec<usize>> = listing(&path)
        .into_iter()
        .filter_map(|(name, shape)| Some((name.strip_prefix("state_dict.")?.to_owned(), shape)))
        .collect();
    assert_eq!(of_file.len(), 97);
    assert_eq!(listing(&out), of_file);
}
