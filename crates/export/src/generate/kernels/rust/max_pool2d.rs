struct MaxPool2d@N@ {
    channels: usize,
    h_in: usize,
    w_in: usize,
    h_out: usize,
    w_out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Above and to the left.
    padding: [usize; 2],
    dilation: [usize; 2],
}

/// Largest code under the window; padding never wins.
fn max_pool2d_@n@(p: &MaxPool2d@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for c in 0..p.channels {
        for oy in 0..p.h_out {
            for ox in 0..p.w_out {
                let mut largest = @x@::MIN;
                for ky in 0..p.kernel[0] {
                    // Above the image the difference wraps around to a row below it.
                    let iy = (oy * p.stride[0] + ky * p.dilation[0]).wrapping_sub(p.padding[0]);
                    if iy >= p.h_in {
                        continue;
                    }
                    for kx in 0..p.kernel[1] {
                        let ix = (ox * p.stride[1] + kx * p.dilation[1]).wrapping_sub(p.padding[1]);
                        if ix < p.w_in {
                            largest = largest.max(at(x, (c * p.h_in + iy) * p.w_in + ix));
                        }
                    }
                }
                if let Some(code) = codes.next() {
                    *code = largest;
                }
            }
        }
    }
}
