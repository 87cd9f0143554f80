//! One step of Adam and of AdamW: what a gradient makes of both moments and of the parameter, in one pass.
//!
//! `m ← β₁·m + (1 − β₁)·g` and `v ← β₂·v + (1 − β₂)·g²`, then the parameter by [`AdamUpdate`]. Every product and every sum is rounded by
//! itself and in the order of Burn's optimizers, so that the numbers are theirs.

#![allow(unsafe_code, reason = "kernels may only run where the processor has the instructions of their level")]

use rayon::prelude::*;

use super::parts::for_parts;
use super::simd::{Kernel, Simd, dispatch};

/// Numbers that one task works on.
const PART: usize = 1 << 14;

/// What one step does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamStep {
    /// β₁, in `[0, 1)`.
    pub beta_1: f32,
    /// β₂, in `[0, 1)`.
    pub beta_2: f32,
    /// What the moments do to the parameter.
    pub update: AdamUpdate,
}

/// What the moments `m` and `v` do to a parameter `p` with the gradient `g`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AdamUpdate {
    /// Adam: `p − (m·factor / (√v + epsilon))·rate`; with a penalty, `g` is `p·penalty + g` before the moments take it.
    Adam { penalty: Option<f32>, factor: f32, epsilon: f32, rate: f32 },
    /// AdamW: `p·kept − ((m / unbias_1) / (√(v / unbias_2) + epsilon))·rate`; all of `p` is kept where there is no `kept`.
    AdamW { kept: Option<f32>, unbias_1: f32, unbias_2: f32, epsilon: f32, rate: f32 },
}

/// Moments before the first step: −0, which added to any number leaves that number.
pub(super) const NO_MOMENT: f32 = -0.0;

/// One step for `parameter` with its moments `m` and `v`; the parameter after it takes the place of its gradient.
pub(super) fn adam(parameter: &[f32], gradient: &mut [f32], m: &mut [f32], v: &mut [f32], step: AdamStep) {
    assert!([gradient.len(), m.len(), v.len()] == [parameter.len(); 3], "a gradient and two moments for each number");
    let moments = m.par_chunks_mut(PART).zip(v.par_chunks_mut(PART));
    let parts = parameter.par_chunks(PART).zip(gradient.par_chunks_mut(PART)).zip(moments);
    for_parts(parts, |((parameter, gradient), (m, v))| dispatch(Part { parameter, gradient, m, v, step }));
}

struct Part<'a> {
    parameter: &'a [f32],
    gradient: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    step: AdamStep,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        match self.step.update {
            AdamUpdate::Adam { penalty, factor, epsilon, rate } => {
                let moved = |p: f32, m: f32, v: f32| p - (m * factor / (v.sqrt() + epsilon)) * rate;
                match penalty {
                    Some(penalty) => self.pass(|p, g| p * penalty + g, moved),
                    None => self.pass(|_, g| g, moved),
                }
            }
            AdamUpdate::AdamW { kept, unbias_1, unbias_2, epsilon, rate } => {
                let change = |m: f32, v: f32| ((m / unbias_1) / ((v / unbias_2).sqrt() + epsilon)) * rate;
                match kept {
                    Some(kept) => self.pass(|_, g| g, |p, m, v| p * kept - change(m, v)),
                    None => self.pass(|_, g| g, |p, m, v| p - change(m, v)),
                }
            }
        }
    }
}

impl Part<'_> {
    #[inline(always)]
    fn pass(self, decayed: impl Fn(f32, f32) -> f32, moved: impl Fn(f32, f32, f32) -> f32) {
        let AdamStep { beta_1, beta_2, .. } = self.step;
        let (new_1, new_2) = (1.0 - beta_1, 1.0 - beta_2);
        let moments = self.m.iter_mut().zip(self.v);
        for ((p, to), (m, v)) in self.parameter.iter().zip(self.gradient).zip(moments) {
            let g = decayed(*p, *to);
            *m = *m * beta_1 + g * new_1;
            *v = *v * beta_2 + g * g * new_2;
            *to = moved(*p, *m, *v);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::simd::levels;
    use crate::ops::tests::{Draws, SEED};

    #[test]
    fn every_level_and_number_of_threads_gives_the_same_bits() {
        let updates = [
            AdamUpdate::Adam { penalty: None, factor: 0.37, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::Adam { penalty: Some(0.02), factor: 0.37, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::AdamW { kept: None, unbias_1: 0.1, unbias_2: 0.001, epsilon: 1e-5, rate: 0.01 },
            AdamUpdate::AdamW { kept: Some(0.99), unbias_1: 0.1, unbias_2: 0.001, epsilon: 1e-5, rate: 0.01 },
        ];
        for (update, size) in updates.into_iter().flat_map(|update| [0, 1, 15, 1001, 3 * PART + 5].map(|size| (update, size))) {
            let step = AdamStep { beta_1: 0.9, beta_2: 0.999, update };
            let mut draws = Draws(SEED);
            let mut numbers = |scale: f32| -> Vec<f32> { (0..size).map(|_| draws.number() * scale).collect() };
            let (parameter, gradient, m, v) = (numbers(1.0), numbers(0.1), numbers(0.1), numbers(0.01));
            let v: Vec<f32> = v.iter().map(|v| v.abs()).collect();
            let run = |level, threads: usize| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).start_handler(move |_| levels::force(level));
                let (mut moved, mut m, mut v) = (gradient.clone(), m.clone(), v.clone());
                pool.build().expect("a pool").install(|| adam(&parameter, &mut moved, &mut m, &mut v, step));
                [moved, m, v].map(|numbers| numbers.into_iter().map(f32::to_bits).collect::<Vec<_>>())
            };
            let expected = run(levels::Level::Portable, 1);
            for level in levels::present() {
                for threads in [1, 3] {
                    assert_eq!(run(level, threads), expected, "{step:?}, {size} numbers, {level:?}, {threads} threads");
                }
            }
        }
    }
}
