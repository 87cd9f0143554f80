struct add_@n@ {
    int32_t rows, length, size[AXES], a_step[AXES], b_step[AXES], a_inner, b_inner;
    int32_t a_zero, b_zero, y_zero, min, max;
    int32_t left; /* both terms are this many bits finer than their common grid */
    int32_t a_m0, a_shift, b_m0, b_shift, y_m0, y_shift;
    int32_t sign; /* of the second term */
};

/* a + b or a - b on a common grid of twice the larger scale. */
static void add_@n@(const struct add_@n@ *p, const @x@ *a, const @x@ *b, @y@ *y)
{
    int32_t at[AXES] = {0};
    for (int32_t row = 0; row < p->rows; row++) {
        const @x@ *pa = a + position(p->a_step, at);
        const @x@ *pb = b + position(p->b_step, at);
        for (int32_t i = 0; i < p->length; i++) {
            const int32_t va = (pa[i * p->a_inner] - p->a_zero) * ((int32_t)1 << p->left);
            const int32_t vb = (pb[i * p->b_inner] - p->b_zero) * ((int32_t)1 << p->left);
            const int32_t sum = scale_sum(va, p->a_m0, p->a_shift) + p->sign * scale_sum(vb, p->b_m0, p->b_shift);
            *y++ = (@y@)to_code(scale_sum(sum, p->y_m0, p->y_shift), p->y_zero, p->min, p->max);
        }
        next(p->size, at);
    }
}
