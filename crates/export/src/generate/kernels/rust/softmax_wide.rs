struct SoftmaxWide@N@ {
    depth: usize,
    /// From codes to 65535ths of 10.
    m0: i32,
    shift: i32,
    exp: &'static [i16],
    reciprocal: &'static [i16],
}

/// `e^x` over the sum of all, for every row, in `2^-15`.
fn softmax_wide_@n@(p: &SoftmaxWide@N@, x: &[@x@], y: &mut [@y@]) {
    let depth = p.depth.max(1);
    for (x, y) in x.chunks_exact(depth).zip(y.chunks_exact_mut(depth)) {
        let largest = x.iter().fold(@x@::MIN, |largest, &code| largest.max(code));
        let exponential = |code: @x@| {
            let scaled = scale_sum(i32::from(code) - i32::from(largest), p.m0, p.shift);
            interpolate(to_code(scaled, 32_767, -32_768, 32_767), p.exp)
        };
        let sum: i32 = x.iter().map(|&code| exponential(code)).sum();
        let zeros = sum.leading_zeros().max(1);
        let above_one = (((i64::from(sum) << (zeros - 1)) + (1 << 13)) >> 14) - (1 << 15) - (1 << 16);
        let factor = interpolate(to_code(above_one as i32, 0, -32_768, 32_767), p.reciprocal);
        let right = 31u32.saturating_sub(zeros).max(1);
        for (&code, y) in x.iter().zip(y) {
            let share = (i64::from(exponential(code)) * i64::from(factor) + (1 << (right - 1))) >> right;
            *y = to_code(share as i32, 0, 0, 32_767) as @y@;
        }
    }
}
