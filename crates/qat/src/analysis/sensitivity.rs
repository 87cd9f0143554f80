//! Which layer bears quantization badly: the noise at the model's output when one layer alone is quantized.
//!
//! For each quantizer in turn (that of the weight follows its mode), it is put to work together with the weight of its layer while everything else stays in float; the
//! SQNR of the output (see `sqnr`) is that layer's sensitivity, in decibels. The lowest is the layer to leave in more bits.

use burn::tensor::Tensor;

use super::sqnr::Sqnr;
use crate::fake_quantize::{FakeQuantize, Mode};
use crate::model::QatModel;

/// SQNR in decibels of the model's output with the input alone quantized, then with each layer alone, in execution order, over
/// `batches`; `None` for layers that share the grid of their input.
///
/// `model` is calibrated; its mode does not matter. Takes one forward pass for each quantizer and one more.
pub fn sensitivity<const I: usize>(model: &QatModel, batches: &[Tensor<I>]) -> Vec<Option<f64>> {
    let float = model.clone().with_mode(Mode::Float);
    let reference: Vec<Vec<f32>> = batches.iter().map(|batch| output(&float, batch)).collect();
    let noise = |quantized: &QatModel| {
        let mut ratio = Sqnr::default();
        for (batch, reference) in batches.iter().zip(&reference) {
            ratio.add(reference, &output(quantized, batch));
        }
        ratio.decibels()
    };
    let mut input_alone = float.clone();
    quantize(&mut input_alone.input);
    let mut all = vec![Some(noise(&input_alone))];
    for index in 0..float.layers.len() {
        let mut alone = float.clone();
        let quantizer = alone.layers[index].output_mut().map(quantize);
        all.push(quantizer.map(|()| noise(&alone)));
    }
    all
}

fn quantize(quantizer: &mut FakeQuantize) {
    *quantizer = quantizer.clone().with_mode(Mode::Quantize);
}

/// The numbers of the model's output.
fn output<const I: usize>(model: &QatModel, batch: &Tensor<I>) -> Vec<f32> {
    let mut numbers = Vec::new();
    model.run(batch.clone(), |value, activation| {
        if value == model.topology().output {
            numbers = activation.to_data().iter().collect();
        }
    });
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::layer_sqnr;
    use crate::config::QConfig;
    use crate::model::QatLayer;
    use burn::module::Module;
    use burn::nn::{Linear, LinearConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Distribution};

    #[derive(Module, Debug)]
    struct Net {
        first: Linear,
        second: Linear,
    }

    impl Net {
        fn forward(&self, x: Tensor<2>) -> Tensor<2> {
            self.second.forward(relu(self.first.forward(x)))
        }
    }

    const SEED: u64 = 7;

    /// A calibrated net and the batch it was calibrated on.
    fn calibrated() -> (QatModel, Tensor<2>) {
        println!("seed {SEED}");
        let device = Device::flex();
        device.seed(SEED);
        let net = Net { first: LinearConfig::new(6, 12).init(&device), second: LinearConfig::new(12, 4).init(&device) };
        let batch = Tensor::random([32, 6], Distribution::Uniform(-1.0, 1.0), &device);
        let model = QatModel::prepare(&net, [1, 6], &QConfig::int8(), Net::forward).unwrap().with_mode(Mode::Observe);
        model.forward::<2, 2>(batch.clone());
        (model.calibrated().unwrap(), batch)
    }

    #[test]
    fn eight_bits_are_quiet_and_a_clipped_layer_is_the_loudest() {
        let (mut model, batch) = calibrated();
        let batches = [batch];
        let whole = layer_sqnr(&model, &batches);
        let alone = sensitivity(&model, &batches);
        assert_eq!((whole.len(), alone.len()), (3, 3));
        assert!(whole.iter().all(|decibels| (25.0..80.0).contains(decibels)), "{whole:?}");
        // The output of the whole is noisier than that of its quietest part.
        let quietest = alone.iter().map(|decibels| decibels.unwrap()).fold(f64::NEG_INFINITY, f64::max);
        assert!(quietest > whole[2], "{alone:?} {whole:?}");

        let QatLayer::Linear(first) = &mut model.layers[0] else { panic!("the first layer is linear") };
        first.output = first.output.clone().with_range(0.0, 0.01);
        let clipped = sensitivity(&model, &batches);
        assert!(clipped[1].unwrap() < 15.0, "{clipped:?}");
        assert_eq!((clipped[0], clipped[2]), (alone[0], alone[2]), "the other layers do not depend on it");
    }
}
