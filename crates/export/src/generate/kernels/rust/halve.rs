/// `x / 2^n` to nearest, ties away from zero.
fn halve(x: i64, n: u32) -> i32 {
    let half = (1 << n) >> 1;
    (if x < 0 { -((half - x) >> n) } else { (x + half) >> n }) as i32
}
