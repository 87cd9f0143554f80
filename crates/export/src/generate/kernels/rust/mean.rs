struct Mean@N@ {
    /// Of the axes that stay.
    size: [usize; AXES],
    step: [usize; AXES],
    /// Of those that are summed.
    rows: usize,
    length: usize,
    inner_size: [usize; AXES],
    inner_step: [usize; AXES],
    inner: usize,
    zero_in: i32,
    zero_out: i32,
    /// The division is in them.
    m0: i32,
    shift: i32,
}

/// Mean over some axes.
fn mean_@n@(p: &Mean@N@, x: &[@x@], y: &mut [@y@]) {
    let mut place = [0; AXES];
    for code in y {
        let first = position(&p.step, &place);
        let (mut inner, mut sum) = ([0; AXES], 0);
        for _ in 0..p.rows {
            let row = first + position(&p.inner_step, &inner);
            for i in 0..p.length {
                sum += i32::from(at(x, row + i * p.inner)) - p.zero_in;
            }
            next(&p.inner_size, &mut inner);
        }
        *code = to_code(scale_sum(sum, p.m0, p.shift), p.zero_out, @y@::MIN.into(), @y@::MAX.into()) as @y@;
        next(&p.size, &mut place);
    }
}
