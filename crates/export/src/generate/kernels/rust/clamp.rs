struct Clamp@N@ {
    min: @x@,
    max: @x@,
}

/// Codes confined to a range.
fn clamp_@n@(p: &Clamp@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        *y = x.max(p.min).min(p.max);
    }
}
