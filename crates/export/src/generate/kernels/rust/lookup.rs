struct Lookup@N@ {
    /// By code, that of -128 first.
    table: &'static [@y@],
}

/// A function of one number.
fn lookup_@n@(p: &Lookup@N@, x: &[@x@], y: &mut [@y@]) {
    for (&x, y) in x.iter().zip(y) {
        *y = at(p.table, (i32::from(x) + 128) as usize);
    }
}
