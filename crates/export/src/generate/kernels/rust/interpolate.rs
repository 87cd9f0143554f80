/// Between the 513 points of a table over all 16-bit codes.
fn interpolate(code: i32, table: &[i16]) -> i32 {
    let (index, part) = ((code + 32_768) >> 7, (code + 32_768) & 127);
    let (below, above) = (i32::from(at(table, index as usize)), i32::from(at(table, index as usize + 1)));
    below + (((above - below) * part + 64) >> 7)
}
