//! Images and labels as `.npy` arrays.
//!
//! Images are `[N, C, H, W]` or, gray, `[N, H, W]`: uint8, or float32 that are bytes over 255 to within rounding, as frameworks make
//! them. They are kept as bytes. Labels are `[N]`, integers from 0 to 255; the classes are as many as the greatest of them asks for. A
//! folder has such arrays for each split, `train-images.npy` and `train-labels.npy` or `x_train.npy` and `y_train.npy`. Not here: the
//! format itself (see `npy`), and images that are normalized already.

use std::path::{Path, PathBuf};

use super::error::DataError;
use super::images::{ImageSet, Split, class_numbers};
use super::npy::{self, Array};

/// An array of images, and one of labels if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArrayPair {
    pub(super) images: PathBuf,
    pub(super) labels: Option<PathBuf>,
}

/// The arrays of the training and of the test split among these files.
pub(super) fn pairs(files: &[PathBuf]) -> Result<[Option<ArrayPair>; 2], DataError> {
    let mut parts: [Option<PathBuf>; 4] = Default::default();
    for path in files.iter().filter(|path| path.extension().is_some_and(|extension| extension == "npy")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
        let words: Vec<&str> = name.split(|c: char| !c.is_alphanumeric()).collect();
        let split = [(Split::Train, "train"), (Split::Test, "test")].into_iter().find(|(_, word)| words.contains(word));
        let images = ["images", "x"].iter().any(|word| words.contains(word));
        let labels = ["labels", "y"].iter().any(|word| words.contains(word));
        let Some((split, _)) = split.filter(|_| images != labels) else { continue };
        let slot = &mut parts[usize::from(split == Split::Test) * 2 + usize::from(labels)];
        if let Some(first) = slot.replace(path.clone()) {
            return Err(DataError::Ambiguous { first, second: path.clone() });
        }
    }
    let [train, train_labels, test, test_labels] = parts;
    let pair = |images: Option<PathBuf>, labels| images.map(|images| ArrayPair { images, labels });
    Ok([pair(train, train_labels), pair(test, test_labels)])
}

/// Reads images with their labels.
pub(super) fn load(name: &str, pair: &ArrayPair) -> Result<ImageSet, DataError> {
    let Some(path) = &pair.labels else { return Err(DataError::NoLabels { path: pair.images.clone() }) };
    let images = load_images(name, pair)?;
    let values = npy::read_labels(path)?;
    if values.len() != images.len() {
        return Err(DataError::CountMismatch {
            images_path: pair.images.clone(),
            labels_path: path.clone(),
            images: images.len(),
            labels: values.len(),
        });
    }
    let mut labels = Vec::with_capacity(values.len());
    for (index, &found) in values.iter().enumerate() {
        let label = u8::try_from(found);
        labels.push(label.map_err(|_| DataError::ArrayLabel { path: path.clone(), index, limit: u8::MAX.into(), found })?);
    }
    let classes = labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    Ok(ImageSet { classes, class_names: class_numbers(classes), labels, ..images })
}

/// Reads images alone, all of them of class 0 of 1.
pub(super) fn load_images(name: &str, pair: &ArrayPair) -> Result<ImageSet, DataError> {
    let path = &pair.images;
    let array = npy::read(path)?;
    let (count, shape) = match *array.shape() {
        [count, channels, height, width] => (count, [channels, height, width]),
        [count, height, width] => (count, [1, height, width]),
        _ => (0, [0; 3]),
    };
    if count == 0 || shape.contains(&0) {
        let expected = "[N, C, H, W] or [N, H, W], each at least 1";
        return Err(DataError::ArrayShape { path: path.clone(), expected, found: array.shape().to_vec() });
    }
    let images = match array {
        Array::U8 { values, .. } => values,
        Array::F32 { values, .. } => bytes(path, &values)?,
        other => {
            let (expected, found) = ("uint8 or float32", other.dtype().to_owned());
            return Err(npy::NpyError::WrongDtype { path: path.clone(), expected, found }.into());
        }
    };
    Ok(ImageSet { name: name.to_owned(), shape, classes: 1, class_names: class_numbers(1), images, labels: vec![0; count] })
}

/// The bytes that are these reals times 255.
fn bytes(path: &Path, reals: &[f32]) -> Result<Vec<u8>, DataError> {
    let byte = |(index, &found): (usize, &f32)| {
        let nearest = (255.0 * found).round_ties_even();
        let is_byte = (0.0..=255.0).contains(&nearest) && (255.0 * found - nearest).abs() <= TOLERANCE;
        if is_byte { Ok(nearest as u8) } else { Err(DataError::Pixel { path: path.into(), index, found }) }
    };
    reals.iter().enumerate().map(byte).collect()
}

/// How far 255 times a real may be from a byte: what float32 rounds off on the way, many times over.
const TOLERANCE: f32 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    struct Arrays(TempDir);

    impl Arrays {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }
        fn put(&self, name: &str, array: Array) -> PathBuf {
            let path = self.0.path().join(name);
            npy::write(&path, &array).unwrap();
            path
        }
        fn pair(&self, images: Array, labels: Array) -> ArrayPair {
            ArrayPair { images: self.put("x.npy", images), labels: Some(self.put("y.npy", labels)) }
        }
    }

    fn pixels(shape: &[usize]) -> Array {
        let count: usize = shape.iter().product();
        Array::U8 { shape: shape.to_vec(), values: (0..count).map(|at| (at * 5) as u8).collect() }
    }

    fn labels(values: &[i32]) -> Array {
        Array::I32 { shape: vec![values.len()], values: values.to_vec() }
    }

    #[test]
    fn bytes_and_bytes_over_255_are_the_same_images() {
        let arrays = Arrays::new();
        let set = load("x", &arrays.pair(pixels(&[2, 3, 1, 2]), labels(&[4, 0]))).unwrap();
        assert_eq!((set.shape, set.classes, set.labels.as_slice()), ([3, 1, 2], 5, &[4u8, 0][..]));
        assert_eq!(set.image(1), [30, 35, 40, 45, 50, 55]);
        let reals = Array::F32 { shape: vec![2, 3, 1, 2], values: set.to_f32() };
        assert_eq!(load("x", &arrays.pair(reals, labels(&[4, 0]))).unwrap(), set);
        assert_eq!(load("x", &arrays.pair(pixels(&[2, 1, 2]), labels(&[0, 1]))).unwrap().shape, [1, 1, 2]);
    }

    #[test]
    fn images_alone_are_enough_where_labels_are_not_needed() {
        let arrays = Arrays::new();
        let pair = ArrayPair { images: arrays.put("x.npy", pixels(&[2, 1, 2, 2])), labels: None };
        let set = load_images("x", &pair).unwrap();
        assert_eq!((set.len(), set.classes), (2, 1));
        let error = load("x", &pair).unwrap_err();
        assert!(matches!(error, DataError::NoLabels { .. }) && error.hint().unwrap().contains("X.npy,Y.npy"));
    }

    #[test]
    fn arrays_that_are_no_images_or_labels_are_refused() {
        let arrays = Arrays::new();
        let refused = |images: Array, labels: Array| load("x", &arrays.pair(images, labels)).unwrap_err();
        let two = || pixels(&[2, 1, 1, 1]);
        assert!(matches!(refused(two(), labels(&[0, 256])), DataError::ArrayLabel { index: 1, found: 256, .. }));
        assert!(matches!(refused(two(), labels(&[-1, 0])), DataError::ArrayLabel { index: 0, found: -1, .. }));
        assert!(matches!(refused(two(), labels(&[0])), DataError::CountMismatch { images: 2, labels: 1, .. }));
        for shape in [&[4][..], &[2, 2], &[0, 1, 1, 1], &[1, 1, 1, 1, 2]] {
            assert!(matches!(refused(pixels(shape), labels(&[0, 0])), DataError::ArrayShape { .. }), "{shape:?}");
        }
        for (at, wrong) in [f32::NAN, f32::INFINITY, -0.1, 1.1, 0.5].into_iter().enumerate() {
            let mut values = vec![1.0; 6];
            values[at] = wrong;
            let error = refused(Array::F32 { shape: vec![6, 1, 1, 1], values }, labels(&[0; 6]));
            assert!(matches!(error, DataError::Pixel { index, .. } if index == at), "{error}");
        }
        let codes = Array::I8 { shape: vec![1, 1, 1, 1], values: vec![1] };
        let error = refused(codes, labels(&[0]));
        assert!(error.to_string().ends_with("x.npy: expected uint8 or float32, found int8"), "{error}");
        let reals = Array::F32 { shape: vec![2], values: vec![0.0, 1.0] };
        let error = refused(two(), reals);
        assert!(error.to_string().contains("y.npy: expected integers, found"), "{error}");
    }

    #[test]
    fn a_folder_names_its_arrays() {
        let names = |names: &[&str]| {
            let files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
            pairs(&files)
        };
        let [train, test] = names(&["test_images.npy", "train-images.npy", "train-labels.npy", "notes.txt", "mean.npy"]).unwrap();
        assert_eq!(train.unwrap().labels, Some("train-labels.npy".into()));
        assert_eq!(test.unwrap(), ArrayPair { images: "test_images.npy".into(), labels: None });
        let [train, test] = names(&["X_train.npy", "y_train.npy"]).unwrap();
        assert!(train.is_some_and(|pair| pair.labels.is_some()) && test.is_none());
        assert!(matches!(names(&["train-images.npy", "train-x.npy"]), Err(DataError::Ambiguous { .. })));
    }
}
