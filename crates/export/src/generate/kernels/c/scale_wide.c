/* sum * m0 * 2^(shift - 31) with the 15 highest bits of m0, rounded once, ties up. */
static int32_t scale_wide(int64_t sum, int32_t m0, int32_t shift)
{
    const int32_t reduced = m0 < 0x7fff0000 ? (m0 + ((int32_t)1 << 15)) >> 16 : 0x7fff;
    const int32_t total = 15 - shift;
    return (int32_t)shift_right(sum * reduced + ((int64_t)1 << (total - 1)), total);
}
