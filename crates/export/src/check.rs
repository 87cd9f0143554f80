//! What stands in the way of integers, before any training.

use burn::tensor::{Device, Distribution, Int, Tensor};
use qat::graph::Dim;
use qat::{GraphError, Mode, QatLayer, QatModel};

use qat_runtime::{IntegerModel, ModelError};

use crate::convert::{ConvertError, attempt};
use crate::error::ExportError;
use crate::format::Format;
use crate::lower::for_target;
use crate::obstacle::Obstacle;
use crate::target::Target;

/// Why a prepared model will not convert.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Its activations are not finite even on plain noise.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A layer has no integer form.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The integers contradict a rule of the engine.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// None of the target's formats holds the model; this is what keeps it from one of them.
    #[error("{} export, {obstacle}", format.name())]
    Format {
        /// The format.
        format: Format,
        /// What it cannot hold.
        obstacle: Obstacle,
    },
}

/// Calibrates a copy of `model`, as [`QatModel::prepare`] gives it, on a few random samples in `[0, 1]`, converts it for `target`
/// and lists every obstacle that conversion would meet after training; none where it will convert.
pub fn check(model: &QatModel, target: Target) -> Vec<CheckError> {
    // A validation copy has observers of its own, so the original has still seen nothing.
    let copy = burn::module::Module::valid(model).with_mode(Mode::Observe);
    observe(&copy);
    match copy.calibrated() {
        Ok(calibrated) => match attempt(&calibrated, target) {
            (integers, obstacles) if obstacles.is_empty() => check_integers(&integers, target),
            (_, obstacles) => obstacles.into_iter().map(CheckError::Convert).collect(),
        },
        Err(error) => vec![error.into()],
    }
}

/// Lists everything that keeps integers from `target`: what its arithmetic does not have, and what its formats cannot hold. A model
/// that one of the formats holds has no obstacle.
pub fn check_integers(model: &IntegerModel, target: Target) -> Vec<CheckError> {
    let lowered = match for_target(model, target) {
        Ok(lowered) => lowered,
        Err(error) => return vec![error.into()],
    };
    let mut all = Vec::new();
    for &format in target.formats() {
        match format.obstacles(&lowered) {
            Ok(obstacles) if obstacles.is_empty() => return Vec::new(),
            Ok(obstacles) => all.extend(obstacles.into_iter().map(|obstacle| CheckError::Format { format, obstacle })),
            Err(ExportError::Model { source }) => all.push(source.into()),
            Err(_) => unreachable!("obstacles are found without files"),
        }
    }
    all
}

/// Samples in the batch.
const SAMPLES: usize = 4;

/// Runs the model on random samples.
fn observe(model: &QatModel) {
    let topology = model.topology();
    let size = |dim: &Dim| match dim {
        Dim::Batch(times) => SAMPLES * times,
        Dim::Fixed(size) => *size,
    };
    let shape: Vec<usize> = topology.values[topology.input.0].shape.iter().map(size).collect();
    let device = model.input.min.val().device();
    if topology.input_is_indices {
        let rows = |layer: &QatLayer| match layer {
            QatLayer::Embedding(embedding) => Some(embedding.weight.val().dims()[0]),
            _ => None,
        };
        let rows = model.layers.iter().filter_map(rows).min().unwrap_or(1);
        let indices: Vec<i64> = (0..shape.iter().product::<usize>()).map(|index| (index % rows) as i64).collect();
        let indices = Tensor::<1, Int>::from_ints(&indices[..], &device).reshape([shape[0], shape[1]]);
        return model.run_indices(indices, |_, _| ());
    }
    match *shape {
        [a, b] => run(model, [a, b], &device),
        [a, b, c] => run(model, [a, b, c], &device),
        [a, b, c, d] => run(model, [a, b, c, d], &device),
        [a, b, c, d, e] => run(model, [a, b, c, d, e], &device),
        _ => unreachable!("a model's input has rank 2 to 5"),
    }
}

fn run<const D: usize>(model: &QatModel, shape: [usize; D], device: &Device) {
    model.run(Tensor::<D>::random(shape, Distribution::Uniform(0.0, 1.0), device), |_, _| ());
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::Module;
    use burn::tensor::module::adaptive_avg_pool2d;
    use qat::QConfig;

    /// A module without parameters that pools to `size`.
    #[derive(Module, Debug)]
    struct Pool {
        size: usize,
    }

    fn prepared(size: usize) -> QatModel {
        let pool = Pool { size };
        QatModel::prepare(&pool, [1, 2, 6, 6], &QConfig::int8(), |pool, x: Tensor<4>| adaptive_avg_pool2d(x, [pool.size; 2]))
            .unwrap()
    }

    #[test]
    fn an_obstacle_is_named_and_the_model_is_left_alone() {
        let model = prepared(4);
        let obstacles = check(&model, Target::Onnx);
        assert_eq!(obstacles.len(), 1);
        let error = obstacles[0].to_string();
        assert!(error.contains("an adaptive pool whose output size divides its input"), "{error}");
        assert_eq!(model.input.observed(), None);
        assert_eq!(model.input.mode(), Mode::Float);
    }

    #[test]
    fn a_model_without_obstacles_passes() {
        assert!(check(&prepared(3), Target::Onnx).is_empty());
    }
}
