/// `a * b / 2^31` to nearest, ties up.
fn high_product(a: i64, b: i32) -> i32 {
    ((a * i64::from(b) + (1 << 30)) >> 31) as i32
}
