//! The binary records of CIFAR-10.
//!
//! ```text
//! record   label (1 byte, 0..=9)   red (32 x 32 bytes)   green   blue        file   one record after another, nothing else
//! ```
//!
//! The three planes are already `[C, H, W]`. Training data is every `data_batch_*.bin` of a folder in the order of their numbers,
//! test data is `test_batch.bin`. A file may hold any number of records, so that an excerpt works like the original. Not here:
//! CIFAR-100, the pickled Python version, and the archive.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::DataError;
use super::idx::open_regular;
use super::images::ImageSet;

/// `[C, H, W]` of an image.
pub const SHAPE: [usize; 3] = [3, 32, 32];

/// Number of classes.
pub const CLASSES: usize = 10;

/// The classes' names, in the order of the labels, which is alphabetical.
pub const CLASS_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Bytes of one record: the label and the three planes.
pub const RECORD: usize = 1 + 3 * 32 * 32;

/// The most bytes that one file may hold: 1 GiB, thirty times a batch of the original.
pub const MAX_BYTES: u64 = 1 << 30;

/// Reads files of records, in the given order, into one set.
///
/// # Errors
///
/// A file that cannot be read, whose length is not a positive multiple of [`RECORD`], or with a label that is no class.
pub fn load(name: &str, files: &[PathBuf]) -> Result<ImageSet, DataError> {
    let mut set = ImageSet {
        name: name.to_owned(),
        shape: SHAPE,
        classes: CLASSES,
        class_names: CLASS_NAMES.map(str::to_owned).to_vec(),
        images: Vec::new(),
        labels: Vec::new(),
    };
    for path in files {
        append(path, &mut set)?;
    }
    Ok(set)
}

/// Appends the records of one file.
fn append(path: &Path, set: &mut ImageSet) -> Result<(), DataError> {
    let mut file = open_regular(path)?;
    let len = file.metadata().map_err(|error| DataError::io(path, error))?.len();
    if len == 0 || !len.is_multiple_of(RECORD as u64) {
        return Err(DataError::BadRecordLength { path: path.to_path_buf(), record: RECORD as u64, found: len });
    }
    if len > MAX_BYTES {
        return Err(DataError::TooLarge { path: path.to_path_buf(), limit: MAX_BYTES, found: u128::from(len) });
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.by_ref().take(len).read_to_end(&mut bytes).map_err(|error| DataError::io(path, error))?;
    if bytes.len() as u64 != len {
        return Err(DataError::Truncated { path: path.to_path_buf(), expected: len, found: bytes.len() as u64 });
    }
    for (index, record) in bytes.chunks_exact(RECORD).enumerate() {
        let label = record[0];
        if usize::from(label) >= CLASSES {
            return Err(DataError::LabelOutOfRange { path: path.to_path_buf(), index, classes: CLASSES, found: label });
        }
        set.labels.push(label);
        set.images.extend_from_slice(&record[1..]);
    }
    Ok(())
}

/// Number of a training batch: `Some(3)` for `data_batch_3.bin`.
pub(crate) fn batch_number(file_name: &str) -> Option<u32> {
    file_name.strip_prefix("data_batch_")?.strip_suffix(".bin")?.parse().ok()
}

/// The file name of the test records.
pub(crate) const TEST_FILE: &str = "test_batch.bin";

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn record(label: u8, fill: u8) -> Vec<u8> {
        let mut record = vec![fill; RECORD];
        record[0] = label;
        record[1] = 11;
        record[1 + 1024] = 22;
        record[1 + 2048] = 33;
        record
    }

    fn put(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn records_of_several_files_follow_each_other() {
        let folder = TempDir::new().unwrap();
        let first = put(&folder, "data_batch_1.bin", &[record(3, 1), record(9, 2)].concat());
        let second = put(&folder, "data_batch_2.bin", &record(0, 3));
        let set = load("cifar10", &[first, second]).unwrap();
        assert_eq!((set.len(), set.shape, set.labels.as_slice()), (3, [3, 32, 32], &[3u8, 9, 0][..]));
        // The first pixel of each plane, then a pixel of the filling.
        assert_eq!([set.image(1)[0], set.image(1)[1024], set.image(1)[2048], set.image(1)[5]], [11, 22, 33, 2]);
        assert_eq!(set.images.len(), 3 * 3072);
    }

    #[test]
    fn a_part_of_a_record_is_refused() {
        let folder = TempDir::new().unwrap();
        for len in [0, 1, RECORD - 1, RECORD + 1, 2 * RECORD - 1] {
            let path = put(&folder, "test_batch.bin", &vec![0; len]);
            let error = load("cifar10", &[path]).unwrap_err();
            assert!(matches!(error, DataError::BadRecordLength { record: 3073, found, .. } if found == len as u64), "{error}");
        }
    }

    #[test]
    fn labels_must_be_classes() {
        let folder = TempDir::new().unwrap();
        let path = put(&folder, "test_batch.bin", &[record(9, 0), record(10, 0)].concat());
        let error = load("cifar10", &[path]).unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 1, found: 10, .. }), "{error}");
    }

    #[test]
    fn a_sparse_giant_is_refused_unread() {
        let folder = TempDir::new().unwrap();
        let path = put(&folder, "test_batch.bin", b"");
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len((1 << 20) * RECORD as u64).unwrap();
        assert!(matches!(load("cifar10", &[path]), Err(DataError::TooLarge { .. })));
    }

    #[test]
    fn batches_are_numbered() {
        assert_eq!(batch_number("data_batch_10.bin"), Some(10));
        for other in ["data_batch_.bin", "data_batch_x.bin", "data_batch_1", "test_batch.bin"] {
            assert_eq!(batch_number(other), None);
        }
    }
}
