//! Golden listings: which layers each zoo model is made of, and where its quantizers sit.

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

#[test]
fn mlp() {
    assert_eq!(listing(ZooModel::Mlp), include_str!("goldens/mlp.txt").trim_end());
}

#[test]
fn lenet() {
    assert_eq!(listing(ZooModel::LeNet), include_str!("goldens/lenet.txt").trim_end());
}

#[test]
fn resnet8() {
    assert_eq!(listing(ZooModel::ResNet8), include_str!("goldens/resnet8.txt").trim_end());
}

#[test]
fn resnet20() {
    assert_eq!(listing(ZooModel::ResNet20), include_str!("goldens/resnet20.txt").trim_end());
}

#[test]
fn ds_cnn() {
    assert_eq!(listing(ZooModel::DsCnn), include_str!("goldens/ds_cnn.txt").trim_end());
}

#[test]
fn lstm() {
    assert_eq!(listing(ZooModel::Lstm), include_str!("goldens/lstm.txt").trim_end());
}

#[test]
fn gru() {
    assert_eq!(listing(ZooModel::Gru), include_str!("goldens/gru.txt").trim_end());
}

#[test]
fn tfc() {
    assert_eq!(listing(ZooModel::Tfc), include_str!("goldens/tfc.txt").trim_end());
}

#[test]
fn sfc() {
    assert_eq!(listing(ZooModel::Sfc), include_str!("goldens/sfc.txt").trim_end());
}

#[test]
fn lfc() {
    assert_eq!(listing(ZooModel::Lfc), include_str!("goldens/lfc.txt").trim_end());
}

#[test]
fn cnv() {
    assert_eq!(listing(ZooModel::Cnv), include_str!("goldens/cnv.txt").trim_end());
}

#[test]
fn mobilenet() {
    assert_eq!(listing(ZooModel::MobileNet), include_str!("goldens/mobilenet.txt").trim_end());
}
