struct Gather@N@ {
    rows: usize,
    width: usize,
    /// Of the output, for indices outside the table.
    zero: i32,
    /// `[rows, width]`.
    weights: &'static [@weight@],
}

/// Rows of a table by their indices.
fn gather_@n@(p: &Gather@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for &index in x {
        let row = usize::try_from(index).ok().filter(|&row| row < p.rows);
        for column in 0..p.width {
            if let Some(code) = codes.next() {
                *code = row.map_or(p.zero, |row| @w@(p.weights, row * p.width + column)) as @y@;
            }
        }
    }
}
