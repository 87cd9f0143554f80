//! One step of Adam or AdamW for a parameter as one launch, where its composition of Burn operations is several.

#![allow(unsafe_code, reason = "kernels are launched without bounds checks; units beyond the length of the tensors end first")]

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::{calculate_cube_count_elemwise, cube};

use super::super::adam::{AdamStep, AdamUpdate};
use super::memory::{buffer, is_dense, lies_as, like, number_or_zero};

/// An [`AdamStep`] as a kernel's argument; a factor that is not there is 0 or 1.
#[derive(CubeLaunch, CubeType)]
struct StepArgs {
    beta_1: f32,
    new_1: f32,
    beta_2: f32,
    new_2: f32,
    penalty: f32,
    kept: f32,
    /// What the mean of gradients is multiplied by, or with `unbiases` divided by.
    factor: f32,
    /// What the mean of squares is divided by.
    unbias_2: f32,
    epsilon: f32,
    rate: f32,
    #[cube(comptime)]
    unbiases: bool,
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn adam_kernel(
    parameter: &[f32],
    gradient: &[f32],
    // Before the first step there are none, which counts as 0.
    moment_1: ComptimeOption<&[f32]>,
    moment_2: ComptimeOption<&[f32]>,
    new_parameter: &mut [f32],
    new_moment_1: &mut [f32],
    new_moment_2: &mut [f32],
    step: StepArgs,
) {
    let at = ABSOLUTE_POS;
    if at >= new_parameter.len() {
        terminate!();
    }
    let p = parameter[at];
    let g = p * step.penalty + gradient[at];
    let m = number_or_zero(moment_1, at) * step.beta_1 + g * step.new_1;
    let v = number_or_zero(moment_2, at) * step.beta_2 + g * g * step.new_2;
    new_moment_1[at] = m;
    new_moment_2[at] = v;
    let change = if comptime![step.unbiases] {
        (m / step.factor) / ((v / step.unbias_2).sqrt() + step.epsilon)
    } else {
        m * step.factor / (v.sqrt() + step.epsilon)
    };
    new_parameter[at] = p * step.kept - change * step.rate;
}

impl AdamStep {
    fn args(self) -> StepArgsLaunch {
        let Self { beta_1, beta_2, update } = self;
        let with = |penalty: f32, kept: f32, factor: f32, unbias_2: f32, epsilon: f32, rate: f32, unbiases: bool| {
            let (new_1, new_2) = (1.0 - beta_1, 1.0 - beta_2);
            StepArgsLaunch::new(beta_1, new_1, beta_2, new_2, penalty, kept, factor, unbias_2, epsilon, rate, unbiases)
        };
        match update {
            AdamUpdate::Adam { penalty, factor, epsilon, rate } => {
                with(penalty.unwrap_or(0.0), 1.0, factor, 1.0, epsilon, rate, false)
            }
            AdamUpdate::AdamW { kept, unbias_1, unbias_2, epsilon, rate } => {
                with(0.0, kept.unwrap_or(1.0), unbias_1, unbias_2, epsilon, rate, true)
            }
        }
    }
}

/// The parameter and both moments after a step.
pub(in super::super) fn adam(
    parameter: CubeTensor,
    gradient: CubeTensor,
    [moment_1, moment_2]: [Option<CubeTensor>; 2],
    step: AdamStep,
) -> [CubeTensor; 3] {
    let numbers = parameter.shape().num_elements();
    let others = || [Some(&gradient), moment_1.as_ref(), moment_2.as_ref()].into_iter().flatten();
    let lie_alike = is_dense(&parameter) && others().all(|other| lies_as(&parameter, other));
    let contiguous = |tensor: CubeTensor| if lie_alike { tensor } else { into_contiguous(tensor) };
    let [moment_1, moment_2] = [moment_1, moment_2].map(|moment| moment.map(contiguous));
    let (parameter, gradient) = (contiguous(parameter), contiguous(gradient));
    let [new_parameter, new_moment_1, new_moment_2] = [(); 3].map(|()| like(&parameter));
    if numbers > 0 {
        let cube_dim = CubeDim::new(&parameter.client, numbers);
        let cube_count = calculate_cube_count_elemwise(&parameter.client, numbers, cube_dim);
        let address = parameter.required_address_type();
        // SAFETY: units beyond the number of numbers end first.
        unsafe {
            adam_kernel::launch_unchecked(
                &parameter.client.clone(),
                cube_count,
                cube_dim,
                address,
                buffer(parameter),
                buffer(gradient),
                moment_1.map(buffer).into(),
                moment_2.map(buffer).into(),
                buffer(new_parameter.clone()),
                buffer(new_moment_1.clone()),
                buffer(new_moment_2.clone()),
                step.args(),
            );
        }
    }
    [new_parameter, new_moment_1, new_moment_2]
}

#[cfg(test)]
mod tests {
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::ops::{into_data_sync, permute};
    use burn_cubecl::{CubeBackend, CubeDevice};

    use super::super::super::adam::{NO_MOMENT, adam as adam_of_host};
    use super::super::super::tests::{Draws, SEED};
    use super::*;

    #[test]
    fn steps_are_near_those_of_the_host() {
        let updates = [
            AdamUpdate::Adam { penalty: None, factor: 1.7, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::Adam { penalty: Some(0.1), factor: 0.9, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::AdamW { kept: None, unbias_1: 0.3, unbias_2: 0.2, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::AdamW { kept: Some(0.99), unbias_1: 0.3, unbias_2: 0.2, epsilon: 1e-5, rate: 0.01 },
        ];
        for (index, update) in updates.into_iter().enumerate() {
            let step = AdamStep { beta_1: 0.9, beta_2: 0.99, update };
            for (has_moments, is_permuted) in [(false, false), (true, false), (true, true)] {
                let seed = SEED + 40_000 + index as u64;
                let mut draws = Draws(seed);
                let mut numbers = || (0..7 * 30).map(|_| draws.number()).collect::<Vec<_>>();
                let [p, g, m] = [(); 3].map(|()| numbers());
                let v: Vec<f32> = numbers().into_iter().map(f32::abs).collect();
                let tensor = |numbers: &[f32]| {
                    CubeBackend::float_from_data(TensorData::new(numbers.to_vec(), [7, 30]), &CubeDevice::default())
                };
                // The same numbers in another order of memory.
                let gradient = match is_permuted {
                    true => permute(into_contiguous(permute(tensor(&g), &[1, 0])), &[1, 0]),
                    false => tensor(&g),
                };
                let moments = [&m, &v].map(|moment| has_moments.then(|| tensor(moment)));
                let found = adam(tensor(&p), gradient, moments, step);
                let mut expected = [g, m, v];
                if !has_moments {
                    expected[1..].iter_mut().for_each(|moment| moment.fill(NO_MOMENT));
                }
                let [of_gradient, of_m, of_v] = &mut expected;
                adam_of_host(&p, of_gradient, of_m, of_v, step);
                for (what, (found, expected)) in found.into_iter().zip(&expected).enumerate() {
                    let found: Vec<f32> = into_data_sync(found).try_to_vec().expect("numbers of f32");
                    for (found, expected) in found.iter().zip(expected) {
                        let is_near = (found - expected).abs() <= 1e-5 * (1.0 + expected.abs());
                        assert!(is_near, "{update:?}, seed {seed}, result {what}: expected {expected}, found {found}");
                    }
                }
            }
        }
    }
}
