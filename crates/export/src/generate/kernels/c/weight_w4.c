/* The weight at an index, two to a byte, the first one lowest. */
static int32_t weight_w4(const uint8_t *weights, int32_t at)
{
    const int32_t code = (weights[at >> 1] >> ((at & 1) * 4)) & 15;
    return code < 8 ? code : code - 16;
}
