//! Image folders: `train/CLASS/*.jpg`, `test/CLASS/*.png`.
//!
//! The classes are the folders' names in alphabetical order, the same in both splits. `val` is another name for `test`. The images
//! come in turns, the first file of each class by name, then the second of each, so that the first N are of all classes. Hidden files
//! and files that are no pictures by their names are passed over; a class without a picture is an error. Not here: decoding.

use std::fs;
use std::path::{Path, PathBuf};

use super::decode::{Bytes, Encoded, decode, is_picture};
use super::error::DataError;
use super::images::{ImageSet, Split};

/// The most classes, since a label is a byte.
const MAX_CLASSES: usize = 256;

/// A folder with a folder for each split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageFolder {
    train: Option<PathBuf>,
    test: Option<PathBuf>,
}

impl ImageFolder {
    /// The splits of `root`; `None` when it has no folder of a split's name.
    pub(super) fn recognise(root: &Path) -> Option<Self> {
        let of = |name: &str| Some(root.join(name)).filter(|path| path.is_dir());
        let folder = Self { train: of("train"), test: of("test").or_else(|| of("val")) };
        (folder.train.is_some() || folder.test.is_some()).then_some(folder)
    }

    /// The folder of a split.
    pub(super) fn split(&self, split: Split) -> Option<&Path> {
        match split {
            Split::Train => self.train.as_deref(),
            Split::Test => self.test.as_deref(),
        }
    }

    /// Reads the split in `folder`, which is one of this folder's.
    pub(super) fn load(&self, name: &str, folder: &Path) -> Result<ImageSet, DataError> {
        let mut classes = subfolders(folder)?;
        for other in [&self.train, &self.test].into_iter().flatten().filter(|other| *other != folder) {
            let others = subfolders(other)?;
            same_classes(folder, &names(&classes), other, &names(&others))?;
        }
        let mut members = Vec::new();
        for class in &mut classes {
            let mut files = Vec::new();
            for path in entries(class)? {
                if path.file_name().is_some_and(|name| is_picture(&name.to_string_lossy())) && path.is_file() {
                    files.push((path, Bytes::InFile));
                }
            }
            members.push(Class { name: file_name(class), folder: class.clone(), files });
        }
        load_classes(name, folder, members)
    }
}

/// The pictures of a class.
pub(super) struct Class {
    pub(super) name: String,
    /// For messages.
    pub(super) folder: PathBuf,
    pub(super) files: Vec<(PathBuf, Bytes)>,
}

/// Decodes the pictures of all classes, taken in turns; `path` is where they all are.
pub(super) fn load_classes(name: &str, path: &Path, mut classes: Vec<Class>) -> Result<ImageSet, DataError> {
    if classes.is_empty() {
        return Err(DataError::NoClasses { path: path.into() });
    }
    if classes.len() > MAX_CLASSES {
        return Err(DataError::TooManyClasses { path: path.into(), limit: MAX_CLASSES, found: classes.len() });
    }
    classes.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(empty) = classes.iter().find(|class| class.files.is_empty()) {
        return Err(DataError::EmptyClass { path: empty.folder.clone() });
    }
    let names = classes.iter().map(|class| class.name.clone()).collect();
    let mut turns: Vec<(usize, u8, PathBuf, Bytes)> = Vec::new();
    for (label, mut class) in classes.into_iter().enumerate() {
        class.files.sort_by(|(a, _), (b, _)| a.cmp(b));
        let label = u8::try_from(label).expect("at most 256 classes");
        turns.extend(class.files.into_iter().enumerate().map(|(turn, (path, bytes))| (turn, label, path, bytes)));
    }
    turns.sort_by_key(|&(turn, label, ..)| (turn, label));
    let pictures: Vec<Encoded> = turns.into_iter().map(|(_, label, path, bytes)| Encoded { path, label, bytes }).collect();
    decode(name, names, &pictures)
}

/// Refuses a split, at `path`, whose sorted classes are not those of `other`.
pub(super) fn same_classes(path: &Path, classes: &[String], other: &Path, others: &[String]) -> Result<(), DataError> {
    let lacking = |of: &[String], within: &[String]| of.iter().find(|class| !within.contains(class)).cloned();
    let (extra, missing) = (lacking(classes, others), lacking(others, classes));
    match missing.map(|class| (path, other, class)).or(extra.map(|class| (other, path, class))) {
        Some((path, other, class)) => Err(DataError::ClassesDiffer { path: path.into(), other: other.into(), class }),
        None => Ok(()),
    }
}

/// The folders in a folder, sorted, without hidden ones.
fn subfolders(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut folders = entries(folder)?;
    folders.retain(|path| path.is_dir() && !file_name(path).starts_with('.'));
    folders.sort();
    Ok(folders)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = |error| DataError::io(folder, error);
    fs::read_dir(folder).map_err(read)?.map(|entry| Ok(entry.map_err(read)?.path())).collect()
}

fn names(folders: &[PathBuf]) -> Vec<String> {
    folders.iter().map(|path| file_name(path)).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::decode::tests::{jpeg, png};
    use super::*;
    use crate::data::resolve;
    use tempfile::TempDir;

    fn put(root: &TempDir, path: &str, bytes: &[u8]) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn load(root: &TempDir, split: Split) -> Result<ImageSet, DataError> {
        resolve(root.path().to_str().unwrap())?.load(split)
    }

    /// Two classes with three and one training images, one test image each.
    fn folder() -> TempDir {
        let root = TempDir::new().unwrap();
        put(&root, "train/dog/10.png", &png(1, 2, 2, 10));
        put(&root, "train/dog/2.PNG", &png(1, 2, 2, 20));
        put(&root, "train/dog/1.png", &png(1, 2, 2, 30));
        put(&root, "train/cat/z.png", &png(1, 2, 2, 40));
        put(&root, "train/cat/notes.txt", b"not a picture");
        put(&root, "train/cat/._z.png", b"what an archiver leaves");
        put(&root, "test/cat/a.png", &png(1, 2, 2, 50));
        put(&root, "test/dog/a.png", &png(1, 2, 2, 60));
        put(&root, "train/.cache/x.png", b"hidden");
        root
    }

    #[test]
    fn classes_are_the_sorted_folders_and_take_turns() {
        let root = folder();
        let train = load(&root, Split::Train).unwrap();
        assert_eq!((train.shape, train.classes, train.class_names.clone()), ([1, 2, 2], 2, vec!["cat".into(), "dog".into()]));
        assert_eq!(train.labels, [0, 1, 1, 1]);
        assert_eq!((0..4).map(|at| train.image(at)[0]).collect::<Vec<_>>(), [40, 30, 10, 20]);
        assert_eq!(load(&root, Split::Test).unwrap().labels, [0, 1]);
        fs::rename(root.path().join("test"), root.path().join("val")).unwrap();
        assert_eq!(load(&root, Split::Test).unwrap().len(), 2);
        fs::remove_dir_all(root.path().join("val")).unwrap();
        assert!(matches!(load(&root, Split::Test), Err(DataError::MissingSplit { split: Split::Test, .. })));
    }

    #[test]
    fn an_empty_class_is_named() {
        let root = folder();
        fs::remove_file(root.path().join("train/cat/z.png")).unwrap();
        let error = load(&root, Split::Train).unwrap_err();
        assert!(matches!(&error, DataError::EmptyClass { path } if path.ends_with("train/cat")), "{error}");
        assert!(error.hint().is_some());
    }

    #[test]
    fn splits_must_have_the_same_classes() {
        let root = folder();
        fs::rename(root.path().join("test/dog"), root.path().join("test/dogs")).unwrap();
        for split in [Split::Train, Split::Test] {
            let error = load(&root, split).unwrap_err();
            assert!(matches!(&error, DataError::ClassesDiffer { class, .. } if class.starts_with("dog")), "{error}");
        }
        fs::remove_dir_all(root.path().join("test/dogs")).unwrap();
        let error = load(&root, Split::Train).unwrap_err();
        assert!(
            matches!(&error, DataError::ClassesDiffer { path, class, .. } if path.ends_with("test") && class == "dog"),
            "{error}"
        );
    }

    #[test]
    fn folders_without_classes_or_with_too_many_are_refused() {
        let root = TempDir::new().unwrap();
        put(&root, "train/picture.png", &png(1, 2, 2, 1));
        assert!(matches!(load(&root, Split::Train), Err(DataError::NoClasses { .. })));
        for class in 0..257 {
            put(&root, &format!("train/{class}/a.png"), &png(1, 1, 1, 1));
        }
        assert!(matches!(load(&root, Split::Train), Err(DataError::TooManyClasses { limit: 256, found: 257, .. })));
        fs::remove_dir_all(root.path().join("train/0")).unwrap();
        assert_eq!(load(&root, Split::Train).unwrap().classes, 256);
    }

    #[test]
    fn a_bad_picture_is_named_by_its_path() {
        let root = folder();
        put(&root, "train/dog/3.jpg", &jpeg(3, 2, 2, 1));
        let error = load(&root, Split::Train).unwrap_err();
        assert!(matches!(&error, DataError::PictureShape { path, .. } if path.ends_with("train/dog/3.jpg")), "{error}");
        put(&root, "train/dog/3.jpg", &jpeg(1, 2, 2, 1)[..100]);
        let error = load(&root, Split::Train).unwrap_err();
        assert!(matches!(&error, DataError::CorruptPicture { path, .. } if path.ends_with("train/dog/3.jpg")), "{error}");
        assert_eq!(load(&root, Split::Test).unwrap().len(), 2);
    }

    #[test]
    fn a_set_of_one_constant_picture_is_read() {
        let root = TempDir::new().unwrap();
        put(&root, "train/thing/a.png", &png(3, 4, 4, 128));
        let set = load(&root, Split::Train).unwrap();
        assert_eq!((set.len(), set.classes), (1, 1));
        assert!(set.images.iter().all(|&byte| byte == 128));
    }
}
