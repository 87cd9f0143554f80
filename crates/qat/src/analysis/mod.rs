//! What quantization costs and saves, layer by layer: arithmetic, size, noise, and which layers bear it badly.
//!
//! Everything here reads a [`crate::QatModel`] and changes none. Not here: accuracy, which needs labels and a dataset.

mod cost;
mod grid;
mod sensitivity;
mod sqnr;

pub use cost::{LayerCost, layer_costs};
pub use grid::{LayerGrid, layer_grids};
pub use sensitivity::sensitivity;
pub use sqnr::{Sqnr, layer_sqnr};
