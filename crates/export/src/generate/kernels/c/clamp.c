struct clamp_@n@ {
    int32_t length, min, max;
};

/* Codes confined to a range. */
static void clamp_@n@(const struct clamp_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = (@y@)to_code(x[i], 0, p->min, p->max);
    }
}
