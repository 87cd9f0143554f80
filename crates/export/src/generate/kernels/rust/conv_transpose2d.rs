struct ConvTranspose2d@N@ {
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
    /// Cut above and to the left.
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

/// The input coordinate that a kernel tap spreads to an output coordinate.
fn source_@n@(output: usize, tap: usize, stride: usize, size: usize) -> Option<usize> {
    let spread = output.checked_sub(tap)?;
    let source = spread.checked_div(stride)?;
    (source * stride == spread && source < size).then_some(source)
}

/// 2-D transposed convolution: every output sums the inputs whose kernels lie over it.
fn conv_transpose2d_@n@(p: &ConvTranspose2d@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for c in 0..p.c_out {
        let first = c / p.group_out.max(1) * p.group_in;
        for oy in 0..p.h_out {
            for ox in 0..p.w_out {
                let mut sum = at(p.bias, c);
                for i in 0..p.group_in {
                    for ky in 0..p.kernel[0] {
                        let tap = ky * p.dilation[0];
                        let Some(iy) = source_@n@(oy + p.padding[0], tap, p.stride[0], p.h_in) else { continue };
                        let row = ((first + i) * p.h_in + iy) * p.w_in;
                        let weights = ((c * p.group_in + i) * p.kernel[0] + ky) * p.kernel[1];
                        for kx in 0..p.kernel[1] {
                            let tap = kx * p.dilation[1];
                            let Some(ix) = source_@n@(ox + p.padding[1], tap, p.stride[1], p.w_in) else { continue };
                            let centred = i32::from(at(x, row + ix)) - p.zero_in;
                            sum += @[@@w@(p.weights, weights + kx) * centred@]@;
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
