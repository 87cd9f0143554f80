struct fill_@n@ {
    int32_t length, code;
};

/* One code everywhere. */
static void fill_@n@(const struct fill_@n@ *p, @y@ *y)
{
    for (int32_t i = 0; i < p->length; i++) {
        y[i] = (@y@)p->code;
    }
}
