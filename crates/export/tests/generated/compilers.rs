//! Compiling generated programs and running them on files of codes.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use qat_export::{COptions, write_c, write_rust};
use qat_runtime::{CodeType, Codes, CodesRef, IntegerModel};

/// Bytes of codes as both languages read them on this machine.
fn bytes(codes: CodesRef) -> Vec<u8> {
    match codes {
        CodesRef::Int8(codes) => codes.iter().flat_map(|code| code.to_ne_bytes()).collect(),
        CodesRef::Int16(codes) => codes.iter().flat_map(|code| code.to_ne_bytes()).collect(),
        CodesRef::Int32(codes) => codes.iter().flat_map(|code| code.to_ne_bytes()).collect(),
    }
}

fn from_bytes(code_type: CodeType, bytes: &[u8]) -> Codes {
    match code_type {
        CodeType::Int8 => Codes::Int8(bytes.iter().map(|byte| byte.cast_signed()).collect()),
        CodeType::Int16 => Codes::Int16(bytes.as_chunks().0.iter().map(|&chunk| i16::from_ne_bytes(chunk)).collect()),
        CodeType::Int32 => Codes::Int32(bytes.as_chunks().0.iter().map(|&chunk| i32::from_ne_bytes(chunk)).collect()),
    }
}

/// Runs a command; panics with what it printed where it fails.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text.chars().take(6000).collect::<String>());
}

/// Whether there is a C compiler; says so if not.
pub fn has_gcc() -> bool {
    let found = Command::new("gcc").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: no gcc, so generated C is not compiled");
    }
    found
}

/// Models side by side in a folder, with input codes for each.
pub struct Bench<'a> {
    pub folder: &'a Path,
    pub models: &'a [IntegerModel],
    pub inputs: &'a [Codes],
}

impl Bench<'_> {
    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the input files.
    pub fn write_inputs(&self) {
        for (index, codes) in self.inputs.iter().enumerate() {
            fs::write(self.file(&format!("{index}.in")), bytes(codes.view())).unwrap();
        }
    }

    /// What a program wrote.
    fn outputs(&self) -> Vec<Codes> {
        let read = |(index, model): (usize, &IntegerModel)| {
            let path = self.file(&format!("{index}.out"));
            let codes = from_bytes(model.output_info().code_type, &fs::read(&path).unwrap());
            fs::remove_file(path).unwrap();
            codes
        };
        self.models.iter().enumerate().map(read).collect()
    }

    /// The codes that the C programs give, compiled with these flags beside those that a strict project has.
    pub fn c(&self, flags: &[&str]) -> Vec<Codes> {
        let mut main = String::from("#include <stdio.h>\n");
        let mut sources = vec![self.file("main.c")];
        let mut calls = String::new();
        for (index, model) in self.models.iter().enumerate() {
            let name = format!("net{index}");
            let files = write_c(model, &COptions::default(), &self.file(&format!("{name}.c"))).unwrap();
            assert_eq!(files, [self.file(&format!("{name}.h")), self.file(&format!("{name}.c"))]);
            sources.push(files[1].clone());
            let code = |code_type| match code_type {
                CodeType::Int8 => "int8_t",
                CodeType::Int16 => "int16_t",
                CodeType::Int32 => "int32_t",
            };
            let (x, y) = (code(model.input_info().code_type), code(model.output_info().code_type));
            let _ = write!(
                main,
                "#include \"{name}.h\"\nstatic int run{index}(void)\n{{\n    static {x} x[NET{index}_INPUT_LENGTH];\n    \
                 static {y} y[NET{index}_OUTPUT_LENGTH];\n    FILE *in = fopen(\"{index}.in\", \"rb\");\n    \
                 FILE *out = fopen(\"{index}.out\", \"wb\");\n    if (!in || !out) return 1;\n    \
                 if ({name}_run(0, y) != -1 || {name}_run(x, 0) != -1 || {name}_arena_bytes != NET{index}_ARENA_BYTES) return 2;\n    \
                 while (fread(x, sizeof x, 1, in) == 1) {{\n        if ({name}_run(x, y) != 0) return 3;\n        \
                 if (fwrite(y, sizeof y, 1, out) != 1) return 4;\n    }}\n    fclose(in);\n    return fclose(out);\n}}\n"
            );
            let _ = writeln!(calls, "    if (run{index}() != 0) return {};", index % 100 + 1);
        }
        main += &format!("int main(void)\n{{\n{calls}    return 0;\n}}\n");
        fs::write(self.file("main.c"), main).unwrap();
        let strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-Wconversion", "-Wshadow", "-Wundef"];
        run(Command::new("gcc").current_dir(self.folder).args(strict).args(flags).args(&sources).args(["-o", "c-program"]));
        run(Command::new(self.file("c-program")).current_dir(self.folder));
        self.outputs()
    }

    /// The codes that the Rust modules give, compiled with these flags in a crate without `std`.
    pub fn rust(&self, flags: &[&str]) -> Vec<Codes> {
        let mut library = String::from(
            "//! Generated modules.\n#![no_std]\n#![forbid(unsafe_code)]\n#![deny(warnings, missing_docs, unused, nonstandard_style)]\n",
        );
        let mut main = String::from("use std::fs;\n");
        let mut calls = String::new();
        for (index, model) in self.models.iter().enumerate() {
            write_rust(model, &self.file(&format!("net{index}.rs"))).unwrap();
            let _ = writeln!(library, "/// Net {index}.\npub mod net{index};");
            let code = |code_type| match code_type {
                CodeType::Int8 => "i8",
                CodeType::Int16 => "i16",
                CodeType::Int32 => "i32",
            };
            let (x, y) = (code(model.input_info().code_type), code(model.output_info().code_type));
            let _ = write!(
                main,
                "fn run{index}() {{\n    use nets::net{index}::{{INPUT_LENGTH, Net, OUTPUT_LENGTH, run}};\n    \
                 const SIZE: usize = std::mem::size_of::<{x}>();\n    let bytes = fs::read(\"{index}.in\").unwrap();\n    \
                 let codes: Vec<{x}> = bytes.chunks(SIZE).map(|c| {x}::from_ne_bytes(c.try_into().unwrap())).collect();\n    \
                 let (mut net, mut out) = (Net::new(), Vec::new());\n    \
                 for x in codes.chunks(INPUT_LENGTH) {{\n        let x = x.try_into().unwrap();\n        \
                 let (mut y, mut again) = ([0 as {y}; OUTPUT_LENGTH], [0 as {y}; OUTPUT_LENGTH]);\n        net.run(x, &mut y);\n        \
                 run(x, &mut again);\n        assert_eq!(y, again);\n        \
                 out.extend(y.iter().flat_map(|code| code.to_ne_bytes()));\n    }}\n    \
                 fs::write(\"{index}.out\", out).unwrap();\n}}\n"
            );
            let _ = writeln!(calls, "    run{index}();");
        }
        main += &format!("fn main() {{\n{calls}}}\n");
        fs::write(self.file("nets.rs"), library).unwrap();
        fs::write(self.file("main.rs"), main).unwrap();
        self.rustc(&["--crate-type", "rlib", "nets.rs"], flags);
        self.rustc(&["--extern", "nets=libnets.rlib", "-o", "rust-program", "main.rs"], flags);
        run(Command::new(self.file("rust-program")).current_dir(self.folder));
        self.outputs()
    }

    pub fn rustc(&self, arguments: &[&str], flags: &[&str]) {
        let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
        run(Command::new(rustc).current_dir(self.folder).args(["--edition", "2021", "-L", "."]).args(arguments).args(flags));
    }
}
