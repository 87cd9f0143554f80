struct Conv2d@N@ {
    h_in: usize,
    w_in: usize,
    c_out: usize,
    h_out: usize,
    w_out: usize,
    /// Channels of one group.
    group_in: usize,
    group_out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Above and to the left.
    padding: [usize; 2],
    dilation: [usize; 2],
    zero_in: i32,
    zero_out: i32,
    min: i32,
    max: i32,
    /// `[c_out, group_in, kernel[0], kernel[1]]`.
    weights: &'static [@weight@],
    bias: &'static [@sum@],
    m0: &'static [i32],
    shift: &'static [i8],
}

/// 2-D convolution. Padding is real 0, which adds nothing.
fn conv2d_@n@(p: &Conv2d@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for c in 0..p.c_out {
        let first = c / p.group_out.max(1) * p.group_in;
        for oy in 0..p.h_out {
            for ox in 0..p.w_out {
                let mut sum = at(p.bias, c);
                for i in 0..p.group_in {
                    for ky in 0..p.kernel[0] {
                        // Above the image the difference wraps around to a row below it.
                        let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.padding[0]);
                        if iy >= p.h_in {
                            continue;
                        }
                        let row = ((first + i) * p.h_in + iy) * p.w_in;
                        let weights = ((c * p.group_in + i) * p.kernel[0] + ky) * p.kernel[1];
                        for kx in 0..p.kernel[1] {
                            let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.padding[1]);
                            if ix < p.w_in {
                                let centred = i32::from(at(x, row + ix)) - p.zero_in;
                                sum += @[@@w@(p.weights, weights + kx) * centred@]@;
                            }
                        }
                    }
                }
                if let Some(code) = codes.next() {
                    let scaled = @scale@(sum, at(p.m0, c), at(p.shift, c).into());
                    *code = to_code(scaled, p.zero_out, p.min, p.max) as @y@;
                }
            }
        }
    }
}
