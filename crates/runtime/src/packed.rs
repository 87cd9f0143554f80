//! Weight codes of 8, 4 or 2 bits, packed as they are stored.
//!
//! The first code of a byte stands in its lowest bits, as in ONNX's INT4 and INT2 tensors and TFLite's; unused bits of the last
//! byte are 0 (Q56). Codes are two's complement.

use alloc::{vec, vec::Vec};

/// Bits that a stored weight takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WeightBits {
    /// −2…1.
    Two,
    /// −8…7.
    Four,
    /// −128…127.
    Eight,
}

impl WeightBits {
    /// All widths, narrowest first.
    pub const ALL: [Self; 3] = [Self::Two, Self::Four, Self::Eight];

    /// The narrowest width that holds codes of `bits` bits; `None` beyond 8.
    pub fn holding(bits: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|width| width.bits() >= usize::from(bits))
    }

    /// The width in bits.
    pub fn bits(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Lowest code.
    pub fn min(self) -> i8 {
        i8::MIN >> (8 - self.bits())
    }

    /// Highest code.
    pub fn max(self) -> i8 {
        i8::MAX >> (8 - self.bits())
    }

    /// Bytes that `length` codes take.
    pub fn bytes(self, length: usize) -> usize {
        length.div_ceil(8 / self.bits())
    }
}

/// Packed weight codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedCodes {
    bits: WeightBits,
    length: usize,
    bytes: Vec<u8>,
}

impl PackedCodes {
    /// Packs codes; `None` where one is outside the width.
    pub fn pack(codes: &[i8], bits: WeightBits) -> Option<Self> {
        let width = bits.bits();
        let mut bytes = vec![0u8; bits.bytes(codes.len())];
        for (index, &code) in codes.iter().enumerate() {
            if code < bits.min() || code > bits.max() {
                return None;
            }
            let position = index * width;
            let low = code.cast_unsigned() & (u8::MAX >> (8 - width));
            bytes[position / 8] |= low << (position % 8);
        }
        Some(Self { bits, length: codes.len(), bytes })
    }

    /// Codes of 8 bits.
    pub fn eight(codes: &[i8]) -> Self {
        Self { bits: WeightBits::Eight, length: codes.len(), bytes: codes.iter().map(|code| code.cast_unsigned()).collect() }
    }

    /// Takes packed bytes as they are stored; `None` where their number is not that of `length` codes or unused bits are set.
    pub fn from_bytes(bytes: Vec<u8>, length: usize, bits: WeightBits) -> Option<Self> {
        let used = (length % (8 / bits.bits())) * bits.bits();
        let is_clean = used == 0 || bytes.last().is_some_and(|last| last >> used == 0);
        (bytes.len() == bits.bytes(length) && is_clean).then_some(Self { bits, length, bytes })
    }

    /// Bits of a stored code.
    pub fn bits(&self) -> WeightBits {
        self.bits
    }

    /// Number of codes.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes as they are stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The code at `index`. Panics past the end.
    pub fn get(&self, index: usize) -> i8 {
        assert!(index < self.length, "code {index} of {} was asked for", self.length);
        let width = self.bits.bits();
        let position = index * width;
        // Moves the code to the top of the byte, and back with its sign.
        let byte = self.bytes[position / 8] << (8 - width - position % 8);
        byte.cast_signed() >> (8 - width)
    }

    /// All codes, one to a byte.
    pub fn unpack(&self) -> Vec<i8> {
        (0..self.length).map(|index| self.get(index)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_stands_lowest() {
        let packed = PackedCodes::pack(&[1, -8, 7], WeightBits::Four).unwrap();
        assert_eq!(packed.as_bytes(), [0x81, 0x07]);
        let packed = PackedCodes::pack(&[1, -2, 0, -1, -2], WeightBits::Two).unwrap();
        assert_eq!(packed.as_bytes(), [0b1100_1001, 0b10]);
    }

    #[test]
    fn codes_survive_packing() {
        for bits in WeightBits::ALL {
            let all: Vec<i8> = (bits.min()..=bits.max()).chain([0, bits.min()]).collect();
            let packed = PackedCodes::pack(&all, bits).unwrap();
            assert_eq!(packed.unpack(), all);
            assert_eq!(PackedCodes::from_bytes(packed.as_bytes().to_vec(), all.len(), bits), Some(packed));
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(PackedCodes::pack(&[8], WeightBits::Four), None);
        assert_eq!(PackedCodes::pack(&[-3], WeightBits::Two), None);
        assert_eq!(PackedCodes::from_bytes(vec![0x10], 1, WeightBits::Four), None);
        assert_eq!(PackedCodes::from_bytes(vec![0, 0], 1, WeightBits::Eight), None);
        assert_eq!(
            [WeightBits::holding(2), WeightBits::holding(3), WeightBits::holding(9)],
            [Some(WeightBits::Two), Some(WeightBits::Four), None]
        );
    }
}
