//! The datasets there are, where their files lie, and whether they are the published ones.
//!
//! A dataset is asked for by name or by path. A name is looked for in the folder that `QAT_DATASETS` names, then in `datasets/`
//! of the current folder and of each folder above it, then where a Debian package puts it. Several of either joined by `+` are one
//! dataset. [`DataSource::load`] checks the structure of the files; [`check`] compares them with published checksums as well. Not
//! here: what is recognised at a path (see `source`), and downloads (see `fetch`).

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::error::DataError;
use super::idx;
use super::images::Split;
use super::source::DataSource;

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
        how: "`qat data fetch mnist`; or run in the repository, which has it in datasets/mnist, or name the folder above it in QAT_DATASETS",
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
        how: "`qat data fetch fashion-mnist`; or install the Debian package dataset-fashion-mnist, or put its four IDX files in datasets/fashion-mnist",
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
        how: "`qat data fetch cifar10`; or unpack the CIFAR-10 binary version so that datasets/cifar10 holds data_batch_[1-5].bin and test_batch.bin",
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

/// A form that data may have without a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// What to give as the dataset.
    pub path: &'static str,
    /// What is expected there.
    pub description: &'static str,
}

/// Every form of data that is recognised at a path.
pub static FORMS: [Form; 6] = [
    Form { path: "FOLDER", description: "pictures: train/CLASS/*.jpg or *.png, and test/CLASS/ or val/CLASS/" },
    Form { path: "FILE.tar[.gz]", description: "an archive of such a folder" },
    Form { path: "FOLDER", description: "four IDX files, gzip or not, with train and t10k or test in their names" },
    Form { path: "FOLDER", description: "CIFAR-10 records: data_batch_*.bin, test_batch.bin, whole or in part" },
    Form { path: "X.npy[,Y.npy]", description: "images [N, C, H, W] or [N, H, W], uint8 or multiples of 1/255, and labels [N]" },
    Form { path: "A+B", description: "any of these and of the names, joined: train with train, test with test" },
];

/// What [`check`] found out about a dataset that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The dataset's name, or the folder's for a folder.
    pub name: String,
    /// The folder its files are in, or its file; as it was asked for where they are several.
    pub folder: PathBuf,
    /// `[C, H, W]` of one image.
    pub shape: [usize; 3],
    /// Number of classes.
    pub classes: usize,
    /// What they are called.
    pub class_names: Vec<String>,
    /// Number of training images of each class; empty when there is no training split.
    pub train_counts: Vec<usize>,
    /// Number of test images of each class; empty when there is no test split.
    pub test_counts: Vec<usize>,
    /// Number of training images; 0 when the folder has no training split.
    pub train: usize,
    /// Number of test images; 0 when the folder has no test split.
    pub test: usize,
    /// Every file, training first, images before labels; the pictures of a folder are counted and not listed.
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
            folder: dataset.find(&roots).ok().map(|source| source.path().to_path_buf()),
            how: dataset.how,
        })
        .collect()
}

/// Finds a dataset: a name, a path, or several of them joined by `+`. A name wins over a path of the same name; write `./mnist` for
/// the folder. A path that exists wins over its parts at `+`.
///
/// # Errors
///
/// The name is unknown, its files are not in place, or what is at the path is not recognised.
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

impl Dataset {
    /// The first folder that holds files of the right kind.
    fn find(&self, roots: &[PathBuf]) -> Result<DataSource, DataError> {
        let below = roots.iter().flat_map(|root| self.folders.iter().map(move |folder| root.join(folder)));
        let looked: Vec<PathBuf> = below.chain(self.installed.iter().map(PathBuf::from)).collect();
        for folder in looked.iter().filter(|folder| folder.is_dir()) {
            match DataSource::recognise(self.name, folder) {
                Err(DataError::UnrecognisedFolder { .. }) => {}
                found => return found.map(DataSource::with_name),
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
    if path.exists() {
        let name = path.file_name().map_or_else(|| spec.to_owned(), |name| name.to_string_lossy().into_owned());
        return DataSource::recognise(&name, path);
    }
    if let Some((images, labels)) = spec.split_once(',')
        && [images, labels].iter().all(|path| path.ends_with(".npy"))
    {
        return Ok(DataSource::arrays(Path::new(images), Some(Path::new(labels))));
    }
    let parts: Vec<&str> = spec.split('+').collect();
    if parts.len() > 1 && parts.iter().all(|part| !part.is_empty()) {
        let parts = parts.into_iter().map(|part| resolve_in(part, roots)).collect::<Result<_, _>>()?;
        return Ok(DataSource::joined(spec, parts));
    }
    let known = DATASETS.each_ref().map(|dataset| dataset.name).join(", ");
    Err(DataError::UnknownDataset { spec: spec.to_owned(), known })
}

fn check_in(spec: &str, roots: &[PathBuf]) -> Result<CheckReport, DataError> {
    let source = resolve_in(spec, roots)?;
    let mut report = CheckReport {
        name: source.name().to_owned(),
        folder: source.path().to_path_buf(),
        shape: [0; 3],
        classes: 0,
        class_names: Vec::new(),
        train_counts: Vec::new(),
        test_counts: Vec::new(),
        train: 0,
        test: 0,
        files: Vec::new(),
    };
    for split in [Split::Train, Split::Test] {
        // The checksum first: it says in one line what a damaged stream says in many ways.
        for part in source.parts() {
            for path in part.files(split) {
                if !report.files.iter().any(|file| file.path == path) {
                    let known = if part.has_name() { named(part.name()).and_then(|dataset| dataset.known(path)) } else { None };
                    report.files.push(check_file(path, known)?);
                }
            }
        }
        // A named dataset has both splits; a path may have one.
        let set = if source.has_name() { Some(source.load(split)?) } else { source.try_load(split)? };
        let Some(set) = set else { continue };
        let mut counts = vec![0; set.classes];
        set.labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
        (report.shape, report.classes) = (set.shape, set.classes);
        match split {
            Split::Train => (report.train, report.train_counts) = (set.len(), counts),
            Split::Test => (report.test, report.test_counts) = (set.len(), counts),
        }
        report.class_names = set.class_names;
    }
    Ok(report)
}

/// Whether a file of a named dataset is the published one, in whatever wrapping.
pub(super) fn is_published(name: &str, path: &Path) -> bool {
    let known = named(name).and_then(|dataset| dataset.known(path));
    known.is_some() && check_file(path, known).is_ok()
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

/// Lower-case hexadecimal digits of a digest.
fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::fs;
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
        assert!(!source.has(Split::Test).unwrap());
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
            "unknown dataset, minst: expected one of mnist, fashion-mnist, cifar10 or a path, found neither"
        );
        let error = resolve_in(root.path().to_str().unwrap(), &[]).unwrap_err();
        assert!(matches!(error, DataError::UnrecognisedFolder { .. }), "{error}");
        put(root.path(), "file", b"x");
        let error = resolve_in(root.path().join("file").to_str().unwrap(), &[]).unwrap_err();
        assert!(matches!(error, DataError::UnsupportedFile { .. }), "{error}");
    }
}
