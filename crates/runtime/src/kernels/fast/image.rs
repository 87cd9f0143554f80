//! Images of codes + 128 inside a border of real 0, channels last, as the sums of products read them.

use core::ops::Range;

use super::level::Instructions;

/// An image `[h, w, c]` inside its border.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// `[h, w, c]` of the image.
    pub(super) size: [usize; 3],
    /// `[top, left, bottom, right]`.
    pub(super) border: [usize; 4],
    /// The code of real 0.
    pub(super) zero_point: i8,
}

impl Frame {
    /// `[h, w]` with the border.
    pub(super) fn framed(&self) -> [usize; 2] {
        let [top, left, bottom, right] = self.border;
        [self.size[0] + top + bottom, self.size[1] + left + right]
    }

    /// Number of codes with the border.
    pub(super) fn length(&self) -> usize {
        let [h, w] = self.framed();
        h * w * self.size[2]
    }

    /// Writes some rows of the framed image, counted with the border, to their places in `image`.
    #[inline(always)]
    pub(super) fn fill<I: Instructions>(&self, rows: Range<usize>, x: &[i8], image: &mut [I::Code]) {
        let ([h, w, c], [top, left, ..]) = (self.size, self.border);
        let (zero, length) = (I::code(self.zero_point), self.framed()[1] * c);
        for (to, row) in image[rows.start * length..rows.end * length].chunks_exact_mut(length).zip(rows) {
            match row.checked_sub(top).filter(|&row| row < h) {
                Some(row) => {
                    let (before, to) = to.split_at_mut(left * c);
                    let (to, after) = to.split_at_mut(w * c);
                    before.fill(zero);
                    after.fill(zero);
                    for (to, &code) in to.iter_mut().zip(&x[row * w * c..]) {
                        *to = I::code(code);
                    }
                }
                None => to.fill(zero),
            }
        }
    }
}
