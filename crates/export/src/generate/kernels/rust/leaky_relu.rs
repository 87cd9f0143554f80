struct LeakyRelu@N@ {
    above_m0: i32,
    above_shift: i32,
    below_m0: i32,
    below_shift: i32,
    /// Of the slope.
    sign: i32,
}

/// `x` from zero up, `slope * x` below.
fn leaky_relu_@n@(p: &LeakyRelu@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        let scaled = if x >= 0 {
            scale_sum(x.into(), p.above_m0, p.above_shift)
        } else {
            p.sign * scale_sum(x.into(), p.below_m0, p.below_shift)
        };
        *y = to_code(scaled, 0, @y@::MIN.into(), @y@::MAX.into()) as @y@;
    }
}
