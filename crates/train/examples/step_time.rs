//! scratch
use burn::{nn::loss::CrossEntropyLossConfig, optim::{AdamConfig, GradientsParams}, tensor::*, module::Module};
use qat_train::{zoo::ZooModel, classifier::Classifier};
use std::time::Instant;
fn main() {
    let name = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let m: ZooModel = name.parse().unwrap();
    let device = Device::flex().autodiff();
    let mut net = m.init(&device, 1);
    let mut optim = AdamConfig::new().init();
    let [c, h, w] = m.input_shape();
    let x = Tensor::<4>::random([n, c, h, w], Distribution::Uniform(0.0, 1.0), &device);
    let t = Tensor::<1, Int>::zeros([n], &device);
    let mut best = f64::MAX; let mut fw = f64::MAX;
    for _ in 0..12 {
        let s = Instant::now();
        let logits = net.logits(x.clone());
        let loss = CrossEntropyLossConfig::new().init(&device).forward(logits, t.clone());
        let _: f32 = loss.clone().into_scalar();
        fw = fw.min(s.elapsed().as_secs_f64());
        let grads = GradientsParams::from_grads(loss.backward(), &net);
        net = optim.step(1e-3, net, grads);
        best = best.min(s.elapsed().as_secs_f64());
    }
    println!("{name} batch {n}: {:.1} ms/step best of 12 (forward {:.1}), params {}", best * 1e3, fw * 1e3, net.num_params());
}
