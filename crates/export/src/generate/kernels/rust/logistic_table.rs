/// Between the points of the table of the logistic, which lack 32768, with `2^bits` parts from point to point; beyond the table
/// its end.
fn logistic_at(table: &[i16], magnitude: i32, bits: u32, end: i32) -> i32 {
    let point = magnitude >> bits;
    if point >= 255 {
        return end << bits;
    }
    let (below, above) = (i32::from(at(table, point as usize)), i32::from(at(table, point as usize + 1)));
    ((below + 32_768) << bits) + (magnitude & ((1 << bits) - 1)) * (above - below)
}
