//! Images as the input of an integer model: in its order and in its units.
//!
//! Datasets have images `[C, H, W]` of bytes. A model that takes `[H, W, C]`, as those of TensorFlow Lite do, gets them in that order.
//! The scale of its input says what a pixel is: real numbers in `[0, 1]`, as this project trains, or bytes as they are, where the
//! input's codes reach further than 16.

use qat_runtime::{Codes, IntegerModel, ValueInfo};
use qat_train::data::ImageSet;

/// Codes on either side of which the input's reals decide between bytes and `[0, 1]`.
const REACH: f32 = 16.0;

/// The shape of the images that a model takes: its input's, channels first.
pub fn image_shape(input: &ValueInfo) -> Vec<usize> {
    match *input.shape {
        [h, w, c] if is_channels_last(input) => vec![c, h, w],
        _ => input.shape.clone(),
    }
}

/// Whether the input is `[H, W, C]`: its last dimension is a number of channels and its first is none.
fn is_channels_last(input: &ValueInfo) -> bool {
    matches!(*input.shape, [h, _, c] if c <= 4 && h > 4)
}

/// The codes of all images of a set of the model's [`image_shape`].
pub fn image_codes(model: &IntegerModel, set: &ImageSet) -> Codes {
    let input = model.input_info();
    let mut reals = set.to_f32();
    let reach = input.qparams.scale * (input.code_type.max() - input.code_type.min()) as f32;
    if reach > REACH {
        for (real, &byte) in reals.iter_mut().zip(&set.images) {
            *real = byte.into();
        }
    }
    if is_channels_last(input) {
        let [c, h, w] = set.shape;
        let turned = reals
            .chunks_exact(c * h * w)
            .flat_map(|image| (0..h * w).flat_map(move |pixel| (0..c).map(move |channel| image[channel * h * w + pixel])));
        reals = turned.collect();
    }
    model.quantize_input(&reals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_runtime::{Clamp, Node, Op, QParams, Rules, ValueId};
    use qat_train::data::class_numbers;

    fn model(shape: &[usize], scale: f32, zero_point: i32) -> IntegerModel {
        let value = |name| ValueInfo::int8(name, shape, QParams { scale, zero_point });
        IntegerModel {
            rules: Rules::LiteRt,
            values: vec![value("x"), value("y")],
            nodes: vec![Node { op: Op::Clamp(Clamp::INT8), inputs: vec![ValueId(0)], output: ValueId(1) }],
            input: ValueId(0),
            output: ValueId(1),
        }
    }

    fn set() -> ImageSet {
        let images = (0..3 * 5 * 2).collect();
        ImageSet { name: "test".into(), shape: [3, 5, 2], classes: 2, class_names: class_numbers(2), images, labels: vec![0] }
    }

    #[test]
    fn bytes_reach_a_model_of_bytes_in_its_order() {
        let model = model(&[5, 2, 3], 1.0, -128);
        assert_eq!(image_shape(model.input_info()), [3, 5, 2]);
        let codes = image_codes(&model, &set()).to_i32s();
        // Pixel 0 of the three planes, then pixel 1.
        assert_eq!(codes[..6], [0, 10, 20, 1, 11, 21].map(|byte| byte - 128));
    }

    #[test]
    fn a_model_of_unit_reals_gets_them_channels_first() {
        let model = model(&[3, 5, 2], 1.0 / 255.0, -128);
        assert_eq!(image_shape(model.input_info()), [3, 5, 2]);
        assert_eq!(image_codes(&model, &set()).to_i32s(), (0..30).map(|byte| byte - 128).collect::<Vec<i32>>());
    }
}
