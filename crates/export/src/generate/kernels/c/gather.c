struct gather_@n@ {
    int32_t length, rows, width;
    int32_t zero; /* of the output, for indices outside the table */
    const @weight@ *weights; /* [rows, width] */
};

/* Rows of a table by their indices. */
static void gather_@n@(const struct gather_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        const int32_t row = x[i];
        for (int32_t column = 0; column < p->width; column++) {
            *y++ = (@y@)(row >= 0 && row < p->rows ? @w@(p->weights, row * p->width + column) : p->zero);
        }
    }
}
