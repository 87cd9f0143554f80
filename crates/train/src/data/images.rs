//! Labelled images as bytes.
//!
//! The model's input convention, everywhere: `real = byte / 255`, in `[0, 1]`, float32, layout NCHW. Bytes stay bytes until a
//! batch is made, a quarter of the memory of floats. Not here: where the bytes come from (see `idx` and `cifar`).

use std::fmt;

/// Which half of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The images a model learns from.
    Train,
    /// The images it is judged on.
    Test,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Test => "test",
        })
    }
}

/// `N` images of one shape with one label each.
///
/// The readers of this module uphold `images.len() == N * C * H * W`, `labels.len() == N` and every label `< classes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// The dataset's name, for messages and reports.
    pub name: String,
    /// `[C, H, W]` of one image, each at least 1.
    pub shape: [usize; 3],
    /// Number of classes; labels are in `[0, classes)`.
    pub classes: usize,
    /// Raw bytes, `[N, C, H, W]`, row-major.
    pub images: Vec<u8>,
    /// One class a image, `[N]`.
    pub labels: Vec<u8>,
}

impl ImageSet {
    /// Number of images `N`.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one image, `C * H * W`.
    pub fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// The bytes of image `index`, `[C, H, W]`.
    ///
    /// # Panics
    ///
    /// Panics when `index >= len()`.
    pub fn image(&self, index: usize) -> &[u8] {
        let len = self.image_len();
        &self.images[index * len..(index + 1) * len]
    }

    /// The first `limit` images; all of them when there are fewer.
    pub fn truncated(mut self, limit: usize) -> Self {
        let keep = limit.min(self.len());
        self.images.truncate(keep * self.image_len());
        self.labels.truncate(keep);
        self
    }

    /// A copy of the first `limit` images alone; of all of them when there are fewer.
    pub fn first(&self, limit: usize) -> Self {
        let keep = limit.min(self.len());
        Self {
            name: self.name.clone(),
            shape: self.shape,
            classes: self.classes,
            images: self.images[..keep * self.image_len()].to_vec(),
            labels: self.labels[..keep].to_vec(),
        }
    }

    /// Every image as the model sees it: `byte / 255`, `[N, C, H, W]`.
    pub fn to_f32(&self) -> Vec<f32> {
        self.images.iter().map(|&byte| real(byte)).collect()
    }
}

/// The real value of a byte: `byte / 255`, by division so that 255 is exactly 1.
pub(crate) fn real(byte: u8) -> f32 {
    f32::from(byte) / 255.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ImageSet {
        ImageSet {
            name: "tiny".into(),
            shape: [1, 1, 2],
            classes: 10,
            images: vec![0, 255, 51, 102, 1, 254],
            labels: vec![3, 1, 2],
        }
    }

    #[test]
    fn reals_are_bytes_over_255() {
        assert_eq!(set().to_f32(), [0.0, 1.0, 0.2, 0.4, 1.0 / 255.0, 254.0 / 255.0]);
    }

    #[test]
    fn truncation_keeps_the_first_images_with_their_labels() {
        let two = set().truncated(2);
        assert_eq!((two.len(), two.images.as_slice(), two.labels.as_slice()), (2, &[0u8, 255, 51, 102][..], &[3u8, 1][..]));
        assert_eq!(set().truncated(4), set());
        assert!(set().truncated(0).is_empty());
    }

    #[test]
    fn the_first_images_are_those_that_truncation_keeps() {
        for limit in 0..=4 {
            assert_eq!(set().first(limit), set().truncated(limit));
        }
    }

    #[test]
    fn an_image_is_its_own_bytes() {
        assert_eq!(set().image(1), [51, 102]);
    }
}
