/// `sum * m0 * 2^(shift - 31)` with the 15 highest bits of `m0`, rounded once, ties up.
fn scale_wide(sum: i64, m0: i32, shift: i32) -> i32 {
    let reduced = if m0 < 0x7fff_0000 { (m0 + (1 << 15)) >> 16 } else { 0x7fff };
    let total = 15 - shift;
    ((sum * i64::from(reduced) + (1 << (total - 1))) >> total) as i32
}
