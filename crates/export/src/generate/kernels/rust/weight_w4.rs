/// The weight at an index, two to a byte, the first one lowest.
fn weight_w4(weights: &[u8], index: usize) -> i32 {
    let code = i32::from(at(weights, index / 2) >> (index % 2 * 4)) & 15;
    if code < 8 { code } else { code - 16 }
}
