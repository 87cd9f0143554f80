//! Tables of functions of one number, as the runtime makes them.

use qat_runtime::{Function, Rules, SoftmaxTable, ValueInfo, softmax_table, unary_table};

/// Empty where the rules do not have the function, which validation then says.
pub fn unary(rules: Rules, function: Function, x: &ValueInfo, y: &ValueInfo) -> Vec<i16> {
    unary_table(rules, function, x, y).unwrap_or_default()
}

/// Empty where the rules do not have the operation, which validation then says.
pub fn softmax(rules: Rules, x: &ValueInfo) -> SoftmaxTable {
    softmax_table(rules, x).unwrap_or(SoftmaxTable::Real(Vec::new()))
}
