struct max_pool2d_@n@ {
    int32_t channels, h_in, w_in, h_out, w_out;
    int32_t kernel[2], stride[2], padding[2], dilation[2]; /* padding above and to the left */
};

/* Largest code under the window; padding never wins. */
static void max_pool2d_@n@(const struct max_pool2d_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t c = 0; c < p->channels; c++) {
        for (int32_t oy = 0; oy < p->h_out; oy++) {
            for (int32_t ox = 0; ox < p->w_out; ox++) {
                @x@ largest = @lowest@;
                for (int32_t ky = 0; ky < p->kernel[0]; ky++) {
                    const int32_t iy = oy * p->stride[0] + ky * p->dilation[0] - p->padding[0];
                    if (iy < 0 || iy >= p->h_in) {
                        continue;
                    }
                    for (int32_t kx = 0; kx < p->kernel[1]; kx++) {
                        const int32_t ix = ox * p->stride[1] + kx * p->dilation[1] - p->padding[1];
                        if (ix >= 0 && ix < p->w_in && x[(c * p->h_in + iy) * p->w_in + ix] > largest) {
                            largest = x[(c * p->h_in + iy) * p->w_in + ix];
                        }
                    }
                }
                *y++ = largest;
            }
        }
    }
}
