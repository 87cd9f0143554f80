//! The IDX format of MNIST, plain or gzip.
//!
//! ```text
//! images   00 00 08 03   N   H   W   N*H*W bytes      labels   00 00 08 01   N   N bytes
//! ```
//!
//! All numbers are big-endian `u32`. Gzip is recognised by its own magic `1f 8b`, never by the file's name. Refused: another
//! magic, a zero dimension, fewer or more bytes than the header promises, a damaged gzip stream, bytes after it. Memory grows
//! with the data that really arrives, up to [`MAX_BYTES`], and never with what a header claims. Not here: other element types of
//! IDX and other ranks; no dataset in the catalog uses them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;

use super::error::DataError;
use super::images::{ImageSet, class_numbers};

/// Number of classes of every IDX dataset in the catalog.
pub const CLASSES: usize = 10;

/// The most bytes of pixels or labels that one file may hold: 1 GiB, twenty times MNIST's training images.
pub const MAX_BYTES: u64 = 1 << 30;

/// What an IDX file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdxKind {
    /// Unsigned bytes of rank 3, `[N, H, W]`.
    Images,
    /// Unsigned bytes of rank 1, `[N]`.
    Labels,
}

impl IdxKind {
    /// The four bytes that open a file of this kind.
    pub const fn magic(self) -> u32 {
        match self {
            IdxKind::Images => 0x0000_0803,
            IdxKind::Labels => 0x0000_0801,
        }
    }

    /// Number of dimensions, the low byte of the magic.
    const fn rank(self) -> usize {
        (self.magic() & 0xff) as usize
    }
}

/// Reads a file of images and its file of labels into a set of shape `[1, H, W]`.
///
/// # Errors
///
/// Any way in which either file is not what the module's header describes, counts that differ, a label of 10 or more.
pub fn load(name: &str, images: &Path, labels: &Path) -> Result<ImageSet, DataError> {
    let (dims, pixels) = read(images, IdxKind::Images)?;
    let (_, classes) = read(labels, IdxKind::Labels)?;
    let count = dims[0] as usize;
    if classes.len() != count {
        return Err(DataError::CountMismatch {
            images_path: images.to_path_buf(),
            labels_path: labels.to_path_buf(),
            images: count,
            labels: classes.len(),
        });
    }
    if let Some((index, &found)) = classes.iter().enumerate().find(|&(_, &label)| usize::from(label) >= CLASSES) {
        return Err(DataError::LabelOutOfRange { path: labels.to_path_buf(), index, classes: CLASSES, found });
    }
    let shape = [1, dims[1] as usize, dims[2] as usize];
    let class_names = class_numbers(CLASSES);
    Ok(ImageSet { name: name.to_owned(), shape, classes: CLASSES, class_names, images: pixels, labels: classes })
}

/// What a file holds by its first four bytes, after decompression; `None` when it is not IDX.
///
/// # Errors
///
/// Only when the file cannot be opened or read.
pub fn sniff(path: &Path) -> Result<Option<IdxKind>, DataError> {
    let mut reader = open(path)?;
    let mut magic = [0; 4];
    match reader.read_exact(&mut magic) {
        Ok(()) => {}
        Err(error) if is_damage(&error) => return Ok(None),
        Err(error) => return Err(DataError::io(path, error)),
    }
    let magic = u32::from_be_bytes(magic);
    Ok([IdxKind::Images, IdxKind::Labels].into_iter().find(|kind| kind.magic() == magic))
}

/// The dimensions and the bytes of an IDX file; their product is the number of bytes.
fn read(path: &Path, kind: IdxKind) -> Result<(Vec<u32>, Vec<u8>), DataError> {
    let mut reader = open(path)?;
    let header_len = 4 * (1 + kind.rank() as u64);
    let mut header = Vec::new();
    fill(&mut reader, header_len, &mut header, path)?;
    let words: Vec<u32> = header.chunks_exact(4).map(|word| u32::from_be_bytes([word[0], word[1], word[2], word[3]])).collect();
    if let Some(&found) = words.first().filter(|&&magic| magic != kind.magic()) {
        return Err(DataError::WrongMagic { path: path.to_path_buf(), expected: kind.magic(), found });
    }
    if (header.len() as u64) < header_len {
        return Err(DataError::Truncated { path: path.to_path_buf(), expected: header_len, found: header.len() as u64 });
    }
    let dims = words[1..].to_vec();
    if dims.contains(&0) {
        return Err(DataError::EmptyDimension { path: path.to_path_buf(), found: dims });
    }
    // Three factors below 2^32 fit in 96 bits.
    let promised: u128 = dims.iter().map(|&dim| u128::from(dim)).product();
    if promised > u128::from(MAX_BYTES) {
        return Err(DataError::TooLarge { path: path.to_path_buf(), limit: MAX_BYTES, found: promised });
    }
    let promised = promised as u64;
    let expected = header_len + promised;
    // One byte more than promised: it tells a longer file, and reading up to the end is what makes gzip compare its checksum.
    let mut bytes = Vec::new();
    let sound = fill(&mut reader, promised + 1, &mut bytes, path)?;
    if !sound || (bytes.len() as u64) < promised {
        return Err(DataError::Truncated { path: path.to_path_buf(), expected, found: header_len + bytes.len() as u64 });
    }
    if bytes.len() as u64 > promised || !reader.at_end().map_err(|error| DataError::io(path, error))? {
        return Err(DataError::TrailingBytes { path: path.to_path_buf(), expected });
    }
    Ok((dims, bytes))
}

/// Appends up to `count` bytes to `into`, and says whether the stream was sound as far as it was read; one that breaks off is
/// not.
fn fill(reader: &mut IdxReader, count: u64, into: &mut Vec<u8>, path: &Path) -> Result<bool, DataError> {
    match reader.take(count).read_to_end(into) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) if is_damage(&source) => Err(DataError::CorruptGzip { path: path.to_path_buf(), source }),
        Err(error) => Err(DataError::io(path, error)),
    }
}

/// Whether the contents are at fault, and not the reading of them.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
}

/// The bytes of an IDX file, decompressed where it is compressed.
enum IdxReader {
    Plain(BufReader<File>),
    Gzip(Box<GzDecoder<BufReader<File>>>),
}

impl IdxReader {
    /// Whether the file itself is used up, once the data has been read.
    fn at_end(&mut self) -> io::Result<bool> {
        let file = match self {
            IdxReader::Plain(file) => file,
            IdxReader::Gzip(decoder) => decoder.get_mut(),
        };
        Ok(file.fill_buf()?.is_empty())
    }
}

impl Read for IdxReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            IdxReader::Plain(file) => file.read(buffer),
            IdxReader::Gzip(decoder) => decoder.read(buffer),
        }
    }
}

/// Opens a file and looks for gzip's magic.
fn open(path: &Path) -> Result<IdxReader, DataError> {
    let mut file = BufReader::new(open_regular(path)?);
    let start = file.fill_buf().map_err(|error| DataError::io(path, error))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        Ok(IdxReader::Gzip(Box::new(GzDecoder::new(file))))
    } else {
        Ok(IdxReader::Plain(file))
    }
}

/// Opens a regular file; a folder, a pipe or a device is refused before anything is read from it.
pub(crate) fn open_regular(path: &Path) -> Result<File, DataError> {
    let metadata = std::fs::metadata(path).map_err(|error| DataError::io(path, error))?;
    if !metadata.is_file() {
        return Err(DataError::NotAFile { path: path.to_path_buf() });
    }
    File::open(path).map_err(|error| DataError::io(path, error))
}

/// Feeds the contents of a file to `sink` piece by piece, decompressed where they are compressed.
pub(crate) fn for_each_piece(path: &Path, mut sink: impl FnMut(&[u8])) -> Result<(), DataError> {
    let mut reader = open(path)?;
    let mut piece = vec![0; 1 << 16];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => sink(&piece[..count]),
            Err(source) if is_damage(&source) => return Err(DataError::CorruptGzip { path: path.to_path_buf(), source }),
            Err(error) => return Err(DataError::io(path, error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};
    use std::io::Write;
    use std::path::PathBuf;
    use tempfile::TempDir;

    fn images(count: u32, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let mut file = 0x803u32.to_be_bytes().to_vec();
        [count, height, width].iter().for_each(|dim| file.extend(dim.to_be_bytes()));
        file.extend(pixels);
        file
    }

    fn labels(count: u32, values: &[u8]) -> Vec<u8> {
        let mut file = 0x801u32.to_be_bytes().to_vec();
        file.extend(count.to_be_bytes());
        file.extend(values);
        file
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Three images of 2 x 2, and a folder to put them in.
    struct Files {
        folder: TempDir,
    }

    impl Files {
        fn new() -> Self {
            let files = Files { folder: TempDir::new().unwrap() };
            files.put("images", &images(3, 2, 2, &pixels()));
            files.put("labels", &labels(3, &[7, 0, 9]));
            files
        }
        fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
            let path = self.folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        }
        fn load(&self) -> Result<ImageSet, DataError> {
            load("tiny", &self.folder.path().join("images"), &self.folder.path().join("labels"))
        }
        fn refusal(&self, images: &[u8]) -> DataError {
            self.put("images", images);
            self.load().unwrap_err()
        }
    }

    fn pixels() -> Vec<u8> {
        (0..12).collect()
    }

    #[test]
    fn plain_and_gzip_give_the_same_set() {
        let files = Files::new();
        let plain = files.load().unwrap();
        assert_eq!(
            (plain.shape, plain.len(), plain.images.clone(), plain.labels.clone()),
            ([1, 2, 2], 3, pixels(), vec![7, 0, 9])
        );
        files.put("images", &gzip(&images(3, 2, 2, &pixels())));
        files.put("labels", &gzip(&labels(3, &[7, 0, 9])));
        assert_eq!(files.load().unwrap(), plain);
    }

    #[test]
    fn sniffing_goes_by_content() {
        let files = Files::new();
        assert_eq!(sniff(&files.put("a", &gzip(&labels(1, &[1])))).unwrap(), Some(IdxKind::Labels));
        assert_eq!(sniff(&files.put("b.gz", &images(1, 1, 1, &[1]))).unwrap(), Some(IdxKind::Images));
        for other in [&b""[..], b"\x1f\x8b", b"\x1f\x8bgarbage-and-more", b"ABCDEFGH", &gzip(b"no")] {
            assert_eq!(sniff(&files.put("c", other)).unwrap(), None);
        }
    }

    #[test]
    fn another_magic_is_refused() {
        let error = Files::new().refusal(&labels(12, &pixels()));
        assert!(matches!(error, DataError::WrongMagic { expected: 0x803, found: 0x801, .. }), "{error}");
        assert!(error.to_string().contains("images: expected 0x00000803, found 0x00000801"), "{error}");
        let error = Files::new().refusal(b"\x00\x00\x0d\x03");
        assert!(matches!(error, DataError::WrongMagic { found: 0xd03, .. }), "{error}");
    }

    #[test]
    fn every_truncation_of_a_plain_file_is_refused() {
        let whole = images(3, 2, 2, &pixels());
        for len in 0..whole.len() {
            let error = Files::new().refusal(&whole[..len]);
            assert!(matches!(error, DataError::Truncated { found, .. } if found == len as u64), "{len}: {error}");
        }
    }

    #[test]
    fn every_truncation_of_a_gzip_file_is_refused() {
        let whole = gzip(&images(3, 2, 2, &pixels()));
        let files = Files::new();
        for len in 0..whole.len() {
            let error = files.refusal(&whole[..len]);
            assert!(
                matches!(error, DataError::Truncated { .. } | DataError::WrongMagic { .. } | DataError::CorruptGzip { .. }),
                "{len}: {error}"
            );
        }
    }

    #[test]
    fn every_flipped_bit_of_gzip_data_is_refused_or_harmless() {
        let whole = gzip(&images(3, 2, 2, &pixels()));
        let files = Files::new();
        let good = files.load().unwrap();
        let mut refused = 0;
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            files.put("images", &bytes);
            match files.load() {
                Ok(set) => assert_eq!(set, good, "bit {bit} changed the data unnoticed"),
                Err(_) => refused += 1,
            }
        }
        // The gzip header's time, flags for the name and operating system are not covered by its checksum: at most 80 bits.
        assert!(refused >= 8 * (whole.len() - 10), "{refused} of {} flips refused", 8 * whole.len());
    }

    #[test]
    fn trailing_bytes_are_refused_inside_and_after_gzip() {
        let mut longer = images(3, 2, 2, &pixels());
        longer.push(0);
        let after = [gzip(&images(3, 2, 2, &pixels())), vec![0]].concat();
        for bytes in [longer.clone(), gzip(&longer), after] {
            let error = Files::new().refusal(&bytes);
            assert!(matches!(error, DataError::TrailingBytes { expected: 28, .. }), "{error}");
        }
    }

    #[test]
    fn hostile_dimensions_are_refused_before_any_allocation() {
        let error = Files::new().refusal(&images(u32::MAX, u32::MAX, u32::MAX, &[]));
        assert!(matches!(error, DataError::TooLarge { found, .. } if found == u128::from(u32::MAX).pow(3)), "{error}");
        let error = Files::new().refusal(&gzip(&images(1 << 20, 32, 33, &[])));
        assert!(matches!(error, DataError::TooLarge { .. }), "{error}");
        let error = Files::new().refusal(&images(1 << 20, 32, 32, &pixels()));
        assert!(matches!(error, DataError::Truncated { expected, found: 28, .. } if expected == (1 << 30) + 16), "{error}");
        let error = Files::new().refusal(&images(3, 0, 2, &[]));
        assert!(matches!(&error, DataError::EmptyDimension { found, .. } if found == &[3, 0, 2]), "{error}");
    }

    #[test]
    fn a_gzip_bomb_is_cut_at_what_the_header_promises() {
        let mut bomb = images(3, 2, 2, &[]);
        bomb.resize(1 << 26, 0);
        let error = Files::new().refusal(&gzip(&bomb));
        assert!(matches!(error, DataError::TrailingBytes { expected: 28, .. }), "{error}");
    }

    #[test]
    fn counts_must_agree() {
        let files = Files::new();
        files.put("labels", &labels(2, &[7, 0]));
        let error = files.load().unwrap_err();
        assert!(matches!(error, DataError::CountMismatch { images: 3, labels: 2, .. }), "{error}");
    }

    #[test]
    fn labels_must_be_classes() {
        let files = Files::new();
        files.put("labels", &labels(3, &[7, 10, 9]));
        let error = files.load().unwrap_err();
        assert!(matches!(error, DataError::LabelOutOfRange { index: 1, classes: 10, found: 10, .. }), "{error}");
    }

    #[test]
    fn a_folder_or_nothing_is_not_a_file() {
        let files = Files::new();
        assert!(matches!(load("x", files.folder.path(), files.folder.path()), Err(DataError::NotAFile { .. })));
        let nothing = files.folder.path().join("nothing");
        assert!(matches!(load("x", &nothing, &nothing), Err(DataError::Io { .. })));
    }
}
