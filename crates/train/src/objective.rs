//! What training minimizes: cross entropy with smoothed targets, and what a float teacher says.
//!
//! With scores `z` of a batch of `B` images, targets `y`, smoothing `ε` over `C` classes (Q80), a teacher's scores `t`, temperature `T`, weight `α`
//! and the mean squared differences of named activations `h` from the teacher's, times `γ` (Q81):
//!
//! ```text
//! CE = −1/B Σ [(1 − ε) log softmax(z)[y] + ε/C Σ_c log softmax(z)[c]]
//! KL = 1/B Σ Σ_c softmax(t/T)[c] · (log softmax(t/T)[c] − log softmax(z/T)[c])
//! L  = (1 − α) CE + α T² KL + γ Σ_h mean (h − h_teacher)²
//! ```
//!
//! Where a batch's images are mixtures, `λ` of one and `1 − λ` of another, so is CE of the targets of either (Zhang et al. 2018).
//!
//! Szegedy et al. 2016; Hinton, Vinyals and Dean 2015; Romero et al. 2015. Not here: the models (see [`classifier`](crate::classifier)).

use crate::classifier::Classifier;
use crate::data::{ImageBatch, Mix};
use crate::error::TrainError;
use crate::schedule::Distillation;
use burn::module::Module;
use burn::tensor::{Device, Int, Tensor, activation::log_softmax};
use qat::{Mode, QatModel};
use std::sync::Arc;

/// What a training step minimizes; the default is the mean cross entropy.
#[derive(Clone, Debug, Default)]
pub struct Objective {
    /// Share of every target that goes to all classes alike, in `[0, 1)`.
    pub label_smoothing: f64,
    /// A teacher, and what is learnt from it.
    pub teacher: Option<Teacher>,
}

/// A float model that a quantized one is to resemble.
#[derive(Clone, Debug)]
pub struct Teacher {
    model: Arc<QatModel>,
    /// The same on other devices.
    replicas: Vec<(Device, Arc<QatModel>)>,
    distillation: Distillation,
}

impl Teacher {
    /// `model` as it computes in float, in inference.
    ///
    /// # Errors
    /// [`TrainError::UnknownFeature`] for the first name in `distillation.features` that is no activation of `model`.
    pub fn new(model: &QatModel, distillation: Distillation) -> Result<Self, TrainError> {
        for name in &distillation.features {
            if model.topology().steps.iter().all(|step| step.name != *name) {
                let known = model.topology().steps.iter().map(|step| step.name.clone()).collect();
                return Err(TrainError::UnknownFeature { name: name.clone(), known });
            }
        }
        Ok(Self { model: Arc::new(model.valid().with_mode(Mode::Float)), replicas: Vec::new(), distillation })
    }

    fn to_device(&self, device: &Device) -> Self {
        let model = match self.replicas.iter().find(|(of, _)| of == device) {
            Some((_, model)) => model.clone(),
            None => self.copied(device),
        };
        Self { model, replicas: self.replicas.clone(), distillation: self.distillation.clone() }
    }

    fn copied(&self, device: &Device) -> Arc<QatModel> {
        // Clones of a model share its running statistics.
        Arc::new(self.model.valid().fork(device))
    }
}

impl Objective {
    /// The same, with its teacher on `device`.
    pub(crate) fn to_device(&self, device: &Device) -> Self {
        let device = device.clone().inner();
        Self { teacher: self.teacher.as_ref().map(|teacher| teacher.to_device(&device)), ..self.clone() }
    }

    /// The same, whose teacher is on each of `devices` at once.
    pub(crate) fn replicated(mut self, devices: &[Device]) -> Self {
        if let Some(teacher) = self.teacher.as_mut().filter(|_| !devices.is_empty()) {
            let own = teacher.model.devices().into_iter().map(|device| (device, teacher.model.clone()));
            let others = devices.iter().map(|device| device.clone().inner());
            teacher.replicas = own.chain(others.map(|device| (device.clone(), teacher.copied(&device)))).collect();
        }
        self
    }

    /// Loss with its graph, `[1]`, and the student's scores, `[B, C]`, for a batch of `B` images.
    pub(crate) fn of<M: Classifier>(&self, student: &M, batch: ImageBatch) -> (Tensor<1>, Tensor<2>) {
        let ImageBatch { images, targets, mix, .. } = batch;
        let smoothing = self.label_smoothing;
        let entropy = |scores| mixed_cross_entropy(scores, targets, mix, smoothing);
        let Some(Teacher { model, distillation, .. }) = &self.teacher else {
            let scores = student.logits(images);
            return (entropy(scores.clone()), scores);
        };
        let (known, wanted) = model.scores_and_features(images.clone().inner(), &distillation.features);
        let (scores, features) = student.scores_and_features(images, &distillation.features);
        let weight = distillation.weight;
        let mut loss = entropy(scores.clone()) * (1.0 - weight);
        if weight > 0.0 {
            let temperature = distillation.temperature;
            let divergence = divergence(Tensor::from_inner(known), scores.clone(), temperature);
            loss = loss + divergence * (weight * temperature * temperature);
        }
        for (feature, wanted) in features.into_iter().zip(wanted) {
            let difference = feature - Tensor::from_inner(wanted);
            loss = loss + difference.square().mean() * distillation.feature_weight;
        }
        (loss, scores)
    }
}

/// Mean cross entropy of `scores` `[B, C]` and classes `targets` `[B]`, smoothed (Q80).
pub(crate) fn cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>, smoothing: f64) -> Tensor<1> {
    let [images, classes] = scores.dims();
    let log = log_softmax(scores, 1);
    let target = log.clone().gather(1, targets.reshape([images, 1])).mean();
    if smoothing == 0.0 {
        return -target;
    }
    -(target * (1.0 - smoothing) + log.sum() * (smoothing / (images * classes) as f64))
}

/// The same of images that may be mixtures (Q80).
fn mixed_cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>, mix: Option<Mix>, smoothing: f64) -> Tensor<1> {
    match mix {
        None => cross_entropy(scores, targets, smoothing),
        Some(Mix { targets: others, lambda }) => {
            let share = f64::from(lambda);
            cross_entropy(scores.clone(), targets, smoothing) * share + cross_entropy(scores, others, smoothing) * (1.0 - share)
        }
    }
}

/// Mean divergence of the student's scores from the teacher's, both `[B, C]`, at a temperature (Q81).
pub(crate) fn divergence(teacher: Tensor<2>, student: Tensor<2>, temperature: f64) -> Tensor<1> {
    let [images, _] = teacher.dims();
    let known = log_softmax(teacher / temperature, 1);
    let said = log_softmax(student / temperature, 1);
    (known.clone().exp() * (known - said)).sum() / images as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [[f32; 3]; 2] = [[0.5, -1.0, 2.0], [0.0, 3.0, -0.25]];

    /// `log softmax` in f64.
    fn log_softmax(row: &[f32], temperature: f64) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|x| f64::from(*x) / temperature).collect();
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        row.iter().map(|x| x - sum.ln()).collect()
    }

    #[test]
    fn cross_entropy_is_its_formula_with_and_without_smoothing() {
        let device = Device::flex();
        let targets = [2, 0];
        for smoothing in [0.0, 0.1, 0.5] {
            let expected: f64 = SCORES
                .iter()
                .zip(targets)
                .map(|(row, target)| {
                    let log = log_softmax(row, 1.0);
                    -((1.0 - smoothing) * log[target] + smoothing / 3.0 * log.iter().sum::<f64>())
                })
                .sum::<f64>()
                / 2.0;
            let scores = Tensor::from_floats(SCORES, &device);
            let found: f32 = cross_entropy(scores, Tensor::from_ints([2, 0], &device), smoothing).into_scalar();
            assert!((f64::from(found) - expected).abs() < 1e-6, "{smoothing}: {found}, expected {expected}");
        }
    }

    #[test]
    fn the_loss_of_mixed_images_is_the_mixture_of_their_losses() {
        let device = Device::flex();
        let scores = || Tensor::<2>::from_floats(SCORES, &device);
        let (targets, others) = (|| Tensor::from_ints([2, 0], &device), || Tensor::from_ints([1, 1], &device));
        let of = |targets| cross_entropy(scores(), targets, 0.1).into_scalar::<f32>();
        let mix = |lambda| Some(Mix { targets: others(), lambda });
        let mixed = |lambda| mixed_cross_entropy(scores(), targets(), mix(lambda), 0.1).into_scalar::<f32>();
        assert!((mixed(0.25) - (0.25 * of(targets()) + 0.75 * of(others()))).abs() < 1e-6);
        assert_eq!((mixed(1.0), mixed(0.0)), (of(targets()), of(others())));
    }

    #[test]
    fn divergence_is_its_formula_and_zero_for_equal_scores() {
        let device = Device::flex();
        let teacher = [[1.0f32, 1.5, -2.0], [0.25, 0.0, 4.0]];
        for temperature in [1.0, 3.0] {
            let expected: f64 = SCORES
                .iter()
                .zip(&teacher)
                .map(|(said, known)| {
                    let (said, known) = (log_softmax(said, temperature), log_softmax(known, temperature));
                    known.iter().zip(&said).map(|(known, said)| known.exp() * (known - said)).sum::<f64>()
                })
                .sum::<f64>()
                / 2.0;
            let tensor = |rows| Tensor::<2>::from_floats(rows, &device);
            let found: f32 = divergence(tensor(teacher), tensor(SCORES), temperature).into_scalar();
            assert!((f64::from(found) - expected).abs() < 1e-6, "{temperature}: {found}, expected {expected}");
            assert_eq!(divergence(tensor(SCORES), tensor(SCORES), temperature).into_scalar::<f32>(), 0.0);
        }
    }

    #[test]
    fn the_gradient_of_divergence_times_temperature_squared_is_that_of_the_softened_scores() {
        // d(T² KL)/dz = T (softmax(z/T) − softmax(t/T)) / B.
        let device = Device::flex().autodiff();
        let teacher = [[1.0f32, 1.5, -2.0]];
        let scores = Tensor::<2>::from_floats([SCORES[0]], &device).require_grad();
        let temperature = 4.0;
        let loss = divergence(Tensor::from_floats(teacher, &device), scores.clone(), temperature) * temperature.powi(2);
        let found: Vec<f32> = scores.grad(&loss.backward()).unwrap().into_data().try_to_vec().unwrap();
        let (said, known) = (log_softmax(&SCORES[0], temperature), log_softmax(&teacher[0], temperature));
        for (found, (said, known)) in found.iter().zip(said.iter().zip(&known)) {
            assert!((f64::from(*found) - temperature * (said.exp() - known.exp())).abs() < 1e-5);
        }
    }
}
