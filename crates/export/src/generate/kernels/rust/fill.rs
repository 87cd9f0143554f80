struct Fill@N@ {
    code: @y@,
}

/// One code everywhere.
fn fill_@n@(p: &Fill@N@, y: &mut [@y@]) {
    y.fill(p.code);
}
