/* sum * m0 * 2^(shift - 31), rounded twice: at the high half of the product and at the shift to the right. */
static int32_t scale_sum(int32_t sum, int32_t m0, int32_t shift)
{
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    return halve(high_product((int64_t)sum * ((int64_t)1 << left), m0), right);
}
