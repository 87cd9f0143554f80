//! File structures of exchange formats, reading and writing.
//!
//! This crate knows how bytes become messages and how messages become bytes. It knows no semantics: what an operator computes
//! and what a quantized number means is said in the crates that use it.

mod elements;
pub mod onnx;
pub mod tflite;
