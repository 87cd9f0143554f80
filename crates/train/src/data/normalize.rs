//! What a model sees of a pixel: `real = (byte / 255 - mean[c]) / std[c]`, one mean and one standard deviation a channel.
//!
//! It is computed as `(byte - 255 * mean) / (255 * std)` in float32, which is exact for the two presets that only scale:
//! [`unit`](Normalize::unit) is `byte / 255` and [`raw`](Normalize::raw) is the byte itself. A model is trained, calibrated and
//! judged with one normalization; it belongs to the model and not to the data. Not here: augmentation, which works on bytes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Mean and standard deviation of each channel, in units of `byte / 255`.
///
/// In TOML and on the command line a preset is its name: `unit`, `raw`, `signed` or `imagenet`. Anything else is a table
/// `{ mean = [...], std = [...] }` in TOML, and `M1,M2,M3/S1,S2,S3` as text. One number stands for all channels.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

/// A normalization that is none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NormalizeError {
    /// Means and standard deviations are not equally many, or there are none.
    #[error("normalize, mean and std: expected one of each for a channel, found {mean} and {std}")]
    Lengths {
        /// Number of means.
        mean: usize,
        /// Number of standard deviations.
        std: usize,
    },
    /// A mean is not a number.
    #[error("normalize, mean: expected finite numbers, found {found}")]
    Mean {
        /// The first such mean.
        found: f32,
    },
    /// Something cannot be divided by.
    #[error("normalize, std: expected finite numbers above 0, found {found}")]
    Std {
        /// The first such standard deviation.
        found: f32,
    },
    /// The images have another number of channels.
    #[error("normalize, {images}: expected a mean and a std for each of {channels} channels, found {found}")]
    Channels {
        /// Name of the images.
        images: String,
        /// Their channels.
        channels: usize,
        /// The channels of the normalization.
        found: usize,
    },
    /// A text is neither a preset nor numbers.
    #[error("normalize, {text:?}: expected unit, raw, signed, imagenet or MEAN,.../STD,..., found none of them")]
    Text {
        /// The text.
        text: String,
    },
}

impl Normalize {
    /// One mean and one standard deviation for each channel, or one of each for all channels.
    ///
    /// # Errors
    ///
    /// Unequal or no numbers, a number that is not finite, a standard deviation that is not above 0.
    pub fn new(mean: Vec<f32>, std: Vec<f32>) -> Result<Self, NormalizeError> {
        if mean.len() != std.len() || mean.is_empty() {
            return Err(NormalizeError::Lengths { mean: mean.len(), std: std.len() });
        }
        if let Some(&found) = mean.iter().find(|mean| !mean.is_finite()) {
            return Err(NormalizeError::Mean { found });
        }
        // 255 of the largest finite numbers would not be finite.
        if let Some(&found) = std.iter().find(|&&std| !(std > 0.0 && (255.0 * std).is_normal())) {
            return Err(NormalizeError::Std { found });
        }
        Ok(Self { mean, std })
    }

    /// `[0, 1]`: `byte / 255`. The default.
    pub fn unit() -> Self {
        Self { mean: vec![0.0], std: vec![1.0] }
    }

    /// `[0, 255]`: the byte itself.
    pub fn raw() -> Self {
        Self { mean: vec![0.0], std: vec![1.0 / 255.0] }
    }

    /// `[-1, 1]`: `byte / 127.5 - 1`.
    pub fn signed() -> Self {
        Self { mean: vec![0.5], std: vec![0.5] }
    }

    /// That of networks pretrained on ImageNet by PyTorch: mean 0.485, 0.456, 0.406, std 0.229, 0.224, 0.225 for R, G, B.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// The presets by name.
    pub fn presets() -> [(&'static str, Self); 4] {
        [("unit", Self::unit()), ("raw", Self::raw()), ("signed", Self::signed()), ("imagenet", Self::imagenet())]
    }

    /// Its name, if it is a preset.
    pub fn name(&self) -> Option<&'static str> {
        Self::presets().into_iter().find(|(_, preset)| preset == self).map(|(name, _)| name)
    }

    /// Means, of `byte / 255`; one for all channels or one for each.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Standard deviations, of `byte / 255`, above 0; as many as means.
    pub fn std(&self) -> &[f32] {
        &self.std
    }

    /// Refuses images of another number of channels; `images` is their name.
    ///
    /// # Errors
    ///
    /// [`NormalizeError::Channels`].
    pub fn suits(&self, images: &str, channels: usize) -> Result<(), NormalizeError> {
        if self.mean.len() == 1 || self.mean.len() == channels {
            return Ok(());
        }
        Err(NormalizeError::Channels { images: images.into(), channels, found: self.mean.len() })
    }

    /// What the model sees of `byte` in channel `channel`.
    ///
    /// # Panics
    ///
    /// Panics when there are several channels and `channel` is none of them.
    pub fn real(&self, byte: u8, channel: usize) -> f32 {
        let channel = if self.mean.len() == 1 { 0 } else { channel };
        (f32::from(byte) - 255.0 * self.mean[channel]) / (255.0 * self.std[channel])
    }

    /// The least and the greatest number of channel `channel`: those of the bytes 0 and 255.
    pub fn range(&self, channel: usize) -> (f32, f32) {
        (self.real(0, channel), self.real(255, channel))
    }

    /// The byte that comes nearest to the mean of channel `channel`, which a model sees as about 0.
    pub fn mean_byte(&self, channel: usize) -> u8 {
        let channel = if self.mean.len() == 1 { 0 } else { channel };
        // A conversion from float saturates: a mean outside [0, 1] is black or white.
        (255.0 * self.mean[channel]).round_ties_even() as u8
    }

    /// Appends the reals of one image, `[C, H, W]` of `plane` bytes a channel.
    pub(crate) fn append(&self, image: &[u8], plane: usize, into: &mut Vec<f32>) {
        for (channel, bytes) in image.chunks_exact(plane).enumerate() {
            into.extend(bytes.iter().map(|&byte| self.real(byte, channel)));
        }
    }
}

impl Default for Normalize {
    fn default() -> Self {
        Self::unit()
    }
}

impl fmt::Display for Normalize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.pad(name);
        }
        let row = |numbers: &[f32]| numbers.iter().map(f32::to_string).collect::<Vec<_>>().join(",");
        write!(f, "{}/{}", row(&self.mean), row(&self.std))
    }
}

impl FromStr for Normalize {
    type Err = NormalizeError;

    fn from_str(text: &str) -> Result<Self, NormalizeError> {
        if let Some((_, preset)) = Self::presets().into_iter().find(|(name, _)| *name == text) {
            return Ok(preset);
        }
        let row = |text: &str| text.split(',').map(|number| number.trim().parse().ok()).collect::<Option<Vec<f32>>>();
        let numbers = text.split_once('/').and_then(|(mean, std)| Some((row(mean)?, row(std)?)));
        let (mean, std) = numbers.ok_or_else(|| NormalizeError::Text { text: text.into() })?;
        Self::new(mean, std)
    }
}

/// Its form in TOML.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Table(Table),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Serialize for Normalize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let form = match self.name() {
            Some(name) => Form::Text(name.into()),
            None => Form::Table(Table { mean: self.mean.clone(), std: self.std.clone() }),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Normalize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => text.parse().map_err(D::Error::custom),
            Ok(Form::Table(Table { mean, std })) => Self::new(mean, std).map_err(D::Error::custom),
            Err(_) => {
                Err(D::Error::custom("normalize: expected a preset's name or { mean = [...], std = [...] }, found neither"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_that_only_scale_are_exact() {
        for byte in 0..=255 {
            assert_eq!(Normalize::unit().real(byte, 0), f32::from(byte) / 255.0);
            assert_eq!(Normalize::raw().real(byte, 2), f32::from(byte));
            assert_eq!(Normalize::signed().real(byte, 1), (f32::from(byte) - 127.5) / 127.5);
        }
    }

    /// Literals of torchvision's `Normalize` after `ToTensor`, computed in float32.
    #[test]
    fn imagenet_is_that_of_pytorch() {
        let normalize = Normalize::imagenet();
        for (channel, black, white) in [(0, -2.117904, 2.2489083), (1, -2.0357141, 2.4285715), (2, -1.8044444, 2.64)] {
            let (least, greatest) = normalize.range(channel);
            assert!((least - black).abs() <= 5e-7 && (greatest - white).abs() <= 5e-7, "{least} {greatest}");
        }
        assert_eq!([0, 1, 2].map(|channel| normalize.mean_byte(channel)), [124, 116, 104]);
    }

    #[test]
    fn channels_are_planes() {
        let mut reals = Vec::new();
        let normalize = Normalize::new(vec![0.0, 0.2, 1.0], vec![1.0, 0.5, 2.0]).unwrap();
        normalize.append(&[0, 255, 51, 102, 255, 0], 2, &mut reals);
        assert_eq!(reals, [0.0, 1.0, 0.0, 0.4, 0.0, -0.5]);
        assert!(normalize.suits("x", 3).is_ok() && Normalize::signed().suits("x", 7).is_ok());
        assert_eq!(
            normalize.suits("mnist", 1).unwrap_err().to_string(),
            "normalize, mnist: expected a mean and a std for each of 1 channels, found 3"
        );
    }

    #[test]
    fn text_and_toml_round_trip() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Of {
            normalize: Normalize,
        }
        let own = Normalize::new(vec![0.4914, 0.4822, 0.4465], vec![0.2023, 0.1994, 0.201]).unwrap();
        assert_eq!(own.to_string(), "0.4914,0.4822,0.4465/0.2023,0.1994,0.201");
        for normalize in Normalize::presets().map(|(_, preset)| preset).into_iter().chain([own]) {
            assert_eq!(normalize.to_string().parse::<Normalize>().unwrap(), normalize);
            let of = Of { normalize };
            assert_eq!(toml::from_str::<Of>(&toml::to_string(&of).unwrap()).unwrap(), of);
        }
        assert_eq!(toml::to_string(&Of { normalize: Normalize::signed() }).unwrap(), "normalize = \"signed\"\n");
    }

    #[test]
    fn what_cannot_be_divided_by_is_refused() {
        let refused = |mean: &[f32], std: &[f32]| Normalize::new(mean.to_vec(), std.to_vec()).unwrap_err().to_string();
        assert!(refused(&[], &[]).contains("found 0 and 0"));
        assert!(refused(&[0.5], &[0.5, 0.5]).contains("found 1 and 2"));
        assert!(refused(&[f32::NAN], &[1.0]).contains("expected finite numbers, found NaN"));
        for std in [0.0, -1.0, f32::INFINITY, f32::NAN, f32::MAX] {
            assert!(refused(&[0.5], &[std]).contains("above 0"), "{std}");
        }
        for text in ["units", "0.5", "0.5/x", "", "/"] {
            assert!(matches!(text.parse::<Normalize>(), Err(NormalizeError::Text { .. })), "{text}");
        }
        let toml = |text: &str| toml::from_str::<std::collections::BTreeMap<String, Normalize>>(text).unwrap_err().to_string();
        assert!(toml("n = 3").contains("preset's name"));
        assert!(toml("n = { mean = [0.0], std = [0.0] }").contains("above 0"));
        assert!(toml("n = { mean = [0.0], deviation = [1.0] }").contains("preset's name"));
    }
}
