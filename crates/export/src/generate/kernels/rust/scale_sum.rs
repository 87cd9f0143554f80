/// `sum * m0 * 2^(shift - 31)`, rounded twice: at the high half of the product and at the shift to the right.
fn scale_sum(sum: i32, m0: i32, shift: i32) -> i32 {
    let (left, right) = (shift.max(0), (-shift).max(0));
    halve(high_product(i64::from(sum) << left, m0).into(), right as u32)
}
