/* Between the points of the table of the logistic, which lack 32768, with 2^bits parts from point to point; beyond the table
 * its end. */
static int32_t logistic_at(const int16_t *table, int32_t magnitude, int32_t bits, int32_t end)
{
    const int32_t point = magnitude >> bits;
    if (point >= 255) {
        return end * ((int32_t)1 << bits);
    }
    return (table[point] + 32768) * ((int32_t)1 << bits)
        + (magnitude & (((int32_t)1 << bits) - 1)) * ((int32_t)table[point + 1] - table[point]);
}
