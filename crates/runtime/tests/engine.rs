//! Whole models: both kernels agree, batches are independent, traces hold every value, wrong lengths are refused.

mod common;

use common::{Random, lenet, lenet_wide, residual, resnet};
use qat_runtime::{CodeType, Codes, Engine, Level, RunError};

#[test]
fn fast_equals_reference_on_whole_models() {
    for seed in 1..=5 {
        for model in [lenet(seed), residual(seed)] {
            let sample = model.input_info().elements().unwrap();
            let codes = Random::new(seed).codes(4 * sample);
            let output = model.run(&codes).unwrap();
            assert_eq!(output.len(), 4 * 10);
            assert_eq!(output, model.run_reference(&codes).unwrap());
            let output = output.to_i32s();
            assert!(output.iter().any(|&code| code != output[0]), "outputs that never differ compare nothing");
        }
    }
}

#[test]
fn samples_do_not_influence_each_other() {
    let model = residual(7);
    let sample = model.input_info().elements().unwrap();
    let codes = Random::new(7).codes(3 * sample);
    let mut engine = Engine::new(&model).unwrap();
    let together = engine.run(&codes).unwrap();
    let apart: Vec<i8> =
        codes.chunks(sample).rev().flat_map(|codes| engine.run(codes).unwrap().as_int8().unwrap().to_vec()).collect();
    let apart: Vec<i8> = apart.chunks(10).rev().flatten().copied().collect();
    assert_eq!(together, Codes::Int8(apart));
    assert!(engine.run([0i8; 0].as_slice()).unwrap().is_empty());
}

#[test]
fn a_trace_holds_every_value() {
    let model = residual(3);
    let codes = Random::new(3).codes(model.input_info().elements().unwrap());
    let values = model.trace(&codes).unwrap();
    assert_eq!(values[model.input.0].as_int8(), Some(codes.as_slice()));
    assert_eq!(values[model.output.0], model.run(&codes).unwrap());
    assert_eq!(values, Engine::reference(&model).unwrap().trace(&codes).unwrap());
    for (value, codes) in model.values.iter().zip(&values) {
        assert_eq!(Some(codes.len()), value.elements(), "{}", value.name);
    }
}

#[test]
fn lengths_that_are_not_whole_samples_are_refused() {
    let model = lenet(1);
    let error = model.run([0i8; 785].as_slice()).unwrap_err();
    assert_eq!(error, RunError::InputLength { sample: 784, found: 785 });
    assert_eq!(error.to_string(), "input, model run: expected whole samples of 784 codes, found 785 codes");
    assert_eq!(model.trace([0i8; 2 * 784].as_slice()).unwrap_err(), RunError::InputLength { sample: 784, found: 1568 });
}

#[test]
fn codes_of_another_type_are_refused() {
    let error = lenet(1).run([0i16; 784].as_slice()).unwrap_err();
    assert_eq!(error, RunError::CodeType { expected: CodeType::Int8, found: CodeType::Int16 });
    assert_eq!(error.to_string(), "input, model run: expected int8 codes, found int16");
}

#[test]
fn a_model_that_does_not_validate_does_not_run() {
    let mut model = lenet(1);
    model.values[0].qparams.scale = 0.0;
    assert!(matches!(model.run([0i8; 784].as_slice()), Err(RunError::Model(_))));
}

#[test]
fn memory_is_what_must_be_alive_together() {
    // While the first pool runs: the first convolution's 12 x 24 x 24 codes and the pool's 12 x 12 x 12.
    let model = lenet_wide(1);
    let mut engine = Engine::with_level(&model, Level::PORTABLE).unwrap();
    assert_eq!(engine.allocated().activations, 6912 + 1728);
    // The second convolution's image in int16, with room behind it for reading whole groups, and two rows of the first pool.
    assert_eq!(engine.allocated().scratch, 2 * (1728 + 3) + 2 * 24 * 12);
    assert_eq!(engine.peak_bytes(), engine.allocated().activations + engine.allocated().scratch);
    // Runs of one sample take nothing more; a batch takes a multiple, which is kept.
    let codes = Random::new(1).codes(64 * 784);
    engine.run(&codes[..784]).unwrap();
    engine.trace(&codes[..784]).unwrap();
    assert_eq!(engine.allocated().activations, 6912 + 1728);
    engine.run(&codes).unwrap();
    let batch = engine.allocated();
    assert!(batch.activations > 6912 + 1728 && batch.activations.is_multiple_of(6912 + 1728));
    engine.run(&codes).unwrap();
    assert_eq!(engine.allocated(), batch);

    // In the first block: its input for the shortcut, and either convolution's output. The sum takes the place of the latter.
    let model = resnet(3, 1);
    let engine = Engine::new(&model).unwrap();
    assert_eq!(engine.allocated().activations, 3 * 16 * 32 * 32);
    let reference = Engine::reference(&model).unwrap().allocated();
    assert_eq!((reference.activations, reference.scratch), (3 * 16 * 32 * 32, 0));
}

#[test]
fn threads_that_share_samples_give_the_same_codes() {
    let model = resnet(1, 9);
    let sample = 3 * 32 * 32;
    let codes = Random::new(9).codes(20 * sample);
    let expected = model.run(&codes).unwrap();
    // The last stage has 8 rows, so that some of 11 threads have none.
    for threads in [2, 3, 11] {
        let mut engine = Engine::new(&model).unwrap().with_threads(threads);
        // One sample at a time, so that the threads share its rows; pauses let them fall asleep.
        for (index, codes) in codes.chunks(sample).enumerate() {
            let found = engine.run(codes).unwrap();
            assert_eq!(found.as_int8().unwrap(), &expected.as_int8().unwrap()[index * 10..(index + 1) * 10], "{threads} threads");
            if index % 7 == 0 {
                std::thread::sleep(std::time::Duration::from_millis(3));
            }
        }
        assert_eq!(engine.run(&codes).unwrap(), expected, "{threads} threads");
        assert!(engine.peak_bytes() > Engine::new(&model).unwrap().peak_bytes(), "what the threads exchange counts");
    }
}

#[test]
fn reals_become_codes_and_codes_reals() {
    let mut model = lenet(1);
    model.values[0].qparams = qat_runtime::QParams { scale: 0.5, zero_point: -1 };
    assert_eq!(model.quantize_input(&[0.0, 0.25, 0.75, 1e9, f32::NAN]), Codes::Int8(vec![-1, -1, 1, 127, -1]));
    model.values[model.output.0].qparams = qat_runtime::QParams { scale: 0.5, zero_point: -1 };
    assert_eq!(model.dequantize_output([-1i8, 1, -128].as_slice()), [0.0, 1.0, -63.5]);
}
