/// Most axes that a kernel counts through.
const AXES: usize = @axes@;

/// Counts through a box, the last axis fastest.
fn next(size: &[usize; AXES], place: &mut [usize; AXES]) {
    for (place, &size) in place.iter_mut().zip(size).rev() {
        *place += 1;
        if *place < size {
            return;
        }
        *place = 0;
    }
}

/// Where the element at these coordinates stands.
fn position(step: &[usize; AXES], place: &[usize; AXES]) -> usize {
    step.iter().zip(place).map(|(step, place)| step * place).sum()
}
