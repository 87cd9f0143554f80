struct mat_mul_@n@ {
    int32_t batches, m, k, n;
    int32_t k_step, n_step; /* distances of neighbours in the second operand */
    int32_t a_zero, b_zero, y_zero, min, max;
    int32_t m0, shift;
};

/* Matrix products of two activations. */
static void mat_mul_@n@(const struct mat_mul_@n@ *p, const @x@ *a, const @x@ *b, @y@ *y)
{
    for (int32_t batch = 0; batch < p->batches; batch++) {
        for (int32_t row = 0; row < p->m; row++) {
            for (int32_t column = 0; column < p->n; column++) {
                @sum@ sum = 0;
                for (int32_t k = 0; k < p->k; k++) {
                    const int32_t at_a = (batch * p->m + row) * p->k + k;
                    const int32_t at_b = batch * p->k * p->n + k * p->k_step + column * p->n_step;
                    sum += (@sum@)(a[at_a] - p->a_zero) * (b[at_b] - p->b_zero);
                }
                *y++ = (@y@)to_code(@scale@(sum, p->m0, p->shift), p->y_zero, p->min, p->max);
            }
        }
    }
}
