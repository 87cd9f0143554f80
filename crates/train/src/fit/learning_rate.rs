//! The learning rate of each step: a linear rise, then half a cosine down to zero.
//!
//! With peak `p`, warm-up `w` and `n` steps in all, step `k` (from 0) learns at
//! `p (k + 1) / w` for `k < w`, and `p/2 (1 + cos(π (k - w) / (n - w)))` after that (Loshchilov and Hutter, 2017, without restarts).
//! It follows from `k` alone, so a checkpoint needs no state of it.

use burn::lr_scheduler::{LrScheduler, LrSchedulerRecord};
use burn::optim::LearningRate;
use std::f64::consts::PI;

/// The rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WarmupCosine {
    /// Highest rate, `p`.
    pub peak: f64,
    /// Steps of the rise, `w`.
    pub warmup_steps: usize,
    /// Steps in all, `n`.
    pub total_steps: usize,
}

impl WarmupCosine {
    /// The rate of step `step`, counted from 0; zero from `total_steps` on.
    pub fn at(&self, step: usize) -> f64 {
        if step >= self.total_steps {
            return 0.0;
        }
        match step.checked_sub(self.warmup_steps) {
            None => self.peak * (step + 1) as f64 / self.warmup_steps as f64,
            Some(done) => {
                let progress = done as f64 / (self.total_steps - self.warmup_steps) as f64;
                self.peak * 0.5 * (1.0 + (PI * progress).cos())
            }
        }
    }
}

/// [`WarmupCosine`] as Burn's scheduler, standing at a step.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) rate: WarmupCosine,
    pub(super) next_step: usize,
}

impl LrScheduler for Clock {
    fn step(&mut self) -> LearningRate {
        let rate = self.rate.at(self.next_step);
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
        let rate = WarmupCosine { peak: 0.8, warmup_steps: 4, total_steps: 12 };
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
        assert_eq!(WarmupCosine { peak: 0.1, warmup_steps: 0, total_steps: 5 }.at(0), 0.1);
    }

    #[test]
    fn a_clock_set_to_a_step_agrees_with_one_that_ran_there() {
        let rate = WarmupCosine { peak: 0.1, warmup_steps: 3, total_steps: 50 };
        let mut ran = Clock { rate, next_step: 0 };
        for _ in 0..20 {
            ran.step();
        }
        let mut set = Clock { rate, next_step: 20 };
        assert_eq!(ran.step().to_bits(), set.step().to_bits());
    }
}
