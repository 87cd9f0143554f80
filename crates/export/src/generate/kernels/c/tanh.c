struct tanh_@n@ {
    int32_t length;
    int32_t multiplier, shift; /* from codes to parts of the table's steps */
    const int16_t *table;
};

/* tanh x = 2 / (1 + e^-2x) - 1, Q0.15. */
static void tanh_@n@(const struct tanh_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        const int64_t half = ((int64_t)1 << p->shift) >> 1;
        const int32_t at = (int32_t)shift_right((int64_t)x[i] * p->multiplier + half, p->shift);
        const int32_t value = logistic_at(p->table, at < 0 ? -at : at, 8, 65535) - ((int32_t)1 << 23);
        y[i] = (@y@)shift_right(at < 0 ? 127 - value : 128 + value, 8);
    }
}
