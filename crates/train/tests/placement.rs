//! Golden listings: which layers each zoo model is made of, and where its quantizers sit.

use std::path::Path;

use burn::tensor::Device;
use qat::graph::{capture, fuse, place};
use qat_train::Classifier;
use qat_train::zoo::{ZooModel, ZooNet};

/// Layers and grids, in one text.
fn listing(model: ZooModel) -> String {
    let device = Device::flex();
    let [c, h, w] = model.input_shape();
    let graph = fuse(capture(&model.init(&device, 1), [1, c, h, w], ZooNet::logits).unwrap()).unwrap();
    format!("{}\n\n{}", graph.listing(), place(&graph).listing(&graph))
}

/// Compares with the golden listing of that name, or writes it where `QAT_BLESS` is set, to be read before it is committed.
fn check(model: ZooModel, name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{name}.txt"));
    let found = listing(model);
    if std::env::var_os("QAT_BLESS").is_some() {
        std::fs::write(&path, format!("{}\n", found.trim_end())).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap().trim_end());
}

#[test]
fn mlp() {
    check(ZooModel::Mlp, "mlp");
}

#[test]
fn lenet() {
    check(ZooModel::LeNet, "lenet");
}

#[test]
fn resnet8() {
    check(ZooModel::ResNet8, "resnet8");
}

#[test]
fn resnet20() {
    check(ZooModel::ResNet20, "resnet20");
}

#[test]
fn ds_cnn() {
    check(ZooModel::DsCnn, "ds_cnn");
}

#[test]
fn lstm() {
    check(ZooModel::Lstm, "lstm");
}

#[test]
fn gru() {
    check(ZooModel::Gru, "gru");
}

#[test]
fn tfc() {
    check(ZooModel::Tfc, "tfc");
}

#[test]
fn sfc() {
    check(ZooModel::Sfc, "sfc");
}

#[test]
fn lfc() {
    check(ZooModel::Lfc, "lfc");
}

#[test]
fn cnv() {
    check(ZooModel::Cnv, "cnv");
}

#[test]
fn mobilenet() {
    check(ZooModel::MobileNet, "mobilenet");
}
