//! Integer-only inference for models trained with `qat`.
//!
//! An [`IntegerModel`] is a topology, integer tensors and multipliers; nothing in it refers to the float model it was
//! converted from. An [`Engine`] executes it with the arithmetic of a named [`Contract`] and equals the runtime that the
//! contract names, bit for bit. This crate is `no_std` (with `alloc`), depends on nothing, and sees neither tensors nor files.

#![no_std]

extern crate alloc;

mod arena;
mod engine;
mod fma;
mod kernels;
mod model;
mod requantize;
mod validate;

pub use engine::{Engine, RunError};
pub use model::{
    Add, AvgPool2d, Contract, Conv2d, IntegerModel, Linear, MaxPool2d, ModelError, Node, Op, QParams, Requantize, ValueId,
    ValueInfo,
};
pub use requantize::{dequantize, quantize, requantize, round_half_even_f32};
