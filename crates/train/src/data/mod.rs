//! Data: labelled images in memory, the files they come from, and the batches they leave in.
//!
//! ```text
//! name or path ─catalog─▶ DataSource ─idx | cifar | folder | archive | npy─▶ ImageSet (bytes)
//!                                                    ImageSet ─loader: augment, normalize─▶ ImageBatch (tensors, NCHW)
//! ```
//!
//! Everything here reads files that somebody else wrote: whatever is wrong with one is a [`DataError`] that names the file,
//! what was expected and what was found. Nothing is downloaded but by [`fetch`].

mod augment;
pub mod catalog;
pub mod cifar;
mod config;
mod error;
pub mod idx;
mod images;
mod loader;
mod normalize;
pub mod npy;
mod prefetch;

pub use augment::{Augment, AugmentError};
pub use catalog::{CheckReport, CheckedFile, DataSource, Entry, Verdict, check, list, resolve};
pub use config::DataConfig;
pub use error::DataError;
pub use images::{ImageSet, Split, class_numbers};
pub use loader::{BatchPart, ImageBatch, ImageBatches, ImageLoader, LastBatch, LoaderConfig, Mix, Order, permutation};
pub use normalize::{Normalize, NormalizeError};
