//! Data: labelled images in memory, the files they come from, and the batches they leave in.
//!
//! ```text
//! name or folder ─catalog─▶ DataSource ─idx | cifar─▶ ImageSet (bytes) ─loader─▶ ImageBatch (tensors, [0, 1], NCHW)
//! ```
//!
//! Everything here reads files that somebody else wrote: whatever is wrong with one is a [`DataError`] that names the file,
//! what was expected and what was found. Not here: the network (nothing is downloaded) and augmentation.

pub mod catalog;
pub mod cifar;
mod error;
pub mod idx;
mod images;
mod loader;
mod normalize;
pub mod npy;

pub use catalog::{CheckReport, CheckedFile, DataSource, Entry, Verdict, check, list, resolve};
pub use error::DataError;
pub use images::{ImageSet, Split, class_numbers};
pub use loader::{ImageBatch, ImageBatches, ImageLoader, LastBatch, LoaderConfig, Mix, Order, permutation};
pub use normalize::{Normalize, NormalizeError};
