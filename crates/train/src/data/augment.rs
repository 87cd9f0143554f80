//! Images that are a little different each time: random crop, mirroring, cutout, mixup.
//!
//! ```text
//! bytes ─crop─▶ ─flip─▶ ─cutout─▶ ─normalize─▶ reals ─mixup─▶ a batch
//! ```
//!
//! Every random number follows from the seed, the epoch and the image's place in it, by ChaCha8 with the position as its counter:
//! not from the images before it, nor from which thread asks. Switching one kind off leaves the draws of the others as they are.
//! Mixup is that of Zhang et al. (2018), cutout that of DeVries and Taylor (2017). Not here: threads (see `prefetch`).

use std::fmt;
use std::str::FromStr;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How training images are varied; evaluation and calibration never vary them.
///
/// Its text form lists what is done, `crop=4,flip,cutout=8,mixup=0.2`, or is a preset's name, `none` or `standard`. In TOML it is such
/// a text or a table of the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Augment {
    /// Pixels of black that are put around an image before a part of the original size is cut out at a random place; below the
    /// image's sides, 0 for no crop. Default: 0.
    pub crop: usize,
    /// Whether every other image, at random, is mirrored left to right. Default: false.
    pub flip: bool,
    /// Side of a square around a random pixel that is covered by the mean of the normalization; at most the image's sides, 0 for
    /// no square. Default: 0.
    pub cutout: usize,
    /// Images are mixed in pairs, the share of one drawn from Beta(mixup, mixup) for each batch; in `[0.05, 4]`, or 0 for no
    /// mixing. Default: 0.
    pub mixup: f64,
}

/// An augmentation that cannot be carried out.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum AugmentError {
    /// Mixup's parameter is outside its domain.
    #[error("augment, mixup: expected 0 or a number in [0.05, 4], found {found}")]
    Mixup {
        /// The parameter.
        found: f64,
    },
    /// The padding is as large as the image, so that a crop could show nothing of it.
    #[error("augment, crop on {images}: expected less than the image's sides {height} and {width}, found {found}")]
    Crop {
        /// Name of the images.
        images: String,
        /// Their height.
        height: usize,
        /// Their width.
        width: usize,
        /// The padding.
        found: usize,
    },
    /// The square is larger than the image.
    #[error("augment, cutout on {images}: expected at most the image's sides {height} and {width}, found {found}")]
    Cutout {
        /// Name of the images.
        images: String,
        /// Their height.
        height: usize,
        /// Their width.
        width: usize,
        /// The side of the square.
        found: usize,
    },
    /// A text is neither a preset nor a list.
    #[error("augment, {text:?}: expected none, standard or a list of crop=N, flip, cutout=N, mixup=A, found {part:?}")]
    Text {
        /// The text.
        text: String,
        /// The part that is nothing.
        part: String,
    },
}

impl Augment {
    /// Images as they are. The default.
    pub const fn none() -> Self {
        Self { crop: 0, flip: false, cutout: 0, mixup: 0.0 }
    }

    /// What small photographs are usually trained with: a crop after 4 pixels of padding, and mirroring.
    pub const fn standard() -> Self {
        Self { crop: 4, flip: true, cutout: 0, mixup: 0.0 }
    }

    /// Whether images stay as they are.
    pub fn is_none(&self) -> bool {
        *self == Self::none()
    }

    /// Checks the fields against their domains, for images of shape `[C, H, W]`; `images` is their name.
    ///
    /// # Errors
    ///
    /// [`AugmentError`] of the first field outside it.
    pub fn suits(&self, images: &str, [_, height, width]: [usize; 3]) -> Result<(), AugmentError> {
        if self.mixup != 0.0 && !(MIXUP.0..=MIXUP.1).contains(&self.mixup) {
            return Err(AugmentError::Mixup { found: self.mixup });
        }
        let images = images.to_owned();
        if self.crop >= height.min(width) {
            return Err(AugmentError::Crop { images, height, width, found: self.crop });
        }
        if self.cutout > height.min(width) {
            return Err(AugmentError::Cutout { images, height, width, found: self.cutout });
        }
        Ok(())
    }

    /// Whether [`vary`](Self::vary) changes anything.
    pub(crate) fn varies_bytes(&self) -> bool {
        self.crop > 0 || self.flip || self.cutout > 0
    }

    /// The varied image of `image`, `[C, H, W]`, that stands at `place` of an epoch; `cover` is what cutout puts into each channel.
    pub(crate) fn vary(&self, image: &[u8], [_, height, width]: [usize; 3], cover: &[u8], place: Place, varied: &mut Vec<u8>) {
        let mut rng = place.rng(Purpose::Image);
        let (dy, dx) = (below(&mut rng, 2 * self.crop + 1), below(&mut rng, 2 * self.crop + 1));
        let mirrored = below(&mut rng, 2) == 1 && self.flip;
        let (cy, cx) = (below(&mut rng, height), below(&mut rng, width));

        varied.clear();
        for plane in image.chunks_exact(height * width) {
            for y in 0..height {
                // Row and column of the padded image, less the padding; what wraps below 0 is outside as well.
                let row = (y + dy).wrapping_sub(self.crop);
                let row = plane.get(row.saturating_mul(width)..row.saturating_add(1).saturating_mul(width));
                varied.extend((0..width).map(|x| {
                    let x = if mirrored { width - 1 - x } else { x };
                    let column = (x + dx).wrapping_sub(self.crop);
                    row.and_then(|row| row.get(column)).copied().unwrap_or(0)
                }));
            }
        }
        if self.cutout > 0 {
            let within = |center: usize, side: usize| {
                let end = center + self.cutout - self.cutout / 2;
                center.saturating_sub(self.cutout / 2)..end.min(side)
            };
            for (plane, &mean) in varied.chunks_exact_mut(height * width).zip(cover) {
                for row in plane.chunks_exact_mut(width).take(within(cy, height).end).skip(within(cy, height).start) {
                    row[within(cx, width)].fill(mean);
                }
            }
        }
    }

    /// The share of the first image in the mixtures of a batch that begins at `place`; `None` without mixup.
    pub(crate) fn lambda(&self, place: Place) -> Option<f32> {
        (self.mixup > 0.0).then(|| beta(&mut place.rng(Purpose::Mixture), self.mixup) as f32)
    }
}

/// The domain of mixup's parameter: below, both shares are 0 or 1 in float32; above, the draw takes long.
const MIXUP: (f64, f64) = (0.05, 4.0);

/// Where random numbers are drawn for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) seed: u64,
    pub(crate) epoch: u64,
    /// Position in the epoch's order, counted from 0.
    pub(crate) position: usize,
}

/// What random numbers are drawn for; the order of images, purpose 0, is drawn by `permutation`.
#[derive(Clone, Copy)]
enum Purpose {
    Image = 1,
    Mixture = 2,
}

impl Place {
    /// A generator of the numbers of this place alone: 2^16 words lie between two places.
    fn rng(self, purpose: Purpose) -> ChaCha8Rng {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8] = purpose as u8;
        let mut rng = ChaCha8Rng::from_seed(key);
        rng.set_stream(self.epoch);
        rng.set_word_pos((self.position as u128) << 16);
        rng
    }
}

/// `floor(r * count / 2^32)` of the next 32-bit word `r`.
fn below(rng: &mut ChaCha8Rng, count: usize) -> usize {
    ((u128::from(rng.next_u32()) * count as u128) >> 32) as usize
}

/// A draw from Beta(a, a) by Jöhnk's method: `x / (x + y)` of `x = u^(1/a)`, `y = v^(1/a)`, drawn until `x + y <= 1`.
fn beta(rng: &mut ChaCha8Rng, a: f64) -> f64 {
    let mut power = || ((f64::from(rng.next_u32()) + 1.0) / 2f64.powi(32)).powf(1.0 / a);
    loop {
        let (x, y) = (power(), power());
        if x + y <= 1.0 {
            return x / (x + y);
        }
    }
}

impl Default for Augment {
    fn default() -> Self {
        Self::none()
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_none() {
            return f.pad("none");
        }
        let parts = [
            (self.crop > 0).then(|| format!("crop={}", self.crop)),
            self.flip.then(|| "flip".into()),
            (self.cutout > 0).then(|| format!("cutout={}", self.cutout)),
            (self.mixup != 0.0).then(|| format!("mixup={}", self.mixup)),
        ];
        f.pad(&parts.into_iter().flatten().collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Augment {
    type Err = AugmentError;

    fn from_str(text: &str) -> Result<Self, AugmentError> {
        match text {
            "none" => return Ok(Self::none()),
            "standard" => return Ok(Self::standard()),
            _ => {}
        }
        let mut augment = Self::none();
        for part in text.split(',').map(str::trim) {
            let wrong = || AugmentError::Text { text: text.into(), part: part.into() };
            match part.split_once('=') {
                None if part == "flip" => augment.flip = true,
                Some(("crop", number)) => augment.crop = number.parse().map_err(|_| wrong())?,
                Some(("cutout", number)) => augment.cutout = number.parse().map_err(|_| wrong())?,
                Some(("mixup", number)) => augment.mixup = number.parse().map_err(|_| wrong())?,
                _ => return Err(wrong()),
            }
        }
        Ok(augment)
    }
}

/// Its form in TOML.
#[derive(Deserialize)]
#[serde(untagged)]
enum Form {
    Text(String),
    Table(Table),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    crop: usize,
    flip: bool,
    cutout: usize,
    mixup: f64,
}

impl Serialize for Augment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Augment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match Form::deserialize(deserializer) {
            Ok(Form::Text(text)) => text.parse().map_err(D::Error::custom),
            Ok(Form::Table(Table { crop, flip, cutout, mixup })) => Ok(Self { crop, flip, cutout, mixup }),
            Err(_) => {
                let expected = "augment: expected a text such as \"crop=4,flip\" or a table of crop, flip, cutout, mixup";
                Err(D::Error::custom(format!("{expected}, found neither")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEED: u64 = 20_261_124;

    fn place(position: usize) -> Place {
        Place { seed: SEED, epoch: 3, position }
    }

    fn varied(augment: &Augment, image: &[u8], shape: [usize; 3], position: usize) -> Vec<u8> {
        let mut out = vec![9; 5];
        augment.vary(image, shape, &[200, 201], place(position), &mut out);
        assert_eq!(out.len(), image.len());
        out
    }

    /// Two channels of 3 x 4, all pixels different and none of them black.
    const SHAPE: [usize; 3] = [2, 3, 4];
    fn image() -> Vec<u8> {
        (1..=24).collect()
    }

    #[test]
    fn nothing_is_changed_without_augmentation() {
        assert_eq!(varied(&Augment::none(), &image(), SHAPE, 5), image());
        assert!(!Augment { mixup: 1.0, ..Augment::none() }.varies_bytes());
    }

    #[test]
    fn a_crop_moves_all_channels_alike_and_every_offset_occurs() {
        let augment = Augment { crop: 1, ..Augment::none() };
        let mut seen = std::collections::BTreeSet::new();
        for position in 0..200 {
            let out = varied(&augment, &image(), SHAPE, position);
            // The pixel in the middle of the first channel is always the neighbour of its own in some direction.
            let moved = i32::from(out[5]) - 6;
            let (dy, dx) = ([-5, -4, -3].contains(&moved).then_some(-1), [3, 4, 5].contains(&moved).then_some(1));
            let dy = dy.or(dx).unwrap_or(0);
            let dx = moved - 4 * dy;
            let expected = |c: i32, y: i32, x: i32| {
                let (y, x) = (y + dy, x + dx);
                if (0..3).contains(&y) && (0..4).contains(&x) { (c * 12 + y * 4 + x + 1) as u8 } else { 0 }
            };
            let whole: Vec<u8> = (0..2).flat_map(|c| (0..3).flat_map(move |y| (0..4).map(move |x| expected(c, y, x)))).collect();
            assert_eq!(out, whole, "seed {SEED}, position {position}");
            seen.insert((dy, dx));
        }
        assert_eq!(seen.len(), 9, "{seen:?}");
    }

    #[test]
    fn about_half_the_images_are_mirrored() {
        let augment = Augment { flip: true, ..Augment::none() };
        let mirror = [4, 3, 2, 1, 8, 7, 6, 5, 12, 11, 10, 9, 16, 15, 14, 13, 20, 19, 18, 17, 24, 23, 22, 21];
        let mut mirrored = 0;
        for position in 0..1000 {
            let out = varied(&augment, &image(), SHAPE, position);
            assert!(out == image() || out == mirror);
            mirrored += usize::from(out == mirror);
        }
        // Five standard deviations of a fair coin.
        assert!((421..=579).contains(&mirrored), "{mirrored} of 1000, seed {SEED}");
    }

    #[test]
    fn cutout_covers_a_square_of_its_side_cut_off_at_the_edges() {
        let augment = Augment { cutout: 2, ..Augment::none() };
        let mut sizes = std::collections::BTreeSet::new();
        for position in 0..200 {
            let out = varied(&augment, &image(), SHAPE, position);
            let covered: Vec<usize> = (0..12).filter(|&at| out[at] == 200).collect();
            assert!(covered.iter().all(|&at| out[12 + at] == 201), "channels are covered alike, each by its own mean");
            assert!((0..12).filter(|at| !covered.contains(at)).all(|at| out[at] == image()[at]));
            let (rows, columns): (Vec<_>, Vec<_>) = covered.iter().map(|at| (at / 4, at % 4)).unzip();
            let extent = |of: &[usize]| of.iter().max().unwrap() - of.iter().min().unwrap() + 1;
            assert_eq!(extent(&rows) * extent(&columns), covered.len(), "it is a rectangle");
            sizes.insert((extent(&rows), extent(&columns)));
        }
        assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [(1, 1), (1, 2), (2, 1), (2, 2)]);
    }

    #[test]
    fn draws_follow_from_the_place_alone_and_not_from_other_options() {
        let crop = Augment { crop: 1, ..Augment::none() };
        let both = Augment { flip: true, ..crop.clone() };
        let mut differ = 0;
        for position in 0..50 {
            let (one, other) = (varied(&crop, &image(), SHAPE, position), varied(&both, &image(), SHAPE, position));
            let back: Vec<u8> = other.chunks(4).flat_map(|row| row.iter().rev().copied()).collect();
            // Mirroring comes after the crop's draw: seen in a mirror, it is the same part of the image.
            assert!(one == other || one == back, "position {position}");
            assert_eq!(one, varied(&crop, &image(), SHAPE, position));
            let mut elsewhere = Vec::new();
            crop.vary(&image(), SHAPE, &[0, 0], Place { epoch: 4, ..place(position) }, &mut elsewhere);
            differ += usize::from(elsewhere != one);
        }
        assert!(differ > 25, "another epoch is another draw: {differ} of 50");
    }

    /// Literals from a separate implementation of ChaCha8 in Python, after the documentation of this module: words 0, 1 and 2 of
    /// key (seed, purpose), stream (epoch) and counter (position).
    #[test]
    fn the_draws_are_the_documented_ones() {
        let words = |place: Place, purpose| {
            let mut rng = place.rng(purpose);
            [rng.next_u32(), rng.next_u32(), rng.next_u32()]
        };
        let first = words(Place { seed: 42, epoch: 0, position: 0 }, Purpose::Image);
        let later = words(Place { seed: 42, epoch: 7, position: 1000 }, Purpose::Mixture);
        assert_eq!(first, [2_634_808_449, 2_252_095_063, 3_305_629_412]);
        assert_eq!(later, [408_062_912, 3_510_798_141, 767_720_179]);
    }

    #[test]
    fn shares_are_those_of_a_beta_distribution() {
        for mixup in [0.05, 0.2, 1.0, 4.0] {
            let augment = Augment { mixup, ..Augment::none() };
            let draws: Vec<f64> = (0..4000).map(|batch| f64::from(augment.lambda(place(64 * batch)).unwrap())).collect();
            assert!(draws.iter().all(|draw| (0.0..=1.0).contains(draw)));
            let mean = draws.iter().sum::<f64>() / 4000.0;
            let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 4000.0;
            // The mean of Beta(a, a) is 1/2, its variance 1 / (4 (2a + 1)); five standard errors of the mean.
            let expected = 0.25 / (2.0 * mixup + 1.0);
            assert!((mean - 0.5).abs() < 5.0 * (expected / 4000.0).sqrt(), "mean {mean} of Beta({mixup}), seed {SEED}");
            assert!((variance / expected - 1.0).abs() < 0.1, "variance {variance} of {expected}, Beta({mixup}), seed {SEED}");
        }
        assert_eq!(Augment::standard().lambda(place(0)), None);
    }

    #[test]
    fn text_and_toml_round_trip() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Of {
            augment: Augment,
        }
        let all = Augment { crop: 4, flip: true, cutout: 8, mixup: 0.2 };
        assert_eq!(all.to_string(), "crop=4,flip,cutout=8,mixup=0.2");
        for augment in [all.clone(), Augment::none(), Augment::standard(), Augment { mixup: 1.0, ..Augment::none() }] {
            assert_eq!(augment.to_string().parse::<Augment>().unwrap(), augment);
            let of = Of { augment };
            assert_eq!(toml::from_str::<Of>(&toml::to_string(&of).unwrap()).unwrap(), of);
        }
        let table = "[augment]\ncrop = 4\nflip = true\ncutout = 8\nmixup = 0.2\n";
        assert_eq!(toml::from_str::<Of>(table).unwrap().augment, all);
        assert_eq!("standard".parse::<Augment>().unwrap(), Augment::standard());
        for (text, part) in
            [("crop", "crop"), ("flip,crop=-1", "crop=-1"), ("", ""), ("mixup=x", "mixup=x"), ("none,flip", "none")]
        {
            let error = text.parse::<Augment>().unwrap_err();
            assert_eq!(error, AugmentError::Text { text: text.into(), part: part.into() });
        }
        assert!(toml::from_str::<Of>("augment = { crops = 4 }").unwrap_err().to_string().contains("table of crop"));
    }

    #[test]
    fn what_an_image_is_too_small_for_is_refused() {
        let refused = |augment: Augment| augment.suits("digits", [1, 28, 20]).unwrap_err().to_string();
        let none = Augment::none;
        assert_eq!(
            refused(Augment { crop: 20, ..none() }),
            "augment, crop on digits: expected less than the image's sides 28 and 20, found 20"
        );
        assert!(refused(Augment { cutout: 21, ..none() }).contains("found 21"));
        for mixup in [-1.0, 0.01, 4.5, f64::NAN, f64::INFINITY] {
            assert!(refused(Augment { mixup, ..none() }).contains("[0.05, 4]"), "{mixup}");
        }
        assert!(Augment { crop: 19, flip: true, cutout: 20, mixup: 4.0 }.suits("digits", [1, 28, 20]).is_ok());
    }
}
