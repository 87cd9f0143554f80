//! Small seeded problems for the tests of training.

use burn::tensor::Device;
use qat_train::{
    Ending, FitData, FitPlan, FitState, Fitted, Manifest, Phase, ProgressStyle, RunDirectory, Schedule, TrainError,
    data::{ImageSet, class_numbers},
    fit,
    zoo::{ZooModel, ZooNet},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use std::{fs, path::Path, sync::Arc};

/// The seed of every problem here.
pub const SEED: u64 = 20_261_123;

/// `count` noisy images of `shape` in ten classes: class `k` is brighter in every tenth pixel from `k` on.
pub fn images(shape: [usize; 3], count: usize, seed: u64) -> Arc<ImageSet> {
    println!("images from seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let pixels: usize = shape.iter().product();
    let mut images = Vec::with_capacity(count * pixels);
    let mut labels = Vec::with_capacity(count);
    for index in 0..count {
        let class = index % 10;
        labels.push(class as u8);
        images.extend((0..pixels).map(|pixel| {
            let noise = (rng.next_u32() % 160) as u8;
            if pixel % 10 == class { noise + 40 } else { noise }
        }));
    }
    Arc::new(ImageSet { name: "noise".into(), shape, classes: 10, class_names: class_numbers(10), images, labels })
}

/// A problem for `model` with `count` training images.
pub fn data(model: ZooModel, count: usize) -> FitData {
    FitData { train: images(model.input_shape(), count, SEED), valid: images(model.input_shape(), 50, SEED + 1) }
}

/// The manifest of a test's run.
pub fn manifest(model: ZooModel, plan: &FitPlan) -> Manifest {
    let schedule = Schedule { float_epochs: plan.epochs, ..Schedule::default() };
    Manifest::new(model.name(), "noise", qat::Scheme::INT8, "flex", plan.seed, plan.batch_size, schedule)
}

/// Trains a zoo model in `folder`, which is created, or continued when there is a run already.
pub fn train(folder: &Path, model: ZooModel, plan: &FitPlan, data: &FitData) -> Result<Fitted<ZooNet>, TrainError> {
    let device = Device::flex();
    let manifest = manifest(model, plan);
    let run = match folder.join("run.toml").exists() {
        true => RunDirectory::resume(folder, &manifest)?,
        false => RunDirectory::create(folder, manifest)?,
    };
    let mut net = model.init(&device, plan.seed);
    let mut state = FitState::start();
    if let Some(checkpoint) = run.last_checkpoint()? {
        net = checkpoint.load_model(net)?;
        state = checkpoint.state()?;
    }
    fit(net, state, plan, data, &device, &run, ProgressStyle::Quiet, &Default::default())
}

/// The plan of a short float phase of `model`.
pub fn plan(model: ZooModel, epochs: usize, batch_size: usize, checkpoint_every: usize) -> FitPlan {
    FitPlan { checkpoint_every, ..FitPlan::new(Phase::Float, model.name(), epochs, batch_size, 1e-3, SEED) }
}

/// `metrics.csv` without the column of time.
pub fn metrics(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("metrics.csv")).unwrap();
    text.lines().map(|line| format!("{}\n", line.rsplit_once(',').unwrap().0)).collect()
}

/// Every float parameter and running statistic with its path.
pub fn values<M: burn::module::Module>(model: &M) -> Vec<(String, Vec<f32>)> {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Tensor;
    struct Values(Vec<String>, Vec<(String, Vec<f32>)>);
    impl ModuleVisitor for Values {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.push((self.0.join("."), param.val().try_into_vec_as().unwrap()));
        }
    }
    let mut values = Values(Vec::new(), Vec::new());
    model.valid().visit(&mut values);
    values.1
}

/// Bits of every float parameter and running statistic of `model`.
pub fn bits<M: burn::module::Module>(model: &M) -> Vec<Vec<u32>> {
    use burn::{
        module::{ModuleVisitor, Param},
        tensor::Tensor,
    };
    struct Bits(Vec<Vec<u32>>);
    impl ModuleVisitor for Bits {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values: Vec<f32> = param.val().try_into_vec_as().unwrap();
            self.0.push(values.iter().map(|value| value.to_bits()).collect());
        }
    }
    let mut bits = Bits(Vec::new());
    model.valid().visit(&mut bits);
    bits.0
}

/// The phase ran to its end.
pub fn completed<M>(fitted: &Fitted<M>) {
    assert_eq!(fitted.ending, Ending::Completed);
}
