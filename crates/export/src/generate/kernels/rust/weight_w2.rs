/// The weight at an index, four to a byte, the first one lowest.
fn weight_w2(weights: &[u8], index: usize) -> i32 {
    let code = i32::from(at(weights, index / 4) >> (index % 4 * 2)) & 3;
    if code < 2 { code } else { code - 4 }
}
