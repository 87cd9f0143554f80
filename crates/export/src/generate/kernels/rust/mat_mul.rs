struct MatMul@N@ {
    batches: usize,
    m: usize,
    k: usize,
    n: usize,
    /// Distances of neighbours in the second operand.
    k_step: usize,
    n_step: usize,
    a_zero: i32,
    b_zero: i32,
    y_zero: i32,
    min: i32,
    max: i32,
    m0: i32,
    shift: i32,
}

/// Matrix products of two activations.
fn mat_mul_@n@(p: &MatMul@N@, a: &[@x@], b: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for batch in 0..p.batches {
        for row in 0..p.m {
            for column in 0..p.n {
                let mut sum: @sum@ = 0;
                for k in 0..p.k {
                    let va = i32::from(at(a, (batch * p.m + row) * p.k + k)) - p.a_zero;
                    let vb = i32::from(at(b, batch * p.k * p.n + k * p.k_step + column * p.n_step)) - p.b_zero;
                    sum += @[@va * vb@]@;
                }
                if let Some(code) = codes.next() {
                    *code = to_code(@scale@(sum, p.m0, p.shift), p.y_zero, p.min, p.max) as @y@;
                }
            }
        }
    }
}
