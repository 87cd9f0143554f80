//! The learning rate of each step: a linear rise, then one of four shapes.
//!
//! With peak `p`, warm-up `w`, `n` steps in all, and progress `x = (k − w) / (n − w)`, step `k` (from 0) learns at `p (k + 1) / w` for `k < w`,
//! and after that at
//!
//! | shape | rate |
//! | --- | --- |
//! | constant | `p` |
//! | cosine | `p (f + (1 − f)/2 (1 + cos πx))`, `f` the floor (Loshchilov and Hutter 2017, without restarts) |
//! | step | `p · factor^m`, `m` the steps in `steps` that lie at or before `k / n` |
//! | one-cycle | with `w = 0`: half a cosine from `p / 25` to `p` over `x ≤ 0.3`, then to `p / 250000` (Smith and Topin 2018) |
//!
//! It follows from `k` alone, so a checkpoint needs no state of it.

use crate::schedule::RateShape;
use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::LearningRate;
use std::f64::consts::PI;
use std::sync::Arc;

/// One-cycle: the share of the rise, and the first and last rate as shares of the peak.
const RISE: f64 = 0.3;
const FIRST: f64 = 1.0 / 25.0;
const LAST: f64 = 1.0 / 250_000.0;

/// The rate as a function of the step.
#[derive(Clone, Debug, PartialEq)]
pub struct LearningRateCurve {
    /// What follows the rise.
    pub shape: RateShape,
    /// Highest rate, `p`.
    pub peak: f64,
    /// Steps of the rise, `w`; of no use to one-cycle.
    pub warmup_steps: usize,
    /// Steps in all, `n`.
    pub total_steps: usize,
    /// Lowest rate of a cosine, as a share of the peak.
    pub floor: f64,
    /// Shares of `n` at which the shape `step` multiplies by `factor`.
    pub steps: Vec<f64>,
    /// That factor.
    pub factor: f64,
}

impl LearningRateCurve {
    /// A linear rise, then half a cosine down to zero.
    pub fn cosine(peak: f64, warmup_steps: usize, total_steps: usize) -> Self {
        Self { shape: RateShape::Cosine, peak, warmup_steps, total_steps, floor: 0.0, steps: Vec::new(), factor: 1.0 }
    }

    /// The rate of step `step`, counted from 0; zero from `total_steps` on.
    pub fn at(&self, step: usize) -> f64 {
        if step >= self.total_steps {
            return 0.0;
        }
        let warmup = if self.shape == RateShape::OneCycle { 0 } else { self.warmup_steps };
        let Some(done) = step.checked_sub(warmup) else { return self.peak * (step + 1) as f64 / warmup as f64 };
        let progress = done as f64 / (self.total_steps - warmup) as f64;
        match self.shape {
            RateShape::Constant => self.peak,
            RateShape::Cosine => self.peak * (self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (PI * progress).cos())),
            RateShape::Step => {
                let passed = self.steps.iter().filter(|share| step >= crate::schedule::at(**share, self.total_steps)).count();
                self.peak * self.factor.powi(passed as i32)
            }
            RateShape::OneCycle if progress < RISE => half_cosine(self.peak * FIRST, self.peak, progress / RISE),
            RateShape::OneCycle => half_cosine(self.peak, self.peak * LAST, (progress - RISE) / (1.0 - RISE)),
        }
    }
}

/// From `first` to `last` along half a cosine.
fn half_cosine(first: f64, last: f64, progress: f64) -> f64 {
    last + (first - last) * 0.5 * (1.0 + (PI * progress).cos())
}

/// A multiple of a [`LearningRateCurve`] as Burn's scheduler, standing at a step.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) curve: Arc<LearningRateCurve>,
    pub(super) next_step: usize,
    pub(super) multiple: f64,
    /// The step from which on the rate is zero.
    pub(super) until: usize,
}

impl LrScheduler for Clock {
    fn step(&mut self) -> LearningRate {
        let rate = if self.next_step < self.until { self.multiple * self.curve.at(self.next_step) } else { 0.0 };
        self.next_step += 1;
        rate
    }

    fn to_record(&self) -> LrSchedulerRecord {
        LrSchedulerRecord::new()
    }

    fn load_record(&mut self, _: LrSchedulerRecord) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_to_the_peak_and_falls_to_zero() {
        let rate = LearningRateCurve::cosine(0.8, 4, 12);
        let rates: Vec<f64> = (0..13).map(|step| rate.at(step)).collect();
        // A quarter of the peak a step, then the cosine at 0, π/2 and just before π.
        assert_eq!(rates[..5], [0.2, 0.4, 0.6000000000000001, 0.8, 0.8]);
        assert!((rates[8] - 0.4).abs() < 1e-12, "{rates:?}");
        assert!(rates[11] > 0.0 && rates[11] < 0.04, "{rates:?}");
        assert_eq!(rates[12], 0.0);
        assert!(rates[4..].windows(2).all(|pair| pair[1] < pair[0]), "{rates:?}");
    }

    #[test]
    fn without_warm_up_it_begins_at_the_peak() {
        assert_eq!(LearningRateCurve::cosine(0.1, 0, 5).at(0), 0.1);
    }

    #[test]
    fn a_floor_is_where_the_cosine_would_end() {
        let curve = LearningRateCurve { floor: 0.25, ..LearningRateCurve::cosine(0.8, 0, 1_000_000) };
        assert_eq!(curve.at(0), 0.8);
        assert!((curve.at(500_000) - 0.5).abs() < 1e-12);
        assert!((curve.at(999_999) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_constant_rate_stays_and_steps_multiply() {
        let constant = LearningRateCurve { shape: RateShape::Constant, ..LearningRateCurve::cosine(0.5, 2, 10) };
        assert_eq!((0..10).map(|step| constant.at(step)).collect::<Vec<_>>(), [&[0.25][..], &[0.5; 9]].concat());
        let steps = LearningRateCurve { shape: RateShape::Step, steps: vec![0.5, 0.8], factor: 0.5, ..constant };
        let expected = [0.25, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.125, 0.125];
        assert_eq!((0..10).map(|step| steps.at(step)).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn one_cycle_rises_for_three_tenths_and_falls_to_almost_nothing() {
        let cycle = LearningRateCurve { shape: RateShape::OneCycle, ..LearningRateCurve::cosine(1.0, 200, 1000) };
        assert!((cycle.at(0) - 0.04).abs() < 1e-12);
        assert!((cycle.at(150) - 0.52).abs() < 1e-12);
        assert!((cycle.at(300) - 1.0).abs() < 1e-12);
        assert!((cycle.at(650) - 0.500002).abs() < 1e-12);
        assert!(cycle.at(999) < 1e-4 && cycle.at(999) > 4e-6);
    }

    #[test]
    fn a_clock_set_to_a_step_agrees_with_one_that_ran_there() {
        let curve = Arc::new(LearningRateCurve::cosine(0.1, 3, 50));
        let clock = |next_step| Clock { curve: curve.clone(), next_step, multiple: 2.0, until: 30 };
        let mut ran = clock(0);
        for step in 0..20 {
            assert_eq!(ran.step(), 2.0 * curve.at(step));
        }
        let mut set = clock(20);
        assert_eq!(ran.step().to_bits(), set.step().to_bits());
        assert_eq!(clock(29).step(), 2.0 * curve.at(29));
        assert_eq!(clock(30).step(), 0.0);
    }
}
