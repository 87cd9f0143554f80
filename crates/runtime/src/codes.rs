//! Codes of activations: which integers they are, and slices of them.

use alloc::{vec, vec::Vec};

/// The integers that a value's codes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodeType {
    /// −128…127. uint8 codes of other runtimes are these plus 128, zero point included.
    Int8,
    /// −32768…32767, with zero point 0.
    Int16,
    /// Indices into an embedding table; they have scale 1 and zero point 0.
    Int32,
}

impl CodeType {
    /// Lowest code.
    pub fn min(self) -> i32 {
        match self {
            Self::Int8 => i8::MIN.into(),
            Self::Int16 => i16::MIN.into(),
            Self::Int32 => i32::MIN,
        }
    }

    /// Highest code.
    pub fn max(self) -> i32 {
        match self {
            Self::Int8 => i8::MAX.into(),
            Self::Int16 => i16::MAX.into(),
            Self::Int32 => i32::MAX,
        }
    }

    /// Size of a code in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Int8 => 1,
            Self::Int16 => 2,
            Self::Int32 => 4,
        }
    }

    /// The name that messages and files use, as in `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
        }
    }
}

/// Codes of one type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Codes {
    /// Of [`CodeType::Int8`].
    Int8(Vec<i8>),
    /// Of [`CodeType::Int16`].
    Int16(Vec<i16>),
    /// Of [`CodeType::Int32`].
    Int32(Vec<i32>),
}

/// Codes of one type, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodesRef<'a> {
    /// Of [`CodeType::Int8`].
    Int8(&'a [i8]),
    /// Of [`CodeType::Int16`].
    Int16(&'a [i16]),
    /// Of [`CodeType::Int32`].
    Int32(&'a [i32]),
}

/// Codes of one type, written.
#[derive(Debug)]
pub(crate) enum CodesMut<'a> {
    Int8(&'a mut [i8]),
    Int16(&'a mut [i16]),
    Int32(&'a mut [i32]),
}

impl Codes {
    /// Zeros.
    pub fn zeros(code_type: CodeType, length: usize) -> Self {
        match code_type {
            CodeType::Int8 => Self::Int8(vec![0; length]),
            CodeType::Int16 => Self::Int16(vec![0; length]),
            CodeType::Int32 => Self::Int32(vec![0; length]),
        }
    }

    /// The codes, read.
    pub fn view(&self) -> CodesRef<'_> {
        match self {
            Self::Int8(codes) => CodesRef::Int8(codes),
            Self::Int16(codes) => CodesRef::Int16(codes),
            Self::Int32(codes) => CodesRef::Int32(codes),
        }
    }

    /// The codes, written.
    pub(crate) fn view_mut(&mut self) -> CodesMut<'_> {
        match self {
            Self::Int8(codes) => CodesMut::Int8(codes),
            Self::Int16(codes) => CodesMut::Int16(codes),
            Self::Int32(codes) => CodesMut::Int32(codes),
        }
    }

    /// As [`Codes::zeros`], or `None` where there is no memory.
    pub(crate) fn try_zeros(code_type: CodeType, length: usize) -> Option<Self> {
        fn zeros<T: Clone + Default>(length: usize) -> Option<Vec<T>> {
            let mut codes = Vec::new();
            codes.try_reserve_exact(length).ok()?;
            codes.resize(length, T::default());
            Some(codes)
        }
        match code_type {
            CodeType::Int8 => zeros(length).map(Self::Int8),
            CodeType::Int16 => zeros(length).map(Self::Int16),
            CodeType::Int32 => zeros(length).map(Self::Int32),
        }
    }

    /// Appends codes of the same type. Panics if the types differ.
    pub fn extend(&mut self, codes: CodesRef<'_>) {
        match (self, codes) {
            (Self::Int8(all), CodesRef::Int8(more)) => all.extend_from_slice(more),
            (Self::Int16(all), CodesRef::Int16(more)) => all.extend_from_slice(more),
            (Self::Int32(all), CodesRef::Int32(more)) => all.extend_from_slice(more),
            (all, more) => panic!("{} codes were appended to {}", more.code_type().name(), all.view().code_type().name()),
        }
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The codes where they are int8.
    pub fn as_int8(&self) -> Option<&[i8]> {
        match self {
            Self::Int8(codes) => Some(codes),
            Self::Int16(_) | Self::Int32(_) => None,
        }
    }

    /// The codes as int32, whatever their type.
    pub fn to_i32s(&self) -> Vec<i32> {
        let view = self.view();
        (0..view.len()).map(|index| view.at(index)).collect()
    }
}

impl<'a> From<&'a Codes> for CodesRef<'a> {
    fn from(codes: &'a Codes) -> Self {
        codes.view()
    }
}

impl<'a> From<&'a [i8]> for CodesRef<'a> {
    fn from(codes: &'a [i8]) -> Self {
        Self::Int8(codes)
    }
}

impl<'a> From<&'a Vec<i8>> for CodesRef<'a> {
    fn from(codes: &'a Vec<i8>) -> Self {
        Self::Int8(codes)
    }
}

impl<'a> From<&'a [i16]> for CodesRef<'a> {
    fn from(codes: &'a [i16]) -> Self {
        Self::Int16(codes)
    }
}

impl<'a> From<&'a [i32]> for CodesRef<'a> {
    fn from(codes: &'a [i32]) -> Self {
        Self::Int32(codes)
    }
}

impl<'a> CodesRef<'a> {
    /// Which integers they are.
    pub fn code_type(self) -> CodeType {
        match self {
            Self::Int8(_) => CodeType::Int8,
            Self::Int16(_) => CodeType::Int16,
            Self::Int32(_) => CodeType::Int32,
        }
    }

    /// Number of codes.
    pub fn len(self) -> usize {
        match self {
            Self::Int8(codes) => codes.len(),
            Self::Int16(codes) => codes.len(),
            Self::Int32(codes) => codes.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The code at `index`. Panics past the end.
    pub fn at(self, index: usize) -> i32 {
        match self {
            Self::Int8(codes) => codes[index].into(),
            Self::Int16(codes) => codes[index].into(),
            Self::Int32(codes) => codes[index],
        }
    }

    /// `length` codes from `start` on. Panics past the end.
    pub fn slice(self, start: usize, length: usize) -> CodesRef<'a> {
        match self {
            Self::Int8(codes) => Self::Int8(&codes[start..start + length]),
            Self::Int16(codes) => Self::Int16(&codes[start..start + length]),
            Self::Int32(codes) => Self::Int32(&codes[start..start + length]),
        }
    }

    /// A copy.
    pub fn to_owned(self) -> Codes {
        match self {
            Self::Int8(codes) => Codes::Int8(codes.to_vec()),
            Self::Int16(codes) => Codes::Int16(codes.to_vec()),
            Self::Int32(codes) => Codes::Int32(codes.to_vec()),
        }
    }
}

impl CodesMut<'_> {
    /// The first `length` codes, and those behind them. Panics past the end.
    #[cfg(feature = "threads")]
    pub(crate) fn split_at(self, length: usize) -> (Self, Self) {
        match self {
            Self::Int8(codes) => {
                let (codes, rest) = codes.split_at_mut(length);
                (Self::Int8(codes), Self::Int8(rest))
            }
            Self::Int16(codes) => {
                let (codes, rest) = codes.split_at_mut(length);
                (Self::Int16(codes), Self::Int16(rest))
            }
            Self::Int32(codes) => {
                let (codes, rest) = codes.split_at_mut(length);
                (Self::Int32(codes), Self::Int32(rest))
            }
        }
    }

    /// `length` codes from `start` on. Panics past the end.
    pub(crate) fn slice(&mut self, start: usize, length: usize) -> CodesMut<'_> {
        match self {
            Self::Int8(codes) => CodesMut::Int8(&mut codes[start..start + length]),
            Self::Int16(codes) => CodesMut::Int16(&mut codes[start..start + length]),
            Self::Int32(codes) => CodesMut::Int32(&mut codes[start..start + length]),
        }
    }

    /// Overwrites all codes with as many of the same type. Panics if types or lengths differ.
    pub(crate) fn copy_from(&mut self, codes: CodesRef<'_>) {
        match (self, codes) {
            (Self::Int8(all), CodesRef::Int8(new)) => all.copy_from_slice(new),
            (Self::Int16(all), CodesRef::Int16(new)) => all.copy_from_slice(new),
            (Self::Int32(all), CodesRef::Int32(new)) => all.copy_from_slice(new),
            (_, new) => panic!("{} codes were written to codes of another type", new.code_type().name()),
        }
    }

    /// Writes a code that the type holds.
    pub(crate) fn set(&mut self, index: usize, code: i32) {
        match self {
            Self::Int8(codes) => codes[index] = code as i8,
            Self::Int16(codes) => codes[index] = code as i16,
            Self::Int32(codes) => codes[index] = code,
        }
    }

    /// Number of codes.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Int8(codes) => codes.len(),
            Self::Int16(codes) => codes.len(),
            Self::Int32(codes) => codes.len(),
        }
    }
}
