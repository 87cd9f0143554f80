//! How images reach a model: the `[data]` table of `run.toml`.
//!
//! Normalization and augmentation are part of what a run is; the number of workers is not, and a resumed run may have another. Not here:
//! which images (see `catalog`), and how batches are made of them (see `loader`).

use serde::{Deserialize, Serialize};

use super::augment::Augment;
use super::cifar;
use super::error::DataError;
use super::images::ImageSet;
use super::loader::LoaderConfig;
use super::normalize::Normalize;

/// Normalization, augmentation and worker threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// How training images are varied. Default: as [`DataConfig::augment_of`] says of the images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub augment: Option<Augment>,
    /// What the model sees of a pixel. Default: `unit`.
    pub normalize: Normalize,
    /// Threads that make batches ahead of time; with 0 they are made when they are asked for. Default: 1.
    pub workers: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { augment: None, normalize: Normalize::unit(), workers: 1 }
    }
}

impl DataConfig {
    /// The augmentation of these images: what is configured, or else [`Augment::standard`] for images with the classes and the
    /// shape of CIFAR-10, and none for any others.
    pub fn augment_of(&self, images: &ImageSet) -> Augment {
        let is_cifar = images.shape == cifar::SHAPE && images.class_names == cifar::CLASS_NAMES;
        let default = || if is_cifar { Augment::standard() } else { Augment::none() };
        self.augment.clone().unwrap_or_else(default)
    }

    /// A loader to train on `images` with, shuffled by `seed`.
    pub fn train(&self, images: &ImageSet, batch_size: usize, seed: u64) -> LoaderConfig {
        LoaderConfig {
            augment: self.augment_of(images),
            normalize: self.normalize.clone(),
            workers: self.workers,
            ..LoaderConfig::train(batch_size, seed)
        }
    }

    /// A loader to evaluate or calibrate with: every image as it is stored.
    pub fn test(&self, batch_size: usize) -> LoaderConfig {
        LoaderConfig { normalize: self.normalize.clone(), workers: self.workers, ..LoaderConfig::test(batch_size) }
    }

    /// Refuses what cannot be done to `images`. A loader makes batches of what passes here.
    ///
    /// # Errors
    ///
    /// [`DataError::Normalize`], [`DataError::Augment`], [`DataError::Workers`].
    pub fn suits(&self, images: &ImageSet) -> Result<(), DataError> {
        if self.workers > MAX_WORKERS {
            return Err(DataError::Workers { limit: MAX_WORKERS, found: self.workers });
        }
        self.train(images, 1, 0).suits(images)
    }
}

/// The most threads that are started for one loader.
const MAX_WORKERS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::class_numbers;

    fn set(shape: [usize; 3], class_names: Vec<String>) -> ImageSet {
        let len = shape.iter().product();
        ImageSet { name: "set".into(), shape, classes: class_names.len(), class_names, images: vec![0; len], labels: vec![0] }
    }

    #[test]
    fn photographs_of_cifar_are_varied_and_others_are_not_unless_it_is_said() {
        let cifar = set([3, 32, 32], cifar::CLASS_NAMES.map(str::to_owned).to_vec());
        let digits = set([1, 28, 28], class_numbers(10));
        let default = DataConfig::default();
        assert_eq!(default.train(&cifar, 8, 1).augment, Augment::standard());
        assert!(default.train(&digits, 8, 1).augment.is_none());
        assert!(default.test(8).augment.is_none(), "nothing is varied in evaluation");
        let said = DataConfig { augment: Some(Augment::none()), ..default };
        assert!(said.train(&cifar, 8, 1).augment.is_none());
    }

    #[test]
    fn toml_round_trips_and_defaults_fill_in() {
        let config: DataConfig = toml::from_str("normalize = \"imagenet\"\naugment = \"crop=2\"\nworkers = 3").unwrap();
        let augment = Some(Augment { crop: 2, ..Augment::none() });
        assert_eq!(config, DataConfig { augment, normalize: Normalize::imagenet(), workers: 3 });
        for config in [config, DataConfig::default()] {
            assert_eq!(toml::from_str::<DataConfig>(&toml::to_string(&config).unwrap()).unwrap(), config);
        }
        assert!(toml::from_str::<DataConfig>("worker = 1").unwrap_err().to_string().contains("unknown field"));
    }

    #[test]
    fn what_does_not_suit_the_images_is_refused() {
        let digits = set([1, 28, 28], class_numbers(10));
        let refused = |config: DataConfig| config.suits(&digits).unwrap_err();
        let error = refused(DataConfig { normalize: Normalize::imagenet(), ..DataConfig::default() });
        assert!(matches!(error, DataError::Normalize(_)), "{error}");
        let error = refused(DataConfig { augment: Some(Augment { crop: 28, ..Augment::none() }), ..DataConfig::default() });
        assert!(matches!(error, DataError::Augment(_)), "{error}");
        let error = refused(DataConfig { workers: 65, ..DataConfig::default() });
        assert_eq!(error.to_string(), "data, workers: expected at most 64 threads, found 65");
        DataConfig::default().suits(&digits).unwrap();
    }
}
