struct requantize_@n@ {
    int32_t length, zero_in, zero_out;
    int32_t m0, shift;
};

/* The same numbers on another grid. */
static void requantize_@n@(const struct requantize_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = (@y@)to_code(scale_sum(x[i] - p->zero_in, p->m0, p->shift), p->zero_out, @lowest@, @highest@);
    }
}
