/// The weight at an index.
fn weight_w8(weights: &[i8], index: usize) -> i32 {
    at(weights, index).into()
}
