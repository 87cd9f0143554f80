//! The cases of the parity matrix: files in every format, the codes that go in, and the codes that the engine gives.
//!
//! ```text
//! parity_cases operations FOLDER SEED OUTPUTS DRAWS      small models for each operation, granularity, width and kind of scales
//! parity_cases networks FOLDER SEED IMAGES CIFAR         four networks, briefly trained, on IMAGES test images; CIFAR may be missing
//! ```
//!
//! Both write `FOLDER/cases.json` and what it names. Generated C and Rust are compiled and run here, since their programs are
//! built by this crate's neighbours' tests; the runtimes of the other files are run by `tests/peers/parity.py`, which judges all of
//! them. Equal arguments give equal codes.

#[path = "../../../export/tests/generated/compilers.rs"]
mod compilers;
#[path = "../../../export/tests/models/mod.rs"]
mod models;
#[path = "../../../export/tests/peers/mod.rs"]
mod peers;

mod cases;
mod networks;
mod operations;

use std::{env, fs, path::PathBuf};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let usage = "usage: parity_cases operations FOLDER SEED OUTPUTS DRAWS | parity_cases networks FOLDER SEED IMAGES [CIFAR]";
    let [what, folder, seed, count, rest @ ..] = arguments.as_slice() else { panic!("{usage}") };
    let folder = PathBuf::from(folder);
    fs::create_dir_all(&folder).unwrap();
    let (seed, count) = (seed.parse().expect(usage), count.parse().expect(usage));
    let (cases, flags) = match what.as_str() {
        "operations" => (operations::cases(seed, count, rest[0].parse().expect(usage)), compilers_flags::QUICK),
        "networks" => (networks::cases(seed, count, rest.first().map(PathBuf::from)), compilers_flags::OPTIMIZED),
        _ => panic!("{usage}"),
    };
    cases::write(&folder, seed, &cases, flags);
}

/// How generated programs are compiled.
mod compilers_flags {
    use crate::cases::Flags;

    /// Many programs that run for a moment.
    pub const QUICK: Flags = Flags { c: &["-O1"], rust: &["-C", "opt-level=1"] };
    /// Few programs that run for long.
    pub const OPTIMIZED: Flags = Flags { c: &["-O2"], rust: &["-O"] };
}
