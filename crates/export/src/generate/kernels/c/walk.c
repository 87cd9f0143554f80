enum { AXES = @axes@ };

/* Counts through a box, the last axis fastest. */
static void next(const int32_t *size, int32_t *at)
{
    int32_t axis = AXES - 1;
    while (axis > 0 && at[axis] + 1 == size[axis]) {
        at[axis] = 0;
        axis -= 1;
    }
    at[axis] += 1;
}

/* Where the element at these coordinates stands. */
static int32_t position(const int32_t *step, const int32_t *at)
{
    int32_t sum = 0;
    for (int32_t axis = 0; axis < AXES; axis++) {
        sum += step[axis] * at[axis];
    }
    return sum;
}
