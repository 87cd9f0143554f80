//! TFLite runtimes on files that are written here.
//!
//! LiteRT needs a Python with `tests/peers/requirements.txt`, named by `QAT_PYTHON`, TFLite-Micro one with `tflite-micro`, named by
//! `QAT_TFLM_PYTHON`; where there is none, the test says what it skips.

// Each test binary uses some of it.
#![allow(dead_code)]

use std::{
    env,
    ffi::OsString,
    fmt::Display,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use qat_runtime::{Codes, CodesRef, Rules};

/// A runtime that executes TFLite files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// LiteRT with XNNPACK.
    LiteRt,
    /// LiteRT's reference kernels.
    LiteRtReference,
    /// TFLite-Micro.
    TfliteMicro,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::LiteRt, Self::LiteRtReference, Self::TfliteMicro];

    /// The rules whose arithmetic it has.
    pub fn rules(self) -> Rules {
        match self {
            Self::LiteRt => Rules::LiteRt,
            Self::LiteRtReference => Rules::LiteRtReference,
            Self::TfliteMicro => Rules::TfliteMicro,
        }
    }

    fn resolver(self) -> &'static str {
        match self {
            Self::LiteRt => "default",
            Self::LiteRtReference => "reference",
            Self::TfliteMicro => "tflm",
        }
    }

    /// The Python that has it; `None`, said aloud, where there is none.
    pub fn python(self) -> Option<OsString> {
        let name = if self == Self::TfliteMicro { "QAT_TFLM_PYTHON" } else { "QAT_PYTHON" };
        let found = env::var_os(name);
        if found.is_none() {
            println!("skipped {self:?}: {name} names no Python");
        }
        found
    }

    /// What the file gives for `input`; a message where the runtime refuses. `arguments` are the script's.
    pub fn run(self, python: &OsString, file: &Path, input: &Array, arguments: &[&str]) -> Result<Array, String> {
        self.run_all(python, &[(file.to_owned(), input.clone())], arguments).remove(0)
    }

    /// What each file gives for its input, all in one process.
    pub fn run_all(self, python: &OsString, jobs: &[(PathBuf, Array)], arguments: &[&str]) -> Vec<Result<Array, String>> {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/peers/run_tflite.py");
        let mut command = Command::new(python);
        command.arg(script).args(["--resolver", self.resolver()]).args(arguments);
        let path = |index: usize, end: &str| directory.path().join(format!("{index}{end}.npy"));
        for (index, (file, input)) in jobs.iter().enumerate() {
            input.write(&path(index, "x"));
            command.arg(file).args([path(index, "x"), path(index, "y")]);
        }
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let result = |(index, (file, _)): (usize, &(PathBuf, Array))| {
            if path(index, "y").exists() {
                return Ok(Array::read(&path(index, "y")));
            }
            let refused = format!("refused {}: ", file.display());
            let reason = text.lines().find_map(|line| line.strip_prefix(&refused));
            Err(reason.map_or_else(|| text.clone(), str::to_owned))
        };
        jobs.iter().enumerate().map(result).collect()
    }
}

/// Numbers of one type, of a shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// NumPy's name of the type, as in `|i1`.
    pub descr: String,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Array {
    /// `samples` codes of a shape.
    pub fn codes(codes: CodesRef<'_>, shape: &[usize]) -> Self {
        let (descr, bytes) = match codes {
            CodesRef::Int8(codes) => ("|i1", codes.iter().map(|code| code.cast_unsigned()).collect()),
            CodesRef::Int16(codes) => ("<i2", codes.iter().flat_map(|code| code.to_le_bytes()).collect()),
            CodesRef::Int32(codes) => ("<i4", codes.iter().flat_map(|code| code.to_le_bytes()).collect()),
        };
        Self { descr: descr.to_owned(), shape: shape.to_vec(), bytes }
    }

    pub fn floats(numbers: &[f32], shape: &[usize]) -> Self {
        let bytes = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        Self { descr: "<f4".to_owned(), shape: shape.to_vec(), bytes }
    }

    /// The numbers as integers; uint8 ones as the int8 codes 128 below.
    pub fn integers(&self) -> Vec<i32> {
        match self.descr.as_str() {
            "|i1" => self.bytes.iter().map(|byte| byte.cast_signed().into()).collect(),
            "|u1" => self.bytes.iter().map(|&byte| i32::from(byte) - 128).collect(),
            "<i2" => self.bytes.as_chunks().0.iter().map(|&bytes| i16::from_le_bytes(bytes).into()).collect(),
            "<i4" => self.bytes.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect(),
            other => panic!("{other} is no type of codes"),
        }
    }

    pub fn reals(&self) -> Vec<f32> {
        assert_eq!(self.descr, "<f4");
        self.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    }

    /// Version 1.0 of NumPy's format.
    pub fn write(&self, path: &Path) {
        let shape: String = self.shape.iter().map(|size| format!("{size},")).collect();
        let mut header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': ({shape}), }}", self.descr);
        // Magic, version, length and header fill a multiple of 64 bytes.
        let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
        header = format!("{header:<width$}\n", width = length - 1);
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((length as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(&self.bytes);
        fs::write(path, bytes).unwrap();
    }

    pub fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let header = String::from_utf8(bytes[10..10 + length].to_vec()).unwrap();
        let between = |from: &str, to: &str| {
            let rest = header.split_once(from).unwrap().1;
            rest.split_once(to).unwrap().0.to_owned()
        };
        let shape = between("'shape': (", ")");
        let shape = shape.split(',').filter(|size| !size.trim().is_empty()).map(|size| size.trim().parse().unwrap()).collect();
        Self { descr: between("'descr': '", "'"), shape, bytes: bytes[10 + length..].to_vec() }
    }
}

/// Codes that differ, and by how much at most; prints both.
pub fn compare(what: impl Display, engine: &Codes, peer: &Array) -> (usize, i32) {
    let (ours, theirs) = (engine.to_i32s(), peer.integers());
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let distances = ours.iter().zip(&theirs).map(|(ours, theirs)| (ours - theirs).abs());
    let (different, largest) =
        distances.fold((0, 0), |(count, largest), distance| (count + usize::from(distance != 0), largest.max(distance)));
    println!("{what}: {} compared, {different} different, at most {largest} LSB", ours.len());
    (different, largest)
}

/// A file of the shared folder, named by `QAT_SHARED`; `None`, said aloud, without it.
pub fn shared(name: &str) -> Option<PathBuf> {
    let Some(shared) = env::var_os("QAT_SHARED") else {
        println!("skipped: QAT_SHARED names no folder");
        return None;
    };
    Some(Path::new(&shared).join(name))
}
