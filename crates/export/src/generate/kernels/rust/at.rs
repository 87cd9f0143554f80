/// The element at an index. Indices lie inside by construction; reading so keeps panics out of the program.
fn at<T: Copy + Default>(codes: &[T], index: usize) -> T {
    codes.get(index).copied().unwrap_or_default()
}
