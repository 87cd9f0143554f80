/* The weight at an index, four to a byte, the first one lowest. */
static int32_t weight_w2(const uint8_t *weights, int32_t at)
{
    const int32_t code = (weights[at >> 2] >> ((at & 3) * 2)) & 3;
    return code < 2 ? code : code - 4;
}
