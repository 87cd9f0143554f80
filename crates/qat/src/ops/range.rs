//! Step and zero point of a learned range, with their gradients (Q2), (Q3), (Q8), (Q60).
//!
//! A composition of Burn operations on two numbers is a dozen nodes of the graph; operations that end on the grid of a range take its
//! ends instead, and give their gradients. Values are those of the composition.

use crate::clamp::Clamp;

/// The codes that a range is laid over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RangeCodes {
    /// The lowest code.
    pub quant_min: f32,
    /// Steps that the range is divided into, > 0: those from its lower to its upper end, or from 0 to the farther end.
    pub steps: f32,
    /// The smallest step, > 0.
    pub min_scale: f32,
    /// The upper end counts as at most this.
    pub limit: f32,
    /// Which ends there are.
    pub ends: RangeEnds,
}

/// What of a range decides on its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RangeEnds {
    /// The upper end, since the lower one is 0.
    Upper,
    /// Both, from the lower to the upper one.
    Both,
    /// The one that is farther from 0.
    Farther,
}

impl RangeCodes {
    /// The clamp of the upper end.
    pub fn upper(&self) -> Clamp {
        Clamp { min: 0.0, max: self.limit }
    }

    /// The ends as they count: `min` at most 0, `max` in `[0, limit]`.
    fn ends(&self, min: f32, max: f32) -> (f32, f32) {
        (if min > 0.0 { 0.0 } else { min }, self.upper().bound(max))
    }

    /// The length that is divided into steps.
    fn length(&self, min: f32, max: f32) -> f32 {
        let (low, high) = self.ends(min, max);
        match self.ends {
            RangeEnds::Upper => high,
            RangeEnds::Both => high - low,
            RangeEnds::Farther if high < -low => -low,
            RangeEnds::Farther => high,
        }
    }

    /// The step.
    pub fn step(&self, min: f32, max: f32) -> f32 {
        let step = self.length(min, max) / self.steps;
        if step < self.min_scale { self.min_scale } else { step }
    }

    /// The zero point of a range with both ends.
    fn zero_point(&self, min: f32, max: f32) -> f32 {
        let t = self.ends(min, max).0 / self.step(min, max);
        // Where a gradient is asked for, ±∞ become NaN; for all other numbers the difference is exact.
        -(t + (t.round_ties_even() - t)) + self.quant_min
    }

    /// The zero point of the grid where it is not 0 or the lowest code.
    pub fn zero(&self, min: f32, max: f32) -> Option<f32> {
        (self.ends == RangeEnds::Both).then(|| self.zero_point(min, max))
    }

    /// The gradients of both ends for those of the step and of the zero point.
    pub fn gradients(&self, min: f32, max: f32, d_step: f32, d_zero: f32) -> [f32; 2] {
        let of_step = self.step_gradients(min, max, d_step);
        if self.ends != RangeEnds::Both {
            return of_step;
        }
        let of_zero = self.zero_point_gradients(min, max, d_zero);
        [of_step[0] + of_zero[0], of_step[1] + of_zero[1]]
    }

    /// The gradients of both ends for that of the step.
    fn step_gradients(&self, min: f32, max: f32, d_step: f32) -> [f32; 2] {
        let length = self.length(min, max);
        if length / self.steps < self.min_scale {
            return [0.0; 2];
        }
        let (low, high) = self.ends(min, max);
        let d = d_step / self.steps;
        let [d_low, d_high] = match self.ends {
            RangeEnds::Upper => [0.0, d],
            RangeEnds::Both => [-d, d],
            RangeEnds::Farther if high < -low => [-d, 0.0],
            RangeEnds::Farther => [0.0, d],
        };
        self.of_parameters(min, max, [d_low, d_high])
    }

    /// The gradients of both ends for that of the zero point; rounding passes it straight through.
    fn zero_point_gradients(&self, min: f32, max: f32, d_zero: f32) -> [f32; 2] {
        let (low, step) = (self.ends(min, max).0, self.step(min, max));
        let [of_min, _] = self.of_parameters(min, max, [-d_zero / step, 0.0]);
        let [by_min, by_max] = self.step_gradients(min, max, d_zero * low / step / step);
        [of_min + by_min, by_max]
    }

    /// The gradients of `min` and `max` for those of the ends as they count.
    fn of_parameters(&self, min: f32, max: f32, [d_low, d_high]: [f32; 2]) -> [f32; 2] {
        let upper = self.upper();
        let stays = (max < upper.passes_from()) | (max > upper.max);
        [if min > 0.0 { 0.0 } else { d_low }, if stays { 0.0 } else { d_high }]
    }
}
