//! Files that were cut short or changed: an error or a model, never a panic.

use proptest::{prelude::*, test_runner::RngSeed};

use qat_formats::tflite::*;

use super::models::{everything, fully_connected};

/// What comes of damaged bytes; a model that is read is written and read again, unless parts of it are unread.
fn survives(bytes: &[u8]) -> bool {
    let Ok(model) = read(bytes) else { return false };
    for tensor in model.subgraphs.iter().flat_map(|subgraph| &subgraph.tensors) {
        let _ = (tensor.to_f32s(model.data(tensor)), tensor.to_i64s(model.data(tensor)));
    }
    match write(&model) {
        // A changed number may be NaN, which no model equals; the bytes are compared.
        Ok(written) => assert_eq!(write(&read(&written).unwrap()).unwrap(), written),
        Err(error) => assert!(matches!(error, WriteError::Unread { .. }), "{error}"),
    }
    true
}

#[test]
fn every_truncation_is_refused() {
    for model in [fully_connected(), everything()] {
        let bytes = write(&model).unwrap();
        for length in 0..bytes.len() {
            // At the end are the zeros that bring the first buffer to a multiple of 16.
            match read(&bytes[..length]) {
                Err(_) => {}
                Ok(short) => assert!(short == model && bytes[length..].iter().all(|&byte| byte == 0), "{length}"),
            }
        }
        assert!((0..bytes.len() - 16).all(|length| read(&bytes[..length]).is_err()));
    }
}

#[test]
fn every_changed_bit_gives_an_error_or_a_model() {
    let bytes = write(&fully_connected()).unwrap();
    let mut survived = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            survived += usize::from(survives(&changed));
        }
    }
    // Bits of weights, texts and padding may change; offsets and indices may not.
    let all = bytes.len() * 8;
    assert!((all / 10..all * 9 / 10).contains(&survived), "{survived} of {all} changes gave a model");
}

#[test]
fn every_byte_set_to_an_extreme_gives_an_error_or_a_model() {
    let bytes = write(&everything()).unwrap();
    for at in 0..bytes.len() {
        for value in [0, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[at] = value;
            survives(&changed);
        }
    }
}

proptest! {
    // The seed is fixed, so that a failure is seen again by running the test again.
    #![proptest_config(ProptestConfig {
        cases: 5000,
        rng_seed: RngSeed::Fixed(20261125),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_never_panic(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&tail);
        let _ = read(&[&[8, 0, 0, 0], b"TFL3".as_slice(), &tail].concat());
    }

    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let mut bytes = write(&everything()).unwrap();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        survives(&bytes);
    }
}
