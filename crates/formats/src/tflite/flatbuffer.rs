//! A flatbuffer, read without trusting a byte of it.
//!
//! A table is four bytes that lead back to its vtable, and then its fields; a vtable says for each slot where in the table the
//! field lies. Everything else hangs on unsigned offsets forward. Each of these is checked against the file before it is
//! followed. Tables may overlap, and many offsets may lead to one, so a small file can describe an endless one: what is read is
//! paid for from a budget in proportion to the file's length. The schema's tables do not nest in themselves, hence no cycle and
//! no depth to limit.

use std::cell::Cell;
use std::fmt;

use super::read::ReadError;

/// The place of a slot's entry in a vtable, in bytes: two sizes stand before the first.
pub(super) fn slot_offset(slot: u16) -> u16 {
    4 + 2 * slot
}

/// Where in the model something is, as in `subgraphs[0].tensors[3].name`.
#[derive(Clone, Copy)]
pub(super) enum Path<'p> {
    /// The model.
    Root,
    /// A field of a table.
    Field(&'p Path<'p>, &'static str),
    /// An element of a list.
    Item(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("model"),
            Self::Field(Path::Root, name) => f.write_str(name),
            Self::Field(path, name) => write!(f, "{path}.{name}"),
            Self::Item(path, index) => write!(f, "{path}[{index}]"),
        }
    }
}

/// The bytes of a file and what may still be read of them.
pub(super) struct File<'a> {
    pub(super) bytes: &'a [u8],
    limit: usize,
    left: Cell<usize>,
}

impl<'a> File<'a> {
    /// Memory that a file may ask for, for each of its bytes. A tensor of few words takes about 150 bytes in a file and twice
    /// that as a struct; a table of nothing but defaults takes 8 and up to 25 times that.
    const MEMORY_PER_BYTE: usize = 32;

    pub(super) fn new(bytes: &'a [u8]) -> Self {
        let limit = bytes.len().saturating_mul(Self::MEMORY_PER_BYTE);
        Self { bytes, limit, left: Cell::new(limit) }
    }

    /// `N` bytes at `at`, or `None` where the file ends before.
    fn at<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.bytes.get(at..)?.first_chunk().copied()
    }

    /// Pays for `memory` bytes that are about to be taken for what stands at `at`.
    pub(super) fn pay(&self, memory: usize, path: &Path, at: usize) -> Result<(), ReadError> {
        let left = self.left.get().checked_sub(memory);
        let exhausted = || ReadError::Budget { path: path.to_string(), at, limit: self.limit, length: self.bytes.len() };
        self.left.set(left.ok_or_else(exhausted)?);
        Ok(())
    }

    /// Follows the offset that stands at `at`.
    fn follow(&self, path: &Path, at: usize) -> Result<usize, ReadError> {
        let outside = |found| ReadError::Offset { path: path.to_string(), at, found, length: self.bytes.len() };
        let offset = u32::from_le_bytes(self.at(at).ok_or_else(|| outside(0))?);
        // An offset of zero would lead to itself.
        let target = at.checked_add(offset as usize).filter(|&target| offset != 0 && target < self.bytes.len());
        target.ok_or_else(|| outside(offset))
    }

    /// The table that the file begins with.
    pub(super) fn root<'p>(&'p self, path: &'p Path<'p>) -> Result<Table<'p>, ReadError> {
        Table::open(self, path, self.follow(path, 0)?)
    }
}

/// A table whose place and vtable lie in the file.
pub(super) struct Table<'p> {
    file: &'p File<'p>,
    path: &'p Path<'p>,
    at: usize,
    /// Bytes of the table, fields included.
    size: u16,
    vtable: usize,
    slots: u16,
}

impl<'p> Table<'p> {
    fn open(file: &'p File<'p>, path: &'p Path<'p>, at: usize) -> Result<Self, ReadError> {
        let length = file.bytes.len();
        let wrong = |expected, found| ReadError::Table { path: path.to_string(), at, expected, found, length };
        let back = i32::from_le_bytes(file.at(at).ok_or_else(|| wrong("four bytes that lead to its vtable inside the file", 0))?);
        let vtable = usize::try_from(at as i64 - i64::from(back));
        let vtable = vtable.map_err(|_| wrong("a vtable inside the file", back.into()))?;
        let sizes: Option<[u8; 4]> = file.at(vtable);
        let [a, b, c, d] = sizes.ok_or_else(|| wrong("a vtable inside the file", back.into()))?;
        let (vtable_size, size) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        if vtable_size < 4 || vtable_size % 2 != 0 || vtable + usize::from(vtable_size) > length {
            return Err(wrong("a vtable of an even number of bytes, at least 4, inside the file", vtable_size.into()));
        }
        if size < 4 || at + usize::from(size) > length {
            return Err(wrong("a table of at least 4 bytes inside the file", size.into()));
        }
        Ok(Self { file, path, at, size, vtable, slots: (vtable_size - 4) / 2 })
    }

    /// Where the table is.
    pub(super) fn path(&self) -> &'p Path<'p> {
        self.path
    }

    /// Where in the file the table begins.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// The file it is in.
    pub(super) fn file(&self) -> &'p File<'p> {
        self.file
    }

    /// Distance of a field from the start of its table; 0 for a field that is not there.
    fn entry(&self, slot: u16) -> u16 {
        let bytes = (slot < self.slots).then(|| self.file.at(self.vtable + usize::from(slot_offset(slot)))).flatten();
        bytes.map_or(0, u16::from_le_bytes)
    }

    /// Where in the file the `N` bytes of a field are; `None` for a field that is not there.
    fn field<const N: usize>(&self, slot: u16, name: &'static str) -> Result<Option<usize>, ReadError> {
        let entry = self.entry(slot);
        if entry == 0 {
            return Ok(None);
        }
        if entry < 4 || usize::from(entry) + N > usize::from(self.size) {
            let path = Path::Field(self.path, name).to_string();
            return Err(ReadError::Field { path, at: self.at, size: self.size, expected: N, found: entry });
        }
        Ok(Some(self.at + usize::from(entry)))
    }

    /// The bytes of a number; `None` for a field that is not there.
    pub(super) fn scalar<const N: usize>(&self, slot: u16, name: &'static str) -> Result<Option<[u8; N]>, ReadError> {
        Ok(self.field::<N>(slot, name)?.and_then(|at| self.file.at(at)))
    }

    /// The elements of a list as their bytes, and where they begin; `None` for a field that is not there.
    fn list(&self, slot: u16, path: &Path, name: &'static str, element: usize) -> Result<Option<(usize, &'p [u8])>, ReadError> {
        let Some(at) = self.field::<4>(slot, name)? else { return Ok(None) };
        let at = self.file.follow(path, at)?;
        let length = self.file.bytes.len();
        let outside = |count| ReadError::List { path: path.to_string(), at, count, element, length };
        let count = u32::from_le_bytes(self.file.at(at).ok_or_else(|| outside(0))?);
        let begin = at + 4;
        let bytes = (count as usize).checked_mul(element).and_then(|bytes| self.file.bytes.get(begin..begin.checked_add(bytes)?));
        Ok(Some((begin, bytes.ok_or_else(|| outside(count))?)))
    }

    /// A list of bytes; empty for one that is not there.
    pub(super) fn bytes(&self, slot: u16, name: &'static str) -> Result<Vec<u8>, ReadError> {
        let path = Path::Field(self.path, name);
        let Some((at, bytes)) = self.list(slot, &path, name, 1)? else { return Ok(Vec::new()) };
        self.file.pay(bytes.len(), &path, at)?;
        Ok(bytes.to_vec())
    }

    /// A list of numbers of `N` bytes; empty for one that is not there.
    pub(super) fn numbers<const N: usize, T>(
        &self,
        slot: u16,
        name: &'static str,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, ReadError> {
        let path = Path::Field(self.path, name);
        let Some((at, bytes)) = self.list(slot, &path, name, N)? else { return Ok(Vec::new()) };
        self.file.pay(bytes.len(), &path, at)?;
        Ok(bytes.as_chunks().0.iter().map(|&bytes| from(bytes)).collect())
    }

    /// A text; empty for one that is not there.
    pub(super) fn text(&self, slot: u16, name: &'static str) -> Result<String, ReadError> {
        let path = Path::Field(self.path, name);
        let Some((at, bytes)) = self.list(slot, &path, name, 1)? else { return Ok(String::new()) };
        self.file.pay(bytes.len(), &path, at)?;
        // Readers in C take the text up to its zero.
        let wrong = || ReadError::Text { path: path.to_string(), at };
        if self.file.bytes.get(at + bytes.len()) != Some(&0) {
            return Err(wrong());
        }
        str::from_utf8(bytes).map(str::to_owned).map_err(|_| wrong())
    }

    /// A table of its own; `None` for one that is not there.
    pub(super) fn table<T>(
        &self,
        slot: u16,
        name: &'static str,
        read: impl FnOnce(&Table) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        let path = Path::Field(self.path, name);
        let Some(at) = self.field::<4>(slot, name)? else { return Ok(None) };
        let at = self.file.follow(&path, at)?;
        self.file.pay(size_of::<T>(), &path, at)?;
        read(&Table::open(self.file, &path, at)?).map(Some)
    }

    /// A list of tables; empty for one that is not there.
    pub(super) fn tables<T>(
        &self,
        slot: u16,
        name: &'static str,
        read: impl Fn(&Table) -> Result<T, ReadError>,
    ) -> Result<Vec<T>, ReadError> {
        let path = Path::Field(self.path, name);
        let Some((at, bytes)) = self.list(slot, &path, name, 4)? else { return Ok(Vec::new()) };
        let count = bytes.len() / 4;
        self.file.pay(count.saturating_mul(size_of::<T>()), &path, at)?;
        let mut items = Vec::with_capacity(count);
        for index in 0..count {
            let path = Path::Item(&path, index);
            let at = self.file.follow(&path, at + 4 * index)?;
            items.push(read(&Table::open(self.file, &path, at)?)?);
        }
        Ok(items)
    }

    /// Slots of fields that are there and not among the `known` ones.
    pub(super) fn unread(&self, known: &[u16]) -> Result<Vec<u16>, ReadError> {
        let there = |slot: &u16| self.entry(*slot) != 0 && !known.contains(slot);
        let slots: Vec<u16> = (0..self.slots).filter(there).collect();
        // One vtable may serve many tables, so that its length is paid for each time.
        self.file.pay(usize::from(self.slots) * size_of::<u16>() + slots.capacity() * size_of::<u16>(), self.path, self.at)?;
        Ok(slots)
    }
}
