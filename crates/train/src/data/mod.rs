//! Data: labelled images in memory, the files they come from, and the batches they leave in.
//!
//! ```text
//! name or path ─catalog─▶ DataSource ─idx | cifar | folder | archive | npy─▶ ImageSet (bytes)
//!                                                    ImageSet ─loader: augment, normalize─▶ ImageBatch (tensors, NCHW)
//! ```
//!
//! Everything here reads files that somebody else wrote: whatever is wrong with one is a [`DataError`] that names the file,
//! what was expected and what was found. Nothing is downloaded but by [`fetch()`].

mod archive;
mod arrays;
mod augment;
pub mod catalog;
pub mod cifar;
mod config;
mod decode;
mod error;
mod fetch;
mod folder;
pub mod idx;
mod images;
mod loader;
mod normalize;
pub mod npy;
mod prefetch;
mod source;

pub use augment::{Augment, AugmentError};
pub use catalog::{CheckReport, CheckedFile, Entry, FORMS, Form, Verdict, check, list, resolve};
pub use config::DataConfig;
pub use error::DataError;
pub use fetch::{FetchCause, FetchError, FetchEvent, fetch, fetchable};
pub use images::{ImageSet, Split, class_numbers};
pub use loader::{BatchPart, ImageBatch, ImageBatches, ImageLoader, LastBatch, LoaderConfig, Mix, Order, permutation};
pub use normalize::{Normalize, NormalizeError};
pub use source::DataSource;
