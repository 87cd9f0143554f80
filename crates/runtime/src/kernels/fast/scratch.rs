//! Buffers that kernels use while they compute one node, as large as the most demanding node of a plan needs.

use alloc::{vec, vec::Vec};

/// Numbers of elements of each type that a kernel needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScratchSize {
    pub(crate) bytes: usize,
    pub(crate) words: usize,
    pub(crate) codes: usize,
    pub(crate) sums: usize,
}

impl ScratchSize {
    /// What satisfies both.
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            words: self.words.max(other.words),
            codes: self.codes.max(other.codes),
            sums: self.sums.max(other.sums),
        }
    }
}

/// The buffers; what an earlier node left in them has no meaning.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scratch {
    /// Images of codes + 128, as bytes or as words.
    pub(crate) bytes: Vec<u8>,
    pub(crate) words: Vec<i16>,
    /// Rows of codes.
    pub(crate) codes: Vec<i8>,
    /// Sums of channels.
    pub(crate) sums: Vec<i32>,
}

impl Scratch {
    pub(crate) fn new(size: ScratchSize) -> Self {
        Self { bytes: vec![0; size.bytes], words: vec![0; size.words], codes: vec![0; size.codes], sums: vec![0; size.sums] }
    }

    /// Bytes that are allocated.
    pub(crate) fn allocated(&self) -> usize {
        self.bytes.capacity() + 2 * self.words.capacity() + self.codes.capacity() + 4 * self.sums.capacity()
    }
}
