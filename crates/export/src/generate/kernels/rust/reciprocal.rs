/// `x * 2^n`, confined to 32 bits.
fn doubled(x: i32, n: u32) -> i32 {
    (i64::from(x) << n).clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

/// `1 / (1 + x)` for `x` in `[0, 1]`, both in `2^-31`, by three steps of Newton and Raphson.
fn one_over_one_plus(x: i32) -> i32 {
    let half = ((i64::from(x) + i64::from(i32::MAX) + 1) / 2) as i32;
    let mut result = 1_515_870_810 + high_product(half.into(), -1_010_580_540);
    for _ in 0..3 {
        let error = (1 << 29) - high_product(half.into(), result);
        result += doubled(high_product(result.into(), error), 2);
    }
    doubled(result, 1)
}
