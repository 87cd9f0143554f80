//! Integer-only inference for models trained with `qat`.
//!
//! An [`IntegerModel`] is a topology, integer tensors and their scales; nothing in it refers to the float model it was
//! converted from. An [`Engine`] executes it with the arithmetic of named [`Rules`] and equals the runtime that they
//! name, bit for bit. This crate is `no_std` (with `alloc`), depends on nothing, and sees neither tensors nor files.

#![no_std]

extern crate alloc;

mod arena;
mod codes;
mod engine;
mod error;
mod fixed_point;
mod fixed_point16;
mod fma;
mod forward;
mod kernels;
mod memory;
mod model;
mod multipliers;
mod op;
mod packed;
mod plan;
mod real;
mod requantize;
mod rules;
mod sum_rule;
mod tables;
#[cfg(feature = "threads")]
mod team;
mod validate;

pub use codes::{CodeType, Codes, CodesRef};
pub use engine::{Allocated, Engine, RunError};
pub use error::ModelError;
pub use kernels::fast::Level;
pub use model::{IntegerModel, Node, QParams, ValueId, ValueInfo};
pub use multipliers::FixedMultiplier;
pub use op::{
    AvgPool2d, Clamp, Concat, Conv2d, ConvTranspose2d, Elementwise, Function, Gather, Linear, MatMul, MaxPool2d, Mean, Op, Pad,
    ResizeNearest, Slice, Softmax, SoftmaxTable, Transpose, Unary, Weights, broadcast,
};
pub use packed::{PackedCodes, WeightBits};
pub use requantize::{dequantize, quantize, quantize_int16, quantize_within, requantize, round_half_even_f32};
pub use rules::{Contract, Rules};
pub use tables::{softmax_table, unary_table};
