struct sigmoid_@n@ {
    int32_t length;
    int32_t multiplier, shift; /* from codes to parts of the table's steps */
    const int16_t *table;
};

/* 1 / (1 + e^-x), Q0.15. */
static void sigmoid_@n@(const struct sigmoid_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        const int64_t half = ((int64_t)1 << p->shift) >> 1;
        const int32_t at = (int32_t)shift_right((int64_t)x[i] * p->multiplier + half, p->shift);
        const int32_t value = logistic_at(p->table, at < 0 ? -at : at, 9, 65534);
        y[i] = (@y@)((at < 0 ? ((int32_t)1 << 25) - value + 511 : value + 512) >> 10);
    }
}
