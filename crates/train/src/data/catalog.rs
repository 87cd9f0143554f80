//! The datasets there are, where their files lie, and whether they are the published ones.
//!
//! A dataset is asked for by name or by folder. A name is looked for in the folder that `QAT_DATASETS` names, then in `datasets/`
//! of the current folder and of each folder above it, then where a Debian package puts it. A folder is recognised by what its
//! files hold, not by what it is called. [`DataSource::load`] checks the structure of the files; [`check`] compares them with
//! published checksums as well.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cifar;
use super::error::DataError;
use super::idx::{self, IdxKind};
use super::images::{ImageSet, Split};

/// A file whose contents are known.
struct Known {
    /// Part of the file's name before `.gz`.
    stem: &'static str,
    /// SHA-256 of the gzip file as it is distributed.
    gzip: &'static str,
    /// SHA-256 of the same data uncompressed, which is what counts when somebody has compressed it anew.
    data: &'static str,
}

/// A dataset with a name.
struct Dataset {
    name: &'static str,
    description: &'static str,
    licence: &'static str,
    /// Folders below each root, in the order they are tried.
    folders: &'static [&'static str],
    /// Folders that do not depend on a root.
    installed: &'static [&'static str],
    /// How its files get there.
    how: &'static str,
    known: &'static [Known],
}

/// Every named dataset. MNIST's checksums are also in `datasets/SHA256SUMS`; Fashion-MNIST's are those of the Debian package
/// dataset-fashion-mnist 0.0~git20200523.55506a9-1; of CIFAR-10's records none is known, so only their structure is checked.
static DATASETS: [Dataset; 3] = [
    Dataset {
        name: "mnist",
        description: "handwritten digits, 60,000 + 10,000, 1x28x28",
        licence: "CC BY-SA 3.0",
        folders: &["mnist"],
        installed: &[],
        how: "mnist comes with the repository in datasets/mnist; run there, or name the folder above it in QAT_DATASETS",
        known: &[
            Known {
                stem: "train-images-idx3-ubyte",
                gzip: "0b367032e93c5d0cea0925647cfdb18614af8ee15f83e6f2fc2ad904a6835971",
                data: "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            },
            Known {
                stem: "train-labels-idx1-ubyte",
                gzip: "1787548bbe0bff1ec2ecdc0ef292b02df999e2d1a6002d27500982c652b17203",
                data: "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            },
            Known {
                stem: "t10k-images-idx3-ubyte",
                gzip: "1a1a05eab793c14bb050b398624a11b0ffd1a2953baed553b1b9bd079e2a20be",
                data: "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            },
            Known {
                stem: "t10k-labels-idx1-ubyte",
                gzip: "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
                data: "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            },
        ],
    },
    Dataset {
        name: "fashion-mnist",
        description: "articles of clothing, 60,000 + 10,000, 1x28x28",
        licence: "MIT",
        folders: &["fashion-mnist"],
        installed: &["/usr/share/datasets/fashion-mnist"],
        how: "install the Debian package dataset-fashion-mnist, or put its four IDX files in datasets/fashion-mnist",
        known: &[
            Known {
                stem: "train-images-idx3-ubyte",
                gzip: "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
                data: "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            },
            Known {
                stem: "train-labels-idx1-ubyte",
                gzip: "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
                data: "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            },
            Known {
                stem: "t10k-images-idx3-ubyte",
                gzip: "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
                data: "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            },
            Known {
                stem: "t10k-labels-idx1-ubyte",
                gzip: "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
                data: "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            },
        ],
    },
    Dataset {
        name: "cifar10",
        description: "photographs of ten kinds of things, 50,000 + 10,000, 3x32x32",
        licence: "none stated by its authors; not to be shipped",
        folders: &["cifar10", "cifar10/cifar-10-batches-bin"],
        installed: &[],
        how: "unpack the CIFAR-10 binary version so that datasets/cifar10 holds data_batch_[1-5].bin and test_batch.bin",
        known: &[],
    },
];

/// One row of `qat data list`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name to ask for it by.
    pub name: &'static str,
    /// What it shows, how many images, their shape.
    pub description: &'static str,
    /// The terms it is published under.
    pub licence: &'static str,
    /// The folder its files were found in.
    pub folder: Option<PathBuf>,
    /// How to put its files in place.
    pub how: &'static str,
}

/// The files of a dataset, found and recognised but not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    name: String,
    folder: PathBuf,
    layout: Layout,
}

/// Which files make up which split.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    Idx { train: Option<IdxPair>, test: Option<IdxPair> },
    Cifar { train: Vec<PathBuf>, test: Vec<PathBuf> },
}

/// A split in IDX form.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdxPair {
    images: PathBuf,
    labels: PathBuf,
}

/// What [`check`] found out about a dataset that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The dataset's name, or the folder's for a folder.
    pub name: String,
    /// The folder its files are in.
    pub folder: PathBuf,
    /// `[C, H, W]` of one image.
    pub shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// Number of training images; 0 when the folder has no training split.
    pub train: usize,
    /// Number of test images; 0 when the folder has no test split.
    pub test: usize,
    /// Every file, training first, images before labels.
    pub files: Vec<CheckedFile>,
}

/// A file that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedFile {
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: String,
    /// How far it can be trusted.
    pub verdict: Verdict,
}

/// What a file was compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The file is the published one, byte for byte.
    Published,
    /// The file is compressed differently, or not at all; its data is the published data.
    SameData,
    /// No checksum is known for this file; its structure is right.
    StructureOnly,
}

/// The named datasets and where each was found.
pub fn list() -> Vec<Entry> {
    let roots = roots();
    DATASETS
        .iter()
        .map(|dataset| Entry {
            name: dataset.name,
            description: dataset.description,
            licence: dataset.licence,
            folder: dataset.find(&roots).ok().map(|source| source.folder),
            how: dataset.how,
        })
        .collect()
}

/// Finds a dataset by name or by folder. A name wins over a folder of the same name; write `./mnist` for the folder.
///
/// # Errors
///
/// The name is unknown, its files are not in place, or the folder is not recognised.
pub fn resolve(spec: &str) -> Result<DataSource, DataError> {
    resolve_in(spec, &roots())
}

/// Reads every file of a dataset and compares it with its published checksum, where one is known.
///
/// # Errors
///
/// Whatever [`resolve`] and [`DataSource::load`] refuse, and [`DataError::Checksum`] for a file of a named dataset that is not
/// the published one.
pub fn check(spec: &str) -> Result<CheckReport, DataError> {
    check_in(spec, &roots())
}

impl DataSource {
    /// The dataset's name, or the folder's own name for a folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder its files are in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether the folder has files for this split.
    pub fn has(&self, split: Split) -> bool {
        !self.files(split).is_empty()
    }

    /// Reads one split into memory.
    ///
    /// # Errors
    ///
    /// [`DataError::MissingSplit`], or whatever is wrong with a file.
    pub fn load(&self, split: Split) -> Result<ImageSet, DataError> {
        let missing = |expected| DataError::MissingSplit { path: self.folder.clone(), split, expected };
        match (&self.layout, split) {
            (Layout::Idx { train, .. }, Split::Train) => {
                let pair = train.as_ref().ok_or_else(|| missing("IDX images and labels with `train` in their names"))?;
                idx::load(&self.name, &pair.images, &pair.labels)
            }
            (Layout::Idx { test, .. }, Split::Test) => {
                let pair = test.as_ref().ok_or_else(|| missing("IDX images and labels with `t10k` or `test` in their names"))?;
                idx::load(&self.name, &pair.images, &pair.labels)
            }
            (Layout::Cifar { train, .. }, Split::Train) if train.is_empty() => Err(missing("data_batch_*.bin")),
            (Layout::Cifar { test, .. }, Split::Test) if test.is_empty() => Err(missing(cifar::TEST_FILE)),
            (Layout::Cifar { train, .. }, Split::Train) => cifar::load(&self.name, train),
            (Layout::Cifar { test, .. }, Split::Test) => cifar::load(&self.name, test),
        }
    }

    /// The files of one split, images before labels; none when the folder lacks the split.
    pub fn files(&self, split: Split) -> Vec<&Path> {
        match (&self.layout, split) {
            (Layout::Idx { train: Some(pair), .. }, Split::Train) | (Layout::Idx { test: Some(pair), .. }, Split::Test) => {
                vec![&pair.images, &pair.labels]
            }
            (Layout::Cifar { train: files, .. }, Split::Train) | (Layout::Cifar { test: files, .. }, Split::Test) => {
                files.iter().map(PathBuf::as_path).collect()
            }
            (Layout::Idx { .. }, _) => Vec::new(),
        }
    }
}

impl Dataset {
    /// The first folder that holds files of the right kind.
    fn find(&self, roots: &[PathBuf]) -> Result<DataSource, DataError> {
        let below = roots.iter().flat_map(|root| self.folders.iter().map(move |folder| root.join(folder)));
        let looked: Vec<PathBuf> = below.chain(self.installed.iter().map(PathBuf::from)).collect();
        for folder in looked.iter().filter(|folder| folder.is_dir()) {
            match recognise(self.name, folder) {
                Err(DataError::UnrecognisedFolder { .. }) => {}
                found => return found,
            }
        }
        Err(DataError::NotPlaced { name: self.name, looked, how: self.how })
    }

    /// The published file that `path` is named after.
    fn known(&self, path: &Path) -> Option<&'static Known> {
        let name = path.file_name()?.to_str()?;
        let stem = name.strip_suffix(".gz").unwrap_or(name);
        self.known.iter().find(|known| known.stem == stem)
    }
}

/// Folders that may hold the named datasets' folders, most specific wish first.
fn roots() -> Vec<PathBuf> {
    let wished = std::env::var_os("QAT_DATASETS").map(PathBuf::from);
    let here = std::env::current_dir().unwrap_or_default();
    wished.into_iter().chain(here.ancestors().map(|folder| folder.join("datasets")).filter(|folder| folder.is_dir())).collect()
}

fn resolve_in(spec: &str, roots: &[PathBuf]) -> Result<DataSource, DataError> {
    if let Some(dataset) = named(spec) {
        return dataset.find(roots);
    }
    let path = Path::new(spec);
    if path.is_dir() {
        let name = path.file_name().map_or_else(|| spec.to_owned(), |name| name.to_string_lossy().into_owned());
        return recognise(&name, path);
    }
    if path.exists() {
        return Err(DataError::UnsupportedFile { path: path.to_path_buf() });
    }
    let known = DATASETS.each_ref().map(|dataset| dataset.name).join(", ");
    Err(DataError::UnknownDataset { spec: spec.to_owned(), known })
}

fn check_in(spec: &str, roots: &[PathBuf]) -> Result<CheckReport, DataError> {
    let source = resolve_in(spec, roots)?;
    let mut report = CheckReport {
        name: source.name.clone(),
        folder: source.folder.clone(),
        shape: [0; 3],
        classes: 0,
        train: 0,
        test: 0,
        files: Vec::new(),
    };
    for split in [Split::Train, Split::Test] {
        // The checksum first: it says in one line what a damaged stream says in many ways.
        for path in source.files(split) {
            report.files.push(check_file(path, named(spec).and_then(|dataset| dataset.known(path)))?);
        }
        // A named dataset has both splits; a folder may have one.
        if named(spec).is_none() && !source.has(split) {
            continue;
        }
        let set = source.load(split)?;
        (report.shape, report.classes) = (set.shape, set.classes);
        match split {
            Split::Train => report.train = set.len(),
            Split::Test => report.test = set.len(),
        }
    }
    Ok(report)
}

/// Compares a file with the published one, first as it is stored, then by its data.
fn check_file(path: &Path, known: Option<&'static Known>) -> Result<CheckedFile, DataError> {
    let mut file = idx::open_regular(path)?;
    let mut hash = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut hash).map_err(|error| DataError::io(path, error))?;
    let sha256 = hex(hash);
    let verdict = match known {
        None => Verdict::StructureOnly,
        Some(known) if known.gzip == sha256 => Verdict::Published,
        Some(known) => {
            let mut data = Sha256::new();
            match idx::for_each_piece(path, |piece| data.update(piece)) {
                Ok(()) if hex(data) == known.data => Verdict::SameData,
                Ok(()) | Err(DataError::CorruptGzip { .. }) => {
                    return Err(DataError::Checksum { path: path.to_path_buf(), expected: known.gzip, found: sha256 });
                }
                Err(error) => return Err(error),
            }
        }
    };
    Ok(CheckedFile { path: path.to_path_buf(), bytes, sha256, verdict })
}

fn named(spec: &str) -> Option<&'static Dataset> {
    DATASETS.iter().find(|dataset| dataset.name == spec)
}

/// Sorts the files of a folder into splits. Records win over IDX files; a folder with both is a CIFAR-10 folder.
fn recognise(name: &str, folder: &Path) -> Result<DataSource, DataError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| DataError::io(folder, error))? {
        let path = entry.map_err(|error| DataError::io(folder, error))?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    let layout = match cifar_layout(&files) {
        Some(layout) => layout,
        None => idx_layout(&files)?.ok_or_else(|| DataError::UnrecognisedFolder { path: folder.to_path_buf() })?,
    };
    Ok(DataSource { name: name.to_owned(), folder: folder.to_path_buf(), layout })
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

/// Lower-case hexadecimal digits of a digest.
fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use tempfile::TempDir;

    /// The repository's own datasets folder.
    fn shipped() -> Vec<PathBuf> {
        vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets")]
    }

    fn put(folder: &Path, name: &str, bytes: &[u8]) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn idx_images(count: u8) -> Vec<u8> {
        [vec![0, 0, 8, 3, 0, 0, 0, count, 0, 0, 0, 1, 0, 0, 0, 2], vec![5; 2 * usize::from(count)]].concat()
    }

    fn idx_labels(count: u8) -> Vec<u8> {
        [vec![0, 0, 8, 1, 0, 0, 0, count], vec![1; usize::from(count)]].concat()
    }

    fn put_idx(folder: &Path) {
        put(folder, "train-images-idx3-ubyte", &idx_images(3));
        put(folder, "train-labels-idx1-ubyte.gz", &gzip(&idx_labels(3)));
        put(folder, "t10k-images-idx3-ubyte", &idx_images(2));
        put(folder, "t10k-labels-idx1-ubyte", &idx_labels(2));
        put(folder, "README.md", b"not data");
    }

    #[test]
    fn the_shipped_mnist_is_the_published_one() {
        let report = check_in("mnist", &shipped()).unwrap();
        assert_eq!((report.train, report.test, report.shape, report.classes), (60_000, 10_000, [1, 28, 28], 10));
        assert_eq!(report.files.iter().map(|file| file.verdict).collect::<Vec<_>>(), [Verdict::Published; 4]);
        // The number of each digit in the test labels, as published with the data.
        let test = resolve_in("mnist", &shipped()).unwrap().load(Split::Test).unwrap();
        let counts: Vec<usize> = (0..10).map(|class| test.labels.iter().filter(|&&label| label == class).count()).collect();
        assert_eq!(counts, [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    }

    #[test]
    fn the_table_agrees_with_the_shipped_checksum_file() {
        let sums = fs::read_to_string(shipped()[0].join("SHA256SUMS")).unwrap();
        let listed: Vec<(&str, &str)> = sums.lines().filter_map(|line| line.split_once("  ")).collect();
        assert_eq!(listed.len(), 4);
        for (sum, path) in listed {
            assert_eq!(named("mnist").unwrap().known(Path::new(path)).unwrap().gzip, sum, "{path}");
        }
    }

    #[test]
    fn a_foreign_or_damaged_file_has_the_wrong_checksum() {
        let root = TempDir::new().unwrap();
        put_idx(&root.path().join("mnist"));
        let roots = [root.path().to_path_buf()];
        let error = check_in("mnist", &roots).unwrap_err();
        assert!(matches!(&error, DataError::Checksum { expected, .. } if expected.starts_with("0b367032")), "{error}");
        // Structure is all that loading asks for.
        assert_eq!(resolve_in("mnist", &roots).unwrap().load(Split::Train).unwrap().len(), 3);

        let original = fs::read(shipped()[0].join("mnist/t10k-labels-idx1-ubyte.gz")).unwrap();
        for name in ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz"] {
            fs::copy(shipped()[0].join("mnist").join(name), root.path().join("mnist").join(name)).unwrap();
        }
        for name in ["train-images-idx3-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"] {
            fs::remove_file(root.path().join("mnist").join(name)).unwrap();
        }
        for position in [1000, original.len() - 1] {
            let mut damaged = original.clone();
            damaged[position] ^= 0x40;
            put(&root.path().join("mnist"), "t10k-labels-idx1-ubyte.gz", &damaged);
            let error = check_in("mnist", &roots).unwrap_err();
            assert!(matches!(&error, DataError::Checksum { path, .. } if path.ends_with("t10k-labels-idx1-ubyte.gz")), "{error}");
        }
    }

    #[test]
    fn the_published_data_in_another_wrapping_is_recognised() {
        let path = shipped()[0].join("mnist/t10k-labels-idx1-ubyte.gz");
        let mut data = Vec::new();
        idx::for_each_piece(&path, |piece| data.extend_from_slice(piece)).unwrap();
        let folder = TempDir::new().unwrap();
        for bytes in [gzip(&data), data] {
            put(folder.path(), "t10k-labels-idx1-ubyte", &bytes);
            let path = folder.path().join("t10k-labels-idx1-ubyte");
            assert_eq!(check_file(&path, named("mnist").unwrap().known(&path)).unwrap().verdict, Verdict::SameData);
        }
    }

    #[test]
    fn a_folder_of_idx_files_is_recognised_by_content() {
        let folder = TempDir::new().unwrap();
        put(folder.path(), "pictures.train", &gzip(&idx_images(3)));
        put(folder.path(), "answers.train", &idx_labels(3));
        let source = resolve_in(folder.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(source.load(Split::Train).unwrap().len(), 3);
        assert!(!source.has(Split::Test));
        let error = source.load(Split::Test).unwrap_err();
        assert!(matches!(error, DataError::MissingSplit { split: Split::Test, .. }), "{error}");
        let report = check_in(folder.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!((report.train, report.test), (3, 0));
        assert!(report.files.iter().all(|file| file.verdict == Verdict::StructureOnly));
    }

    #[test]
    fn a_damaged_file_that_names_itself_is_reported_and_not_skipped() {
        let folder = TempDir::new().unwrap();
        put_idx(folder.path());
        put(folder.path(), "train-images-idx3-ubyte", b"garbage!");
        let error = resolve_in(folder.path().to_str().unwrap(), &[]).unwrap().load(Split::Train).unwrap_err();
        assert!(matches!(error, DataError::WrongMagic { .. }), "{error}");
    }

    #[test]
    fn two_files_for_one_part_are_refused() {
        let folder = TempDir::new().unwrap();
        put_idx(folder.path());
        put(folder.path(), "train-images-idx3-ubyte.gz", &gzip(&idx_images(3)));
        let error = resolve_in(folder.path().to_str().unwrap(), &[]).unwrap_err();
        assert!(matches!(error, DataError::Ambiguous { .. }), "{error}");
    }

    #[test]
    fn a_folder_of_records_is_recognised_in_numeric_order() {
        let root = TempDir::new().unwrap();
        let folder = root.path().join("cifar10/cifar-10-batches-bin");
        for (number, label) in [(10, 9), (2, 2)] {
            put(&folder, &format!("data_batch_{number}.bin"), &[vec![label], vec![0; 3072]].concat());
        }
        let source = resolve_in("cifar10", &[root.path().to_path_buf()]).unwrap();
        assert_eq!(source.load(Split::Train).unwrap().labels, [2, 9]);
        assert!(matches!(source.load(Split::Test), Err(DataError::MissingSplit { .. })));
        // A named dataset without its test split is not in order.
        assert!(check_in("cifar10", &[root.path().to_path_buf()]).is_err());
    }

    #[test]
    fn what_is_not_there_is_said() {
        let root = TempDir::new().unwrap();
        let error = resolve_in("cifar10", &[root.path().to_path_buf()]).unwrap_err();
        assert!(matches!(&error, DataError::NotPlaced { name: "cifar10", looked, .. } if looked.len() == 2), "{error}");
        assert!(error.hint().is_some());
        let error = resolve_in("minst", &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown dataset, minst: expected one of mnist, fashion-mnist, cifar10 or a folder, found neither"
        );
        let error = resolve_in(root.path().to_str().unwrap(), &[]).unwrap_err();
        assert!(matches!(error, DataError::UnrecognisedFolder { .. }), "{error}");
        put(root.path(), "file", b"x");
        let error = resolve_in(root.path().join("file").to_str().unwrap(), &[]).unwrap_err();
        assert!(matches!(error, DataError::UnsupportedFile { .. }), "{error}");
    }
}
