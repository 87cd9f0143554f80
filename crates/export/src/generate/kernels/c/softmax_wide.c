struct softmax_wide_@n@ {
    int32_t rows, depth;
    int32_t m0, shift; /* from codes to 65535ths of 10 */
    const int16_t *exp, *reciprocal;
};

static int32_t exponential_@n@(const struct softmax_wide_@n@ *p, int32_t difference)
{
    const int32_t scaled = scale_sum(difference, p->m0, p->shift);
    return interpolate(to_code(scaled, 32767, -32768, 32767), p->exp);
}

/* e^x over the sum of all, for every row, in 2^-15. */
static void softmax_wide_@n@(const struct softmax_wide_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t row = 0; row < p->rows; row++) {
        int32_t largest = x[0];
        int32_t sum = 0;
        for (int32_t i = 1; i < p->depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int32_t i = 0; i < p->depth; i++) {
            sum += exponential_@n@(p, x[i] - largest);
        }
        const int32_t zeros = leading_zeros(sum);
        const int64_t rounded = ((int64_t)sum * ((int64_t)1 << (zeros - 1)) + ((int64_t)1 << 13)) >> 14;
        const int32_t above_one = (int32_t)(rounded - ((int64_t)1 << 15) - ((int64_t)1 << 16));
        const int32_t factor = interpolate(to_code(above_one, 0, -32768, 32767), p->reciprocal);
        const int32_t right = 31 - zeros;
        for (int32_t i = 0; i < p->depth; i++) {
            const int64_t share = (int64_t)exponential_@n@(p, x[i] - largest) * factor + ((int64_t)1 << (right - 1));
            y[i] = (@y@)to_code((int32_t)shift_right(share, right), 0, 0, 32767);
        }
        x += p->depth;
        y += p->depth;
    }
}
