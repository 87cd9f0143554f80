//! What no product may do under each runtime's rules: overflow, leave the integers that scale it, or have a form that the runtime
//! has not.

use qat_runtime::{
    Clamp, CodeType, Conv2d, ConvTranspose2d, IntegerModel, Linear, MatMul, ModelError, Node, Op, PackedCodes, QParams, Rules,
    ValueId, ValueInfo, WeightBits, Weights,
};

const ALL: [Rules; 4] = [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference, Rules::TfliteMicro];

fn value(name: &str, shape: &[usize], code_type: CodeType, scale: f32, zero_point: i32) -> ValueInfo {
    ValueInfo { name: name.into(), shape: shape.into(), code_type, qparams: QParams { scale, zero_point } }
}

/// One linear layer of one channel: `weights` on as many inputs.
fn linear(
    rules: Rules,
    code_type: CodeType,
    zero_point: i32,
    weights: &[i8],
    bias: i64,
    [s_in, s_w, s_out]: [f32; 3],
) -> IntegerModel {
    let op = Linear {
        name: "fc".into(),
        weights: Weights { codes: PackedCodes::eight(weights), scale: vec![s_w], bias: vec![bias] },
        d_input: weights.len(),
        d_output: 1,
        clamp: Clamp::full(code_type),
    };
    let values = vec![value("x", &[weights.len()], code_type, s_in, zero_point), value("y", &[1], code_type, s_out, 0)];
    let nodes = vec![Node { op: Op::Linear(op), inputs: vec![ValueId(0)], output: ValueId(1) }];
    IntegerModel { rules, values, nodes, input: ValueId(0), output: ValueId(1) }
}

const SMALL: [f32; 3] = [1.0, 1e-8, 1.0];

#[test]
fn int8_sums_stay_within_int32() {
    for rules in ALL {
        // |q − z| is at most 255 with a zero point of 127: 127 · 255 = 32385 for each weight.
        let room = i64::from(i32::MAX) - 32_385;
        linear(rules, CodeType::Int8, 127, &[-127], room, SMALL).validate().expect("just fits");
        linear(rules, CodeType::Int8, 127, &[-127], -room, SMALL).validate().expect("just fits");
        let error = linear(rules, CodeType::Int8, 127, &[-127], room + 1, SMALL).validate().expect_err("one too many");
        assert!(matches!(error, ModelError::Accumulator { channel: 0, found: 0x8000_0000, .. }), "{error}");
        // Zero point 0 leaves |q − z| at 128.
        let error =
            linear(rules, CodeType::Int8, 0, &[127], i64::from(i32::MAX) - 127 * 128 + 1, SMALL).validate().expect_err("-128");
        assert!(matches!(error, ModelError::Accumulator { .. }), "{error}");
        let error = linear(rules, CodeType::Int8, 0, &[1], i64::MIN, SMALL).validate().expect_err("the lowest bias");
        assert!(matches!(error, ModelError::Accumulator { .. }), "{error}");
    }
}

#[test]
fn int16_sums_stay_within_40_bits() {
    for rules in ALL {
        let scales = [1.0, 1e-12, 1.0];
        let room = (1i64 << 39) - 127 * 32_768;
        linear(rules, CodeType::Int16, 0, &[127], room, scales).validate().expect("just fits");
        let error = linear(rules, CodeType::Int16, 0, &[127], room + 1, scales).validate().expect_err("one too many");
        assert!(matches!(error, ModelError::Accumulator { limit, .. } if limit == 1 << 39), "{error}");
    }
}

#[test]
fn extreme_sums_are_computed() {
    // The largest and the lowest sum that validate, at the extremes of the codes: no kernel panics, and codes saturate.
    for rules in ALL {
        for sign in [1i8, -1] {
            let bias = i64::from(sign) * (i64::from(i32::MAX) - 32_385);
            let model = linear(rules, CodeType::Int8, 127, &[-127 * sign], bias, [1.0, 1e-7, 1.0]);
            let codes = [-128i8, 0, 127];
            let y = model.run_reference(codes.as_slice()).expect("valid");
            assert_eq!(y.as_int8().expect("int8"), [if sign > 0 { 127 } else { -128 }; 3], "{rules}");
            assert_eq!(model.run(codes.as_slice()).expect("valid"), y);
        }
        let model = linear(rules, CodeType::Int16, 0, &[127], (1 << 39) - 127 * 32_768, [1.0, 1e-9, 1.0]);
        // 2^39 · 10⁻⁹ is 549.76, far from a tie.
        assert_eq!(model.run([i16::MAX, i16::MIN].as_slice()).expect("valid").to_i32s(), [550, 550], "{rules}");
    }
}

#[test]
fn multipliers_keep_sums_in_their_integers() {
    // Sums of up to 128 · 127 = 16256: gemmlowp moves them to the left by the multiplier's whole bits first.
    let with = |rules, multiplier: f32| linear(rules, CodeType::Int8, 0, &[127], 0, [1.0, multiplier, 1.0]).validate();
    with(Rules::TfliteMicro, 65_536.0).expect("17 places: 2^31 − 2^17 · 128 at most");
    let error = with(Rules::TfliteMicro, 131_072.0).expect_err("18 places");
    assert!(matches!(error, ModelError::Multiplier { channel: 0, .. }), "{error}");
    assert!(error.to_string().contains(": expected "), "{error}");
    // XNNPACK prepares no multiplier of 256; ONNX Runtime does.
    with(Rules::LiteRt, 255.9).expect("below 256");
    assert!(matches!(with(Rules::LiteRt, 256.0), Err(ModelError::Multiplier { .. })));
    with(Rules::OnnxRuntime, 256.0).expect("any finite multiplier");
    // The wide rule moves by at most 7 places, and its result is an int32.
    let wide = |rules, multiplier: f32| linear(rules, CodeType::Int16, 0, &[1], 0, [1.0, multiplier, 1.0]).validate();
    wide(Rules::TfliteMicro, 127.0).expect("7 places");
    assert!(matches!(wide(Rules::TfliteMicro, 128.0), Err(ModelError::Multiplier { .. })));
    assert!(matches!(wide(Rules::LiteRtReference, 1e6), Err(ModelError::Multiplier { .. })));
}

#[test]
fn a_product_of_activations_is_bounded_too() {
    let model = |rules, terms: usize, scale: f32| {
        let values = vec![
            value("a", &[1, terms], CodeType::Int8, scale, 127),
            value("b", &[terms, 1], CodeType::Int8, scale, 127),
            value("y", &[1, 1], CodeType::Int8, 1.0, 0),
        ];
        let op = Op::MatMul(MatMul { transpose_rhs: false, clamp: Clamp::INT8 });
        let constant = Op::Constant(qat_runtime::Codes::Int8(vec![0; terms]));
        let nodes = vec![
            Node { op: constant, inputs: vec![], output: ValueId(1) },
            Node { op, inputs: vec![ValueId(0), ValueId(1)], output: ValueId(2) },
        ];
        IntegerModel { rules, values, nodes, input: ValueId(0), output: ValueId(2) }
    };
    for rules in ALL {
        // 33025 · 255² is 2147450625, just below 2^31.
        model(rules, 33_025, 1e-5).validate().expect("fits");
        let error = model(rules, 33_026, 1e-5).validate().expect_err("one term too many");
        assert!(matches!(error, ModelError::Accumulator { .. }), "{error}");
    }
    assert!(matches!(model(Rules::TfliteMicro, 33_000, 2.0).validate(), Err(ModelError::Multiplier { .. })));
}

/// A transposed convolution of a 2 × 2 image with two channels.
fn transposed(rules: Rules, groups: usize, dilation: [usize; 2]) -> IntegerModel {
    let op = ConvTranspose2d {
        name: "up".into(),
        weights: Weights { codes: PackedCodes::eight(&vec![1; 2 * 2 / groups * 4]), scale: vec![0.5; 2], bias: vec![0; 2] },
        c_out: 2,
        c_in: 2,
        kernel: [2, 2],
        stride: [2, 2],
        padding: [0; 4],
        output_padding: [0, 0],
        dilation,
        groups,
        clamp: Clamp::INT8,
    };
    let shape = op.output_shape(&[2, 2, 2]).expect("fits");
    let values = vec![value("x", &[2, 2, 2], CodeType::Int8, 1.0, 0), value("y", &shape, CodeType::Int8, 1.0, 0)];
    let nodes = vec![Node { op: Op::ConvTranspose2d(op), inputs: vec![ValueId(0)], output: ValueId(1) }];
    IntegerModel { rules, values, nodes, input: ValueId(0), output: ValueId(1) }
}

#[test]
fn tflite_has_no_grouped_or_dilated_transposed_convolution() {
    for rules in ALL {
        transposed(rules, 1, [1, 1]).validate().expect("every runtime has it");
        for model in [transposed(rules, 2, [1, 1]), transposed(rules, 1, [2, 2])] {
            let result = model.validate();
            match rules {
                Rules::OnnxRuntime => result.expect("ONNX has both"),
                _ => assert!(matches!(&result, Err(ModelError::Rules { found, .. }) if found == "conv_transpose2d on int8")),
            }
        }
    }
}

#[test]
fn files_hold_weights_in_the_width_that_the_runtime_takes() {
    let conv = |groups: usize, bits: WeightBits| {
        let codes = PackedCodes::pack(&vec![1; 4 * 4 / groups], bits).expect("fits");
        Op::Conv2d(Conv2d {
            name: "c".into(),
            weights: Weights { codes, scale: vec![1.0; 4], bias: vec![0; 4] },
            c_out: 4,
            c_in: 4,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0; 4],
            dilation: [1, 1],
            groups,
            clamp: Clamp::INT8,
        })
    };
    let linear = |scale: Vec<f32>, bits: WeightBits| {
        let weights = Weights { codes: PackedCodes::pack(&[1, -1, 0, 1], bits).expect("fits"), scale, bias: vec![0; 2] };
        Op::Linear(Linear { name: "f".into(), weights, d_input: 2, d_output: 2, clamp: Clamp::INT8 })
    };
    use WeightBits::{Eight, Four, Two};
    let stored = |op: &Op, x| ALL.map(|rules| rules.weight_storage(op, x).expect("has weights"));
    assert_eq!(stored(&conv(1, Four), CodeType::Int8), [Eight, Four, Four, Four]);
    assert_eq!(stored(&conv(1, Two), CodeType::Int8), [Eight; 4]);
    assert_eq!(stored(&conv(4, Four), CodeType::Int16), [Eight; 4]);
    assert_eq!(stored(&conv(2, Four), CodeType::Int16), [Eight, Four, Four, Eight]);
    assert_eq!(stored(&linear(vec![1.0, 1.0], Four), CodeType::Int8), [Eight, Four, Four, Four]);
    assert_eq!(stored(&linear(vec![1.0, 2.0], Four), CodeType::Int8), [Eight, Four, Four, Eight]);
    assert_eq!(stored(&linear(vec![1.0, 2.0], Two), CodeType::Int8), [Eight, Two, Two, Eight]);
    assert_eq!(Rules::LiteRt.weight_storage(&Op::Reshape, CodeType::Int8), None);
}

#[test]
fn multipliers_are_given_where_they_are_integers() {
    let model = linear(Rules::TfliteMicro, CodeType::Int8, 0, &[1], 0, [0.5, 0.75, 1.0]);
    let (x, y) = (&model.values[0], &model.values[1]);
    let found = Rules::TfliteMicro.fixed_multipliers(&model.nodes[0].op, &[x], y).expect("integers");
    // 0.375 is 0.75 / 2.
    assert_eq!((found[0].m0, found[0].shift), (3 << 29, -1));
    for rules in [Rules::OnnxRuntime, Rules::LiteRt, Rules::LiteRtReference] {
        assert_eq!(rules.fixed_multipliers(&model.nodes[0].op, &[x], y), None, "{rules}");
    }
}
