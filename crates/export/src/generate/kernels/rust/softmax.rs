struct Softmax@N@ {
    depth: usize,
    /// Exponentials in `2^-31` by the distance from the largest code.
    table: &'static [i32],
}

/// `e^x` over the sum of all, for every row, in `2^-8` with zero point -128.
fn softmax_@n@(p: &Softmax@N@, x: &[@x@], y: &mut [@y@]) {
    let depth = p.depth.max(1);
    for (x, y) in x.chunks_exact(depth).zip(y.chunks_exact_mut(depth)) {
        let largest = x.iter().fold(@x@::MIN, |largest, &code| largest.max(code));
        let exponential = |code: @x@| at(p.table, (i32::from(largest) - i32::from(code)) as usize);
        let sum: i32 = x.iter().map(|&code| halve(exponential(code).into(), 12)).sum();
        let zeros = sum.leading_zeros();
        let factor = one_over_one_plus(((i64::from(sum) << zeros) - (1 << 31)) as i32);
        for (&code, y) in x.iter().zip(y) {
            let share = high_product(factor.into(), exponential(code));
            *y = to_code(halve(share.into(), 12 + 31 - 8 - zeros.min(12)), -128, -128, 127) as @y@;
        }
    }
}
