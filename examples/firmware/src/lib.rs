//! Recognizing handwritten digits on a microcontroller: no operating system, no heap, no float.
//!
//! `net.rs` is what `qat export` wrote; around it stands what a firmware adds: bytes of a camera to codes, scores to a digit. The
//! crate is built for any target that Rust has, as by `cargo build --release --target thumbv6m-none-eabi`; its test runs on the
//! host. See the README for how the network was made.

#![no_std]
#![forbid(unsafe_code)]

#[rustfmt::skip]
pub mod net;

use net::{INPUT_LENGTH, INPUT_SCALE_M0, INPUT_SCALE_SHIFT, INPUT_ZERO_POINT, Net, OUTPUT_LENGTH};

/// Codes of the 256 bytes of a pixel: `byte / 255` on the network's grid, rounded to nearest, computed when the program is built.
const CODES: [i8; 256] = {
    let mut codes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        // byte / 255 / scale, where scale = M0 · 2^(SHIFT − 31).
        let numerator = (byte as i64) << (31 - INPUT_SCALE_SHIFT);
        let denominator = 255 * INPUT_SCALE_M0 as i64;
        let code = (2 * numerator + denominator) / (2 * denominator) + INPUT_ZERO_POINT as i64;
        codes[byte] = if code > 127 { 127 } else { code as i8 };
        byte += 1;
    }
    codes
};

/// The network with its memory; one lives in a `static` or on the stack for the program's whole life.
#[derive(Clone, Debug, Default)]
pub struct Recognizer {
    net: Net,
}

impl Recognizer {
    /// Memory of zeros.
    pub const fn new() -> Self {
        Self { net: Net::new() }
    }

    /// The scores of the ten digits, as codes of the network's output, for an image of 28 by 28 bytes, 0 for the background.
    pub fn scores(&mut self, image: &[u8; INPUT_LENGTH]) -> [i8; OUTPUT_LENGTH] {
        let mut scores = [0; OUTPUT_LENGTH];
        self.net.run(&image.map(|byte| CODES[usize::from(byte)]), &mut scores);
        scores
    }

    /// The digit with the highest score, the lower one of two with the same.
    pub fn digit(&mut self, image: &[u8; INPUT_LENGTH]) -> usize {
        let mut best = (0, i8::MIN);
        for (digit, score) in self.scores(image).into_iter().enumerate() {
            if score > best.1 {
                best = (digit, score);
            }
        }
        best.0
    }
}
