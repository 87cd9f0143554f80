struct mul_@n@ {
    int32_t rows, length, size[AXES], a_step[AXES], b_step[AXES], a_inner, b_inner;
    int32_t a_zero, b_zero, y_zero, min, max;
    int32_t m0, shift;
};

/* a * b, element by element. */
static void mul_@n@(const struct mul_@n@ *p, const @x@ *a, const @x@ *b, @y@ *y)
{
    int32_t at[AXES] = {0};
    for (int32_t row = 0; row < p->rows; row++) {
        const @x@ *pa = a + position(p->a_step, at);
        const @x@ *pb = b + position(p->b_step, at);
        for (int32_t i = 0; i < p->length; i++) {
            const int32_t product = (pa[i * p->a_inner] - p->a_zero) * (pb[i * p->b_inner] - p->b_zero);
            *y++ = (@y@)to_code(scale_sum(product, p->m0, p->shift), p->y_zero, p->min, p->max);
        }
        next(p->size, at);
    }
}
