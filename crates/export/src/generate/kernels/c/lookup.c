struct lookup_@n@ {
    int32_t length;
    const @y@ *table; /* by code, that of -128 first */
};

/* A function of one number. */
static void lookup_@n@(const struct lookup_@n@ *p, const @x@ *x, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = p->table[x[i] + 128];
    }
}
