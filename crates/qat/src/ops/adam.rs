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

/// One step for `parameter` with its gradient and its moments `m` and `v`.
pub(super) fn adam(parameter: &mut [f32], gradient: &[f32], m: &mut [f32], v: &mut [f32], step: AdamStep) {
    assert!([gradient.len(), m.len(), v.len()] == [parameter.len(); 3], "a gradient and two moments for each number");
    let moments = m.par_chunks_mut(PART).zip(v.par_chunks_mut(PART));
    let parts = parameter.par_chunks_mut(PART).zip(gradient.par_chunks(PART)).zip(moments);
    for_parts(parts, |((parameter, gradient), (m, v))| dispatch(Part { parameter, gradient, m, v, step }));
}

struct Part<'a> {
    parameter: &'a mut [f32],
    gradient: &'a [f32],
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
        for ((p, g), (m, v)) in self.parameter.iter_mut().zip(self.gradient).zip(moments) {
            let g = decayed(*p, *g);
            *m = *m * beta_1 + g * new_1;
            *v = *v * beta_2 + g * g * new_2;
            *p = moved(*p, *m, *v);
        }
    }
}
