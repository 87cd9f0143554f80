//! The qat command.
fn main() {}
