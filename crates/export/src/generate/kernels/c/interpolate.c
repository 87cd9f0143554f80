/* x in 16 bits, as a conversion that wraps around. */
static int32_t wrapped(int32_t x)
{
    const int32_t low = x & 0xffff;
    return low < 32768 ? low : low - 65536;
}

/* Between the 513 points of a table over all 16-bit codes. */
static int32_t interpolate(int32_t code, const int16_t *table)
{
    const int32_t at = (code + 32768) >> 7;
    const int32_t slope = wrapped((int32_t)table[at + 1] - table[at]);
    return wrapped(table[at] + (int32_t)shift_right(slope * ((code + 32768) & 127) + 64, 7));
}
