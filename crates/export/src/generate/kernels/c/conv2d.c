struct conv2d_@n@ {
    int32_t h_in, w_in, c_out, h_out, w_out;
    int32_t group_in, group_out; /* channels of one group */
    int32_t kernel[2], stride[2], padding[2], dilation[2]; /* padding above and to the left */
    int32_t zero_in, zero_out, min, max;
    const @weight@ *weights; /* [c_out, group_in, kernel[0], kernel[1]] */
    const @sum@ *bias;
    const int32_t *m0;
    const int8_t *shift;
};

/* 2-D convolution. Padding is real 0, which adds nothing. */
static void conv2d_@n@(const struct conv2d_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t c = 0; c < p->c_out; c++) {
        const int32_t first = c / p->group_out * p->group_in;
        for (int32_t oy = 0; oy < p->h_out; oy++) {
            for (int32_t ox = 0; ox < p->w_out; ox++) {
                @sum@ sum = p->bias[c];
                for (int32_t i = 0; i < p->group_in; i++) {
                    for (int32_t ky = 0; ky < p->kernel[0]; ky++) {
                        const int32_t iy = oy * p->stride[0] + ky * p->dilation[0] - p->padding[0];
                        if (iy < 0 || iy >= p->h_in) {
                            continue;
                        }
                        const int32_t row = ((first + i) * p->h_in + iy) * p->w_in;
                        const int32_t weights = ((c * p->group_in + i) * p->kernel[0] + ky) * p->kernel[1];
                        for (int32_t kx = 0; kx < p->kernel[1]; kx++) {
                            const int32_t ix = ox * p->stride[1] + kx * p->dilation[1] - p->padding[1];
                            if (ix >= 0 && ix < p->w_in) {
                                sum += @w@(p->weights, weights + kx) * (x[row + ix] - p->zero_in);
                            }
                        }
                    }
                }
                *y++ = (@y@)to_code(@scale@(sum, p->m0[c], p->shift[c]), p->zero_out, p->min, p->max);
            }
        }
    }
}
