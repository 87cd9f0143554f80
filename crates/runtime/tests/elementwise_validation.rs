//! What element-wise rules refuse: scales outside a runtime's domain, tables that kernels cannot take; and the promise that what
//! they accept runs.

mod common;

use common::Random;
use qat_runtime::{
    AvgPool2d, Clamp, CodeType, Codes, Elementwise, Function, IntegerModel, Mean, ModelError, Node, Op, QParams, Rules, Softmax,
    SoftmaxTable, Unary, ValueId, ValueInfo, softmax_table, unary_table,
};

/// A model of one node from `x` to `y`, whose other operand, if any, is `x` again.
fn one_node(rules: Rules, op: Op, operands: usize, x: ValueInfo, y: ValueInfo) -> IntegerModel {
    let nodes = vec![Node { op, inputs: vec![ValueId(0); operands], output: ValueId(1) }];
    IntegerModel { rules, values: vec![x, y], nodes, input: ValueId(0), output: ValueId(1) }
}

fn value(name: &str, shape: &[usize], scale: f32, zero_point: i32) -> ValueInfo {
    ValueInfo::int8(name, shape, QParams { scale, zero_point })
}

fn int16(name: &str, shape: &[usize], scale: f32) -> ValueInfo {
    ValueInfo { code_type: CodeType::Int16, ..value(name, shape, scale, 0) }
}

#[test]
fn scales_outside_a_runtimes_domain() {
    let full = Elementwise { clamp: Clamp::INT8 };
    let pair = |x: f32, y: f32| (value("x", &[4], x, 0), value("y", &[4], y, 0));
    // What is refused stands beside the neighbouring value that is not.
    for (rules, op, operands, refused, accepted) in [
        (Rules::TfliteMicro, Op::Add(full), 2, pair(524_288.0, 1.0), pair(524_287.0, 1.0)),
        (Rules::LiteRt, Op::Mul(full), 2, pair(16.0, 1.0), pair(15.99, 1.0)),
        (Rules::LiteRtReference, Op::Mul(full), 2, pair(512.0, 1.0), pair(100.0, 1.0)),
        (Rules::LiteRt, Op::Requantize, 1, pair(1.0, 300.0), pair(1.0, 256.0)),
        (Rules::LiteRt, Op::Requantize, 1, pair(128.1, 1.0), pair(128.0, 1.0)),
    ] {
        let (x, y) = refused;
        let error = one_node(rules, op.clone(), operands, x, y).validate().expect_err("refused");
        assert!(matches!(error, ModelError::Rules { .. }), "{error}");
        let (x, y) = accepted;
        one_node(rules, op, operands, x, y).validate().expect("accepted");
    }
}

#[test]
fn averages_that_tflite_does_not_have() {
    let pool =
        |count_include_pad| Op::AvgPool2d(AvgPool2d { kernel: [2, 2], stride: [1, 1], padding: [0; 4], count_include_pad });
    let (x, y) = (value("x", &[1, 2, 2], 0.5, 3), value("y", &[1, 1, 1], 0.5, 3));
    one_node(Rules::LiteRt, pool(false), 1, x.clone(), y.clone()).validate().expect("accepted");
    let error = one_node(Rules::LiteRt, pool(true), 1, x.clone(), y).validate().expect_err("padding counts");
    assert!(matches!(error, ModelError::Rules { .. }), "{error}");
    let other = value("y", &[1, 1, 1], 0.25, 3);
    let error = one_node(Rules::LiteRt, pool(false), 1, x.clone(), other.clone()).validate().expect_err("another grid");
    assert!(matches!(error, ModelError::SharedParameters { .. }), "{error}");
    one_node(Rules::OnnxRuntime, pool(true), 1, x, other).validate().expect("ONNX Runtime has both");
}

#[test]
fn means_whose_sum_has_no_order_or_no_room() {
    let mean = |axes: &[usize]| Op::Mean(Mean { axes: axes.to_vec(), keep_dims: true });
    let x = value("x", &[2, 3, 4], 1.0, 0);
    let y = value("y", &[1, 3, 1], 1.0, 0);
    let error = one_node(Rules::OnnxRuntime, mean(&[0, 2]), 1, x.clone(), y.clone()).validate().expect_err("scattered axes");
    assert!(matches!(error, ModelError::Rules { .. }), "{error}");
    one_node(Rules::LiteRt, mean(&[0, 2]), 1, x, y).validate().expect("integers have no order");
    let (x, y) = (int16("x", &[1 << 16], 1.0), int16("y", &[1], 1.0));
    let error = one_node(Rules::TfliteMicro, mean(&[0]), 1, x, y).validate().expect_err("65536 codes of 16 bits");
    assert!(matches!(error, ModelError::Accumulator { .. }), "{error}");
}

#[test]
fn functions_with_wrong_tables_or_outputs() {
    let (x, y) = (value("x", &[4], 0.1, 0), value("y", &[4], 1.0 / 256.0, -128));
    let table = unary_table(Rules::LiteRt, Function::Sigmoid, &x, &y).expect("LiteRT has a logistic");
    let model = |table: Vec<i16>, y: ValueInfo| {
        one_node(Rules::LiteRt, Op::Unary(Unary { function: Function::Sigmoid, table }), 1, x.clone(), y)
    };
    model(table.clone(), y.clone()).validate().expect("accepted");
    let error = model(table[1..].to_vec(), y.clone()).validate().expect_err("255 codes");
    assert!(matches!(error, ModelError::Length { .. }), "{error}");
    let mut hostile = table.clone();
    hostile[7] = 128;
    let error = model(hostile, y).validate().expect_err("a code of 9 bits");
    assert!(matches!(error, ModelError::Table { .. }), "{error}");
    let error = model(table, value("y", &[4], 1.0 / 255.0, -128)).validate().expect_err("another scale");
    assert!(matches!(error, ModelError::Rules { .. }), "{error}");
    let gelu = Op::Unary(Unary { function: Function::Gelu, table: vec![0; 256] });
    let y = value("y", &[4], 0.1, 0);
    let error = one_node(Rules::TfliteMicro, gelu, 1, x.clone(), y).validate().expect_err("TFLite-Micro has no gelu");
    assert!(matches!(error, ModelError::Rules { .. }), "{error}");
}

#[test]
fn sixteen_bit_functions_at_the_edges() {
    let y = int16("y", &[4], 1.0 / 32_768.0);
    let model = |rules, function, scale| {
        let x = int16("x", &[4], scale);
        let table = unary_table(rules, function, &x, &y).expect("TFLite has it");
        one_node(rules, Op::Unary(Unary { function, table }), 1, x, y.clone())
    };
    model(Rules::TfliteMicro, Function::Tanh, 2.6).validate().expect("positions within int32");
    model(Rules::TfliteMicro, Function::Tanh, 3.0).validate().expect_err("positions beyond int32");
}

#[test]
fn softmax_tables_that_could_overflow() {
    let (x, y) = (value("x", &[2, 5], 0.1, 0), value("y", &[2, 5], 1.0 / 256.0, -128));
    let model = |rules, table| one_node(rules, Op::Softmax(Softmax { table }), 1, x.clone(), y.clone());
    for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro] {
        model(rules, softmax_table(rules, &x).expect("all have it")).validate().expect("accepted");
    }
    for (rules, table) in [
        (Rules::LiteRt, SoftmaxTable::Real(vec![f32::MAX; 256])),
        (Rules::LiteRt, SoftmaxTable::Real(vec![0.0; 256])),
        (Rules::OnnxRuntime, SoftmaxTable::Real(vec![f32::NAN; 256])),
        (Rules::TfliteMicro, SoftmaxTable::Fixed(vec![0; 256])),
        (Rules::TfliteMicro, SoftmaxTable::Fixed((0..256).map(|i| if i == 9 { -1 } else { i32::MAX }).collect())),
    ] {
        let error = model(rules, table).validate().expect_err("refused");
        assert!(matches!(error, ModelError::Table { .. }), "{error}");
    }
    let error = model(Rules::TfliteMicro, SoftmaxTable::Real(vec![1.0; 256])).validate().expect_err("floats");
    assert!(matches!(error, ModelError::Rules { .. }), "{error}");
    let long = value("x", &[5000], 0.1, 0);
    let table = softmax_table(Rules::TfliteMicro, &long).expect("all have it");
    let model = one_node(Rules::TfliteMicro, Op::Softmax(Softmax { table }), 1, long, value("y", &[5000], 1.0 / 256.0, -128));
    assert!(matches!(model.validate(), Err(ModelError::Rules { .. })));
}

/// Any number that a file could hold, many of them small.
fn hostile(random: &mut Random) -> i32 {
    let bits = random.range(0, 32);
    (random.next() as i64 >> (32 - bits)) as i32
}

fn hostile_scale(random: &mut Random) -> f32 {
    2f32.powi(random.range(-40, 40) as i32) * (1.0 + random.range(0, 1000) as f32 / 1000.0)
}

#[test]
fn what_is_accepted_runs_whatever_its_tables_hold() {
    let mut random = Random::new(20261124);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..40_000 {
        let rules = [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro][round % 4];
        let code_type = if random.range(0, 1) == 0 { CodeType::Int8 } else { CodeType::Int16 };
        let mut value = |name: &str| {
            let zero_point = if code_type == CodeType::Int8 { random.range(-128, 127) as i32 } else { 0 };
            ValueInfo { code_type, ..value(name, &[2, 3], hostile_scale(&mut random), zero_point) }
        };
        let (x, mut y) = (value("x"), value("y"));
        if random.range(0, 3) > 0 {
            y.qparams = match code_type {
                CodeType::Int8 if round % 3 == 0 => QParams { scale: 1.0 / 128.0, zero_point: 0 },
                CodeType::Int8 => QParams { scale: 1.0 / 256.0, zero_point: -128 },
                _ => QParams { scale: 1.0 / 32_768.0, zero_point: 0 },
            };
        }
        let full = Elementwise { clamp: Clamp::full(code_type) };
        let function = [
            Function::Sigmoid,
            Function::Tanh,
            Function::HardSwish,
            Function::Gelu,
            Function::GeluTanh,
            Function::LeakyRelu { slope: hostile_scale(&mut random) - 1.0 },
        ][random.range(0, 5) as usize];
        let (op, operands) = match random.range(0, 6) {
            0 => (Op::Add(full), 2),
            1 => (Op::Sub(full), 2),
            2 => (Op::Mul(full), 2),
            3 => (Op::Mean(Mean { axes: vec![1], keep_dims: true }), 1),
            4 => (Op::Requantize, 1),
            5 => {
                let made = unary_table(rules, function, &x, &y).filter(|_| random.range(0, 1) == 0);
                let drawn = |random: &mut Random| {
                    let length = [0, 256, 513][random.range(0, 2) as usize];
                    let mut table: Vec<i16> = (0..length).map(|_| hostile(random) as i16).collect();
                    if random.range(0, 1) == 0 {
                        table.iter_mut().for_each(|point| *point = (*point).max(0));
                        table.sort_unstable();
                    }
                    table
                };
                let table = made.unwrap_or_else(|| drawn(&mut random));
                (Op::Unary(Unary { function, table }), 1)
            }
            _ => {
                let points = |random: &mut Random| {
                    let mut points: Vec<i16> = (0..513).map(|_| hostile(random) as i16).collect();
                    points.iter_mut().for_each(|point| *point = (*point).max(0));
                    points.sort_unstable();
                    points
                };
                let drawn = match random.range(0, 2) {
                    0 => SoftmaxTable::Real((0..256).map(|_| f32::from_bits(hostile(&mut random) as u32)).collect()),
                    1 => {
                        let first = [i32::MAX].into_iter();
                        SoftmaxTable::Fixed(first.chain((1..256).map(|_| hostile(&mut random).max(0))).collect())
                    }
                    _ => SoftmaxTable::Interpolated { exp: points(&mut random), reciprocal: points(&mut random) },
                };
                let made = softmax_table(rules, &x).filter(|_| random.range(0, 1) == 0);
                (Op::Softmax(Softmax { table: made.unwrap_or(drawn) }), 1)
            }
        };
        if let Op::Mean(_) = op {
            y.shape = vec![2, 1];
        }
        let model = one_node(rules, op, operands, x, y);
        if model.validate().is_err() {
            refused += 1;
            continue;
        }
        accepted += 1;
        let codes = match code_type {
            CodeType::Int8 => Codes::Int8((0..6).map(|_| [-128, 127, hostile(&mut random) as i8][round % 3]).collect()),
            _ => Codes::Int16((0..6).map(|_| [-32_768, 32_767, hostile(&mut random) as i16][round % 3]).collect()),
        };
        assert_eq!(model.run(&codes), model.run_reference(&codes));
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 2000 && refused > 2000, "{accepted} accepted, {refused} refused");
}
