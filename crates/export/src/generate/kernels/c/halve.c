/* x / 2^n to nearest, ties away from zero. */
static int32_t halve(int64_t x, int32_t n)
{
    const int64_t half = ((int64_t)1 << n) >> 1;
    return (int32_t)(x < 0 ? -((half - x) >> n) : (x + half) >> n);
}
