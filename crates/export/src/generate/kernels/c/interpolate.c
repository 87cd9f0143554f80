/* Between the 513 points of a table over all 16-bit codes. */
static int32_t interpolate(int32_t code, const int16_t *table)
{
    const int32_t at = (code + 32768) >> 7;
    const int32_t slope = (int32_t)table[at + 1] - table[at];
    return table[at] + (int32_t)shift_right(slope * ((code + 32768) & 127) + 64, 7);
}
