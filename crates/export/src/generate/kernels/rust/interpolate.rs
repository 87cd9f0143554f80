/// Between the 513 points of a table over all 16-bit codes.
fn interpolate(code: i32, table: &[i16]) -> i32 {
    let (index, part) = ((code + 32_768) >> 7, (code + 32_768) & 127);
    let (below, above) = (at(table, index as usize), at(table, index as usize + 1));
    let slope = i32::from(above.wrapping_sub(below));
    ((i32::from(below) + ((slope * part + 64) >> 7)) as i16).into()
}
