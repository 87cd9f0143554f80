//! Images as the input of a model from elsewhere: in its order and in its units.
//!
//! Datasets have images `[C, H, W]` of bytes. What a number of the input stands for is said by a run, by the network of the zoo, or by
//! `--input`. Where nobody says it, the scale of an integer model's input does: real numbers in `[0, 1]`, or bytes as they are, where the
//! input's codes reach further than 16; and of a float model it is found out.

use burn::tensor::Device;
use qat_runtime::{Codes, IntegerModel};
use qat_train::data::{ImageSet, Normalize};
use qat_train::{Classifier, ImageOrder, input_units};

use crate::error::CliError;
use crate::output::message;

/// Codes on either side of which the input's reals decide between bytes and `[0, 1]`.
const REACH: f32 = 16.0;

/// The shape of the images that a model with samples of shape `sample` takes, for messages: channels first.
pub fn image_shape(sample: &[usize]) -> Vec<usize> {
    match *sample {
        // The last dimension is a number of channels and the first is none.
        [h, w, c] if c <= 4 && h > 4 => vec![c, h, w],
        _ => sample.to_vec(),
    }
}

/// The codes of all images of a set that the model takes, in units that are known or else follow from the input's scale.
pub fn image_codes(model: &IntegerModel, set: &ImageSet, units: Option<&Normalize>) -> Codes {
    let input = model.input_info();
    let reach = input.qparams.scale * (input.code_type.max() - input.code_type.min()) as f32;
    let guess = if reach > REACH { Normalize::raw() } else { Normalize::unit() };
    let reals = set.normalized(units.unwrap_or(&guess));
    let order = ImageOrder::of(&input.shape, set.shape).unwrap_or(ImageOrder::ChannelsFirst);
    model.quantize_input(&order.arranged(reals, set.shape))
}

/// What `model`, of which nobody says it, sees of a pixel of `images`: what it knows best with, which is told unless `quiet`.
///
/// # Errors
/// The device cannot compute.
pub fn likeliest_units<M: Classifier>(model: &M, images: &ImageSet, device: &Device, quiet: bool) -> Result<Normalize, CliError> {
    let (units, losses) = input_units::likeliest(model, images, device)?;
    if !quiet {
        let losses: Vec<String> = losses.iter().map(|(name, loss)| format!("{name} {loss:.3}")).collect();
        let samples = images.len().min(input_units::SAMPLES);
        message(&format!(
            "input: {units}, {} (chosen by the loss on {samples} images: {}; --input says otherwise)",
            described(&units),
            losses.join(", ")
        ));
    }
    Ok(units)
}

/// The numbers that black and white become.
fn described(units: &Normalize) -> String {
    let (least, greatest) = units.range(0);
    format!("{least}…{greatest}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use qat_runtime::{Clamp, Node, Op, QParams, Rules, ValueId, ValueInfo};
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
        assert_eq!(image_shape(&model.input_info().shape), [3, 5, 2]);
        let codes = image_codes(&model, &set(), None).to_i32s();
        // Pixel 0 of the three planes, then pixel 1.
        assert_eq!(codes[..6], [0, 10, 20, 1, 11, 21].map(|byte| byte - 128));
    }

    #[test]
    fn a_model_of_unit_reals_gets_them_channels_first() {
        let model = model(&[3, 5, 2], 1.0 / 255.0, -128);
        assert_eq!(image_shape(&model.input_info().shape), [3, 5, 2]);
        assert_eq!(image_codes(&model, &set(), None).to_i32s(), (0..30).map(|byte| byte - 128).collect::<Vec<i32>>());
    }

    #[test]
    fn units_that_are_known_win_over_the_scale() {
        let model = model(&[3, 5, 2], 1.0 / 64.0, 0);
        let codes = image_codes(&model, &set(), Some(&Normalize::signed())).to_i32s();
        // 64 · (0 / 127.5 − 1) and 64 · (29 / 127.5 − 1).
        assert_eq!((codes[0], codes[29]), (-64, -49));
    }
}
