//! `gru`: a gated recurrent unit that reads an image row by row; its last state goes to a linear layer.
//!
//! 28 time steps of 28 pixels, 48 hidden units. Burn's own cell, with the sums of its gates unrolled in the recording.

use burn::{
    module::Module,
    nn::{
        Linear, LinearConfig,
        gru::{Gru, GruConfig},
    },
    tensor::{Device, Tensor, s},
};

/// Recurrent network for one-channel images of 28 by 28.
#[derive(Module, Debug)]
pub struct GruClassifier {
    /// 28 pixels to 48 hidden units at each of 28 time steps.
    pub gru: Gru,
    /// 48 to 10.
    pub fc: Linear,
}

/// Time steps.
const ROWS: usize = 28;
/// Pixels of a row.
const COLUMNS: usize = 28;
/// Width of the hidden state.
const HIDDEN: usize = 48;

impl GruClassifier {
    /// A network with freshly drawn weights; the device's random numbers decide them.
    pub fn init(device: &Device) -> Self {
        Self { gru: GruConfig::new(COLUMNS, HIDDEN, true).init(device), fc: LinearConfig::new(HIDDEN, 10).init(device) }
    }

    /// Class scores.
    ///
    /// # Shapes
    ///
    /// - `images`: `[n, 1, 28, 28]`, values in `[0, 1]`
    /// - output: `[n, 10]`, before softmax
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let rows = images.reshape([-1, ROWS as i32, COLUMNS as i32]);
        let states = self.gru.forward(rows, None);
        self.fc.forward(states.slice(s![.., ROWS - 1, ..]).squeeze_dim::<2>(1))
    }
}
