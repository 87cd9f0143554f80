struct leaky_relu_@n@ {
    int32_t length;
    int32_t above_m0, above_shift, below_m0, below_shift;
    int32_t sign; /* of the slope */
};

/* x from zero up, slope * x below. */
static void leaky_relu_@n@(const struct leaky_relu_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        const int32_t scaled = x[i] >= 0 ? scale_sum(x[i], p->above_m0, p->above_shift)
                                         : p->sign * scale_sum(x[i], p->below_m0, p->below_shift);
        y[i] = (@y@)to_code(scaled, 0, @lowest@, @highest@);
    }
}
