struct linear_@n@ {
    int32_t rows, d_input, d_output;
    int32_t zero_in, zero_out, min, max;
    const @weight@ *weights; /* [d_output, d_input] */
    const @sum@ *bias;
    const int32_t *m0;
    const int8_t *shift;
};

/* Fully connected layer on every row. */
static void linear_@n@(const struct linear_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t row = 0; row < p->rows; row++) {
        for (int32_t o = 0; o < p->d_output; o++) {
            @sum@ sum = p->bias[o];
            for (int32_t i = 0; i < p->d_input; i++) {
                sum += @w@(p->weights, o * p->d_input + i) * (x[row * p->d_input + i] - p->zero_in);
            }
            *y++ = (@y@)to_code(@scale@(sum, p->m0[o], p->shift[o]), p->zero_out, p->min, p->max);
        }
    }
}
