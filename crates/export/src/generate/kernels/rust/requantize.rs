struct Requantize@N@ {
    zero_in: i32,
    zero_out: i32,
    m0: i32,
    shift: i32,
}

/// The same numbers on another grid.
fn requantize_@n@(p: &Requantize@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        let scaled = scale_sum(i32::from(x) - p.zero_in, p.m0, p.shift);
        *y = to_code(scaled, p.zero_out, @y@::MIN.into(), @y@::MAX.into()) as @y@;
    }
}
