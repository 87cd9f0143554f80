//! What can be wrong with data, and where.

use std::io;
use std::path::{Path, PathBuf};

use super::augment::AugmentError;
use super::images::Split;
use super::normalize::NormalizeError;

/// A dataset that cannot be found, read or trusted.
///
/// Displays as "WHAT, WHERE: expected X, found Y". [`DataError::hint`] says what to do about it, where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The specification is neither a dataset's name nor an existing folder.
    #[error("unknown dataset, {spec}: expected one of {known} or a folder, found neither")]
    UnknownDataset {
        /// What was asked for.
        spec: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// A dataset has a name but its files are in none of the places where they are looked for.
    #[error("dataset not found, {name}: expected its files in {}, found none there", places(.looked))]
    NotPlaced {
        /// The dataset's name.
        name: &'static str,
        /// The folders that were tried, in order.
        looked: Vec<PathBuf>,
        /// How to put the files there.
        how: &'static str,
    },
    /// The operating system would not read a file or folder.
    #[error("cannot read, {}: expected a readable file or folder, found {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word on it.
        source: io::Error,
    },
    /// A path leads to something that is not a regular file.
    #[error("not a file, {}: expected a regular file, found another kind", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A folder holds neither IDX files nor CIFAR-10 records.
    #[error("unrecognised folder, {}: expected IDX files or CIFAR-10 records (*_batch*.bin), found neither", .path.display())]
    UnrecognisedFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The data is in a form that is not read.
    #[error("unsupported data, {}: expected a folder, found a file", .path.display())]
    UnsupportedFile {
        /// The file.
        path: PathBuf,
    },
    /// Two files of a folder claim the same part.
    #[error("ambiguous folder, {}: expected one file for the part, found also {}", .first.display(), .second.display())]
    Ambiguous {
        /// The first file.
        first: PathBuf,
        /// The second file.
        second: PathBuf,
    },
    /// A folder lacks the files of one split.
    #[error("missing split, {}: expected {expected} for the {split} split, found none", .path.display())]
    MissingSplit {
        /// The folder.
        path: PathBuf,
        /// The split that was asked for.
        split: Split,
        /// The files it needs.
        expected: &'static str,
    },
    /// An IDX file starts with another magic number.
    #[error("wrong magic, {}: expected {expected:#010x}, found {found:#010x}", .path.display())]
    WrongMagic {
        /// The file.
        path: PathBuf,
        /// The magic of this kind of IDX file.
        expected: u32,
        /// The first four bytes, big-endian.
        found: u32,
    },
    /// A dimension of an IDX header is zero.
    #[error("empty dimension, {}: expected every dimension at least 1, found {found:?}", .path.display())]
    EmptyDimension {
        /// The file.
        path: PathBuf,
        /// The dimensions of the header.
        found: Vec<u32>,
    },
    /// A header or a file promises more data than is read into memory.
    #[error("too large, {}: expected at most {limit} bytes, found {found}", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most that is read.
        limit: u64,
        /// What the header or the file's length says.
        found: u128,
    },
    /// A file ends before its header says it does.
    #[error("truncated file, {}: expected {expected} bytes of data, found {found}", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, header included, after decompression.
        expected: u64,
        /// Bytes that could be read.
        found: u64,
    },
    /// A file goes on after the end that its header gives.
    #[error("trailing bytes, {}: expected the end after {expected} bytes, found more", .path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes that the header promises, header included, after decompression.
        expected: u64,
    },
    /// A gzip stream is damaged.
    #[error("corrupt gzip, {}: expected a valid gzip stream, found {source}", .path.display())]
    CorruptGzip {
        /// The file.
        path: PathBuf,
        /// The decompressor's word on it.
        source: io::Error,
    },
    /// The images and the labels of a split are not equally many.
    #[error(
        "count mismatch, {}: expected {images} labels as there are images in {}, found {labels}",
        .labels_path.display(), .images_path.display()
    )]
    CountMismatch {
        /// The file of images.
        images_path: PathBuf,
        /// The file of labels.
        labels_path: PathBuf,
        /// Number of images.
        images: usize,
        /// Number of labels.
        labels: usize,
    },
    /// A label is not a class.
    #[error("label out of range, {} image {index}: expected a class below {classes}, found {found}", .path.display())]
    LabelOutOfRange {
        /// The file of labels.
        path: PathBuf,
        /// Position of the image in the file, from 0.
        index: usize,
        /// Number of classes.
        classes: usize,
        /// The label.
        found: u8,
    },
    /// A file of records is not a whole, positive number of them.
    #[error("wrong length, {}: expected a positive multiple of {record} bytes, found {found}", .path.display())]
    BadRecordLength {
        /// The file.
        path: PathBuf,
        /// Bytes of one record.
        record: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// Of a normalization.
    #[error(transparent)]
    Normalize(#[from] NormalizeError),
    /// Of an augmentation.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// More threads are asked for than make sense.
    #[error("data, workers: expected at most {limit} threads, found {found}")]
    Workers {
        /// The most there may be.
        limit: usize,
        /// What was asked for.
        found: usize,
    },
    /// A file is not the one that was published.
    #[error("wrong checksum, {}: expected sha256 {expected}, found {found}", .path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The published file's SHA-256, hexadecimal.
        expected: &'static str,
        /// This file's SHA-256, hexadecimal.
        found: String,
    },
}

impl DataError {
    /// What the user can do about it, as one line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            DataError::NotPlaced { how, .. } => Some(how),
            DataError::UnknownDataset { .. } => Some("`qat data list` shows the datasets and where their files are"),
            DataError::Checksum { .. } | DataError::CorruptGzip { .. } | DataError::Truncated { .. } => {
                Some("fetch the file again from its source; datasets/README.md names the sources")
            }
            _ => None,
        }
    }

    /// Wraps an error of the operating system with the path it is about.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        DataError::Io { path: path.to_path_buf(), source }
    }
}

/// Folders in a row; without any, the one that would have been looked into had it been there.
fn places(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "a folder `datasets` here or above".into();
    }
    folders.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
