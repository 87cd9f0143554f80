//! Runs from the outside: how they stop and continue, and what they refuse.

mod devices;
mod float;
mod knobs;
mod quantized;
mod refusals;
mod report;
mod resume;
mod support;
mod tiny;
