//! Records of an earlier Burn, `.mpk`, and what the network they belong to computes.
//!
//! A program of its own, for Burn 0.20.1 has its own records and cannot stand beside today's: `cargo new`, this file as `main.rs`,
//! `cargo add burn@=0.20.1 --no-default-features --features std,ndarray`, `cargo run -- crates/train/tests/goldens/weights`. Writes
//!
//! * `burn.mpk`, `burn-half.mpk`: a network's record in full and in half precision
//! * `burn.txt`: the network's outputs for the images of `pytorch_weights.py` (one image a line)

use burn::backend::NdArray;
use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::record::{FullPrecisionSettings, HalfPrecisionSettings, NamedMpkFileRecorder};
use burn::tensor::{activation::relu, backend::Backend, Tensor, TensorData};

#[derive(Module, Debug)]
struct Tiny<B: Backend> {
    conv1: Conv2d<B>,
    bn1: BatchNorm<B>,
    layer1: Vec<Conv2d<B>>,
    head: Linear<B>,
}

impl<B: Backend> Tiny<B> {
    fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 2> {
        let x = relu(self.bn1.forward(self.conv1.forward(images)));
        let x = self.layer1[1].forward(relu(self.layer1[0].forward(x)));
        self.head.forward(x.flatten::<2>(1, 3))
    }
}

/// Numbers in (0, 1) that half precision holds, another sequence for each tensor.
struct Fill(usize);

impl<B: Backend> ModuleMapper<B> for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.0 += 1;
        let step = 2 * self.0 + 1;
        param.map(|tensor| {
            let count = tensor.shape().num_elements();
            let values: Vec<f32> = (0..count).map(|i| ((i * step + 17) % 64 + 1) as f32 / 128.0).collect();
            let shape = tensor.shape();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}

fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).expect("a folder"));
    let device = Default::default();
    let net = Tiny::<NdArray> {
        conv1: Conv2dConfig::new([1, 4], [3, 3]).with_stride([2, 2]).with_bias(false).init(&device),
        bn1: BatchNormConfig::new(4).init(&device),
        layer1: (0..2).map(|_| Conv2dConfig::new([4, 4], [1, 1]).init(&device)).collect(),
        head: LinearConfig::new(4 * 3 * 3, 5).init(&device),
    };
    let net = net.map(&mut Fill(0));
    let images: Vec<f32> = (0..128).map(|i| (i % 64) as f32 / 64.0 + (i / 64) as f32).collect();
    let outputs = net.forward(Tensor::from_data(TensorData::new(images, [2, 1, 8, 8]), &device));
    let outputs: Vec<f32> = outputs.into_data().to_vec().expect("real numbers");
    let mut text = String::from("# burn_record.rs, burn 0.20.1, ndarray\n");
    for row in outputs.chunks(5) {
        text += &format!("{}\n", row.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "));
    }
    std::fs::write(folder.join("burn.txt"), text).expect("outputs are written");
    let save = |path: &str| folder.join(path);
    net.clone().save_file(save("burn"), &NamedMpkFileRecorder::<FullPrecisionSettings>::new()).expect("a record is written");
    net.save_file(save("burn-half"), &NamedMpkFileRecorder::<HalfPrecisionSettings>::new()).expect("a record is written");
}
