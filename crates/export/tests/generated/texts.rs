//! What generated programs say, whatever the model's names are.

use std::{fs, path::Path, process::Command};

use qat_export::{COptions, ExportError, c_obstacles, rust_obstacles, to_c, to_rust, write_c};
use qat_runtime::{CodeType, IntegerModel, Rules, WeightBits};

use crate::{
    compilers::{Bench, has_gcc, run},
    problems::{Builder, Flavour, lenet, mixed, recurrent, residual, separable},
};

/// Names that would break a program or add to it if they were printed as they are.
const HOSTILE: [&str; 12] = [
    "int",
    "main",
    "net_run",
    "",
    "0",
    "größe 尺寸",
    "\"quoted\" \\",
    "*/ int injected; /*",
    "// line\nfn injected() {}",
    "a??/",
    "r#fn",
    "\u{202e}reversed",
];

/// A chain of layers with these names.
fn chain(names: &[&str]) -> IntegerModel {
    let mut b = Builder::int8(11, Flavour::Random);
    let mut x = b.input(&[6]);
    for name in names {
        x = b.linear(name, x, 6);
    }
    b.finish(x)
}

#[test]
fn hostile_layer_names_neither_break_nor_add() {
    let long = "x".repeat(5000);
    let names: Vec<&str> = HOSTILE.into_iter().chain([long.as_str(), "twice", "twice"]).collect();
    let mut model = chain(&names);
    for (index, (value, name)) in model.values.iter_mut().zip(&names).enumerate() {
        value.name = format!("{name} of value {index}");
    }
    let program = to_c(&model, "net", "net.h").unwrap();
    let rust = to_rust(&model).unwrap();
    for text in [&program.header, &program.source, &rust] {
        assert!(text.is_ascii() && !text.contains("int injected") && !text.contains("fn injected") && !text.contains("??/"));
    }
    super::compare(&["hostile names".to_owned()], &[model], 5, crate::Build::Checked);
}

#[test]
fn any_name_makes_public_names() {
    if !has_gcc() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let model = chain(&["fc"]);
    for name in HOSTILE {
        let program = to_c(&model, name, "net.h").unwrap();
        assert!(program.header.is_ascii() && !program.header.contains("injected; "), "{name}");
        fs::write(folder.path().join("net.h"), program.header).unwrap();
        fs::write(folder.path().join("net.c"), program.source).unwrap();
        run(Command::new("gcc").current_dir(folder.path()).args([
            "-std=c99",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-fsyntax-only",
            "net.c",
        ]));
    }
}

#[test]
fn equal_models_give_equal_bytes() {
    for model in [residual(1), recurrent(2), mixed(3)] {
        assert_eq!(to_c(&model, "net", "net.h").unwrap(), to_c(&model.clone(), "net", "net.h").unwrap());
        assert_eq!(to_rust(&model).unwrap(), to_rust(&model.clone()).unwrap());
    }
}

#[test]
fn files_are_named_by_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let model = chain(&["fc"]);
    for (given, stem, function) in [
        ("net.c", "net", "int net_run("),
        ("my-net.h", "my-net", "int my_net_run("),
        ("7seg", "7seg", "int net_7seg_run("),
        ("net.v1", "net.v1", "int net_v1_run("),
    ] {
        let files = write_c(&model, &COptions::default(), &folder.path().join(given)).unwrap();
        assert_eq!(files, [".h", ".c"].map(|extension| folder.path().join(format!("{stem}{extension}"))));
        let [header, source] = [0, 1].map(|index: usize| fs::read_to_string(&files[index]).unwrap());
        assert!(header.contains(function) && source.contains(function), "{given}");
        assert!(source.contains(&format!("#include \"{stem}.h\"")), "{given}");
    }
    let named = COptions { name: Some("digits".into()) };
    let files = write_c(&model, &named, &folder.path().join("net.c")).unwrap();
    assert!(fs::read_to_string(&files[0]).unwrap().contains("DIGITS_INPUT_LENGTH 6"));
    let error = write_c(&model, &COptions::default(), Path::new("a\"b.c")).unwrap_err();
    assert!(matches!(error, ExportError::Unsupported { format: "C", .. }), "{error}");
}

#[test]
fn other_rules_are_refused() {
    let mut model = chain(&["fc"]);
    assert!(c_obstacles(&model).is_empty() && rust_obstacles(&model).is_empty());
    model.rules = Rules::OnnxRuntime;
    for obstacles in [c_obstacles(&model), rust_obstacles(&model)] {
        let [obstacle] = obstacles.as_slice() else { panic!("{obstacles:?}") };
        assert_eq!(
            obstacle.to_string(),
            "rules: expected tflite-micro, the rules that generated code follows, found onnx-runtime"
        );
    }
    assert!(matches!(to_c(&model, "net", "net.h"), Err(ExportError::Unsupported { format: "C", .. })));
    assert!(matches!(to_rust(&model), Err(ExportError::Unsupported { format: "Rust", .. })));
    model.output.0 = 99;
    assert!(matches!(to_rust(&model), Err(ExportError::Model { .. })));
}

#[test]
fn nothing_but_integers_of_fixed_width_is_used() {
    for model in [lenet(1, CodeType::Int16, WeightBits::Four), separable(2), recurrent(3), mixed(4)] {
        let program = to_c(&model, "net", "net.h").unwrap();
        let includes = |text: &str| text.lines().filter(|line| line.contains("#include")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(includes(&program.header), ["#include <stdint.h>"]);
        assert_eq!(includes(&program.source), ["#include \"net.h\""]);
        let rust = to_rust(&model).unwrap();
        for word in ["f32", "f64", "std::", "alloc::", "unsafe {", "extern crate"] {
            assert!(!rust.contains(word), "{word}");
        }
        if has_gcc() && cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
            // Without other registers there is no floating point.
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join("net.h"), program.header).unwrap();
            fs::write(folder.path().join("net.c"), program.source).unwrap();
            let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "-mgeneral-regs-only", "-c", "net.c"];
            run(Command::new("gcc").current_dir(folder.path()).args(flags));
        }
    }
}

#[test]
fn memory_between_layers_is_planned() {
    // The two largest neighbours of LeNet: the first convolution's 6 × 28 × 28 codes and the first pool's 6 × 14 × 14.
    let program = to_c(&lenet(1, CodeType::Int8, WeightBits::Eight), "net", "net.h").unwrap();
    assert!(program.header.contains("#define NET_ARENA_BYTES 5880\n"), "{}", program.header);
    let rust = to_rust(&lenet(1, CodeType::Int16, WeightBits::Eight)).unwrap();
    assert!(rust.contains("pub const ARENA_BYTES: usize = 11760;\n"));
}

#[test]
fn optimized_rust_has_no_way_to_panic() {
    let folder = tempfile::tempdir().unwrap();
    let models = [lenet(1, CodeType::Int8, WeightBits::Two), residual(2), separable(3), recurrent(4), mixed(5)];
    let bench = Bench { folder: folder.path(), models: &models, inputs: &[] };
    let mentions_panics = |source: &str| {
        fs::write(folder.path().join("probe.rs"), source).unwrap();
        bench.rustc(&["--crate-type", "lib", "--emit", "obj", "-C", "codegen-units=1", "-o", "object", "probe.rs"], &["-O"]);
        let object = fs::read(folder.path().join("object")).unwrap();
        assert!(object.windows(5).any(|window| window == b"PROBE"));
        object.windows(9).any(|window| window == b"panicking")
    };
    // A static that refers to a function keeps it in the object.
    let control = "fn at(x: &[u8], i: usize) -> u8 { x[i] }\npub static PROBE: fn(&[u8], usize) -> u8 = at;\n";
    assert!(mentions_panics(control), "the name of what panics is another than this test looks for");
    for model in &models {
        let code = |code_type| match code_type {
            CodeType::Int8 => "i8",
            CodeType::Int16 => "i16",
            CodeType::Int32 => "i32",
        };
        let (x, y) = (code(model.input_info().code_type), code(model.output_info().code_type));
        let probe = format!("pub static PROBE: fn(&[{x}; INPUT_LENGTH], &mut [{y}; OUTPUT_LENGTH]) = run;\n");
        assert!(!mentions_panics(&(to_rust(model).unwrap() + &probe)));
    }
}
