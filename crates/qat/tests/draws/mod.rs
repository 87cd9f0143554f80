//! Seeded random numbers for tests: SplitMix64, which is the same on every machine.

use burn::tensor::{Device, Shape, Tensor, TensorData};

/// A stream of draws; making one prints its seed.
pub struct Draws(u64);

impl Draws {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`.
    #[allow(dead_code, reason = "not every test draws real numbers")]
    pub fn uniform(&mut self, low: f32, high: f32) -> f32 {
        let unit = (self.bits() >> 40) as f32 / (1u64 << 24) as f32;
        low + (high - low) * unit
    }

    /// Uniform in `0..count`.
    #[allow(dead_code, reason = "not every test draws integers")]
    pub fn below(&mut self, count: usize) -> usize {
        (self.bits() % count as u64) as usize
    }

    /// A tensor of uniform draws.
    #[allow(dead_code, reason = "not every test draws tensors")]
    pub fn tensor<const D: usize>(&mut self, shape: [usize; D], low: f32, high: f32, device: &Device) -> Tensor<D> {
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| self.uniform(low, high)).collect();
        Tensor::from_data(TensorData::new(values, Shape::from(shape)), device)
    }
}
