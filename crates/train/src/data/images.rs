//! Labelled images as bytes.
//!
//! Bytes stay bytes until a batch is made, a quarter of the memory of floats; layout NCHW. What a model sees of them says
//! [`Normalize`], `byte / 255` where nothing else is said. Not here: where the bytes come from (see `idx`, `cifar` and `folder`).

use std::fmt;

use super::normalize::Normalize;

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
/// The readers of this module uphold `images.len() == N * C * H * W`, `labels.len() == N`, every label `< classes` and `class_names.len() == classes`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// The dataset's name, for messages and reports.
    pub name: String,
    /// `[C, H, W]` of one image, each at least 1.
    pub shape: [usize; 3],
    /// Number of classes; labels are in `[0, classes)`.
    pub classes: usize,
    /// What each class is called, for reports; [`class_numbers`] where nobody has said.
    pub class_names: Vec<String>,
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
            class_names: self.class_names.clone(),
            images: self.images[..keep * self.image_len()].to_vec(),
            labels: self.labels[..keep].to_vec(),
        }
    }

    /// The byte of each channel, if that is all there is to see in all images; `None` as well when there is no image.
    pub fn color(&self) -> Option<Vec<u8>> {
        let plane = self.shape[1] * self.shape[2];
        let color: Vec<u8> = self.images.chunks_exact(plane.max(1)).take(self.shape[0]).map(|plane| plane[0]).collect();
        let mut planes = self.images.chunks_exact(plane.max(1)).zip(color.iter().cycle());
        (!self.is_empty() && planes.all(|(plane, byte)| plane.iter().all(|pixel| pixel == byte))).then_some(color)
    }

    /// Every image as a model sees it that was trained on `byte / 255`, `[N, C, H, W]`.
    pub fn to_f32(&self) -> Vec<f32> {
        self.normalized(&Normalize::unit())
    }

    /// Every image as a model of this normalization sees it, `[N, C, H, W]`.
    ///
    /// # Panics
    ///
    /// Panics when `normalize` does not [suit](Normalize::suits) the channels.
    pub fn normalized(&self, normalize: &Normalize) -> Vec<f32> {
        let mut reals = Vec::with_capacity(self.images.len());
        for image in self.images.chunks_exact(self.image_len().max(1)) {
            normalize.append(image, self.shape[1] * self.shape[2], &mut reals);
        }
        reals
    }
}

/// Names of classes that have none: "0", "1", ….
pub fn class_numbers(classes: usize) -> Vec<String> {
    (0..classes).map(|class| class.to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> ImageSet {
        ImageSet {
            name: "tiny".into(),
            shape: [1, 1, 2],
            classes: 10,
            class_names: class_numbers(10),
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
    fn one_color_is_told_from_anything_else() {
        let of = |images: &[u8], shape: [usize; 3]| {
            let labels = vec![0; images.len() / shape.iter().product::<usize>()];
            ImageSet { shape, images: images.to_vec(), labels, ..set() }.color()
        };
        assert_eq!(of(&[7, 7, 7, 7], [1, 1, 2]), Some(vec![7]));
        assert_eq!(of(&[7, 7, 9, 9, 7, 7, 9, 9], [2, 1, 2]), Some(vec![7, 9]));
        assert_eq!(of(&[7, 7, 9, 9, 7, 7, 9, 8], [2, 1, 2]), None);
        assert_eq!(of(&[7, 7, 8, 8], [1, 1, 2]), None, "images that differ from each other");
        assert_eq!(of(&[], [1, 1, 2]), None);
    }

    #[test]
    fn an_image_is_its_own_bytes() {
        assert_eq!(set().image(1), [51, 102]);
    }
}
