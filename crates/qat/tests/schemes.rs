//! Schemes as text: short names, tables, and what is wrong with one.

use qat::{CodeRange, Granularity, IntegerFormat, ObserverKind, Preset, QConfig, RangeLearner, Scheme, WeightScale};
use serde::{Deserialize, Serialize};

/// A file that holds a scheme beside other keys, as `run.toml` does.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Manifest {
    model: String,
    scheme: Scheme,
    seed: u64,
}

fn scheme(text: &str) -> Result<Scheme, String> {
    toml::from_str(text).map_err(|error| error.message().to_owned())
}

#[test]
fn short_names_stay_short_and_tables_stay_whole() {
    for (name, preset) in Preset::NAMES {
        let manifest = Manifest { model: "lenet".into(), scheme: preset.into(), seed: 3 };
        let text = toml::to_string(&manifest).unwrap();
        assert!(text.contains(&format!("scheme = \"{name}\"")), "{text}");
        assert_eq!(toml::from_str::<Manifest>(&text).unwrap(), manifest);
        assert_eq!(Scheme::of(preset.config()), Scheme::Preset(preset));
        assert!(Preset::LIST.contains(name));
        // Written as a table, it is the same configuration.
        let custom = Manifest { scheme: Scheme::Custom(Box::new(preset.config())), ..manifest };
        let text = toml::to_string(&custom).unwrap();
        assert_eq!(toml::from_str::<Manifest>(&text).unwrap().scheme.config(), preset.config(), "{text}");
    }
}

#[test]
fn a_table_names_what_differs_from_its_base() {
    let found = scheme(
        r#"
        base = "w4a4"
        weight-bits = 3
        observer = "percentile:99.9"

        [[overrides]]
        pattern = "blocks.*.conv2"
        weight-bits = 8
        activation-bits = 6
        weight-granularity = "per-tensor"
        weight-scale = "mse"
        learner = "fixed"
        observer = "moving-average:0.1"

        [[overrides]]
        pattern = "head"
        float = true

        [[overrides]]
        pattern = "fc*"
        weight-granularity = "per-group:32"
        "#,
    )
    .unwrap();
    let config = found.config();
    assert_eq!(config.weight, IntegerFormat::new(3, CodeRange::Narrow).unwrap());
    assert_eq!((config.activation.bits(), config.learner), (4, RangeLearner::Lsq));
    assert_eq!(config.observer, ObserverKind::Percentile { percentile: 99.9 });
    let patterns: Vec<&str> = config.overrides.iter().map(|exception| exception.pattern.as_str()).collect();
    assert_eq!(patterns, ["first", "last", "blocks.*.conv2", "head", "fc*"]);
    let second = &config.overrides[2];
    assert_eq!((second.weight, second.activation.map(IntegerFormat::bits)), (Some(IntegerFormat::INT8_NARROW), Some(6)));
    assert_eq!((second.weight_granularity, second.weight_scale), (Some(Granularity::PerTensor), Some(WeightScale::Mse)));
    assert_eq!(
        (second.learner, second.observer),
        (Some(RangeLearner::Fixed), Some(ObserverKind::MovingAverage { momentum: 0.1 }))
    );
    assert_eq!(config.overrides[3].weight_scale, Some(WeightScale::Real));
    assert_eq!(config.overrides[4].weight_granularity, Granularity::per_group(32));
    assert_eq!(found.to_string(), "custom w3a4");
    let text = toml::to_string(&Manifest { model: "cnv".into(), scheme: found.clone(), seed: 1 }).unwrap();
    assert_eq!(toml::from_str::<Manifest>(&text).unwrap().scheme, found, "{text}");
    assert!(!text.contains("base"), "{text}");
    assert_eq!(scheme("").unwrap(), Scheme::INT8);
    assert_eq!(scheme("base = \"w2a2\"").unwrap(), Scheme::Preset(Preset::W2a2));
    assert_eq!(scheme("base = \"w2a2\"\nweight-bits = 2").unwrap().config().weight, QConfig::w2a2().weight);
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("weight-bits = 9", "weight-bits: expected 2 to 8, found 9"),
        ("weight-bits = 16", "weight-bits: expected 2 to 8, found 16"),
        ("weight-range = \"full\"", "8 of them without the lowest code, found 8 bits, full"),
        ("activation-bits = 12", "activation-bits: expected 2 to 8, or 16, found 12"),
        ("base = \"w5a5\"", "base: expected int8, int8-per-tensor"),
        (
            "observer = \"median\"",
            "observer: expected min-max, moving-average[:MOMENTUM], percentile[:PERCENT] or mse, found \"median\"",
        ),
        ("observer = \"percentile:20\"", "found \"percentile:20\""),
        (
            "weight-granularity = \"per-group:0\"",
            "granularity: expected per-tensor, per-channel or per-group:SIZE with a size from 1, found \"per-group:0\"",
        ),
        ("weight-granularity = \"per-block\"", "found \"per-block\""),
        ("learner = \"pact\"", "unknown variant `pact`"),
        ("weight-scale = \"real\"", "unknown variant `real`"),
        ("weights = 4", "unknown field `weights`"),
        ("[[overrides]]\nweight-bits = 4", "missing field `pattern`"),
        ("[[overrides]]\npattern = \"a\"\nweight-bits = 1", "weight-bits of the override \"a\": expected 2 to 8, found 1"),
        ("[[overrides]]\npattern = \"a\"\nfloat = true\nweight-scale = \"mse\"", "expected none beside float = true"),
        ("[[overrides]]\npattern = \"a\"\nweight-range = \"full\"", "expected weight-bits beside it"),
        ("[[overrides]]\npattern = \"a\"\nactivation-bits = 16", "activations of a: expected 2 to 8 bits"),
    ] {
        let found = scheme(text).expect_err("it is wrong");
        assert!(found.contains(expected), "{text}\n{found}");
    }
    let error = toml::from_str::<Manifest>("model = \"a\"\nscheme = \"int9\"\nseed = 1").unwrap_err();
    assert!(error.message().contains("int9") && error.message().contains("w2a2"), "{error}");
    assert!(toml::from_str::<Manifest>("model = \"a\"\nscheme = 8\nseed = 1").is_err());
}

#[test]
fn an_observer_replaces_those_of_all_layers() {
    let scheme = Scheme::from(Preset::W4a4).with_observer(ObserverKind::MinMax);
    assert_eq!(scheme.config().observer, ObserverKind::MinMax);
    assert_eq!(Scheme::from(Preset::W4a4).with_observer(ObserverKind::Mse), Scheme::Preset(Preset::W4a4));
    for kind in ["min-max", "moving-average", "percentile", "mse", "percentile:99.5", "moving-average:0.25"] {
        assert_eq!(kind.parse::<ObserverKind>().unwrap().to_string(), kind);
    }
}
