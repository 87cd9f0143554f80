struct Sigmoid@N@ {
    /// From codes to parts of the table's steps.
    multiplier: i32,
    shift: u32,
    table: &'static [i16],
}

/// `1 / (1 + e^-x)`, Q0.15.
fn sigmoid_@n@(p: &Sigmoid@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        let place = (i64::from(x) * i64::from(p.multiplier) + ((1 << p.shift) >> 1)) >> p.shift;
        let value = logistic_at(p.table, place.abs() as i32, 9, 65_534);
        *y = ((if place < 0 { (1 << 25) - value + 511 } else { value + 512 }) >> 10) as @y@;
    }
}
