struct Copy@N@ {
    rows: usize,
    length: usize,
    size: [usize; AXES],
    x_step: [usize; AXES],
    y_step: [usize; AXES],
    x_first: usize,
    x_inner: usize,
    y_first: usize,
    y_inner: usize,
}

/// A box of codes, from some steps to others.
fn copy_@n@(p: &Copy@N@, x: &[@x@], y: &mut [@y@]) {
    let mut place = [0; AXES];
    for _ in 0..p.rows {
        let first_x = p.x_first + position(&p.x_step, &place);
        let first_y = p.y_first + position(&p.y_step, &place);
        for i in 0..p.length {
            if let Some(code) = y.get_mut(first_y + i * p.y_inner) {
                *code = at(x, first_x + i * p.x_inner);
            }
        }
        next(&p.size, &mut place);
    }
}
