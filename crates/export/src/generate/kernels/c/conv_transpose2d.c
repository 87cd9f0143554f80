struct conv_transpose2d_@n@ {
    int32_t h_in, w_in, c_out, h_out, w_out;
    int32_t group_in, group_out; /* channels of one group */
    int32_t kernel[2], stride[2], padding[2], dilation[2]; /* padding cut above and to the left */
    int32_t zero_in, zero_out, min, max;
    const @weight@ *weights; /* [c_out, group_in, kernel[0], kernel[1]] */
    const @sum@ *bias;
    const int32_t *m0;
    const int8_t *shift;
};

/* The input coordinate that a kernel tap spreads to an output coordinate, or -1. */
static int32_t source_@n@(int32_t spread, int32_t stride, int32_t size)
{
    return spread >= 0 && spread % stride == 0 && spread / stride < size ? spread / stride : -1;
}

/* 2-D transposed convolution: every output sums the inputs whose kernels lie over it. */
static void conv_transpose2d_@n@(const struct conv_transpose2d_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t c = 0; c < p->c_out; c++) {
        const int32_t first = c / p->group_out * p->group_in;
        for (int32_t oy = 0; oy < p->h_out; oy++) {
            for (int32_t ox = 0; ox < p->w_out; ox++) {
                @sum@ sum = p->bias[c];
                for (int32_t i = 0; i < p->group_in; i++) {
                    for (int32_t ky = 0; ky < p->kernel[0]; ky++) {
                        const int32_t iy = source_@n@(oy + p->padding[0] - ky * p->dilation[0], p->stride[0], p->h_in);
                        if (iy < 0) {
                            continue;
                        }
                        const int32_t row = ((first + i) * p->h_in + iy) * p->w_in;
                        const int32_t weights = ((c * p->group_in + i) * p->kernel[0] + ky) * p->kernel[1];
                        for (int32_t kx = 0; kx < p->kernel[1]; kx++) {
                            const int32_t ix = source_@n@(ox + p->padding[1] - kx * p->dilation[1], p->stride[1], p->w_in);
                            if (ix >= 0) {
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
