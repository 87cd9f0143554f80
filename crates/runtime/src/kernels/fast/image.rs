//! Images of codes + 128 inside a border of real 0, channels last, as the sums of products read them.

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

    /// Writes the image `x` and its border to the start of `image`; what stands behind is left as it is.
    #[inline(always)]
    pub(super) fn fill<I: Instructions>(&self, x: &[i8], image: &mut [I::Code]) {
        let ([_, w, c], [top, left, bottom, right]) = (self.size, self.border);
        let zero = I::code(self.zero_point);
        let row = self.framed()[1] * c;
        let (above, rest) = image[..self.length()].split_at_mut(top * row);
        let (middle, below) = rest.split_at_mut(self.size[0] * row);
        debug_assert_eq!(below.len(), bottom * row);
        above.fill(zero);
        below.fill(zero);
        for (to, codes) in middle.chunks_exact_mut(row).zip(x.chunks_exact(w * c)) {
            let (before, to) = to.split_at_mut(left * c);
            let (to, after) = to.split_at_mut(w * c);
            debug_assert_eq!(after.len(), right * c);
            before.fill(zero);
            after.fill(zero);
            for (to, &code) in to.iter_mut().zip(codes) {
                *to = I::code(code);
            }
        }
    }
}
