//! A user's own module, and files of its weights that PyTorch has written (`tests/peers/pytorch_weights.py`).

use std::path::PathBuf;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor, TensorData, activation::relu};
use qat_train::pretrained::{Rename, Weights};

/// Named as in PyTorch, but for `head`, which is `fc` there, and the list, where activations have no index here.
#[derive(Module, Debug)]
pub struct Tiny {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<Conv2d>,
    pub head: Linear,
}

impl Tiny {
    pub fn init(device: &Device) -> Self {
        Self {
            conv1: Conv2dConfig::new([1, 4], [3, 3]).with_stride([2, 2]).with_bias(false).init(device),
            bn1: BatchNormConfig::new(4).init(device),
            layer1: (0..2).map(|_| Conv2dConfig::new([4, 4], [1, 1]).init(device)).collect(),
            head: LinearConfig::new(4 * 3 * 3, 5).init(device),
        }
    }

    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let x = relu(self.bn1.forward(self.conv1.forward(images)));
        let x = self.layer1[1].forward(relu(self.layer1[0].forward(x)));
        self.head.forward(x.flatten::<2>(1, 3))
    }

    /// Outputs for the two images of the script.
    pub fn outputs(&self) -> Vec<f32> {
        let images: Vec<f32> = (0..128).map(|index| (index % 64) as f32 / 64.0 + (index / 64) as f32).collect();
        let images = Tensor::from_data(TensorData::new(images, [2, 1, 8, 8]), &Device::flex());
        self.forward(images).into_data().iter().collect()
    }
}

pub fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/weights").join(name)
}

/// From PyTorch's names to those of [`Tiny`].
pub fn rename() -> Rename {
    Rename::none().with(r"^fc\.", "head.").unwrap().with(r"^layer1\.2\.", "layer1.1.").unwrap()
}

pub fn loaded(name: &str) -> Tiny {
    Weights::open(&golden(name)).unwrap().load_into(Tiny::init(&Device::flex()), &rename()).unwrap()
}

/// Compares with the outputs that a script has written.
fn assert_near(net: &Tiny, text: &str, tolerance: f32) {
    let expected = text.lines().skip(1).flat_map(str::split_whitespace).map(|value| value.parse::<f32>().unwrap());
    let expected: Vec<f32> = expected.collect();
    let found = net.outputs();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= tolerance * expected.abs().max(0.02), "{found} where {expected} was computed");
    }
}

const OF_PYTORCH: &str = include_str!("../goldens/weights/outputs.txt");

#[test]
fn both_containers_of_pytorch_compute_what_they_computed() {
    for name in ["zip.pt", "legacy.pth"] {
        assert_near(&loaded(name), OF_PYTORCH, 1e-4);
    }
}

#[test]
fn half_precision_is_widened() {
    // A float16 has 11 bits, and outputs are small differences.
    assert_near(&loaded("half.safetensors"), OF_PYTORCH, 2e-2);
}

/// Written by an earlier Burn (`tests/peers/burn_record.rs`); its numbers are such that half precision holds them.
#[test]
fn records_of_an_earlier_burn_compute_what_they_computed() {
    for name in ["burn.mpk", "burn-half.mpk"] {
        let net = Weights::open(&golden(name)).unwrap().load_into(Tiny::init(&Device::flex()), &Rename::none()).unwrap();
        assert_near(&net, include_str!("../goldens/weights/burn.txt"), 1e-5);
    }
}

/// A linear layer's matrix is that of a convolution of 1 by 1, in the same order.
#[test]
fn a_matrix_fits_a_convolution_of_one_by_one() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("tiny.safetensors");
    qat_train::pretrained::save_pytorch(&path, &loaded("zip.pt")).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let flat = file.tensors().into_iter().map(|(name, view)| {
        let shape = if name.starts_with("layer1") && view.shape().len() == 4 { vec![4, 4] } else { view.shape().to_vec() };
        (name, safetensors::tensor::TensorView::new(view.dtype(), shape, view.data()).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(flat.collect::<Vec<_>>(), None).unwrap()).unwrap();
    let weights = Weights::open(&path).unwrap();
    let net = weights.load_into(Tiny::init(&Device::flex()), &Rename::none()).unwrap();
    assert_eq!(net.outputs(), loaded("zip.pt").outputs());
    let back = weights.with_weights_of(&net, &Rename::none()).unwrap();
    let back = safetensors::SafeTensors::deserialize(&back).unwrap();
    assert_eq!(back.tensor("layer1.0.weight").unwrap().shape(), [4, 4], "as the file had it");
}
