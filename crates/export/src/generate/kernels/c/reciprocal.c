/* x * 2^n, confined to 32 bits. */
static int32_t doubled(int32_t x, int32_t n)
{
    const int64_t result = (int64_t)x * ((int64_t)1 << n);
    return (int32_t)(result > INT32_MAX ? INT32_MAX : result < INT32_MIN ? INT32_MIN : result);
}

/* 1 / (1 + x) for x in [0, 1], both in 2^-31, by three steps of Newton and Raphson. */
static int32_t one_over_one_plus(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t result = 1515870810 + high_product(half, -1010580540);
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = ((int32_t)1 << 29) - high_product(half, result);
        result += doubled(high_product(result, error), 2);
    }
    return doubled(result, 1);
}
