struct Mul@N@ {
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
    m0: i32,
    shift: i32,
}

/// `a * b`, element by element.
fn mul_@n@(p: &Mul@N@, a: &[@x@], b: &[@x@], y: &mut [@y@]) {
    let (mut place, mut codes) = ([0; AXES], y.iter_mut());
    for _ in 0..p.rows {
        let (first_a, first_b) = (position(&p.a_step, &place), position(&p.b_step, &place));
        for i in 0..p.length {
            let va = i32::from(at(a, first_a + i * p.a_inner)) - p.a_zero;
            let vb = i32::from(at(b, first_b + i * p.b_inner)) - p.b_zero;
            if let Some(code) = codes.next() {
                *code = to_code(scale_sum(va * vb, p.m0, p.shift), p.y_zero, p.min, p.max) as @y@;
            }
        }
        next(&p.size, &mut place);
    }
}
