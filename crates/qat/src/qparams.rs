//! From a real range to the scale and zero point of its codes, and from a real number to its code, on the host.
//!
//! (Q2) to (Q5) of `docs/quantization.md`, in f32 and in the order of operations that [`crate::fake_quantize`] uses on a device,
//! so that conversion finds the very parameters that training used. Not here: gradients.

use crate::format::IntegerFormat;

/// The smallest scale that a tensor may have, 2⁻²⁰.
///
/// A tensor that is zero everywhere has no range of its own; this floor gives it a step, so that no quotient by a scale is infinite.
pub const MIN_SCALE: f32 = 1.0 / 1_048_576.0;

/// Scale and zero point of one tensor with integer codes: `real = scale · (q − zero_point)` (Q1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QParams {
    /// The step between two neighbouring codes, in real units, finite and at least [`MIN_SCALE`].
    pub scale: f32,
    /// The code of real 0, in `[quant_min, quant_max]`.
    pub zero_point: i32,
    /// The codes that exist.
    pub format: IntegerFormat,
}

impl QParams {
    /// Parameters of the range `[min, max]` in a format for activations: affine, or symmetric where the format is (Q60).
    ///
    /// A range that is not finite is the caller's to refuse; here it gives a scale that is not finite.
    pub fn of_range(min: f32, max: f32, format: IntegerFormat) -> Self {
        if !format.is_symmetric() {
            return Self::affine(min, max, format);
        }
        let scale = Self::symmetric_scale((-min.min(0.0)).max(max.max(0.0)), format);
        Self { scale, zero_point: 0, format }
    }

    /// Affine parameters of the range `[min, max]`, widened to contain 0 and nudged so that 0 has a code of its own (Q2), (Q3).
    ///
    /// A range that is not finite is the caller's to refuse; here it gives a scale that is not finite.
    pub fn affine(min: f32, max: f32, format: IntegerFormat) -> Self {
        let (low, high) = (min.min(0.0), max.max(0.0));
        let scale = ((high - low) / format.steps() as f32).max(MIN_SCALE);
        let zero_point = format.quant_min() - (low / scale).round_ties_even() as i32;
        Self { scale, zero_point: zero_point.clamp(format.quant_min(), format.quant_max()), format }
    }

    /// The scale of symmetric codes for values of at most `abs_max` in magnitude (Q4); its zero point is 0.
    pub fn symmetric_scale(abs_max: f32, format: IntegerFormat) -> f32 {
        (abs_max / format.quant_max() as f32).max(format.min_scale())
    }

    /// The code of `x`: `clamp(round_half_even(x / scale) + zero_point)` (Q5). NaN has the code of 0; ±∞ saturate.
    pub fn quantize(&self, x: f32) -> i32 {
        quantize(x, self.scale, self.zero_point, self.format)
    }

    /// The real number that the code `q` stands for (Q1).
    pub fn dequantize(&self, q: i32) -> f32 {
        (q - self.zero_point) as f32 * self.scale
    }

    /// The real numbers of the lowest and the highest code.
    pub fn real_range(&self) -> (f32, f32) {
        (self.dequantize(self.format.quant_min()), self.dequantize(self.format.quant_max()))
    }
}

/// The code of `x` at `scale` and `zero_point`, ties to even (Q5). NaN has the code of 0; ±∞ saturate.
pub fn quantize(x: f32, scale: f32, zero_point: i32, format: IntegerFormat) -> i32 {
    if x.is_nan() {
        return zero_point;
    }
    let (min, max) = (format.quant_min() as f32, format.quant_max() as f32);
    ((x / scale).round_ties_even() + zero_point as f32).clamp(min, max) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    const INT8: IntegerFormat = IntegerFormat::INT8;

    #[test]
    fn pixels_get_their_own_codes() {
        let q = QParams::affine(0.0, 1.0, INT8);
        assert_eq!(q.zero_point, -128);
        for pixel in 0..=255 {
            assert_eq!(q.quantize(pixel as f32 / 255.0), pixel - 128);
        }
    }

    #[test]
    fn ties_go_to_even() {
        for (steps, code) in [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126), (127.5, 127)] {
            assert_eq!(quantize(steps * 0.25, 0.25, 0, INT8), code, "{steps} steps");
        }
    }

    #[test]
    fn sixteen_bits_are_symmetric() {
        let q = QParams::of_range(-1.0, 0.5, IntegerFormat::INT16);
        assert_eq!((q.scale, q.zero_point), (1.0 / 32767.0, 0));
        assert_eq!((q.quantize(1.0), q.quantize(-1.0), q.quantize(-2.0)), (32767, -32767, -32768));
        // The parameters of a sigmoid.
        assert_eq!(QParams::of_range(0.0, 32767.0 / 32768.0, IntegerFormat::INT16).scale, 1.0 / 32768.0);
        assert_eq!(QParams::of_range(-1.0, 3.0, INT8), QParams::affine(-1.0, 3.0, INT8));
    }

    #[test]
    fn every_range_contains_zero_exactly() {
        for (min, max) in [(1.0, 3.0), (-3.0, -1.0), (-0.7, 0.3), (0.0, 0.0), (5.0, 5.0), (-1e-9, 1e-9)] {
            let q = QParams::affine(min, max, INT8);
            assert!(q.scale >= MIN_SCALE && (-128..=127).contains(&q.zero_point));
            assert_eq!(q.dequantize(q.quantize(0.0)), 0.0, "range {min}..{max}");
        }
    }

    #[test]
    fn degenerate_numbers_are_decided() {
        let q = QParams::affine(-1.0, 3.0, INT8);
        assert_eq!(q.quantize(f32::NAN), q.zero_point);
        assert_eq!((q.quantize(f32::INFINITY), q.quantize(f32::NEG_INFINITY)), (127, -128));
        assert_eq!(QParams::symmetric_scale(0.0, IntegerFormat::INT8_NARROW), MIN_SCALE);
    }
}
