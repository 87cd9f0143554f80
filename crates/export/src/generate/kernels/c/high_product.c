/* a * b / 2^31 to nearest, ties up. */
static int32_t high_product(int64_t a, int32_t b)
{
    return (int32_t)shift_right(a * b + ((int64_t)1 << 30), 31);
}
