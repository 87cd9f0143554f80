//! The ResNet-20 that others have trained. Runs where `QAT_SHARED` names the folder of shared models and datasets.

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use qat_train::Classifier;
use qat_train::data::{Split, resolve};
use qat_train::pretrained::{Rename, Weights};
use qat_train::zoo::ZooModel;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
/// Of the 1,017 lossless test records; what PyTorch gets right.
const RIGHT: usize = 932;

pub fn shared() -> Option<PathBuf> {
    let shared = std::env::var_os("QAT_SHARED").map(PathBuf::from);
    if shared.is_none() {
        eprintln!("skipped: QAT_SHARED is not set");
    }
    shared
}

#[test]
fn it_is_as_right_as_in_pytorch() {
    let Some(shared) = shared() else { return };
    let device = Device::flex();
    let weights = Weights::open(&shared.join("models/resnet20-12fca82f.th")).unwrap();
    let net = weights.load_into(ZooModel::ResNet20.init(&device, 1), &Rename::none()).unwrap();
    let folder = shared.join("datasets/cifar10/lossless");
    let set = resolve(folder.to_str().unwrap()).unwrap().load(Split::Test).unwrap();
    assert_eq!(set.len(), 1_017);
    let [c, h, w] = set.shape;
    let mut right = 0;
    for (images, labels) in set.to_f32().chunks(113 * c * h * w).zip(set.labels.chunks(113)) {
        let normalized = images.iter().enumerate().map(|(index, real)| {
            let channel = index / (h * w) % c;
            (real - MEAN[channel]) / STD[channel]
        });
        let data = TensorData::new(normalized.collect::<Vec<f32>>(), [labels.len(), c, h, w]);
        let classes: Vec<i64> = net.logits(Tensor::from_data(data, &device)).argmax(1).into_data().iter().collect();
        right += classes.iter().zip(labels).filter(|(class, label)| **class == i64::from(**label)).count();
    }
    assert_eq!(right, RIGHT);
}
