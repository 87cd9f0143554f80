//! `qat data`, and what `train` and `eval` say to data that is damaged.

mod command;

use std::fs;
use std::path::Path;

use command::{json, qat, refused, stdout, trained};
use tempfile::TempDir;

/// An IDX file of bytes.
fn idx(dimensions: &[u32], data: &[u8]) -> Vec<u8> {
    let magic = 0x0800 + dimensions.len() as u32;
    std::iter::once(&magic).chain(dimensions).flat_map(|word| word.to_be_bytes()).chain(data.iter().copied()).collect()
}

/// A folder of `images` train and test images of 28 by 28, with `labels` labels.
fn write(folder: &Path, images: u32, labels: u32) {
    for split in ["train", "t10k"] {
        let pixels = idx(&[images, 28, 28], &vec![7; images as usize * 784]);
        fs::write(folder.join(format!("{split}-images-idx3-ubyte")), pixels).unwrap();
        let classes: Vec<u8> = (0..labels).map(|label| (label % 10) as u8).collect();
        fs::write(folder.join(format!("{split}-labels-idx1-ubyte")), idx(&[labels], &classes)).unwrap();
    }
}

fn check(spec: &Path) -> std::process::Output {
    qat().args(["data", "check"]).arg(spec).output().unwrap()
}

#[test]
fn the_repositorys_mnist_is_the_published_one() {
    let report = json(["data", "check", "mnist"]);
    assert_eq!((report["train"].as_u64(), report["test"].as_u64()), (Some(60_000), Some(10_000)));
    assert!(report["verdicts"].as_array().unwrap().iter().all(|verdict| verdict == "published file"), "{report}");
    assert_eq!(report["files"].as_array().unwrap().len(), 4);
    let list = json(["data", "list"]);
    let found = |name: &str| list["datasets"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone();
    assert!(found("mnist")["folder"].is_string());
    assert_eq!(found("cifar10")["name"], "cifar10");
}

#[test]
fn folders_are_checked_by_their_structure() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), 20, 20);
    let output = check(folder.path());
    assert!(output.status.success());
    assert!(stdout(&output).contains("20 + 20 images of 1x28x28") && stdout(&output).contains("no published checksum"));
}

#[test]
fn damaged_data_is_refused() {
    let folder = TempDir::new().unwrap();
    let images = folder.path().join("t10k-images-idx3-ubyte");
    let eval = || qat().args(["eval", "--data"]).arg(folder.path()).arg(trained()).output().unwrap();
    refused(&check(&folder.path().join("none")), 1);
    assert!(refused(&check(folder.path()), 1).contains("found neither"));

    write(folder.path(), 20, 19);
    assert!(refused(&check(folder.path()), 1).contains("19"));
    assert!(refused(&eval(), 1).contains("count mismatch"));

    write(folder.path(), 20, 20);
    let whole = fs::read(&images).unwrap();
    for length in [0, 3, 15, 16, 17, whole.len() - 1] {
        fs::write(&images, &whole[..length]).unwrap();
        assert!(refused(&eval(), 1).contains("truncated"), "{length} bytes");
    }
    fs::write(&images, idx(&[u32::MAX, u32::MAX, u32::MAX], &[])).unwrap();
    assert!(refused(&eval(), 1).contains("too large"));
    fs::write(&images, idx(&[20, 14, 56], &vec![0; 20 * 784])).unwrap();
    assert!(refused(&eval(), 1).contains("[1, 28, 28]"));
    let mut wrong_label = idx(&[20], &[3; 20]);
    *wrong_label.last_mut().unwrap() = 10;
    fs::write(&images, &whole).unwrap();
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), wrong_label).unwrap();
    assert!(refused(&eval(), 1).contains("below 10"));
}

#[test]
fn a_named_dataset_that_is_not_the_published_one_is_refused() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("mnist");
    fs::create_dir(&folder).unwrap();
    write(&folder, 20, 20);
    let output = qat().env("QAT_DATASETS", root.path()).args(["data", "check", "mnist"]).output().unwrap();
    assert!(refused(&output, 1).contains("checksum"));
}
