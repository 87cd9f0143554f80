struct Add@N@ {
    rows: usize,
    length: usize,
    size: [usize; AXES],
    a_step: [usize; AXES],
    b_step: [usize; AXES],
    a_inner: usize,
    b_inner: usize,
    a_zero: i32,
    b_zero: i32,
    y_zero: i32,
    min: i32,
    max: i32,
    /// Both terms are this many bits finer than their common grid.
    left: u32,
    a_m0: i32,
    a_shift: i32,
    b_m0: i32,
    b_shift: i32,
    y_m0: i32,
    y_shift: i32,
    /// Of the second term.
    sign: i32,
}

/// `a + b` or `a - b` on a common grid of twice the larger scale.
fn add_@n@(p: &Add@N@, a: &[@x@], b: &[@x@], y: &mut [@y@]) {
    let (mut place, mut codes) = ([0; AXES], y.iter_mut());
    for _ in 0..p.rows {
        let (first_a, first_b) = (position(&p.a_step, &place), position(&p.b_step, &place));
        for i in 0..p.length {
            let va = (i32::from(at(a, first_a + i * p.a_inner)) - p.a_zero) << p.left;
            let vb = (i32::from(at(b, first_b + i * p.b_inner)) - p.b_zero) << p.left;
            let sum = scale_sum(va, p.a_m0, p.a_shift) + p.sign * scale_sum(vb, p.b_m0, p.b_shift);
            if let Some(code) = codes.next() {
                *code = to_code(scale_sum(sum, p.y_m0, p.y_shift), p.y_zero, p.min, p.max) as @y@;
            }
        }
        next(&p.size, &mut place);
    }
}
