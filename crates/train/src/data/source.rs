//! What is at a path, recognised by what its files hold and not by what it is called, and read into memory.
//!
//! ```text
//! folder    data_batch_*.bin | IDX files | train/CLASS/, test/CLASS/ | train-images.npy, train-labels.npy …      in this order
//! file      .tar, .tar.gz of pictures | .npy
//! ```
//!
//! Not here: names and checksums (see `catalog`).

use std::fs;
use std::path::{Path, PathBuf};

use super::archive;
use super::arrays::{self, ArrayPair};
use super::cifar;
use super::error::DataError;
use super::folder::ImageFolder;
use super::idx::{self, IdxKind};
use super::images::{ImageSet, Split, class_numbers};

/// The files of a dataset, found and recognised but not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    name: String,
    path: PathBuf,
    layout: Layout,
    has_name: bool,
}

/// Which files make up which split.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    Idx { train: Option<IdxPair>, test: Option<IdxPair> },
    Cifar { train: Vec<PathBuf>, test: Vec<PathBuf> },
    Pictures(ImageFolder),
    Archive,
    Arrays { train: Option<ArrayPair>, test: Option<ArrayPair> },
    Joined(Vec<DataSource>),
}

/// A split in IDX form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdxPair {
    images: PathBuf,
    labels: PathBuf,
}

impl DataSource {
    /// What is at `path`, to be called `name`.
    pub(super) fn recognise(name: &str, path: &Path) -> Result<Self, DataError> {
        if path.is_dir() {
            let layout = recognise_folder(path)?;
            return Ok(Self { name: name.into(), path: path.into(), layout, has_name: false });
        }
        idx::open_regular(path)?;
        if path.extension().is_some_and(|extension| extension == "npy") {
            return Ok(Self::arrays(path, None));
        }
        if !archive::recognise(path)? {
            return Err(DataError::UnsupportedFile { path: path.into() });
        }
        let name = [".tar.gz", ".tgz", ".tar"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        Ok(Self { name: name.into(), path: path.into(), layout: Layout::Archive, has_name: false })
    }

    /// An array of images with one of labels, which stand for either split.
    pub(super) fn arrays(images: &Path, labels: Option<&Path>) -> Self {
        let pair = Some(ArrayPair { images: images.into(), labels: labels.map(Path::to_path_buf) });
        let name = images.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let layout = Layout::Arrays { train: pair.clone(), test: pair };
        Self { name, path: images.into(), layout, has_name: false }
    }

    /// Several sources as one, asked for as `spec`.
    pub(super) fn joined(spec: &str, parts: Vec<DataSource>) -> Self {
        let name = parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join("+");
        Self { name, path: spec.into(), layout: Layout::Joined(parts), has_name: false }
    }

    /// The same, found as a dataset with a name.
    pub(super) fn with_name(self) -> Self {
        Self { has_name: true, ..self }
    }

    /// Whether it was found by its name.
    pub(super) fn has_name(&self) -> bool {
        self.has_name
    }

    /// The sources that are joined in this one; itself when it is none of several.
    pub(super) fn parts(&self) -> &[DataSource] {
        match &self.layout {
            Layout::Joined(parts) => parts,
            _ => std::slice::from_ref(self),
        }
    }

    /// The dataset's name, or the name of its folder or file; of several, all of them joined by `+`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder its files are in, or its file; of several, what was asked for.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether training and test images are the same: one array stands for either split.
    pub fn is_one_split(&self) -> bool {
        self.parts().iter().all(|part| matches!(&part.layout, Layout::Arrays { train, test } if train == test))
    }

    /// Refuses a source whose training and test images are the same, as those of one array for both are: a model would be judged on
    /// what it has learned.
    ///
    /// # Errors
    ///
    /// [`DataError::SameSplits`].
    pub fn for_training(self) -> Result<Self, DataError> {
        if self.is_one_split() {
            return Err(DataError::SameSplits { path: self.path });
        }
        Ok(self)
    }

    /// Whether there is this split. An archive is read to its end for it.
    ///
    /// # Errors
    ///
    /// An archive that cannot be read.
    pub fn has(&self, split: Split) -> Result<bool, DataError> {
        match &self.layout {
            Layout::Pictures(folder) => Ok(folder.split(split).is_some()),
            Layout::Archive => archive::has(&self.path, split),
            Layout::Joined(parts) => parts.iter().try_fold(false, |any, part| Ok(any || part.has(split)?)),
            Layout::Idx { .. } | Layout::Cifar { .. } | Layout::Arrays { .. } => Ok(!self.files(split).is_empty()),
        }
    }

    /// Reads one split into memory.
    ///
    /// # Errors
    ///
    /// [`DataError::MissingSplit`], or whatever is wrong with a file.
    pub fn load(&self, split: Split) -> Result<ImageSet, DataError> {
        self.try_load(split)?.ok_or_else(|| DataError::MissingSplit {
            path: self.path.clone(),
            split,
            expected: match (&self.layout, split) {
                (Layout::Idx { .. }, Split::Train) => "IDX images and labels with `train` in their names",
                (Layout::Idx { .. }, Split::Test) => "IDX images and labels with `t10k` or `test` in their names",
                (Layout::Cifar { .. }, Split::Train) => "data_batch_*.bin",
                (Layout::Cifar { .. }, Split::Test) => cifar::TEST_FILE,
                (Layout::Pictures(_) | Layout::Archive, Split::Train) => "train/CLASS/ with pictures",
                (Layout::Pictures(_) | Layout::Archive, Split::Test) => "test/CLASS/ or val/CLASS/ with pictures",
                (Layout::Arrays { .. }, _) => ".npy arrays of images and labels with the split's name in theirs",
                (Layout::Joined(_), _) => "it in one of the joined sets",
            },
        })
    }

    /// Reads one split into memory, where labels are not needed: without any, every image is of class 0 of 1.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load), but for [`DataError::NoLabels`].
    pub fn load_images(&self, split: Split) -> Result<ImageSet, DataError> {
        match &self.layout {
            Layout::Arrays { train: Some(pair), .. } if split == Split::Train => arrays::load_images(&self.name, pair),
            Layout::Arrays { test: Some(pair), .. } if split == Split::Test => arrays::load_images(&self.name, pair),
            _ => self.load(split),
        }
    }

    /// Reads one split into memory; `None` when there is no such split.
    pub(super) fn try_load(&self, split: Split) -> Result<Option<ImageSet>, DataError> {
        let name = &self.name;
        match (&self.layout, split) {
            (Layout::Idx { train: pair, .. }, Split::Train) | (Layout::Idx { test: pair, .. }, Split::Test) => {
                pair.as_ref().map(|pair| idx::load(name, &pair.images, &pair.labels)).transpose()
            }
            (Layout::Cifar { train: files, .. }, Split::Train) | (Layout::Cifar { test: files, .. }, Split::Test) => {
                (!files.is_empty()).then(|| cifar::load(name, files)).transpose()
            }
            (Layout::Pictures(folder), _) => folder.split(split).map(|path| folder.load(name, path)).transpose(),
            (Layout::Archive, _) => archive::load(name, &self.path, split),
            (Layout::Arrays { train: pair, .. }, Split::Train) | (Layout::Arrays { test: pair, .. }, Split::Test) => {
                pair.as_ref().map(|pair| arrays::load(name, pair)).transpose()
            }
            (Layout::Joined(parts), _) => {
                let mut joined: Option<ImageSet> = None;
                for part in parts {
                    match (&mut joined, part.try_load(split)?) {
                        (_, None) => {}
                        (None, Some(set)) => joined = Some(set),
                        (Some(joined), Some(set)) => join(joined, set)?,
                    }
                }
                Ok(joined.map(|set| ImageSet { name: name.clone(), ..set }))
            }
        }
    }

    /// The files of one split, images before labels; none when the split is missing, and none of a folder of pictures.
    pub fn files(&self, split: Split) -> Vec<&Path> {
        match (&self.layout, split) {
            (Layout::Idx { train: Some(pair), .. }, Split::Train) | (Layout::Idx { test: Some(pair), .. }, Split::Test) => {
                vec![&pair.images, &pair.labels]
            }
            (Layout::Cifar { train: files, .. }, Split::Train) | (Layout::Cifar { test: files, .. }, Split::Test) => {
                files.iter().map(PathBuf::as_path).collect()
            }
            (Layout::Arrays { train: Some(pair), .. }, Split::Train) | (Layout::Arrays { test: Some(pair), .. }, Split::Test) => {
                std::iter::once(&pair.images).chain(&pair.labels).map(PathBuf::as_path).collect()
            }
            (Layout::Archive, _) => vec![&self.path],
            (Layout::Joined(parts), _) => parts.iter().flat_map(|part| part.files(split)).collect(),
            (Layout::Idx { .. } | Layout::Pictures(_) | Layout::Arrays { .. }, _) => Vec::new(),
        }
    }
}

/// Appends a set to another of the same shape and classes. Names win over mere numbers.
fn join(joined: &mut ImageSet, set: ImageSet) -> Result<(), DataError> {
    let unlike = |expected: String, found: String| DataError::Unlike {
        path: set.name.clone(),
        other: joined.name.clone(),
        expected,
        found,
    };
    if set.shape != joined.shape {
        return Err(unlike(format!("images of shape {:?}", joined.shape), format!("{:?}", set.shape)));
    }
    if set.classes != joined.classes {
        return Err(unlike(format!("{} classes", joined.classes), set.classes.to_string()));
    }
    let numbers = class_numbers(set.classes);
    if joined.class_names == numbers {
        joined.class_names = set.class_names;
    } else if let Some((class, (was, is))) =
        joined.class_names.iter().zip(&set.class_names).enumerate().find(|(_, (was, is))| set.class_names != numbers && was != is)
    {
        return Err(unlike(format!("class {class} to be {was:?}"), format!("{is:?}")));
    }
    joined.images.extend(set.images);
    joined.labels.extend(set.labels);
    Ok(())
}

/// Sorts the files of a folder into splits. Records win over IDX files; a folder with both is a CIFAR-10 folder.
fn recognise_folder(folder: &Path) -> Result<Layout, DataError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| DataError::io(folder, error))? {
        let path = entry.map_err(|error| DataError::io(folder, error))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    if let Some(layout) = cifar_layout(&files) {
        return Ok(layout);
    }
    if let Some(layout) = idx_layout(&files)? {
        return Ok(layout);
    }
    if let Some(folder) = ImageFolder::recognise(folder) {
        return Ok(Layout::Pictures(folder));
    }
    let [train, test] = arrays::pairs(&files)?;
    if train.is_some() || test.is_some() {
        return Ok(Layout::Arrays { train, test });
    }
    Err(DataError::UnrecognisedFolder { path: folder.to_path_buf() })
}

/// The batches in the order of their numbers, if there is any.
fn cifar_layout(files: &[PathBuf]) -> Option<Layout> {
    let mut train: Vec<(u32, PathBuf)> =
        files.iter().filter_map(|path| Some((cifar::batch_number(path.file_name()?.to_str()?)?, path.clone()))).collect();
    train.sort();
    let train: Vec<PathBuf> = train.into_iter().map(|(_, path)| path).collect();
    let test: Vec<PathBuf> =
        files.iter().filter(|path| path.file_name().is_some_and(|name| name == cifar::TEST_FILE)).cloned().collect();
    (!train.is_empty() || !test.is_empty()).then_some(Layout::Cifar { train, test })
}

/// The pairs of images and labels, if there is any file that is IDX or claims to be.
///
/// A damaged file cannot be recognised by its content. One whose name says what it is keeps its place, so that reading it says
/// what is wrong.
fn idx_layout(files: &[PathBuf]) -> Result<Option<Layout>, DataError> {
    let mut parts: [Option<PathBuf>; 4] = Default::default();
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let claimed = if name.contains("idx3") {
            Some(IdxKind::Images)
        } else if name.contains("idx1") {
            Some(IdxKind::Labels)
        } else {
            None
        };
        let kind = match claimed {
            Some(kind) => kind,
            None => match idx::sniff(path)? {
                Some(kind) => kind,
                None => continue,
            },
        };
        let split = if name.contains("train") {
            Split::Train
        } else if name.contains("t10k") || name.contains("test") {
            Split::Test
        } else {
            continue;
        };
        let slot = &mut parts[usize::from(split == Split::Test) * 2 + usize::from(kind == IdxKind::Labels)];
        if let Some(first) = slot.replace(path.clone()) {
            return Err(DataError::Ambiguous { first, second: path.clone() });
        }
    }
    let pair = |images: Option<PathBuf>, labels: Option<PathBuf>| Some(IdxPair { images: images?, labels: labels? });
    let [train_images, train_labels, test_images, test_labels] = parts;
    let (train, test) = (pair(train_images, train_labels), pair(test_images, test_labels));
    Ok((train.is_some() || test.is_some()).then_some(Layout::Idx { train, test }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::resolve;
    use std::time::Instant;
    use tempfile::TempDir;

    fn set(name: &str, labels: &[u8], class_names: Vec<String>) -> ImageSet {
        let images = labels.iter().map(|label| label + 100).collect();
        ImageSet { name: name.into(), shape: [1, 1, 1], classes: class_names.len(), class_names, images, labels: labels.to_vec() }
    }

    fn pets() -> Vec<String> {
        vec!["cat".into(), "dog".into()]
    }

    #[test]
    fn joined_sets_follow_each_other_and_names_win_over_numbers() {
        for names in [(pets(), pets()), (pets(), class_numbers(2)), (class_numbers(2), pets())] {
            let mut joined = set("a", &[0, 1], names.0);
            join(&mut joined, set("b", &[1, 1, 0], names.1)).unwrap();
            assert_eq!(
                (joined.labels.as_slice(), joined.images.as_slice()),
                (&[0u8, 1, 1, 1, 0][..], &[100u8, 101, 101, 101, 100][..])
            );
            assert_eq!(joined.class_names, pets());
        }
    }

    #[test]
    fn sets_that_differ_are_not_joined() {
        let refused = |other: ImageSet| join(&mut set("a", &[0], pets()), other).unwrap_err().to_string();
        let shape = ImageSet { shape: [1, 2, 1], images: vec![0; 2], ..set("b", &[0], pets()) };
        assert_eq!(refused(shape), "joining, b: expected images of shape [1, 1, 1] as of a, found [1, 2, 1]");
        assert!(refused(set("b", &[0], class_numbers(3))).contains("expected 2 classes as of a, found 3"));
        let others = vec!["cat".into(), "frog".into()];
        assert_eq!(refused(set("b", &[0], others)), "joining, b: expected class 1 to be \"dog\" as of a, found \"frog\"");
    }

    #[test]
    fn a_plus_joins_the_splits_that_are_there() {
        let root = TempDir::new().unwrap();
        let folder = |name: &str, files: &[(&str, &[u8])]| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).unwrap();
            for (file, labels) in files {
                let records: Vec<u8> = labels.iter().flat_map(|&label| [vec![label], vec![label; 3072]].concat()).collect();
                fs::write(folder.join(file), records).unwrap();
            }
            folder.to_str().unwrap().to_owned()
        };
        let one = folder("one", &[("data_batch_1.bin", &[1, 2]), ("test_batch.bin", &[3])]);
        let other = folder("other", &[("data_batch_1.bin", &[4])]);
        let source = resolve(&format!("{one}+{other}")).unwrap();
        assert_eq!(source.name(), "one+other");
        assert_eq!(source.load(Split::Train).unwrap().labels, [1, 2, 4]);
        assert_eq!(source.load(Split::Test).unwrap().labels, [3]);
        assert_eq!(source.load(Split::Test).unwrap().name, "one+other");
        assert!(source.has(Split::Test).unwrap());
        let none = resolve(&format!("{other}+{other}")).unwrap();
        assert!(matches!(none.load(Split::Test), Err(DataError::MissingSplit { .. })));
        // A folder whose name has a plus in it is itself.
        assert_eq!(resolve(&folder("c++", &[("test_batch.bin", &[5])])).unwrap().load(Split::Test).unwrap().labels, [5]);
        assert!(matches!(resolve(&format!("{one}+nothing")), Err(DataError::UnknownDataset { spec, .. }) if spec == "nothing"));
    }

    #[test]
    fn one_array_is_not_trained_on() {
        let error = DataSource::arrays(Path::new("x.npy"), Some(Path::new("y.npy"))).for_training().unwrap_err();
        assert!(matches!(error, DataError::SameSplits { .. }) && error.hint().unwrap().contains("train-images.npy"), "{error}");
        let both = DataSource::joined("x.npy+x.npy", vec![DataSource::arrays(Path::new("x.npy"), None); 2]);
        assert!(both.for_training().is_err());
        let pair = |images: &str| Some(ArrayPair { images: images.into(), labels: None });
        let layout = Layout::Arrays { train: pair("train-x.npy"), test: pair("test-x.npy") };
        let folder = DataSource { name: "f".into(), path: "f".into(), layout, has_name: false };
        assert!(folder.for_training().is_ok());
    }

    /// The complete CIFAR-10 in JPEG and an excerpt of its records, where QAT_SHARED says they are.
    #[test]
    fn folders_of_cifar_have_the_labels_of_its_records() {
        let Some(shared) = std::env::var_os("QAT_SHARED").map(PathBuf::from) else {
            println!("skipped: QAT_SHARED is not set");
            return;
        };
        let folder = shared.join("datasets/cifar10");
        let load = |name: &str, split| resolve(folder.join(name).to_str().unwrap()).unwrap().load(split).unwrap();
        let began = Instant::now();
        let (train, test) = (load("cifar10-jpeg.tar.gz", Split::Train), load("cifar10-jpeg.tar.gz", Split::Test));
        println!("60,000 images in {:?}", began.elapsed());
        assert_eq!((train.len(), test.len(), test.shape), (50_000, 10_000, [3, 32, 32]));
        assert_eq!(test.class_names, cifar::CLASS_NAMES);
        assert!((0..10).all(|class| test.labels.iter().filter(|&&label| label == class).count() == 1000));
        assert_eq!(test.labels[..20], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].repeat(2));

        // Each record is nearest to its own JPEG, and that has its label.
        let records = load("lossless", Split::Test);
        let distance = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>();
        for record in 0..30 {
            let of = |index: &usize| distance(records.image(record), test.image(*index));
            let nearest = (0..test.len()).min_by_key(of).unwrap();
            assert!(of(&nearest) < 3072 * 200, "record {record} has its own JPEG");
            assert_eq!(records.labels[record], test.labels[nearest], "record {record}");
        }
    }
}
