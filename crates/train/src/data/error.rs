//! What can be wrong with data, and where.

use std::io;
use std::path::{Path, PathBuf};

use super::augment::AugmentError;
use super::images::Split;
use super::normalize::NormalizeError;
use super::npy::NpyError;

/// A dataset that cannot be found, read or trusted.
///
/// Displays as "WHAT, WHERE: expected X, found Y". [`DataError::hint`] says what to do about it, where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The specification is neither a dataset's name nor an existing folder.
    #[error("unknown dataset, {spec}: expected one of {known} or a path, found neither")]
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
    /// A folder holds nothing that is read.
    #[error(
        "unrecognised folder, {}: expected train/CLASS/ with pictures, IDX files, CIFAR-10 records (*_batch*.bin) or .npy arrays, found none of them",
        .path.display()
    )]
    UnrecognisedFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The data is in a form that is not read.
    #[error("unsupported data, {}: expected a folder, a .tar or .tar.gz of one, or a .npy array, found another file", .path.display())]
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
    /// A picture is damaged, or in a format that is not read.
    #[error("corrupt picture, {}: expected a whole JPEG or PNG, found {found}", .path.display())]
    CorruptPicture {
        /// The picture.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A picture has channels that are not read.
    #[error("unsupported picture, {}: expected 1 or 3 channels of 8 bits, found {found}", .path.display())]
    PictureChannels {
        /// The picture.
        path: PathBuf,
        /// Its channels.
        found: String,
    },
    /// A side of a picture is 0 or more than is read.
    #[error("unsupported picture, {}: expected sides of 1 to {limit} pixels, found {width} x {height}", .path.display())]
    PictureSides {
        /// The picture.
        path: PathBuf,
        /// The longest side that is read.
        limit: usize,
        /// Its height, as its header says.
        height: usize,
        /// Its width, as its header says.
        width: usize,
    },
    /// A picture has not the channels and the size of the others.
    #[error(
        "differing picture, {}: expected {} as of {}, found {}",
        .path.display(), picture(*.expected), .first.display(), picture(*.found)
    )]
    PictureShape {
        /// The picture.
        path: PathBuf,
        /// The first picture of the set.
        first: PathBuf,
        /// `[C, H, W]` of the first.
        expected: [usize; 3],
        /// `[C, H, W]` of this.
        found: [usize; 3],
    },
    /// A folder of a split has no folder of a class.
    #[error("no classes, {}: expected a folder for each class, found none", .path.display())]
    NoClasses {
        /// The folder.
        path: PathBuf,
    },
    /// There are more classes than labels can tell apart.
    #[error("too many classes, {}: expected at most {limit}, found {found}", .path.display())]
    TooManyClasses {
        /// The folder, or the file of labels.
        path: PathBuf,
        /// The most there may be.
        limit: usize,
        /// How many there are.
        found: usize,
    },
    /// A class has no picture.
    #[error("empty class, {}: expected .jpg or .png files, found none", .path.display())]
    EmptyClass {
        /// The class's folder.
        path: PathBuf,
    },
    /// Two splits, or two joined sets, have not the same classes.
    #[error("differing classes, {}: expected the classes of {}, found none of the name {class:?}", .path.display(), .other.display())]
    ClassesDiffer {
        /// What lacks the class.
        path: PathBuf,
        /// What has it.
        other: PathBuf,
        /// The class.
        class: String,
    },
    /// Sets that are to be joined do not fit together.
    #[error("joining, {path}: expected {expected} as of {other}, found {found}")]
    Unlike {
        /// The set that does not fit.
        path: String,
        /// The first set.
        other: String,
        /// What the first set has.
        expected: String,
        /// What this one has.
        found: String,
    },
    /// An archive is damaged or unfinished.
    #[error("corrupt archive, {}: expected a whole .tar or .tar.gz, found {source}", .path.display())]
    CorruptArchive {
        /// The archive.
        path: PathBuf,
        /// The reader's word on it.
        source: io::Error,
    },
    /// A member of an archive leads out of it.
    #[error("unsafe archive, {}: expected paths below it, found {}", .path.display(), .member.display())]
    UnsafePath {
        /// The archive.
        path: PathBuf,
        /// The member's path.
        member: PathBuf,
    },
    /// Of an array.
    #[error(transparent)]
    Npy(#[from] NpyError),
    /// An array has not the shape of images or of labels.
    #[error("wrong shape, {}: expected {expected}, found {found:?}", .path.display())]
    ArrayShape {
        /// The array.
        path: PathBuf,
        /// The dimensions that are needed.
        expected: &'static str,
        /// Its dimensions.
        found: Vec<usize>,
    },
    /// A real number of an array of images is no pixel's.
    #[error("wrong pixel, {}: expected uint8, or float32 multiples of 1/255 in [0, 1], found {found} at place {index}", .path.display())]
    Pixel {
        /// The array.
        path: PathBuf,
        /// Where the number is, row-major.
        index: usize,
        /// The number.
        found: f32,
    },
    /// A label of an array is no class.
    #[error("label out of range, {}: expected 0 to {limit}, found {found} at place {index}", .path.display())]
    ArrayLabel {
        /// The array.
        path: PathBuf,
        /// Which label, counted from 0.
        index: usize,
        /// The greatest label there may be.
        limit: usize,
        /// The label.
        found: i64,
    },
    /// Training and test images are the same.
    #[error("one split for two, {}: expected images to train on and others to be judged on, found one array for both", .path.display())]
    SameSplits {
        /// The array of images.
        path: PathBuf,
    },
    /// Labels are needed and there are none.
    #[error("no labels, {}: expected an array of images and one of labels, found images alone", .path.display())]
    NoLabels {
        /// The array of images.
        path: PathBuf,
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
            DataError::CorruptPicture { .. } | DataError::EmptyClass { .. } => {
                Some("put in a whole file, or take the file or the folder out")
            }
            DataError::PictureShape { .. } | DataError::PictureChannels { .. } | DataError::PictureSides { .. } => {
                Some("scale and convert the pictures beforehand: all of one size, all gray or all RGB, 8 bits a channel")
            }
            DataError::NoLabels { .. } => Some("name both arrays with a comma between them: X.npy,Y.npy"),
            DataError::SameSplits { .. } => {
                Some("put train-images.npy, train-labels.npy, test-images.npy and test-labels.npy into a folder and name that")
            }
            DataError::Pixel { .. } => Some("save the pixels as uint8 from 0 to 255; normalization is a setting"),
            DataError::Npy(error) => error.hint(),
            _ => None,
        }
    }

    /// Wraps an error of the operating system with the path it is about.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        DataError::Io { path: path.to_path_buf(), source }
    }
}

/// A shape in words.
fn picture([channels, height, width]: [usize; 3]) -> String {
    let channels = if channels == 1 { "1 channel".into() } else { format!("{channels} channels") };
    format!("{channels}, {width} x {height} pixels")
}

/// Folders in a row; without any, the one that would have been looked into had it been there.
fn places(folders: &[PathBuf]) -> String {
    if folders.is_empty() {
        return "a folder `datasets` here or above".into();
    }
    folders.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
