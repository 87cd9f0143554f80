struct copy_@n@ {
    int32_t rows, length, size[AXES], x_step[AXES], y_step[AXES];
    int32_t x_first, x_inner, y_first, y_inner;
};

/* A box of codes, from some steps to others. */
static void copy_@n@(const struct copy_@n@ *p, const @x@ *x, @y@ *y)
{
    int32_t at[AXES] = {0};
    for (int32_t row = 0; row < p->rows; row++) {
        const @x@ *px = x + p->x_first + position(p->x_step, at);
        @y@ *py = y + p->y_first + position(p->y_step, at);
        for (int32_t i = 0; i < p->length; i++) {
            py[i * p->y_inner] = px[i * p->x_inner];
        }
        next(p->size, at);
    }
}
