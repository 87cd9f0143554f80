//! What a model from a file sees of a pixel, where nobody says it: the preset with which it knows best what the images show.
//!
//! Files of weights and graphs do not say whether a network was trained on `[0, 1]`, on bytes or on normalized images. With labels the
//! question answers itself: in the wrong units the cross entropy of a trained network is far above that in its own.

use std::sync::Arc;

use burn::tensor::Device;

use crate::classifier::Classifier;
use crate::data::{DataConfig, ImageSet, Normalize};
use crate::error::TrainError;
use crate::fit::evaluate_with;

/// How many images the question is put to.
pub const SAMPLES: usize = 256;

/// A preset's name and the cross entropy of the model that takes its units.
pub type NamedLoss = (&'static str, f32);

/// The preset of [`Normalize`] with the lowest cross entropy of `model` on the first [`SAMPLES`] of `images`, and the cross entropies of all
/// that suit the images' channels, the lowest first. What is not finite comes last.
///
/// # Errors
/// [`TrainError::Device`].
pub fn likeliest<M: Classifier>(
    model: &M,
    images: &ImageSet,
    device: &Device,
) -> Result<(Normalize, Vec<NamedLoss>), TrainError> {
    let images = Arc::new(images.first(SAMPLES));
    let mut all = Vec::new();
    for (name, normalize) in Normalize::presets() {
        if normalize.suits(&images.name, images.shape[0]).is_ok() {
            let config = DataConfig { normalize: normalize.clone(), ..DataConfig::default() };
            let loss = evaluate_with(model, &images, &config, device)?.loss;
            all.push((name, if loss.is_finite() { loss } else { f32::INFINITY }, normalize));
        }
    }
    all.sort_by(|a, b| a.1.total_cmp(&b.1));
    let best = all.first().map_or_else(Normalize::unit, |(_, _, normalize)| normalize.clone());
    Ok((best, all.into_iter().map(|(name, loss, _)| (name, loss)).collect()))
}
