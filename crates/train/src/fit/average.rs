//! A moving average of all parameters and running statistics (Q83).
//!
//! After step `k`, counted from 0, `a ← a + (1 − d_k) (p − a)` with `d_k = min(d, (1 + k) / (10 + k))`, so that the first steps are
//! soon forgotten (Polyak and Juditsky 1992; the rise of `d_k` is TensorFlow's). Written as a difference, a parameter that does not move
//! keeps its average bit for bit: fixed ranges stay what they are.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::store::{ModuleRecord, RecordError};
use burn::tensor::Tensor;

/// The average, in the making.
pub(super) struct Average<M> {
    shadow: M,
    decay: f64,
}

impl<M: Module> Average<M> {
    /// The average of the one model seen so far.
    pub(super) fn new(model: &M, decay: f64) -> Self {
        Self { shadow: model.valid(), decay }
    }

    /// The average that a record holds, of a model like `model`.
    pub(super) fn resumed(model: &M, decay: f64, record: ModuleRecord) -> Result<Self, RecordError> {
        Ok(Self { shadow: model.valid().try_load_record(record)?, decay })
    }

    /// Takes in the model after step `step`, counted from 0.
    pub(super) fn update(&mut self, model: &M, step: usize) {
        let decay = self.decay.min((1 + step) as f64 / (10 + step) as f64);
        let mut now = Collect(GradientsParams::new());
        // A validation model holds plain tensors, and the running statistics of this very step.
        model.valid().visit(&mut now);
        let shadow = self.shadow.clone();
        self.shadow = shadow.map(&mut Approach { now: now.0, share: 1.0 - decay });
    }

    /// The averaged model, in inference.
    pub(super) fn model(&self) -> M {
        self.shadow.valid()
    }

    pub(super) fn record(&self) -> ModuleRecord {
        self.shadow.clone().into_record()
    }
}

/// Puts all float parameters and statistics into a container by their ids.
struct Collect(GradientsParams);

impl ModuleVisitor for Collect {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val());
    }
}

/// Moves each parameter a share of the way to its present value.
struct Approach {
    now: GradientsParams,
    share: f64,
}

impl ModuleMapper for Approach {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.now.remove::<D>(param.id) {
            Some(now) => param.map(|old| {
                let learns = old.is_require_grad();
                (old.clone() + (now - old) * self.share).detach().set_require_grad(learns)
            }),
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::RunningState;
    use burn::tensor::Device;

    #[derive(Module, Debug)]
    struct Two {
        weight: Param<Tensor<2>>,
        running: RunningState<Tensor<1>>,
    }

    fn two(weight: f32, running: f32) -> Two {
        let device = Device::flex();
        Two {
            weight: Param::from_tensor(Tensor::full([1, 2], weight, &device)),
            running: RunningState::new(Tensor::full([1], running, &device)),
        }
    }

    fn numbers(model: &Two) -> (f32, f32) {
        let weight: Vec<f32> = model.weight.val().into_data().try_to_vec().unwrap();
        assert_eq!(weight[0], weight[1]);
        (weight[0], model.running.value_sync().into_scalar())
    }

    #[test]
    fn it_follows_its_formula_and_leaves_what_does_not_move() {
        let mut model = two(1.0, 1.0 / 3.0);
        let mut average = Average::new(&model, 0.75);
        let mut expected = 1.0f64;
        for step in 0..40 {
            let weight = 1.0 + step as f32;
            model.weight = model.weight.map(|old| old.full_like(weight));
            average.update(&model, step);
            let decay = ((1 + step) as f64 / (10 + step) as f64).min(0.75);
            expected = decay * expected + (1.0 - decay) * f64::from(weight);
            let (weight, running) = numbers(&average.model());
            assert!((f64::from(weight) - expected).abs() < 1e-4, "step {step}: {weight}, expected {expected}");
            assert_eq!(running, 1.0 / 3.0);
        }
        assert_eq!(numbers(&model).0, 40.0, "the model itself is untouched");
    }

    #[test]
    fn running_statistics_are_averaged_too_and_a_record_continues() {
        let model = two(0.0, 0.0);
        let mut average = Average::new(&model, 0.5);
        model.running.update(Tensor::full([1], 8.0, &Device::flex()));
        average.update(&model, 100);
        assert_eq!(numbers(&average.model()), (0.0, 4.0));
        let record = ModuleRecord::from_bytes(average.record().into_bytes().unwrap()).unwrap();
        let mut resumed = Average::resumed(&model, 0.5, record).unwrap();
        assert_eq!(numbers(&resumed.model()), (0.0, 4.0));
        resumed.update(&model, 101);
        average.update(&model, 101);
        assert_eq!(numbers(&resumed.model()), (0.0, 6.0));
        assert_eq!(numbers(&average.model()), (0.0, 6.0));
    }
}
