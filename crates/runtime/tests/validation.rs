//! One test per way a model can be wrong, and the promise that no mutation of a model makes checking or running panic.

mod common;

use common::{Builder, Random, lenet, residual};
use qat_runtime::{
    AvgPool2d, Clamp, Conv2d, Elementwise, IntegerModel, Linear, MaxPool2d, ModelError, Op, PackedCodes, QParams, ValueId,
    ValueInfo,
};

/// The error after one change to a model that is valid without it.
fn refusal(mut model: IntegerModel, change: impl FnOnce(&mut IntegerModel)) -> ModelError {
    model.validate().expect("valid before the change");
    change(&mut model);
    model.validate().expect_err("refused after the change")
}

fn conv(model: &mut IntegerModel) -> &mut Conv2d {
    let op = model.nodes.iter_mut().find_map(|node| if let Op::Conv2d(op) = &mut node.op { Some(op) } else { None });
    op.expect("has a convolution")
}

fn linear(model: &mut IntegerModel) -> &mut Linear {
    let op = model.nodes.iter_mut().find_map(|node| if let Op::Linear(op) = &mut node.op { Some(op) } else { None });
    op.expect("has a linear layer")
}

fn max_pool(model: &mut IntegerModel) -> &mut MaxPool2d {
    let op = model.nodes.iter_mut().find_map(|node| if let Op::MaxPool2d(op) = &mut node.op { Some(op) } else { None });
    op.expect("has a max pool")
}

fn avg_pool(model: &mut IntegerModel) -> &mut AvgPool2d {
    let op = model.nodes.iter_mut().find_map(|node| if let Op::AvgPool2d(op) = &mut node.op { Some(op) } else { None });
    op.expect("has an average pool")
}

fn add(model: &mut IntegerModel) -> (&mut Elementwise, ValueId) {
    let op = model.nodes.iter_mut().find_map(|node| if let Op::Add(op) = &mut node.op { Some((op, node.output)) } else { None });
    op.expect("has an addition")
}

/// The same weights with one changed, or one fewer.
fn edit(packed: &mut PackedCodes, change: impl FnOnce(&mut Vec<i8>)) {
    let mut codes = packed.unpack();
    change(&mut codes);
    *packed = PackedCodes::eight(&codes);
}

/// Asserts the variant and its fields' pattern.
macro_rules! refused {
    ($model:expr, $change:expr, $pattern:pat $(if $guard:expr)?) => {{
        let error = refusal($model, $change);
        assert!(matches!(&error, $pattern $(if $guard)?), "{error:?}");
        assert!(error.to_string().contains(": expected "), "{error}");
    }};
}

#[test]
fn value_index_past_the_end() {
    refused!(lenet(1), |m| m.input = ValueId(usize::MAX), ModelError::ValueIndex { found: usize::MAX, .. });
    refused!(lenet(1), |m| m.output = ValueId(9), ModelError::ValueIndex { count: 9, found: 9, .. });
    refused!(lenet(1), |m| m.nodes[2].inputs[0] = ValueId(99), ModelError::ValueIndex { found: 99, .. });
    refused!(lenet(1), |m| m.nodes[2].output = ValueId(99), ModelError::ValueIndex { found: 99, .. });
}

#[test]
fn duplicate_name() {
    refused!(lenet(1), |m| m.values[3].name = "v1".into(), ModelError::DuplicateName { at } if at == "v1");
}

#[test]
fn value_defined_twice() {
    refused!(lenet(1), |m| m.nodes[3].output = ValueId(1), ModelError::Redefined { value, .. } if value == "v1");
    refused!(lenet(1), |m| m.nodes[0].output = ValueId(0), ModelError::Redefined { value, .. } if value == "v0");
}

#[test]
fn value_used_before_its_definition() {
    refused!(lenet(1), |m| m.nodes.swap(0, 1), ModelError::Undefined { value, .. } if value == "v1");
}

#[test]
fn value_that_nothing_defines() {
    let stray = || ValueInfo::int8("stray", &[1], QParams { scale: 1.0, zero_point: 0 });
    refused!(lenet(1), |m| m.values.push(stray()), ModelError::Undefined { value, .. } if value == "stray");
}

#[test]
fn wrong_number_of_operands() {
    refused!(lenet(1), |m| m.nodes[0].inputs.clear(), ModelError::Operands { expected: 1, found: 0, .. });
    refused!(residual(1), |m| _ = m.nodes[3].inputs.pop(), ModelError::Operands { expected: 2, found: 1, .. });
}

#[test]
fn sizes_of_zero_or_without_bound() {
    refused!(lenet(1), |m| m.values[0].shape = vec![], ModelError::Size { .. });
    refused!(lenet(1), |m| m.values[0].shape = vec![1, 0, 28], ModelError::Size { .. });
    refused!(lenet(1), |m| m.values[0].shape = vec![usize::MAX, 2, 2], ModelError::Size { .. });
    refused!(lenet(1), |m| m.values[0].shape = vec![1 << 20, 1 << 20], ModelError::Size { .. });
    refused!(
        lenet(1),
        |m| {
            m.values[0].shape = vec![1 << 28];
            m.values[1].shape = vec![1 << 28];
        },
        ModelError::Size { at, .. } if at.contains("v1")
    );
    // Few outputs from much padding: the stride hides it from the shape of the output.
    refused!(
        lenet(1),
        |m| {
            let op = conv(m);
            op.padding = [1 << 30, 2, 1 << 30, 2];
            op.stride = [1 << 27, 1];
            let shape = op.output_shape(&[1, 28, 28]).expect("fits");
            m.values[1].shape = shape;
        },
        ModelError::Size { at, .. } if at.contains("padded")
    );
}

#[test]
fn shapes_that_do_not_follow() {
    refused!(lenet(1), |m| m.values[1].shape[2] += 1, ModelError::Shape { .. });
    refused!(lenet(1), |m| m.values[0].shape = vec![1, 2, 2], ModelError::Shape { .. });
    refused!(lenet(1), |m| m.values[0].shape = vec![784], ModelError::Shape { .. });
    refused!(lenet(1), |m| conv(m).padding[1] = usize::MAX, ModelError::Shape { .. });
    refused!(lenet(1), |m| conv(m).dilation[0] = usize::MAX, ModelError::Shape { .. });
    refused!(lenet(1), |m| conv(m).c_in = 2, ModelError::Shape { .. });
    refused!(lenet(1), |m| linear(m).d_input -= 1, ModelError::Shape { .. });
    refused!(lenet(1), |m| max_pool(m).stride[0] = 3, ModelError::Shape { .. });
    refused!(residual(1), |m| avg_pool(m).kernel[0] = 3, ModelError::Shape { .. });
    refused!(lenet(1), |m| m.values[5].shape[0] -= 1, ModelError::Shape { .. });
    refused!(residual(1), |m| m.nodes[3].inputs[1] = ValueId(0), ModelError::Shape { .. });
}

#[test]
fn attributes_outside_their_domain() {
    refused!(lenet(1), |m| conv(m).kernel[0] = 0, ModelError::Attribute { attribute: "kernel", .. });
    refused!(lenet(1), |m| conv(m).stride[1] = 0, ModelError::Attribute { attribute: "stride", .. });
    refused!(lenet(1), |m| conv(m).dilation[1] = 0, ModelError::Attribute { attribute: "dilation", .. });
    refused!(lenet(1), |m| conv(m).c_out = 0, ModelError::Attribute { attribute: "channels", .. });
    refused!(lenet(1), |m| conv(m).groups = 0, ModelError::Attribute { attribute: "groups", .. });
    refused!(lenet(1), |m| conv(m).groups = 2, ModelError::Attribute { attribute: "groups", .. });
    refused!(lenet(1), |m| linear(m).d_output = 0, ModelError::Attribute { attribute: "features", .. });
    refused!(lenet(1), |m| max_pool(m).kernel[0] = 0, ModelError::Attribute { attribute: "kernel", .. });
    refused!(lenet(1), |m| max_pool(m).stride[0] = 0, ModelError::Attribute { attribute: "stride", .. });
    refused!(lenet(1), |m| max_pool(m).dilation[0] = 0, ModelError::Attribute { attribute: "dilation", .. });
    refused!(lenet(1), |m| max_pool(m).padding[2] = 2, ModelError::Attribute { attribute: "padding", .. });
    refused!(residual(1), |m| avg_pool(m).kernel[1] = 0, ModelError::Attribute { attribute: "kernel", .. });
    refused!(residual(1), |m| avg_pool(m).stride[1] = 0, ModelError::Attribute { attribute: "stride", .. });
    refused!(residual(1), |m| avg_pool(m).padding[3] = 2, ModelError::Attribute { attribute: "padding", .. });
}

#[test]
fn tensors_of_the_wrong_length() {
    refused!(
        lenet(1),
        |m| edit(&mut conv(m).weights.codes, |w| _ = w.pop()),
        ModelError::Length { tensor: "weight", expected: 150, found: 149, .. }
    );
    refused!(lenet(1), |m| conv(m).weights.scale.push(1.0), ModelError::Length { tensor: "weight_scale", .. });
    refused!(lenet(1), |m| _ = conv(m).weights.bias.pop(), ModelError::Length { tensor: "bias", .. });
    refused!(lenet(1), |m| edit(&mut linear(m).weights.codes, |w| w.push(0)), ModelError::Length { tensor: "weight", .. });
    refused!(lenet(1), |m| _ = linear(m).weights.bias.pop(), ModelError::Length { tensor: "bias", .. });
}

#[test]
fn scales_that_are_no_step() {
    for scale in [0.0, -1.0, f32::INFINITY, f32::NAN] {
        refused!(lenet(1), |m| m.values[2].qparams.scale = scale, ModelError::Scale { at, .. } if at.contains("v2"));
        refused!(lenet(1), |m| conv(m).weights.scale[5] = scale, ModelError::Scale { at, .. } if at.contains("channel 5"));
    }
}

#[test]
fn zero_points_outside_the_codes() {
    for zero_point in [-129, 128, i32::MIN, i32::MAX] {
        refused!(lenet(1), |m| m.values[2].qparams.zero_point = zero_point, ModelError::ZeroPoint { .. });
    }
}

#[test]
fn multipliers_beyond_f32() {
    refused!(
        lenet(1),
        |m| {
            conv(m).weights.scale[3] = f32::MAX;
            m.values[1].qparams.scale = 1e-30;
            m.values[2].qparams.scale = 1e-30;
        },
        ModelError::Multiplier { channel: 3, .. }
    );
}

#[test]
fn indices_are_no_activations() {
    refused!(
        lenet(1),
        |m| m.values[0].code_type = qat_runtime::CodeType::Int32,
        ModelError::ZeroPoint { .. } | ModelError::CodeType { .. }
    );
}

#[test]
fn additions_and_averages_of_absurd_steps() {
    refused!(
        residual(1),
        |m| {
            let y = add(m).1;
            m.values[y.0].qparams.scale = 1e-12;
        },
        ModelError::ScaleRatio { .. }
    );
    // The first average pool of the net defines value 7.
    refused!(residual(1), |m| m.values[7].qparams.scale = f32::MIN_POSITIVE, ModelError::ScaleRatio { .. });
}

#[test]
fn clamps_upside_down() {
    let upside_down = |m: &mut IntegerModel| conv(m).clamp = Clamp { min: 1, max: 0 };
    refused!(lenet(1), upside_down, ModelError::Clamp { min: 1, max: 0, .. });
    refused!(residual(1), |m| add(m).0.clamp = Clamp { min: 5, max: 4 }, ModelError::Clamp { min: 5, max: 4, .. });
    refused!(lenet(1), |m| conv(m).clamp.max = 128, ModelError::Clamp { min: -128, max: 128, .. });
}

#[test]
fn code_operations_that_change_parameters() {
    let different = |m: &mut IntegerModel, value: usize| m.values[value].qparams.scale *= 2.0;
    refused!(lenet(1), |m| different(m, 2), ModelError::SharedParameters { at, .. } if at.contains("max_pool2d"));
    refused!(residual(1), |m| different(m, 5), ModelError::SharedParameters { at, .. } if at.contains("clamp"));
    refused!(lenet(1), |m| different(m, 5), ModelError::SharedParameters { at, .. } if at.contains("reshape"));
}

/// One input, one output, weight 1: the largest sum is `|bias| + max |q − zero_point|`.
fn scalar(zero_point: i32, bias: i32) -> IntegerModel {
    let mut b = Builder::new(&[1], 1);
    b.linear(ValueId(0), 1, false);
    b.model.values[0].qparams.zero_point = zero_point;
    let op = linear(&mut b.model);
    edit(&mut op.weights.codes, |w| w[0] = 1);
    op.weights.bias[0] = bias.into();
    b.model
}

#[test]
fn sums_that_could_overflow_int32() {
    for (zero_point, deviation) in [(0, 128), (-128, 255), (127, 255), (-1, 128)] {
        scalar(zero_point, i32::MAX - deviation).validate().expect("reaches int32's maximum exactly");
        let error = scalar(zero_point, i32::MAX - deviation + 1).validate().expect_err("passes it by one");
        assert!(matches!(error, ModelError::Accumulator { found: 0x8000_0000, .. }), "{error:?}");
        scalar(zero_point, i32::MIN).validate().expect_err("a magnitude of 2^31 and more");
    }
    // What is accepted runs at the bound.
    let model = scalar(-128, i32::MAX - 255);
    assert_eq!(model.run([127i8].as_slice()), model.run_reference([127i8].as_slice()));
}

#[test]
fn averages_that_could_overflow_int32() {
    let mut b = Builder::new(&[1, 4096, 4096], 1);
    b.avg_pool2d(ValueId(0), 4096);
    assert!(matches!(b.model.validate(), Err(ModelError::Accumulator { .. })));
    let mut b = Builder::new(&[1, 2048, 2048], 1);
    b.avg_pool2d(ValueId(0), 2048);
    b.model.validate().expect("2^22 codes fit");
}

/// A value that mutations put anywhere.
fn hostile(random: &mut Random) -> usize {
    let values = [0, 1, 2, 3, 5, 7, 28, 255, 1 << 16, 1 << 28, 1 << 31, 1 << 40, usize::MAX / 2, usize::MAX - 1, usize::MAX];
    values[random.range(0, values.len() as i64 - 1) as usize]
}

fn hostile_f32(random: &mut Random) -> f32 {
    if random.range(0, 1) == 0 { f32::from_bits(random.next() as u32) } else { 2f32.powi(random.range(-149, 127) as i32) }
}

/// Changes one field of the model to something that need not make sense.
fn mutate(model: &mut IntegerModel, random: &mut Random) {
    let count = model.values.len();
    let node = random.range(0, model.nodes.len() as i64 - 1) as usize;
    let value = random.range(0, count as i64 - 1) as usize;
    let any = random.range(0, count as i64) as usize;
    match random.range(0, 11) {
        0 => model.nodes[node].inputs[0] = ValueId(any),
        1 => model.nodes[node].output = ValueId(any),
        2 => _ = model.nodes.remove(node),
        3 => model.nodes.swap(node, 0),
        4 => {
            let dimension = random.range(0, 2) as usize;
            if let Some(dimension) = model.values[value].shape.get_mut(dimension) {
                *dimension = hostile(random);
            }
        }
        5 => model.values[value].qparams.scale = hostile_f32(random),
        6 => model.values[value].qparams.zero_point = random.next() as i32,
        7 => model.values[value].shape.truncate(random.range(0, 2) as usize),
        8 => (model.input, model.output) = (ValueId(value), ValueId(any)),
        _ => {
            let (place, found) = (random.range(0, 9) as usize, hostile(random));
            match &mut model.nodes[node].op {
                Op::Conv2d(op) => match place {
                    0 => op.c_out = found,
                    1 => op.c_in = found,
                    2 => op.kernel[0] = found,
                    3 => op.stride[1] = found,
                    4 => op.padding[2] = found,
                    5 => op.dilation[0] = found,
                    6 => op.groups = found,
                    7 => op.weights.bias[0] = random.next() as i64,
                    8 => edit(&mut op.weights.codes, |w| w[0] = random.next() as i8),
                    _ => op.clamp.min = random.next() as i16,
                },
                Op::Linear(op) => match place {
                    0..3 => op.d_input = found,
                    3..6 => op.d_output = found,
                    6 => edit(&mut op.weights.codes, |w| w.truncate(found)),
                    7 => op.weights.bias[0] = random.next() as i64,
                    8 => op.weights.scale[0] = hostile_f32(random),
                    _ => op.clamp.max = random.next() as i16,
                },
                Op::MaxPool2d(op) => match place % 5 {
                    0 => op.kernel[0] = found,
                    1 => op.stride[0] = found,
                    2 => op.padding[0] = found,
                    3 => op.padding[3] = found,
                    _ => op.dilation[1] = found,
                },
                Op::AvgPool2d(op) => match place % 4 {
                    0 => op.kernel[0] = found,
                    1 => op.stride[1] = found,
                    2 => op.padding[3] = found,
                    _ => op.count_include_pad ^= true,
                },
                _ => {}
            }
        }
    }
}

#[test]
fn no_mutation_makes_checking_or_running_panic() {
    let mut random = Random::new(20261123);
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..4000 {
        let mut model = if round % 2 == 0 { residual(1) } else { lenet(1) };
        for _ in 0..random.range(1, 3) {
            mutate(&mut model, &mut random);
        }
        match model.validate() {
            Ok(()) => {
                accepted += 1;
                // Accepted sizes can still be large; running them is a matter of time, not of safety.
                let elements = model.input_info().elements().expect("validated");
                if model.values.iter().all(|value| value.elements().expect("validated") <= 1 << 16) && accepted % 8 == 0 {
                    let codes = random.codes(elements);
                    assert_eq!(model.run(&codes), model.run_reference(&codes));
                }
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains(": expected "), "{error}");
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > 50 && refused > 1000, "the mutations are neither harmless nor all fatal");
}
