//! Image folders in a `.tar` or `.tar.gz`.
//!
//! The archive is read as a stream and nothing is unpacked to disk. A picture is a member whose path ends in `SPLIT/CLASS/FILE`,
//! whatever is before; the rules are those of [`folder`](super::folder). Links, devices and members elsewhere are passed over. Refused: a
//! path with `..` or from the root, a member of more than [`MAX_FILE`] bytes, more than [`MAX_SET`] of them together, a damaged or
//! unfinished stream. Memory grows with what arrives, never with what a header claims; long names, GNU's and pax's, are read here for
//! that reason.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::decode::{Bytes, MAX_FILE, MAX_SET, is_picture};
use super::error::DataError;
use super::folder::{Class, load_classes, same_classes};
use super::idx::open_regular;
use super::images::{ImageSet, Split};

/// The most bytes that are decompressed: those of pictures, and as much for headers and other members.
const MAX_STREAM: u64 = 2 * MAX_SET;

/// Bytes of a block of an archive.
const BLOCK: usize = 512;

/// The most bytes of a member's long name with what comes with it.
const MAX_NAME: u64 = 1 << 16;

/// Whether a file is a tar archive, compressed or not, by its content.
pub(super) fn recognise(path: &Path) -> Result<bool, DataError> {
    let mut block = Vec::new();
    match open(path)?.take(BLOCK as u64).read_to_end(&mut block) {
        Ok(_) => Ok(block.len() == BLOCK && block[257..].starts_with(b"ustar")),
        Err(error) if is_damage(&error) => Ok(false),
        Err(error) => Err(DataError::io(path, error)),
    }
}

/// Whether the archive has a picture or a folder of this split.
pub(super) fn has(path: &Path, split: Split) -> Result<bool, DataError> {
    Ok(!read(path, None)?.of(split).is_empty())
}

/// Reads one split; `None` when the archive lacks it.
pub(super) fn load(name: &str, path: &Path, split: Split) -> Result<Option<ImageSet>, DataError> {
    let mut contents = read(path, Some(split))?;
    let place = |split: Split| path.join(split.to_string());
    let (here, other) = match split {
        Split::Train => (std::mem::take(&mut contents.train), (contents.test, Split::Test)),
        Split::Test => (std::mem::take(&mut contents.test), (contents.train, Split::Train)),
    };
    if here.is_empty() {
        return Ok(None);
    }
    let (others, other_split) = other;
    if !others.is_empty() {
        let names = |classes: &Classes| classes.keys().cloned().collect::<Vec<_>>();
        same_classes(&place(split), &names(&here), &place(other_split), &names(&others))?;
    }
    let class = |(name, files): (String, Vec<(PathBuf, Bytes)>)| Class { folder: place(split).join(&name), name, files };
    load_classes(name, &place(split), here.into_iter().map(class).collect()).map(Some)
}

/// The pictures of each class by its name.
type Classes = BTreeMap<String, Vec<(PathBuf, Bytes)>>;

#[derive(Default)]
struct Contents {
    train: Classes,
    test: Classes,
}

impl Contents {
    fn of(&self, split: Split) -> &Classes {
        match split {
            Split::Train => &self.train,
            Split::Test => &self.test,
        }
    }
}

/// What the archive holds, with the bytes of the pictures of one split.
fn read(path: &Path, wanted: Option<Split>) -> Result<Contents, DataError> {
    let damaged = |source: io::Error| match is_damage(&source) {
        true => DataError::CorruptArchive { path: path.into(), source },
        false => DataError::io(path, source),
    };
    let mut contents = Contents::default();
    let mut kept = 0;
    let mut long_name = None;
    let mut archive = tar::Archive::new(Stream { bytes: open(path)?.take(MAX_STREAM), zeros: 0 });
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let (kind, size) = (entry.header().entry_type(), entry.size());
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            if size > MAX_NAME {
                return Err(DataError::TooLarge { path: path.into(), limit: MAX_NAME, found: u128::from(size) });
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            if kind.is_gnu_longname() {
                long_name = Some(PathBuf::from(String::from_utf8_lossy(&bytes).trim_end_matches('\0')));
            } else {
                for extension in tar::PaxExtensions::new(&bytes) {
                    let extension = extension.map_err(damaged)?;
                    if extension.key_bytes() == b"path" {
                        long_name = Some(PathBuf::from(&*String::from_utf8_lossy(extension.value_bytes())));
                    }
                }
            }
            continue;
        }
        let member = match long_name.take() {
            Some(name) => name,
            None => entry.path().map_err(damaged)?.into_owned(),
        };
        let Some(parts) = parts(&member) else {
            return Err(DataError::UnsafePath { path: path.into(), member });
        };
        let (split, class, file) = match &parts[..] {
            [.., split, class] if kind.is_dir() => (split, class, None),
            [.., split, class, file] if kind.is_file() => (split, class, Some(file)),
            _ => continue,
        };
        let (split, classes) = match split.as_str() {
            "train" => (Split::Train, &mut contents.train),
            "test" | "val" => (Split::Test, &mut contents.test),
            _ => continue,
        };
        if class.starts_with('.') || file.is_some_and(|file| !is_picture(file)) {
            continue;
        }
        let files = classes.entry(class.clone()).or_default();
        if file.is_none() {
            continue;
        }
        let place = path.join(&member);
        if size > MAX_FILE {
            return Err(DataError::TooLarge { path: place, limit: MAX_FILE, found: u128::from(size) });
        }
        let mut bytes = Vec::new();
        if wanted == Some(split) {
            entry.read_to_end(&mut bytes).map_err(damaged)?;
            kept += size;
            if bytes.len() as u64 != size {
                return Err(DataError::Truncated { path: place, expected: size, found: bytes.len() as u64 });
            }
            if kept > MAX_SET {
                return Err(DataError::TooLarge { path: path.into(), limit: MAX_SET, found: u128::from(kept) });
            }
        }
        files.push((place, Bytes::Here(bytes)));
    }
    let mut stream = archive.into_inner();
    // Reading up to the end is what makes gzip compare its checksum.
    io::copy(&mut stream, &mut io::sink()).map_err(damaged)?;
    if stream.zeros < BLOCK as u64 {
        let source = io::Error::new(io::ErrorKind::UnexpectedEof, "its end before the block of zeros that ends an archive");
        return Err(DataError::CorruptArchive { path: path.into(), source });
    }
    Ok(contents)
}

/// The archive's bytes, and how many zeros were the last of them.
struct Stream {
    bytes: io::Take<Box<dyn Read>>,
    zeros: u64,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.bytes.read(buffer)?;
        match buffer[..count].iter().rev().position(|&byte| byte != 0) {
            Some(zeros) => self.zeros = zeros as u64,
            None => self.zeros += count as u64,
        }
        Ok(count)
    }
}

/// The names along a member's path; `None` for one that leads out of where it is unpacked.
fn parts(member: &Path) -> Option<Vec<String>> {
    let part = |component| match component {
        Component::Normal(name) => Some(Some(name.to_string_lossy().into_owned())),
        Component::CurDir => Some(None),
        Component::ParentDir | Component::RootDir | Component::Prefix(_) => None,
    };
    Some(member.components().map(part).collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

/// Whether the contents are at fault, and not the reading of them. The tar reader's own errors are of the kind `Other`.
fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | InvalidData | InvalidInput | Other)
}

/// The archive's bytes, decompressed where they are compressed.
fn open(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let mut file: BufReader<File> = BufReader::with_capacity(1 << 16, open_regular(path)?);
    let start = file.fill_buf().map_err(|error| DataError::io(path, error))?;
    if start.starts_with(&[0x1f, 0x8b]) { Ok(Box::new(BufReader::new(MultiGzDecoder::new(file)))) } else { Ok(Box::new(file)) }
}

#[cfg(test)]
mod tests {
    use super::super::decode::tests::{jpeg, png};
    use super::*;
    use crate::data::{DataSource, resolve};
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use tempfile::TempDir;

    fn header(kind: tar::EntryType, size: usize) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header
    }

    /// An archive of these files, and of folders where there are no bytes.
    fn tar(members: &[(&str, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (path, bytes) in members {
            let (kind, bytes) = match bytes {
                Some(bytes) => (tar::EntryType::Regular, bytes.as_slice()),
                None => (tar::EntryType::Directory, &[][..]),
            };
            builder.append_data(&mut header(kind, bytes.len()), path, bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn members() -> Vec<(&'static str, Option<Vec<u8>>)> {
        vec![
            ("./set/test/dog/1.png", Some(png(1, 2, 2, 60))),
            ("./set/train/dog/", None),
            ("./set/train/dog/2.png", Some(png(1, 2, 2, 20))),
            ("./set/train/cat/z.png", Some(png(1, 2, 2, 40))),
            ("./set/README.md", Some(b"text".to_vec())),
            ("./set/train/dog/1.png", Some(png(1, 2, 2, 30))),
            ("./set/test/cat/1.png", Some(png(1, 2, 2, 50))),
        ]
    }

    struct Archive(TempDir);

    impl Archive {
        fn of(name: &str, bytes: &[u8]) -> Self {
            let archive = Self(TempDir::new().unwrap());
            std::fs::write(archive.0.path().join(name), bytes).unwrap();
            archive
        }
        fn source(&self) -> Result<DataSource, DataError> {
            let path = self.0.path().read_dir().unwrap().next().unwrap().unwrap().path();
            resolve(path.to_str().unwrap())
        }
        fn load(&self, split: Split) -> Result<ImageSet, DataError> {
            self.source()?.load(split)
        }
    }

    fn refused(members: &[(&str, Option<Vec<u8>>)]) -> DataError {
        Archive::of("x.tar", &tar(members)).load(Split::Train).unwrap_err()
    }

    #[test]
    fn members_are_sorted_whatever_their_order() {
        for (name, bytes) in
            [("pets.tar", tar(&members())), ("pets.tar.gz", gzip(&tar(&members()))), ("pets.x", gzip(&tar(&members())))]
        {
            let archive = Archive::of(name, &bytes);
            let train = archive.load(Split::Train).unwrap();
            assert_eq!(
                (train.class_names.clone(), train.labels.as_slice()),
                (vec!["cat".into(), "dog".into()], &[0u8, 1, 1][..])
            );
            assert_eq!((0..3).map(|at| train.image(at)[0]).collect::<Vec<_>>(), [40, 30, 20]);
            let test = archive.load(Split::Test).unwrap();
            assert_eq!((0..2).map(|at| test.image(at)[0]).collect::<Vec<_>>(), [50, 60]);
            assert_eq!(archive.source().unwrap().name(), name.trim_end_matches(".gz").trim_end_matches(".tar"));
        }
    }

    #[test]
    fn long_names_are_read() {
        let long = format!("{}/train/{}/{}.png", "a".repeat(90), "class".repeat(30), "n".repeat(150));
        // The builder writes GNU's long names; a pax header is written by hand.
        let gnu = tar(&[(&long, Some(png(1, 1, 1, 5)))]);
        let record = format!(" path={long}\n");
        let length = (record.len()..).find(|length| length.to_string().len() + record.len() == *length).unwrap();
        let record = format!("{length}{record}");
        let mut builder = tar::Builder::new(Vec::new());
        let mut pax = header(tar::EntryType::XHeader, record.len());
        builder.append_data(&mut pax, "PaxHeaders/x", record.as_bytes()).unwrap();
        let picture = png(1, 1, 1, 5);
        builder.append_data(&mut header(tar::EntryType::Regular, picture.len()), "short.png", picture.as_slice()).unwrap();
        for bytes in [gnu, builder.into_inner().unwrap()] {
            let set = Archive::of("x.tar", &bytes).load(Split::Train).unwrap();
            assert_eq!((set.len(), set.class_names[0].as_str()), (1, "class".repeat(30).as_str()));
        }
    }

    #[test]
    fn a_path_that_leads_out_is_refused() {
        for path in ["../train/cat/a.png", "train/../../x/cat/a.png", "/train/cat/a.png"] {
            // The builder would not write such a path.
            let picture = png(1, 1, 1, 5);
            let mut header = header(tar::EntryType::Regular, picture.len());
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            let mut builder = tar::Builder::new(Vec::new());
            builder.append(&header, picture.as_slice()).unwrap();
            let error = Archive::of("x.tar", &builder.into_inner().unwrap()).load(Split::Train).unwrap_err();
            assert!(matches!(&error, DataError::UnsafePath { member, .. } if member == Path::new(path)), "{error}");
        }
    }

    #[test]
    fn links_are_passed_over() {
        let mut builder = tar::Builder::new(Vec::new());
        let bytes = png(1, 1, 1, 5);
        builder.append_data(&mut header(tar::EntryType::Regular, bytes.len()), "train/cat/a.png", bytes.as_slice()).unwrap();
        let mut link = header(tar::EntryType::Symlink, 0);
        builder.append_link(&mut link, "train/cat/b.png", "/etc/hostname").unwrap();
        assert_eq!(Archive::of("x.tar", &builder.into_inner().unwrap()).load(Split::Train).unwrap().len(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_wrong_with_an_archive_of_it() {
        let error = refused(&[("train/cat/", None), ("train/dog/1.png", Some(png(1, 1, 1, 1)))]);
        assert!(matches!(&error, DataError::EmptyClass { path } if path.ends_with("train/cat")), "{error}");
        let error = refused(&[("train/cat/1.png", Some(png(1, 1, 1, 1))), ("test/dog/1.png", Some(png(1, 1, 1, 1)))]);
        assert!(matches!(error, DataError::ClassesDiffer { .. }), "{error}");
        let error = refused(&[("train/cat/1.png", Some(png(3, 8, 8, 1))), ("train/cat/2.jpg", Some(jpeg(1, 8, 8, 1)))]);
        assert!(matches!(&error, DataError::PictureShape { path, .. } if path.ends_with("x.tar/train/cat/2.jpg")), "{error}");
        let error = refused(&[("train/cat/1.png", Some(b"no picture".to_vec()))]);
        assert!(matches!(&error, DataError::CorruptPicture { path, .. } if path.ends_with("x.tar/train/cat/1.png")), "{error}");
        let error = refused(&[("test/cat/1.png", Some(png(1, 1, 1, 1)))]);
        assert!(matches!(error, DataError::MissingSplit { split: Split::Train, .. }), "{error}");
        let error = refused(&[("README.md", Some(b"text".to_vec()))]);
        assert!(matches!(error, DataError::MissingSplit { .. }), "{error}");
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = tar(&members());
        // The archive ends with two blocks of zeros, of which one is enough.
        for len in (0..whole.len() - 2 * BLOCK).step_by(61).chain([whole.len() - 2 * BLOCK]) {
            let error = Archive::of("x.tar", &whole[..len]).load(Split::Train).unwrap_err();
            let is_right = match error {
                DataError::CorruptArchive { .. } | DataError::Truncated { .. } => true,
                DataError::UnsupportedFile { .. } => len < BLOCK,
                _ => false,
            };
            assert!(is_right, "{len}: {error}");
        }
        let whole = gzip(&whole);
        for len in (2..whole.len()).step_by(13).chain([whole.len() - 1]) {
            let error = Archive::of("x.tar", &whole[..len]).load(Split::Train).unwrap_err();
            let is_right = matches!(
                error,
                DataError::CorruptArchive { .. } | DataError::Truncated { .. } | DataError::UnsupportedFile { .. }
            );
            assert!(is_right, "{len}: {error}");
        }
    }

    #[test]
    fn sizes_that_are_only_claimed_take_no_memory() {
        for size in [MAX_FILE - 1, MAX_FILE + 1, u64::MAX >> 3] {
            let mut header = header(tar::EntryType::Regular, 0);
            header.set_path("train/cat/a.png").unwrap();
            header.set_size(size);
            header.set_cksum();
            let bytes = [header.as_bytes().as_slice(), &[0; 2 * BLOCK]].concat();
            let error = Archive::of("x.tar", &bytes).load(Split::Train).unwrap_err();
            let is_right =
                matches!(error, DataError::TooLarge { .. } | DataError::Truncated { .. } | DataError::CorruptArchive { .. });
            assert!(is_right, "{size}: {error}");
        }
        let mut long = header(tar::EntryType::GNULongName, 0);
        long.set_size(MAX_NAME + 1);
        long.set_cksum();
        let bytes = [long.as_bytes().as_slice(), &vec![b'a'; 2 * MAX_NAME as usize]].concat();
        assert!(matches!(Archive::of("x.tar", &bytes).load(Split::Train), Err(DataError::TooLarge { limit: MAX_NAME, .. })));
    }
}
