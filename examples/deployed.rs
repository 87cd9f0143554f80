//! Runs what `qat export` wrote for Rust and Burn on one image of 784 bytes, and prints its digit.
//!
//! ```text
//! cargo run --release -p qat-examples --bin deployed -- net.safetensors image.bin
//! cargo run --release -p qat-examples --bin deployed -- net.bpk image.bin
//! ```
//!
//! The network is the zoo's `lenet`. `docs/deploy.md` shows the lines of both functions.

use std::{error::Error, path::Path};

use burn::{
    module::Module,
    store::ModuleRecord,
    tensor::{Device, Tensor},
};
use qat_export::read_safetensors;
use qat_train::zoo::LeNet;

/// The class of the integers.
fn integers(file: &Path, pixels: &[f32]) -> Result<usize, Box<dyn Error>> {
    let model = read_safetensors(file)?;
    let scores = model.run_reference(&model.quantize_input(pixels))?.to_i32s();
    Ok((0..scores.len()).rev().max_by_key(|&class| scores[class]).unwrap_or_default())
}

/// The class of a plain module with quantized weights.
fn burn(file: &Path, pixels: &[f32]) -> Result<usize, Box<dyn Error>> {
    let device = Device::flex();
    let net = LeNet::init(&device).load_record(ModuleRecord::load(file)?);
    let scores = net.forward(Tensor::<1>::from_floats(pixels, &device).reshape([1, 1, 28, 28]));
    Ok(scores.argmax(1).into_scalar::<i64>() as usize)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, image] = arguments.as_slice() else { return Err("expected FILE IMAGE".into()) };
    let file = Path::new(file);
    let pixels: Vec<f32> = std::fs::read(image)?.into_iter().map(|byte| f32::from(byte) / 255.0).collect();
    if pixels.len() != 784 {
        return Err(format!("{image}: expected 784 bytes, found {}", pixels.len()).into());
    }
    let class = if file.extension().is_some_and(|extension| extension == "bpk") { burn } else { integers };
    println!("{}", class(file, &pixels)?);
    Ok(())
}
