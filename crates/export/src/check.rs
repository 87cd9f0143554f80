//! What stands in the way of integers, before any training.

use burn::tensor::{Distribution, Tensor};
use qat::graph::Dim;
use qat::{GraphError, Mode, QatModel};

use crate::convert::{ConvertError, convert};

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
}

/// Calibrates a copy of `model`, as [`QatModel::prepare`] gives it, on a few random samples in `[0, 1]` and converts it.
///
/// # Errors
/// The first obstacle that conversion would meet after training.
pub fn check(model: &QatModel) -> Result<(), CheckError> {
    let topology = model.topology();
    let shape: Vec<usize> = topology.values[topology.input.0]
        .shape
        .iter()
        .map(|dim| match dim {
            Dim::Batch(times) => SAMPLES * times,
            Dim::Fixed(size) => *size,
        })
        .collect();
    match *shape {
        [a, b] => observe(model, [a, b]),
        [a, b, c] => observe(model, [a, b, c]),
        [a, b, c, d] => observe(model, [a, b, c, d]),
        // The model's own layers take nothing else, and conversion says so.
        _ => Ok(convert(model).map(drop)?),
    }
}

/// Samples in the batch.
const SAMPLES: usize = 4;

fn observe<const D: usize>(model: &QatModel, shape: [usize; D]) -> Result<(), CheckError> {
    // A validation copy has observers of its own, so the original has still seen nothing.
    let copy = burn::module::Module::valid(model).with_mode(Mode::Observe);
    let device = copy.input.min.val().device();
    copy.run(Tensor::<D>::random(shape, Distribution::Uniform(0.0, 1.0), &device), |_, _| ());
    convert(&copy.calibrated()?)?;
    Ok(())
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
        let error = check(&model).unwrap_err().to_string();
        assert!(error.contains("an adaptive pool whose output size divides its input"), "{error}");
        assert_eq!(model.input.observed(), None);
        assert_eq!(model.input.mode(), Mode::Float);
    }

    #[test]
    fn a_model_without_obstacles_passes() {
        check(&prepared(3)).unwrap();
    }
}
