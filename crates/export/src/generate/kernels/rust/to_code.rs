/// `scaled + zero`, confined to `min..=max`.
fn to_code(scaled: i32, zero: i32, min: i32, max: i32) -> i32 {
    if scaled < min - zero {
        min
    } else if scaled > max - zero {
        max
    } else {
        scaled + zero
    }
}
