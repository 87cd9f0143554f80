//! Every way in which a file can be wrong, and what is said of it.

use std::fs;
use std::path::Path;

use burn::tensor::{Device, TensorData};
use qat_train::PretrainedError;
use qat_train::pretrained::{Rename, Weights, save_pytorch};
use qat_train::zoo::ZooModel;
use safetensors::{Dtype, tensor::TensorView};
use tempfile::TempDir;

use crate::tiny::{Tiny, golden, loaded, rename};

/// The message of a refused file, without its path.
fn refused(path: &Path, rename: &Rename) -> String {
    let weights = Weights::open(path).and_then(|weights| weights.load_into(Tiny::init(&Device::flex()), rename).map(drop));
    let error = weights.expect_err("the file is refused");
    error.to_string().replace(&path.display().to_string(), "FILE")
}

/// A file of Tiny's weights, as `change` leaves its tensors.
fn changed(folder: &TempDir, change: impl FnOnce(&mut Vec<(String, TensorData)>)) -> std::path::PathBuf {
    let own = folder.path().join("own.safetensors");
    save_pytorch(&own, &loaded("zip.pt")).unwrap();
    let bytes = fs::read(&own).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<(String, TensorData)> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let values: Vec<f32> = view.data().chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
            (name, TensorData::new(values, view.shape()))
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut tensors);
    let views = tensors.iter().map(|(name, data)| {
        let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes()).unwrap();
        (name.as_str(), view)
    });
    let path = folder.path().join("changed.safetensors");
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

#[test]
fn everything_that_does_not_fit_is_listed_at_once() {
    let folder = TempDir::new().unwrap();
    let path = changed(&folder, |tensors| {
        tensors.retain(|(name, _)| name != "bn1.bias" && name != "bn1.running_mean");
        tensors.push(("extra.weight".into(), TensorData::new(vec![0.0f32; 6], [2, 3])));
        let head = tensors.iter_mut().find(|(name, _)| name == "head.weight").unwrap();
        head.1 = TensorData::new(vec![0.0f32; 7 * 36], [7, 36]);
    });
    assert_eq!(
        refused(&path, &Rename::none()),
        "parameters, FILE: expected the 11 of the network, found 2 missing (bn1.bias [4], bn1.running_mean [4]); \
         1 unknown (extra.weight [2, 3]); 1 of another shape (head.weight should be [5, 36] and is [7, 36])"
    );
}

#[test]
fn unknown_names_are_told_in_the_files_words() {
    let message = refused(&golden("legacy.pth"), &Rename::none().with(r"^layer1\.2\.", "layer1.1.").unwrap());
    assert_eq!(
        message,
        "parameters, FILE: expected the 11 of the network, found 2 missing (head.bias [5], head.weight [5, 36]); \
         2 unknown (state_dict.module.fc.bias [5], state_dict.module.fc.weight [5, 36])"
    );
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let rename = rename().with(r"^bn1\.bias", "bn1.weight").unwrap();
    let message = refused(&golden("zip.pt"), &rename);
    assert!(message.contains("1 missing (bn1.bias [4]); 1 several times (bn1.weight)"), "{message}");
}

#[test]
fn a_weight_that_is_no_number_is_named() {
    for (value, text) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let folder = TempDir::new().unwrap();
        let path = changed(&folder, |tensors| {
            let conv = tensors.iter_mut().find(|(name, _)| name == "conv1.weight").unwrap();
            let mut values: Vec<f32> = conv.1.iter().collect();
            values[5] = value;
            conv.1 = TensorData::new(values, [4, 1, 3, 3]);
        });
        let message = refused(&path, &Rename::none());
        assert_eq!(message, format!("parameters, FILE tensor conv1.weight element 5: expected finite numbers, found {text}"));
    }
}

#[test]
fn files_that_are_something_else_are_told_so() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("a.pt", "a file that torch.save has written"),
        ("a.safetensors", "a .safetensors file of weights"),
        ("a.bpk", "a burnpack record, .bpk"),
        ("a.mpk", "a record of an earlier Burn, .mpk"),
    ] {
        let path = folder.path().join(name);
        for content in [&b""[..], b"no weights at all, only a text of some length"] {
            fs::write(&path, content).unwrap();
            let message = refused(&path, &Rename::none());
            assert!(message.starts_with(&format!("weights, FILE: expected {text}, found ")), "{message}");
        }
    }
    let message = refused(&folder.path().join("none.pth"), &Rename::none());
    assert!(message.starts_with("weights, FILE: expected a readable file, found "), "{message}");
    let message = refused(&folder.path().join("a.h5"), &Rename::none());
    assert_eq!(message, "weights, FILE: expected a .pt, .pth, .th, .safetensors, .bpk or .mpk file, found .h5");
}

#[test]
fn a_file_that_ends_early_is_refused() {
    let folder = TempDir::new().unwrap();
    for name in ["zip.pt", "legacy.pth", "half.safetensors", "burn.mpk"] {
        let whole = fs::read(golden(name)).unwrap();
        for part in 1..8 {
            let path = folder.path().join(name);
            fs::write(&path, &whole[..whole.len() * part / 8]).unwrap();
            let message = refused(&path, &rename());
            assert!(message.starts_with("weights, FILE: expected ") && message.contains(", found "), "{name} {part}: {message}");
        }
    }
}

#[test]
fn weights_of_another_network_of_the_zoo_are_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("mlp.safetensors");
    save_pytorch(&path, &ZooModel::Mlp.init(&Device::flex(), 1)).unwrap();
    let lenet = ZooModel::LeNet.init(&Device::flex(), 1);
    let error = Weights::open(&path).unwrap().load_into(lenet, &Rename::none()).unwrap_err();
    let PretrainedError::Parameters { differences, .. } = &error else { panic!("{error}") };
    assert!(!differences.missing.is_empty() && !differences.shapes.is_empty(), "{error}");
    assert!(error.hint().is_some());
}
