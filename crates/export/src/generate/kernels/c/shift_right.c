/* floor(x / 2^n): an arithmetic shift, where C leaves the one of negative numbers to the implementation. */
static int64_t shift_right(int64_t x, int32_t n)
{
    return x < 0 ? -1 - ((-1 - x) >> n) : x >> n;
}
