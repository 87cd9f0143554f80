//! NumPy's `.npy` arrays of float32, int8, uint8, int16 and int32.
//!
//! Read: versions 1 to 3, either byte order, C order; dimensions slowest first. Written: version 1, little-endian, C order, to a
//! temporary name in the same folder, synced and renamed, so that a reader sees the whole array or none. Refused: other element
//! types, Fortran order, a header that is no header, fewer or more bytes than the shape needs. Not here: `.npz`, and any
//! conversion of values.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::atomic;
use npyz::{AutoSerialize, Deserialize, NpyFile, NpyHeader, Order, WriteOptions, WriterBuilder};

/// The longest header that is read, in bytes; NumPy itself stops at this length.
const MAX_HEADER: usize = 10_000;

/// The most decimal digits in a header. Dimensions of at most 19 digits together have a product below 10^19, which fits in 64
/// bits.
const MAX_DIGITS: usize = 19;

/// The most brackets that open in a header; a scalar array has two, `{` and `(`.
const MAX_BRACKETS: usize = 4;

/// An array of one of five element types, row-major.
#[derive(Clone, Debug, PartialEq)]
pub enum Array {
    /// 32-bit reals.
    F32 {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// As many values as the product of the dimensions.
        values: Vec<f32>,
    },
    /// Codes in `[-128, 127]`.
    I8 {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// As many values as the product of the dimensions.
        values: Vec<i8>,
    },
    /// Codes in `[0, 255]`.
    U8 {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// As many values as the product of the dimensions.
        values: Vec<u8>,
    },
    /// 16-bit codes.
    I16 {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// As many values as the product of the dimensions.
        values: Vec<i16>,
    },
    /// Indices into a table.
    I32 {
        /// Dimensions, slowest first.
        shape: Vec<usize>,
        /// As many values as the product of the dimensions.
        values: Vec<i32>,
    },
}

impl Array {
    /// Dimensions, slowest first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        match self {
            Array::F32 { shape, .. }
            | Array::I8 { shape, .. }
            | Array::U8 { shape, .. }
            | Array::I16 { shape, .. }
            | Array::I32 { shape, .. } => shape,
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Array::F32 { values, .. } => values.len(),
            Array::I8 { values, .. } => values.len(),
            Array::U8 { values, .. } => values.len(),
            Array::I16 { values, .. } => values.len(),
            Array::I32 { values, .. } => values.len(),
        }
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// NumPy's name of the element type.
    pub fn dtype(&self) -> &'static str {
        match self {
            Array::F32 { .. } => "float32",
            Array::I8 { .. } => "int8",
            Array::U8 { .. } => "uint8",
            Array::I16 { .. } => "int16",
            Array::I32 { .. } => "int32",
        }
    }
}

/// An array that cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NpyError {
    /// The operating system would not read the file.
    #[error("cannot read, {}: expected a readable file, found {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word on it.
        source: io::Error,
    },
    /// The operating system would not write the file; what was there before is still there.
    #[error("cannot write, {}: expected a folder with room for the file, found {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word on it.
        source: io::Error,
    },
    /// The path does not lead to a regular file.
    #[error("not a file, {}: expected a regular file, found another kind", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file does not start like an array of NumPy's.
    #[error("not an array, {}: expected the header of a .npy file, found {found}", .path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// What is wrong with the header.
        found: String,
    },
    /// The elements are of another type.
    #[error("wrong dtype, {}: expected {expected}, found {found}", .path.display())]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// The types that are read.
        expected: &'static str,
        /// The file's own description of its type.
        found: String,
    },
    /// The elements are stored fastest dimension first.
    #[error("wrong order, {}: expected C order, found Fortran order", .path.display())]
    FortranOrder {
        /// The file.
        path: PathBuf,
    },
    /// The array has another number of dimensions than is needed.
    #[error("wrong rank, {}: expected {expected} dimensions, found {found}, shape {shape:?}", .path.display())]
    WrongRank {
        /// The file.
        path: PathBuf,
        /// Number of dimensions that is needed.
        expected: usize,
        /// Number of dimensions of the array.
        found: usize,
        /// The dimensions.
        shape: Vec<usize>,
    },
    /// The file ends before the shape is filled.
    #[error("truncated file, {}: expected {expected} bytes of values, found {found}", .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Bytes that the shape needs.
        expected: u128,
        /// Bytes after the header.
        found: u64,
    },
    /// The file goes on after the last value.
    #[error("trailing bytes, {}: expected {expected} bytes of values, found {found}", .path.display())]
    TrailingBytes {
        /// The file.
        path: PathBuf,
        /// Bytes that the shape needs.
        expected: u128,
        /// Bytes after the header.
        found: u64,
    },
}

impl NpyError {
    /// What the user can do about it, as one line.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            NpyError::WrongDtype { expected: "integers", .. } => {
                Some("convert the labels with .astype(numpy.int64) before saving them")
            }
            NpyError::WrongDtype { .. } => Some("convert the array with .astype(numpy.float32) before saving it"),
            NpyError::FortranOrder { .. } => Some("convert the array with numpy.ascontiguousarray before saving it"),
            _ => None,
        }
    }
}

/// Reads an array of any shape.
///
/// # Errors
///
/// Every refusal of the module's header, as an [`NpyError`] that names the file.
pub fn read(path: &Path) -> Result<Array, NpyError> {
    let (shape, data) = open(path)?;
    let dtype = data.file.header().dtype();
    if f32::reader(&dtype).is_ok() {
        Ok(Array::F32 { shape, values: data.values()? })
    } else if i8::reader(&dtype).is_ok() {
        Ok(Array::I8 { shape, values: data.values()? })
    } else if u8::reader(&dtype).is_ok() {
        Ok(Array::U8 { shape, values: data.values()? })
    } else if i16::reader(&dtype).is_ok() {
        Ok(Array::I16 { shape, values: data.values()? })
    } else if i32::reader(&dtype).is_ok() {
        Ok(Array::I32 { shape, values: data.values()? })
    } else {
        Err(data.wrong_dtype("float32, int8, uint8, int16 or int32"))
    }
}

/// Reads an array of labels: one dimension of integers of any width, NumPy's own int64 among them.
///
/// # Errors
///
/// Those of [`read`], and [`NpyError::WrongRank`].
pub fn read_labels(path: &Path) -> Result<Vec<i64>, NpyError> {
    let (shape, data) = open(path)?;
    if shape.len() != 1 {
        return Err(NpyError::WrongRank { path: path.to_path_buf(), expected: 1, found: shape.len(), shape });
    }
    fn wide<T: Deserialize>(data: Data<'_>) -> Result<Vec<i64>, NpyError>
    where
        i64: From<T>,
    {
        Ok(data.values::<T>()?.into_iter().map(i64::from).collect())
    }
    let dtype = data.file.header().dtype();
    if i64::reader(&dtype).is_ok() {
        data.values()
    } else if i32::reader(&dtype).is_ok() {
        wide::<i32>(data)
    } else if u32::reader(&dtype).is_ok() {
        wide::<u32>(data)
    } else if i16::reader(&dtype).is_ok() {
        wide::<i16>(data)
    } else if u16::reader(&dtype).is_ok() {
        wide::<u16>(data)
    } else if i8::reader(&dtype).is_ok() {
        wide::<i8>(data)
    } else if u8::reader(&dtype).is_ok() {
        wide::<u8>(data)
    } else {
        Err(data.wrong_dtype("integers"))
    }
}

/// The shape of an array, and what is to be read of it.
fn open(path: &Path) -> Result<(Vec<usize>, Data<'_>), NpyError> {
    let unreadable = |source| NpyError::Read { path: path.to_path_buf(), source };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(NpyError::NotAFile { path: path.to_path_buf() });
    }
    let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
    let text = read_header(path, &mut file)?;
    let header = NpyHeader::from_reader(text.as_slice()).map_err(|error| bad_header(path, error))?;
    let shape = header.shape().iter().map(|&dim| usize::try_from(dim)).collect::<Result<Vec<_>, _>>();
    let shape = shape.map_err(|error| bad_header(path, error))?;
    if header.order() != Order::C && shape.len() > 1 {
        return Err(NpyError::FortranOrder { path: path.to_path_buf() });
    }
    let found = metadata.len().saturating_sub(text.len() as u64);
    Ok((shape, Data { path, file: NpyFile::with_header(header, file), found }))
}

/// Reads an array of `rank` dimensions.
///
/// # Errors
///
/// Those of [`read`], and [`NpyError::WrongRank`].
pub fn read_rank(path: &Path, rank: usize) -> Result<Array, NpyError> {
    let array = read(path)?;
    if array.shape().len() != rank {
        let shape = array.shape().to_vec();
        return Err(NpyError::WrongRank { path: path.to_path_buf(), expected: rank, found: shape.len(), shape });
    }
    Ok(array)
}

/// Writes an array under a temporary name beside `path`, syncs it and renames it to `path`.
///
/// # Errors
///
/// [`NpyError::Write`]; a file that was there before is then untouched.
///
/// # Panics
///
/// Panics when the number of values is not the product of the shape.
pub fn write(path: &Path, array: &Array) -> Result<(), NpyError> {
    let needed: usize = array.shape().iter().product();
    assert_eq!(needed, array.len(), "shape {:?} does not hold {} values", array.shape(), array.len());
    encode(array)
        .and_then(|bytes| atomic::replace(path, &bytes))
        .map_err(|source| NpyError::Write { path: path.to_path_buf(), source })
}

/// The part of a file after its header.
struct Data<'a> {
    path: &'a Path,
    file: NpyFile<BufReader<File>>,
    /// Bytes after the header.
    found: u64,
}

impl Data<'_> {
    /// What is said of an element type that is not read here.
    fn wrong_dtype(&self, expected: &'static str) -> NpyError {
        NpyError::WrongDtype { path: self.path.to_path_buf(), expected, found: self.file.header().dtype().descr() }
    }

    /// The values, once there are exactly as many bytes as they need.
    fn values<T: Deserialize>(self) -> Result<Vec<T>, NpyError> {
        let Data { path, file, found } = self;
        let expected = u128::from(file.header().len()) * size_of::<T>() as u128;
        match u128::from(found).cmp(&expected) {
            Ordering::Less => Err(NpyError::Truncated { path: path.to_path_buf(), expected, found }),
            Ordering::Greater => Err(NpyError::TrailingBytes { path: path.to_path_buf(), expected, found }),
            Ordering::Equal => file.into_vec().map_err(|source| NpyError::Read { path: path.to_path_buf(), source }),
        }
    }
}

/// The bytes up to the first value, refused where parsing them could cost more than they are worth.
fn read_header(path: &Path, file: &mut impl Read) -> Result<Vec<u8>, NpyError> {
    let mut header = Vec::new();
    let mut more = |header: &mut Vec<u8>, count: usize| match file.take(count as u64).read_to_end(header) {
        Ok(read) if read == count => Ok(()),
        Ok(_) => Err(bad_header(path, format_args!("its end after {} bytes", header.len()))),
        Err(source) => Err(NpyError::Read { path: path.to_path_buf(), source }),
    };
    more(&mut header, 8)?;
    if !header.starts_with(b"\x93NUMPY") {
        return Err(bad_header(path, "another magic"));
    }
    let length_bytes = if header[6] == 1 { 2 } else { 4 };
    more(&mut header, length_bytes)?;
    let length = header[8..].iter().rev().fold(0, |length, &byte| length << 8 | usize::from(byte));
    if length > MAX_HEADER {
        return Err(bad_header(path, format_args!("{length} bytes of header where {MAX_HEADER} are read")));
    }
    let start = header.len();
    more(&mut header, length)?;
    let count = |wanted: fn(&u8) -> bool| header[start..].iter().filter(|&byte| wanted(byte)).count();
    if count(u8::is_ascii_digit) > MAX_DIGITS {
        return Err(bad_header(path, "a shape of more values than can be counted"));
    }
    if count(|byte| b"([{".contains(byte)) > MAX_BRACKETS {
        return Err(bad_header(path, "a structured element type"));
    }
    Ok(header)
}

fn bad_header(path: &Path, found: impl ToString) -> NpyError {
    NpyError::BadHeader { path: path.to_path_buf(), found: found.to_string() }
}

fn encode(array: &Array) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match array {
        Array::F32 { shape, values } => write_values(&mut bytes, shape, values)?,
        Array::I8 { shape, values } => write_values(&mut bytes, shape, values)?,
        Array::U8 { shape, values } => write_values(&mut bytes, shape, values)?,
        Array::I16 { shape, values } => write_values(&mut bytes, shape, values)?,
        Array::I32 { shape, values } => write_values(&mut bytes, shape, values)?,
    }
    Ok(bytes)
}

fn write_values<T: AutoSerialize + Copy>(file: &mut impl Write, shape: &[usize], values: &[T]) -> io::Result<()> {
    let shape: Vec<u64> = shape.iter().map(|&dim| dim as u64).collect();
    let mut writer = WriteOptions::new().default_dtype().shape(&shape).writer(file).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A version 1 file with this header text and these bytes after it.
    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
    }

    fn f32_file(shape: &str, data: &[u8]) -> Vec<u8> {
        file(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n"), data)
    }

    fn read_bytes(bytes: &[u8]) -> Result<Array, NpyError> {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.npy");
        std::fs::write(&path, bytes).unwrap();
        read(&path)
    }

    #[test]
    fn a_literal_file_is_read() {
        let bytes = [1.0f32.to_le_bytes(), (-2.5f32).to_le_bytes()].concat();
        let expected = Array::F32 { shape: vec![2, 1], values: vec![1.0, -2.5] };
        assert_eq!(read_bytes(&f32_file("(2, 1)", &bytes)).unwrap(), expected);
        let swapped = [1.0f32.to_be_bytes(), (-2.5f32).to_be_bytes()].concat();
        let header = "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 1)}";
        assert_eq!(read_bytes(&file(header, &swapped)).unwrap(), expected);
        let header = "{'descr': '|i1', 'fortran_order': False, 'shape': (3,)}";
        assert_eq!(
            read_bytes(&file(header, &[0x80, 0, 0x7f])).unwrap(),
            Array::I8 { shape: vec![3], values: vec![-128, 0, 127] }
        );
        let header = "{'descr': '|u1', 'fortran_order': False, 'shape': ()}";
        assert_eq!(read_bytes(&file(header, &[0x80])).unwrap(), Array::U8 { shape: vec![], values: vec![128] });
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.npy");
        for array in [
            Array::F32 { shape: vec![2, 1, 3], values: vec![0.0, -0.0, f32::MIN_POSITIVE, f32::INFINITY, -1e30, 1.0 / 3.0] },
            Array::I8 { shape: vec![2, 2], values: vec![-128, -1, 0, 127] },
            Array::U8 { shape: vec![0, 5], values: vec![] },
            Array::I16 { shape: vec![3], values: vec![i16::MIN, -1, i16::MAX] },
            Array::I32 { shape: vec![1, 2], values: vec![i32::MIN, i32::MAX] },
        ] {
            write(&path, &array).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(read(&path).unwrap(), array);
            write(&path, &array).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), bytes, "the same array gives the same bytes");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn other_element_types_are_refused() {
        for descr in ["'<f8'", "'<f2'", "'<u4'", "'|b1'", "'<i8'", "[('a', '<f4')]"] {
            let header = format!("{{'descr': {descr}, 'fortran_order': False, 'shape': (1,)}}");
            let error = read_bytes(&file(&header, &[0; 8])).unwrap_err();
            assert!(matches!(error, NpyError::WrongDtype { .. }), "{descr}: {error}");
            assert!(error.hint().is_some());
        }
    }

    #[test]
    fn labels_are_integers_of_any_width() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("y.npy");
        let labels = |descr: &str, shape: &str, data: &[u8]| {
            std::fs::write(&path, file(&format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}"), data))
                .unwrap();
            read_labels(&path)
        };
        for (descr, data) in [
            ("<i8", &[7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0][..]),
            ("<u4", &[7, 0, 0, 0, 3, 0, 0, 0]),
            ("<i4", &[7, 0, 0, 0, 3, 0, 0, 0]),
            (">i2", &[0, 7, 0, 3]),
            ("<u2", &[7, 0, 3, 0]),
            ("|i1", &[7, 3]),
            ("|u1", &[7, 3]),
        ] {
            assert_eq!(labels(descr, "(2,)", data).unwrap(), [7, 3], "{descr}");
        }
        let error = labels("<f4", "(2,)", &[0; 8]).unwrap_err();
        assert!(matches!(error, NpyError::WrongDtype { expected: "integers", .. }) && error.hint().unwrap().contains("int64"));
        assert!(matches!(labels("|u1", "(2, 1)", &[0; 2]), Err(NpyError::WrongRank { expected: 1, found: 2, .. })));
        assert!(matches!(labels("<i8", "(2,)", &[0; 15]), Err(NpyError::Truncated { .. })));
    }

    #[test]
    fn fortran_order_is_refused_where_it_matters() {
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2)}";
        assert!(matches!(read_bytes(&file(header, &[0; 4])), Err(NpyError::FortranOrder { .. })));
        let header = "{'descr': '|u1', 'fortran_order': True, 'shape': (4,)}";
        assert_eq!(read_bytes(&file(header, &[0; 4])).unwrap().shape(), [4]);
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = f32_file("(2, 1)", &[0; 8]);
        for len in 0..whole.len() {
            let error = read_bytes(&whole[..len]).unwrap_err();
            assert!(matches!(error, NpyError::BadHeader { .. } | NpyError::Truncated { .. }), "{len}: {error}");
        }
        assert!(matches!(read_bytes(&f32_file("(2, 1)", &[0; 7])), Err(NpyError::Truncated { expected: 8, found: 7, .. })));
        assert!(matches!(read_bytes(&f32_file("(2, 1)", &[0; 9])), Err(NpyError::TrailingBytes { expected: 8, found: 9, .. })));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let error = read_bytes(&f32_file("(9999999999999999, 1)", &[0; 8])).unwrap_err();
        assert!(matches!(error, NpyError::Truncated { expected: 39_999_999_999_999_996, .. }), "{error}");
        let deep = format!("{}{}", "(".repeat(9_000), ")".repeat(900));
        for header in [
            f32_file("(4294967296, 4294967296, 4294967296)", &[]),
            f32_file("(18446744073709551616,)", &[]),
            f32_file("(-1,)", &[]),
            f32_file("('a',)", &[]),
            file(&deep, &[]),
            file("", &[]),
            file("{'descr': '<f4'}", &[]),
            file("\u{ff}\u{0}", &[]),
            file(&"-".repeat(9_999), &[]),
            file(&format!("{{'descr': {}", "'a' ".repeat(2_000)), &[]),
            b"\x93NUMPY\x09\x00\x10\x00\x00\x00{'descr': '<f4'}".to_vec(),
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff{".to_vec(),
            b"PK\x03\x04 a zip archive".to_vec(),
        ] {
            let error = read_bytes(&header).unwrap_err();
            assert!(matches!(error, NpyError::BadHeader { .. }), "{error}");
        }
    }

    #[test]
    fn flipped_bits_never_panic() {
        let whole = f32_file("(2, 1)", &[1; 8]);
        for bit in 0..8 * whole.len() {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            // Either the array is still one of as many values, or the file is refused.
            if let Ok(array) = read_bytes(&bytes) {
                assert_eq!(array.shape().iter().product::<usize>(), array.len(), "bit {bit}");
            }
        }
    }

    #[test]
    fn rank_is_checked_where_it_is_asked_for() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("x.npy");
        write(&path, &Array::U8 { shape: vec![2, 2], values: vec![0; 4] }).unwrap();
        assert!(read_rank(&path, 2).is_ok());
        let error = read_rank(&path, 4).unwrap_err();
        assert!(matches!(error, NpyError::WrongRank { expected: 4, found: 2, .. }), "{error}");
    }

    #[test]
    fn a_missing_folder_is_a_typed_error() {
        let folder = TempDir::new().unwrap();
        let array = Array::U8 { shape: vec![1], values: vec![0] };
        assert!(matches!(write(&folder.path().join("no/x.npy"), &array), Err(NpyError::Write { .. })));
        assert!(matches!(read(&folder.path().join("x.npy")), Err(NpyError::Read { .. })));
        assert!(matches!(read(folder.path()), Err(NpyError::NotAFile { .. })));
    }
}
