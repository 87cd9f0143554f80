//! scratch
use burn::tensor::{Device, Tensor};
use qat::{fake_quantize::round_ste, *};
#[test]
fn time() {
    let device = Device::flex().autodiff();
    let x = Tensor::<4>::ones([64, 16, 32, 32], &device) * 0.37;
    let q = FakeQuantize::new(IntegerFormat::INT8, RangeSign::NonNegative, ObserverKind::MinMax, &device)
        .with_range(0.0, 1.0)
        .with_mode(Mode::Quantize);
    for round in 0..6 {
        let t = std::time::Instant::now();
        let x1 = x.clone().require_grad();
        let g = q.forward(x1.clone()).tensor.sum().backward();
        let _ = x1.grad(&g).unwrap().sum().into_data();
        let with = t.elapsed();
        let t = std::time::Instant::now();
        let x1 = x.clone().require_grad();
        let high = q.max.val().clamp_min(0.0);
        let scale = (high / 255.0).clamp_min(MIN_SCALE);
        let step = scale.clone().reshape([1; 4]);
        let codes = round_ste(x1.clone() / step.clone());
        let g = (codes.clamp(0.0, 255.0) * step).sum().backward();
        let _ = x1.grad(&g).unwrap().sum().into_data();
        println!("{round}: with {with:?} without {:?}", t.elapsed());
    }
}
