//! Signal to quantization noise: how far the quantized activations are from the float ones.
//!
//! `SQNR = 10 · log10(Σ x² / Σ (x − x̂)²)` in decibels, with `x` the activations of the model in float and `x̂` those of the same
//! weights with quantizers at work; 6 dB are about one bit. Not here: which layer is to blame (see `sensitivity`).

use burn::tensor::Tensor;

use crate::fake_quantize::Mode;
use crate::model::QatModel;

/// Energies of a signal and of its noise, in the making.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sqnr {
    signal: f64,
    noise: f64,
}

impl Sqnr {
    /// Takes in numbers and what quantization made of them, element by element.
    ///
    /// # Panics
    /// If there are not equally many.
    pub fn add(&mut self, reference: &[f32], quantized: &[f32]) {
        assert_eq!(
            reference.len(),
            quantized.len(),
            "a signal of {} numbers was compared with {}",
            reference.len(),
            quantized.len()
        );
        for (x, y) in reference.iter().zip(quantized) {
            let (x, y) = (f64::from(*x), f64::from(*y));
            self.signal += x * x;
            self.noise += (x - y) * (x - y);
        }
    }

    /// The ratio in decibels: +∞ without noise, −∞ for noise alone, NaN where a number was NaN.
    pub fn decibels(&self) -> f64 {
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (self.signal / self.noise).log10() }
    }
}

/// SQNR in decibels of the input, then of the output of each layer, all its steps together, over `batches`.
///
/// `model` is calibrated; its mode does not matter.
pub fn layer_sqnr<const I: usize>(model: &QatModel, batches: &[Tensor<I>]) -> Vec<f64> {
    let (float, quantized) = (model.clone().with_mode(Mode::Float), model.clone().with_mode(Mode::Quantize));
    let mut ratios = vec![Sqnr::default(); model.layers.len() + 1];
    for batch in batches {
        let reference = activations(&float, batch);
        let layers = std::iter::once(0).chain(model.topology().steps.iter().map(|step| step.layer + 1));
        for (layer, (x, y)) in layers.zip(reference.iter().zip(activations(&quantized, batch))) {
            ratios[layer].add(x, &y);
        }
    }
    ratios.iter().map(Sqnr::decibels).collect()
}

fn activations<const I: usize>(model: &QatModel, batch: &Tensor<I>) -> Vec<Vec<f32>> {
    let mut all = Vec::new();
    model.run(batch.clone(), |_, activation| all.push(activation.to_data().iter().collect()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibels_of_known_ratios() {
        let mut ratio = Sqnr::default();
        ratio.add(&[10.0, 0.0], &[9.0, 0.0]);
        assert!((ratio.decibels() - 20.0).abs() < 1e-9);
        ratio.add(&[0.0], &[3.0]);
        assert!((ratio.decibels() - 10.0).abs() < 1e-9);
        assert_eq!(Sqnr::default().decibels(), f64::INFINITY);
        let mut noise = Sqnr::default();
        noise.add(&[0.0], &[1.0]);
        assert_eq!(noise.decibels(), f64::NEG_INFINITY);
        noise.add(&[f32::NAN], &[1.0]);
        assert!(noise.decibels().is_nan());
    }
}
