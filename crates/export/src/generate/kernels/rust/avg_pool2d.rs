struct AvgPool2d@N@ {
    channels: usize,
    h_in: usize,
    w_in: usize,
    h_out: usize,
    w_out: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    /// Above and to the left.
    padding: [usize; 2],
}

/// Mean of the codes under the window, ties away from zero; padding does not count.
fn avg_pool2d_@n@(p: &AvgPool2d@N@, x: &[@x@], y: &mut [@y@]) {
    let mut codes = y.iter_mut();
    for c in 0..p.channels {
        for oy in 0..p.h_out {
            for ox in 0..p.w_out {
                let (mut sum, mut count) = (0i32, 0i32);
                for ky in 0..p.kernel[0] {
                    // Above the image the difference wraps around to a row below it.
                    let iy = (oy * p.stride[0] + ky).wrapping_sub(p.padding[0]);
                    if iy >= p.h_in {
                        continue;
                    }
                    for kx in 0..p.kernel[1] {
                        let ix = (ox * p.stride[1] + kx).wrapping_sub(p.padding[1]);
                        if ix < p.w_in {
                            sum += i32::from(at(x, (c * p.h_in + iy) * p.w_in + ix));
                            count += 1;
                        }
                    }
                }
                let half = if sum > 0 { count / 2 } else { -(count / 2) };
                if let Some(code) = codes.next() {
                    *code = (sum + half).checked_div(count).unwrap_or_default() as @y@;
                }
            }
        }
    }
}
