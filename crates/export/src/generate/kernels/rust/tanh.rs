struct Tanh@N@ {
    /// From codes to parts of the table's steps.
    multiplier: i32,
    shift: u32,
    table: &'static [i16],
}

/// `tanh x = 2 / (1 + e^-2x) - 1`, Q0.15.
fn tanh_@n@(p: &Tanh@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        let place = (i64::from(x) * i64::from(p.multiplier) + ((1 << p.shift) >> 1)) >> p.shift;
        let value = logistic_at(p.table, place.abs() as i32, 8, 65_535) - (1 << 23);
        *y = ((if place < 0 { 127 - value } else { 128 + value }) >> 8) as @y@;
    }
}
