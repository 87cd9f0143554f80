//! Weights of other programs: what is loaded computes what it computed there, and what does not fit is listed.

mod refusals;
mod resnet20;
mod round_trip;
mod tiny;
