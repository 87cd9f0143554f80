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
    /// Distance of neighbouring pixels, `[vertical, horizontal]`; real 0 lies between those that are apart.
    pub(super) spread: [usize; 2],
    /// The code of real 0.
    pub(super) zero_point: i8,
}

impl Frame {
    /// `[h, w]` with the border.
    pub(super) fn framed(&self) -> [usize; 2] {
        let ([h, w, _], [top, left, bottom, right]) = (self.size, self.border);
        [(h - 1) * self.spread[0] + 1 + top + bottom, (w - 1) * self.spread[1] + 1 + left + right]
    }

    /// Number of codes with the border.
    pub(super) fn length(&self) -> usize {
        let [h, w] = self.framed();
        h * w * self.size[2]
    }

    /// Writes some rows of the framed image, counted with the border, to their places in `image`.
    #[inline(always)]
    pub(super) fn fill<I: Instructions>(&self, rows: Range<usize>, x: &[i8], image: &mut [I::Code]) {
        let ([h, w, c], [top, left, ..], [down, across]) = (self.size, self.border, self.spread);
        let (zero, length) = (I::code(self.zero_point), self.framed()[1] * c);
        for (to, row) in image[rows.start * length..rows.end * length].chunks_exact_mut(length).zip(rows) {
            let row = row.checked_sub(top).filter(|row| row.is_multiple_of(down)).map(|row| row / down);
            let Some(row) = row.filter(|&row| row < h) else {
                to.fill(zero);
                continue;
            };
            let (before, to) = to.split_at_mut(left * c);
            let (to, after) = to.split_at_mut(((w - 1) * across + 1) * c);
            before.fill(zero);
            after.fill(zero);
            let codes = &x[row * w * c..(row + 1) * w * c];
            if across == 1 {
                write::<I>(codes, to);
            } else {
                to.fill(zero);
                for (to, codes) in to.chunks_mut(across * c).zip(codes.chunks_exact(c)) {
                    write::<I>(codes, &mut to[..c]);
                }
            }
        }
    }
}

#[inline(always)]
fn write<I: Instructions>(codes: &[i8], to: &mut [I::Code]) {
    for (to, &code) in to.iter_mut().zip(codes) {
        *to = I::code(code);
    }
}
