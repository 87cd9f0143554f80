//! Source code that computes a model in integers alone, for processors without an operating system.
//!
//! A [`Plan`](plan::Plan) says what a program consists of: tables of constants, calls of kernels in order, and where each value
//! lies. Kernels are texts in `kernels/`, one file an operation and language, of which a program gets those that it calls; they
//! follow [`Rules::TfliteMicro`](qat_runtime::Rules). The languages print the same plan. Not here: what the numbers mean (see the
//! runtime's kernels).

pub(crate) mod arena;
pub(crate) mod c;
pub(crate) mod identifier;
pub(crate) mod kernel;
pub(crate) mod plan;
pub(crate) mod rust;
pub(crate) mod steps;
pub(crate) mod walk;
