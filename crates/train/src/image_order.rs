//! Images as the input of a model that was not made for this project's: in its order of axes.
//!
//! Data has images `[C, H, W]`. A model from a file may take `[H, W, C]`, as those of TensorFlow do, one channel as `[H, W]`, or all
//! pixels in one row. The order is found from the sizes; where several fit, as for `[3, 3, 3]`, channels come first. Not here: what a
//! pixel's number means (see [`Normalize`](crate::data::Normalize)).

use crate::classifier::flat;
use burn::tensor::Tensor;
use qat::graph::ValueId;
use qat::{Activation, QatModel};

/// In which order a model takes the numbers of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageOrder {
    /// `[C, H, W]`.
    ChannelsFirst,
    /// `[H, W, C]`.
    ChannelsLast,
    /// `[H, W]`, of images with one channel.
    Plane,
    /// `[C · H · W]`, channel after channel.
    Row,
}

impl ImageOrder {
    /// The order in which a model with samples of shape `sample` takes images `[C, H, W]` of shape `image`; `None` where it cannot.
    pub fn of(sample: &[usize], image: [usize; 3]) -> Option<Self> {
        let [c, h, w] = image;
        match *sample {
            _ if sample == image => Some(Self::ChannelsFirst),
            _ if sample == [h, w, c] => Some(Self::ChannelsLast),
            _ if sample == [h, w] && c == 1 => Some(Self::Plane),
            [pixels] if pixels == c * h * w => Some(Self::Row),
            _ => None,
        }
    }

    /// The numbers of images of shape `image`, `[N, C, H, W]`, in this order.
    pub fn arranged(self, reals: Vec<f32>, image: [usize; 3]) -> Vec<f32> {
        let [c, h, w] = image;
        if self != Self::ChannelsLast {
            return reals;
        }
        let turned = reals
            .chunks_exact(c * h * w)
            .flat_map(|image| (0..h * w).flat_map(move |pixel| (0..c).map(move |channel| image[channel * h * w + pixel])));
        turned.collect()
    }
}

/// As [`QatModel::run`], of images `[N, C, H, W]`, which are put in the model's order.
///
/// # Panics
/// If the model does not take images of that shape.
pub fn run_images(model: &QatModel, images: Tensor<4>, visit: impl FnMut(ValueId, &Activation)) {
    let [_, c, h, w] = images.dims();
    let topology = model.topology();
    match ImageOrder::of(&topology.values[topology.input.0].sample_shape(), [c, h, w]) {
        Some(ImageOrder::ChannelsLast) => model.run(images.permute([0, 2, 3, 1]), visit),
        Some(ImageOrder::Plane) => model.run(images.flatten::<3>(1, 2), visit),
        Some(ImageOrder::Row) => model.run(images.flatten::<2>(1, 3), visit),
        // The model itself says what is wrong with another shape.
        Some(ImageOrder::ChannelsFirst) | None => model.run(images, visit),
    }
}

/// What the model gives for images `[N, C, H, W]`, flattened to `[N, d]`: its output, where [`Classifier::logits`](crate::Classifier::logits) stops before a softmax.
///
/// # Panics
/// As [`run_images`].
pub fn outputs(model: &QatModel, images: Tensor<4>) -> Tensor<2> {
    let mut found = None;
    run_images(model, images, |value, activation| {
        if value == model.topology().output {
            found = Some(flat(activation));
        }
    });
    found.expect("the output is defined by the last layers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_follows_from_the_sizes() {
        assert_eq!(ImageOrder::of(&[3, 32, 32], [3, 32, 32]), Some(ImageOrder::ChannelsFirst));
        assert_eq!(ImageOrder::of(&[32, 24, 3], [3, 32, 24]), Some(ImageOrder::ChannelsLast));
        assert_eq!(ImageOrder::of(&[28, 28], [1, 28, 28]), Some(ImageOrder::Plane));
        assert_eq!(ImageOrder::of(&[784], [1, 28, 28]), Some(ImageOrder::Row));
        assert_eq!(ImageOrder::of(&[28, 28], [3, 28, 28]), None);
        assert_eq!(ImageOrder::of(&[3, 28, 28], [3, 32, 32]), None);
    }

    #[test]
    fn channels_last_is_pixel_after_pixel() {
        let planes: Vec<f32> = (0..6).map(|x| x as f32).collect();
        assert_eq!(ImageOrder::ChannelsLast.arranged(planes.clone(), [3, 1, 2]), [0.0, 2.0, 4.0, 1.0, 3.0, 5.0]);
        assert_eq!(ImageOrder::Row.arranged(planes.clone(), [3, 1, 2]), planes);
    }
}
