//! The encodings say everything that computing a layer needs.

#[path = "generated/problems.rs"]
#[allow(dead_code, reason = "these tests use some of the models")]
mod problems;

use problems::{Builder, Flavour, Window, mixed, operations, recurrent, separable};
use qat_export::{EncodingsOptions, Integers, encodings_obstacles, to_encodings, write_encodings};
use qat_runtime::{Rules, WeightBits};
use serde_json::Value;

const ALL: EncodingsOptions = EncodingsOptions { integers: Integers::Included };

fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(|number| number.as_i64().unwrap()).collect()
}

fn reals(value: &Value) -> Vec<f32> {
    value.as_array().unwrap_or_else(|| panic!("{value}")).iter().map(|number| number.as_f64().unwrap() as f32).collect()
}

/// `x · m0 · 2^(shift − 31)`, rounded twice, as the format's description says.
fn scale(x: i64, m0: i64, shift: i64) -> i64 {
    let high = ((x << shift.max(0)) * m0 + (1 << 30)) >> 31;
    let divisor = 1i64 << (-shift).max(0);
    let half = divisor / 2;
    if high < 0 { -((half - high) / divisor) } else { (high + half) / divisor }
}

#[test]
fn a_layer_can_be_computed_from_the_text_alone() {
    for (seed, bits) in [(1, WeightBits::Eight), (2, WeightBits::Four)] {
        let mut b = Builder::new(seed, Flavour::Random, qat_runtime::CodeType::Int8, bits, true);
        let x = b.input(&[24]);
        let y = b.linear("fc", x, 7);
        let model = b.finish(y);
        let text: Value = serde_json::from_str(&to_encodings(&model, &ALL).unwrap()).unwrap();
        let (x, y, node) = (&text["values"][0], &text["values"][1], &text["nodes"][0]);
        let integer = |value: &Value| value.as_i64().unwrap();
        let (weight, bias) = (numbers(&node["weight"]["integers"]), numbers(&node["bias"]["integers"]));
        let (m0, shift) = (numbers(&node["multiplier"]["m0"]), numbers(&node["multiplier"]["shift"]));
        let clamp = numbers(&node["clamp"]);
        let codes: Vec<i8> = (0..24).map(|i| (i * 37 % 256 - 128) as i8).collect();
        let computed: Vec<i32> = (0..7)
            .map(|o| {
                let products = codes.iter().zip(&weight[o * 24..]).map(|(&q, w)| w * (i64::from(q) - integer(&x["zero_point"])));
                let scaled = scale(bias[o] + products.sum::<i64>(), m0[o], shift[o]) + integer(&y["zero_point"]);
                scaled.clamp(clamp[0], clamp[1]) as i32
            })
            .collect();
        assert_eq!(computed, model.run_reference(&codes).unwrap().to_i32s());
        // Scales read back as they are, and the multiplier is their quotient.
        assert_eq!(x["scale"].as_f64().unwrap() as f32, model.values[0].qparams.scale);
        let (s_in, s_out) = (model.values[0].qparams.scale, model.values[1].qparams.scale);
        for ((s_w, m0), shift) in reals(&node["weight"]["scale"]).into_iter().zip(m0).zip(shift) {
            let real = f64::from(s_in) * f64::from(s_w) / f64::from(s_out);
            assert!((m0 as f64 * 2f64.powi(shift as i32 - 31) / real - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn both_contracts_have_their_multipliers() {
    let mut b = Builder::int8(3, Flavour::Random);
    let x = b.input(&[2, 5, 5]);
    let y = b.conv2d("conv", x, 3, Window::same(3, 1, 1));
    let mut model = b.finish(y);
    model.rules = Rules::OnnxRuntime;
    let text: Value = serde_json::from_str(&to_encodings(&model, &ALL).unwrap()).unwrap();
    assert_eq!((&text["rules"], &text["contract"]), (&"onnx-runtime".into(), &"fp32-rne".into()));
    let node = &text["nodes"][0];
    let (s_in, s_out) = (model.values[0].qparams.scale, model.values[1].qparams.scale);
    let expected: Vec<f32> = reals(&node["weight"]["scale"]).into_iter().map(|s_w| (s_in * s_w) / s_out).collect();
    assert_eq!(reals(&node["multiplier"]["f32"]), expected);
    assert_eq!(node["attributes"]["padding"], serde_json::json!([1, 1, 1, 1]));
    assert_eq!(node["weight"]["shape"], serde_json::json!([3, 2, 3, 3]));
    assert_eq!(node["weight"]["granularity"], "per-channel");
}

#[test]
fn every_operation_is_described_without_a_null_and_twice_alike() {
    let networks = [mixed(1), recurrent(2), separable(3)];
    let models = operations(9).into_iter().map(|problem| problem.model).chain(networks);
    for model in models {
        assert!(encodings_obstacles(&model).is_empty());
        let text = to_encodings(&model, &ALL).unwrap();
        assert_eq!(text, to_encodings(&model.clone(), &ALL).unwrap());
        assert!(!text.contains("null"), "{text}");
        let parsed: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["values"].as_array().unwrap().len(), model.values.len());
        assert_eq!(parsed["nodes"].as_array().unwrap().len(), model.nodes.len());
    }
}

#[test]
fn integers_can_be_left_out_and_names_are_escaped() {
    let mut b = Builder::int8(4, Flavour::Random);
    let x = b.input(&[3]);
    let x = b.linear("\"}], \n*/", x, 3);
    let y = b.linear("\"}], \n*/", x, 3);
    let model = b.finish(y);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("net.json");
    write_encodings(&model, &EncodingsOptions { integers: Integers::LeftOut }, &path).unwrap();
    let text: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(text["nodes"][0]["weight"].get("integers"), None);
    assert_eq!((&text["nodes"][0]["name"], &text["nodes"][1]["name"]), (&"\"}], \n*/".into(), &"\"}], \n*/.1".into()));
    assert_eq!(text["nodes"][1]["bias"]["name"], "\"}], \n*/.1.bias");
}
