struct softmax_@n@ {
    int32_t rows, depth;
    const int32_t *table; /* exponentials in 2^-31 by the distance from the largest code */
};

/* e^x over the sum of all, for every row, in 2^-8 with zero point -128. */
static void softmax_@n@(const struct softmax_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t row = 0; row < p->rows; row++) {
        int32_t largest = x[0];
        int32_t sum = 0;
        for (int32_t i = 1; i < p->depth; i++) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int32_t i = 0; i < p->depth; i++) {
            sum += halve(p->table[largest - x[i]], 12);
        }
        const int32_t zeros = leading_zeros(sum);
        const int32_t above_one = (int32_t)((int64_t)sum * ((int64_t)1 << zeros) - ((int64_t)1 << 31));
        const int32_t factor = one_over_one_plus(above_one);
        for (int32_t i = 0; i < p->depth; i++) {
            const int32_t share = high_product(factor, p->table[largest - x[i]]);
            y[i] = (@y@)to_code(halve(share, 12 - zeros + 31 - 8), -128, -128, 127);
        }
        x += p->depth;
        y += p->depth;
    }
}
