struct mean_@n@ {
    int32_t count; /* of the output */
    int32_t size[AXES], step[AXES]; /* of the axes that stay */
    int32_t rows, length, inner_size[AXES], inner_step[AXES], inner; /* of those that are summed */
    int32_t zero_in, zero_out;
    int32_t m0, shift; /* the division is in them */
};

/* Mean over some axes. */
static void mean_@n@(const struct mean_@n@ *p, const @x@ *x, @y@ *y)
{
    int32_t at[AXES] = {0};
    for (int32_t o = 0; o < p->count; o++) {
        const @x@ *first = x + position(p->step, at);
        int32_t inner[AXES] = {0};
        int32_t sum = 0;
        for (int32_t row = 0; row < p->rows; row++) {
            const @x@ *px = first + position(p->inner_step, inner);
            for (int32_t i = 0; i < p->length; i++) {
                sum += px[i * p->inner] - p->zero_in;
            }
            next(p->inner_size, inner);
        }
        *y++ = (@y@)to_code(scale_sum(sum, p->m0, p->shift), p->zero_out, @lowest@, @highest@);
        next(p->size, at);
    }
}
