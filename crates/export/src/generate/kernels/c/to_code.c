/* scaled + zero, confined to min..max. */
static int32_t to_code(int32_t scaled, int32_t zero, int32_t min, int32_t max)
{
    return scaled < min - zero ? min : scaled > max - zero ? max : scaled + zero;
}
