struct Linear@N@ {
    rows: usize,
    d_input: usize,
    d_output: usize,
    zero_in: i32,
    zero_out: i32,
    min: i32,
    max: i32,
    /// `[d_output, d_input]`.
    weights: &'static [@weight@],
    bias: &'static [@sum@],
    m0: &'static [i32],
    shift: &'static [i8],
}

/// Fully connected layer on every row.
fn linear_@n@(p: &Linear@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for row in 0..p.rows {
        for o in 0..p.d_output {
            let mut sum = at(p.bias, o);
            for i in 0..p.d_input {
                let centred = i32::from(at(x, row * p.d_input + i)) - p.zero_in;
                sum += @[@@w@(p.weights, o * p.d_input + i) * centred@]@;
            }
            if let Some(code) = codes.next() {
                let scaled = @scale@(sum, at(p.m0, o), at(p.shift, o).into());
                *code = to_code(scaled, p.zero_out, p.min, p.max) as @y@;
            }
        }
    }
}
