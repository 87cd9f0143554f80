/* The weight at an index. */
static int32_t weight_w8(const int8_t *weights, int32_t at)
{
    return weights[at];
}
