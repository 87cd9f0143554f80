//! The code of `docs/deploy.md` compiles, runs and finds the digits that the engine finds.

use std::{env, fs, path::Path, process::Command};

use qat_export::{COptions, EncodingsOptions, write_c, write_encodings, write_rust};
use qat_runtime::{CodeType, IntegerModel, WeightBits};

use crate::{
    compilers::{has_gcc, run},
    problems::{Random, lenet},
};

const IMAGES: usize = 20;

/// The code blocks of a section that are in this language.
fn block(heading: &str, language: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/deploy.md")).unwrap();
    let (_, section) = text.split_once(&format!("\n## {heading}")).expect("the section is there");
    let (_, block) = section.split_once(&format!("\n```{language}\n")).expect("the section has such a block");
    block.split_once("\n```").expect("the block ends").0.to_owned()
}

/// Random images, and for each the digit of the highest score.
fn images(model: &IntegerModel) -> (Vec<u8>, Vec<usize>) {
    let mut random = Random(5);
    let images: Vec<u8> = (0..IMAGES * 784).map(|_| random.int(0, 255) as u8).collect();
    let codes: Vec<i8> = images.iter().map(|&byte| (i16::from(byte) - 128) as i8).collect();
    let scores = model.run_reference(&codes).unwrap().to_i32s();
    let best = |scores: &[i32]| scores.iter().position(|score| Some(score) == scores.iter().max()).unwrap();
    (images, scores.chunks(10).map(best).collect())
}

/// What a program prints for the images: a digit a line.
fn digits(program: &Path, folder: &Path) -> Vec<usize> {
    let output = Command::new(program).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn the_code_of_deploy_md_runs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = lenet(8, CodeType::Int8, WeightBits::Eight);
    let (bytes, expected) = images(&model);
    fs::write(folder.join("images"), bytes).unwrap();

    if has_gcc() {
        write_c(&model, &COptions::default(), &folder.join("net.c")).unwrap();
        let main = "\n#include <stdio.h>\nint main(void)\n{\n    static uint8_t image[784];\n    FILE *file = fopen(\"images\", \"rb\");\n    \
                    while (file && fread(image, sizeof image, 1, file) == 1) printf(\"%d\\n\", digit(image));\n    return 0;\n}\n";
        fs::write(folder.join("digit.c"), block("C99", "c") + main).unwrap();
        let flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-O2", "net.c", "digit.c", "-o", "digit"];
        run(Command::new("gcc").current_dir(folder).args(flags));
        assert_eq!(digits(&folder.join("digit"), folder), expected);
    }

    write_rust(&model, &folder.join("net.rs")).unwrap();
    let code = block("Rust without std", "rust,ignore").replace("mod net;\n", "");
    let main = format!(
        "mod net;\nfn main() {{\n    for image in std::fs::read(\"images\").unwrap().chunks(784) {{\n        \
         let image: [u8; 784] = image.try_into().unwrap();\n{code}\n        let best = output.iter().max().unwrap();\n        \
         println!(\"{{}}\", output.iter().position(|code| code == best).unwrap());\n    }}\n}}\n"
    );
    fs::write(folder.join("main.rs"), main).unwrap();
    run(Command::new("rustc").current_dir(folder).args([
        "--edition",
        "2021",
        "-O",
        "-A",
        "dead_code",
        "main.rs",
        "-o",
        "digit-rust",
    ]));
    assert_eq!(digits(&folder.join("digit-rust"), folder), expected);

    write_encodings(&model, &EncodingsOptions::default(), &folder.join("net.json")).unwrap();
    match env::var_os("QAT_PYTHON") {
        Some(python) => run(Command::new(python).current_dir(folder).args(["-c", &block("By hand", "python")])),
        None => println!("SKIPPED: QAT_PYTHON is not set, so the Python of deploy.md is not run"),
    }
}
