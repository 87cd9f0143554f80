//! The firmware on images of MNIST's test set: the integer engine's codes, and the right digits.
//!
//! The files in `data` were written with `src/net.rs` by `examples/firmware_net.rs`; see the README.

use qat_example_firmware::{
    Recognizer,
    net::{INPUT_LENGTH, OUTPUT_LENGTH},
};

/// 28 × 28 bytes an image.
const IMAGES: &[u8] = include_bytes!("data/images.bin");
/// One byte an image.
const LABELS: &[u8] = include_bytes!("data/labels.bin");
/// The engine's output codes, 10 an image.
const SCORES: &[u8] = include_bytes!("data/scores.bin");

fn images() -> impl Iterator<Item = &'static [u8; INPUT_LENGTH]> {
    IMAGES.as_chunks().0.iter()
}

#[test]
fn scores_are_the_engines() {
    assert_eq!((IMAGES.len(), SCORES.len()), (LABELS.len() * INPUT_LENGTH, LABELS.len() * OUTPUT_LENGTH));
    let mut recognizer = Recognizer::new();
    for (image, expected) in images().zip(SCORES.as_chunks::<OUTPUT_LENGTH>().0) {
        assert_eq!(recognizer.scores(image), expected.map(u8::cast_signed));
    }
}

#[test]
fn digits_are_recognized() {
    let mut recognizer = Recognizer::new();
    let right = images().zip(LABELS).filter(|(image, label)| recognizer.digit(image) == usize::from(**label)).count();
    println!("{right} of {} digits", LABELS.len());
    assert!(right * 100 >= LABELS.len() * 95, "{right} of {}", LABELS.len());
}
