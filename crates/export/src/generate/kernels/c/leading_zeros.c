/* Zeros above the highest bit of a number above 0. */
static int32_t leading_zeros(int32_t x)
{
    int32_t zeros = 0;
    while (x < (int32_t)1 << 30 && zeros < 30) {
        x *= 2;
        zeros += 1;
    }
    return zeros + 1;
}
