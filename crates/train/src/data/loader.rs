//! Batches of images for Burn, in an order that can be repeated.
//!
//! Epoch `e` of a shuffled loader visits the images in the order [`permutation`]`(seed, e, N)`, which depends on nothing else:
//! not on the machine, not on the epochs before. So a position is an epoch and a batch, and a run resumes in the middle of an
//! epoch with exactly the batches it had not seen ([`ImageLoader::starting_at`]).
//!
//! Batches are made when they are asked for. A batch is `B * C * H * W` divisions, a few hundredths of a training step, so there
//! is no worker thread. Not here: augmentation.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::images::ImageSet;
use super::normalize::Normalize;

/// A batch on a device.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[B, C, H, W]`, reals as [`LoaderConfig::normalize`] says.
    pub images: Tensor<4>,
    /// `[B]`, classes in `[0, classes)`.
    pub targets: Tensor<1, Int>,
    /// What else is in the images, if they are mixtures of two.
    pub mix: Option<Mix>,
}

/// The other half of mixed images: each is `lambda` times an image of class `targets` of the batch, plus `1 - lambda` times an
/// image of class `targets` of this. Its loss is the same mixture of the losses with respect to either.
#[derive(Clone, Debug)]
pub struct Mix {
    /// `[B]`, classes in `[0, classes)`.
    pub targets: Tensor<1, Int>,
    /// Share of the first images, in `[0, 1]`.
    pub lambda: f32,
}

/// The order in which an epoch visits the images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they are stored, every epoch.
    Stored,
    /// By [`permutation`], another one each epoch.
    Shuffled {
        /// Seed of every epoch's permutation.
        seed: u64,
    },
}

/// What becomes of the images left over when the batch size does not divide their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBatch {
    /// They make a smaller batch; evaluation needs every image.
    Keep,
    /// They wait for another epoch; training steps then all have the same size.
    Drop,
}

/// How an [`ImageLoader`] makes batches.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Images in a batch, at least 1.
    pub batch_size: usize,
    /// Order of the images.
    pub order: Order,
    /// What becomes of a last, smaller batch.
    pub last: LastBatch,
    /// What the model sees of a pixel.
    pub normalize: Normalize,
}

impl LoaderConfig {
    /// For training: shuffled by `seed`, the last, smaller batch dropped, reals in `[0, 1]`.
    pub fn train(batch_size: usize, seed: u64) -> Self {
        let order = Order::Shuffled { seed };
        LoaderConfig { batch_size, order, last: LastBatch::Drop, normalize: Normalize::unit() }
    }

    /// For evaluation: every image, as stored, reals in `[0, 1]`.
    pub fn test(batch_size: usize) -> Self {
        LoaderConfig { batch_size, order: Order::Stored, last: LastBatch::Keep, normalize: Normalize::unit() }
    }

    /// The same with another normalization.
    pub fn with_normalize(self, normalize: Normalize) -> Self {
        LoaderConfig { normalize, ..self }
    }
}

/// Where the next pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    epoch: u64,
    batch: usize,
}

/// Burn's [`DataLoader`] over an [`ImageSet`].
///
/// Each [`iter`](DataLoader::iter) is one epoch, and moves the loader to the beginning of the next; a copy made by `to_device` or
/// `slice` goes on from where its original stood. [`epoch`](ImageLoader::epoch) takes a pass at a stated place instead.
pub struct ImageLoader {
    set: Arc<ImageSet>,
    items: Range<usize>,
    config: LoaderConfig,
    device: Device,
    next: Mutex<Position>,
}

impl ImageLoader {
    /// A loader over all images of `set`, at the beginning of epoch 0.
    ///
    /// # Panics
    ///
    /// Panics when the batch size is 0, or the normalization does not [suit](Normalize::suits) the images.
    pub fn new(set: Arc<ImageSet>, config: LoaderConfig, device: &Device) -> Self {
        assert!(config.batch_size > 0, "batch size: expected at least 1, found 0");
        if let Err(error) = config.normalize.suits(&set.name, set.shape[0]) {
            panic!("{error}");
        }
        let items = 0..set.len();
        ImageLoader { set, items, config, device: device.clone(), next: Mutex::new(Position { epoch: 0, batch: 0 }) }
    }

    /// The same loader, with its next pass at batch `batch` of epoch `epoch`, both counted from 0.
    pub fn starting_at(self, epoch: u64, batch: usize) -> Self {
        ImageLoader { next: Mutex::new(Position { epoch, batch }), ..self }
    }

    /// Number of batches in a whole epoch.
    pub fn batches_per_epoch(&self) -> usize {
        match self.config.last {
            LastBatch::Keep => self.items.len().div_ceil(self.config.batch_size),
            LastBatch::Drop => self.items.len() / self.config.batch_size,
        }
    }

    /// The batches of epoch `epoch` from `start` on, both counted from 0; none when `start` is past the end.
    pub fn epoch(&self, epoch: u64, start: usize) -> ImageBatches<'_> {
        let order = match self.config.order {
            Order::Stored => None,
            Order::Shuffled { seed } => Some(permutation(seed, epoch, self.items.len())),
        };
        let total = self.num_items();
        ImageBatches { loader: self, order, done: start.saturating_mul(self.config.batch_size).min(total), total }
    }

    /// A loader over part of the same images, standing where this one stands.
    fn part(&self, items: Range<usize>, device: &Device) -> Self {
        let next = Mutex::new(*self.next.lock().unwrap_or_else(PoisonError::into_inner));
        ImageLoader { set: self.set.clone(), items, config: self.config.clone(), device: device.clone(), next }
    }

    /// The images at these places of the set, as tensors.
    fn batch(&self, indices: impl ExactSizeIterator<Item = usize>) -> ImageBatch {
        let [channels, height, width] = self.set.shape;
        let count = indices.len();
        let mut images = Vec::with_capacity(count * self.set.image_len());
        let mut targets = Vec::with_capacity(count);
        for index in indices {
            self.config.normalize.append(self.set.image(index), height * width, &mut images);
            targets.push(i32::from(self.set.labels[index]));
        }
        ImageBatch {
            images: Tensor::from_data(TensorData::new(images, [count, channels, height, width]), &self.device),
            targets: Tensor::from_data(TensorData::new(targets, [count]), &self.device),
            mix: None,
        }
    }
}

impl DataLoader<ImageBatch> for ImageLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<ImageBatch> + 'a> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let Position { epoch, batch } = *next;
        *next = Position { epoch: epoch + 1, batch: 0 };
        Box::new(self.epoch(epoch, batch))
    }

    fn num_items(&self) -> usize {
        match self.config.last {
            LastBatch::Keep => self.items.len(),
            LastBatch::Drop => self.batches_per_epoch() * self.config.batch_size,
        }
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<ImageBatch>> {
        Arc::new(self.part(self.items.clone(), device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<ImageBatch>> {
        let clamp = |at: usize| (self.items.start + at).min(self.items.end);
        Arc::new(self.part(clamp(start)..clamp(end), &self.device))
    }
}

/// The batches of one epoch.
pub struct ImageBatches<'a> {
    loader: &'a ImageLoader,
    /// Places within the loader's range, when they are not simply counted up.
    order: Option<Vec<u32>>,
    /// Images already behind, those before the starting batch included.
    done: usize,
    total: usize,
}

impl Iterator for ImageBatches<'_> {
    type Item = Result<ImageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done >= self.total {
            return None;
        }
        let end = self.total.min(self.done + self.loader.config.batch_size);
        let places = self.done..end;
        self.done = end;
        let first = self.loader.items.start;
        let order = self.order.as_deref();
        Some(Ok(self.loader.batch(places.map(|place| first + order.map_or(place, |order| order[place] as usize)))))
    }
}

impl DataLoaderIterator<ImageBatch> for ImageBatches<'_> {
    fn progress(&self) -> Progress {
        Progress::new(self.done, self.total, Some("items".to_owned()))
    }
}

/// The order of `count` images in epoch `epoch`.
///
/// Fisher and Yates' shuffle, from the last place down, with `j = floor(r * (i + 1) / 2^32)`. The draws `r` are ChaCha8's 32-bit
/// words for the key that is `seed` (little-endian, then zeros) and the stream `epoch`: an algorithm that is written down, not a
/// library's choice, so the order is the same on every platform and in every later version.
///
/// # Panics
///
/// Panics when `count` does not fit in 32 bits.
pub fn permutation(seed: u64, epoch: u64, count: usize) -> Vec<u32> {
    let count = u32::try_from(count).expect("at most 2^32 - 1 images");
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(epoch);
    let mut order: Vec<u32> = (0..count).collect();
    for last in (1..order.len()).rev() {
        let drawn = (u64::from(rng.next_u32()) * (last as u64 + 1)) >> 32;
        order.swap(last, drawn as usize);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::class_numbers;

    /// `count` images of 1 x 1 x 2 whose first byte and label tell their place.
    fn set(count: u8) -> Arc<ImageSet> {
        let images = (0..count).flat_map(|index| [index, 255]).collect();
        let labels = (0..count).map(|index| index % 10).collect();
        Arc::new(ImageSet { name: "count".into(), shape: [1, 1, 2], classes: 10, class_names: class_numbers(10), images, labels })
    }

    fn loader(count: u8, config: LoaderConfig) -> ImageLoader {
        ImageLoader::new(set(count), config, &Device::flex())
    }

    /// The places of the images of each batch, read back from the pixels and compared with the labels.
    fn places<'a>(batches: impl Iterator<Item = Result<ImageBatch, DatasetError>> + 'a) -> Vec<Vec<u8>> {
        batches
            .map(|batch| {
                let batch = batch.unwrap();
                let size = batch.targets.dims()[0];
                assert_eq!(batch.images.dims(), [size, 1, 1, 2]);
                let pixels: Vec<f32> = batch.images.into_data().try_into_vec().unwrap();
                let targets = batch.targets.into_data().convert::<i64>().try_into_vec::<i64>().unwrap();
                pixels
                    .chunks_exact(2)
                    .zip(targets)
                    .map(|(pixels, target)| {
                        assert_eq!(pixels[1], 1.0);
                        let place = (pixels[0] * 255.0).round() as u8;
                        assert_eq!(i64::from(place % 10), target);
                        place
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn stored_order_keeps_every_image() {
        let loader = loader(7, LoaderConfig::test(3));
        assert_eq!(places(loader.iter()), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
        assert_eq!((loader.num_items(), loader.batches_per_epoch()), (7, 3));
    }

    #[test]
    fn a_dropped_last_batch_is_not_counted() {
        let loader = loader(7, LoaderConfig::train(3, 1));
        assert_eq!((loader.num_items(), loader.batches_per_epoch()), (6, 2));
        assert!(places(loader.iter()).iter().all(|batch| batch.len() == 3));
    }

    #[test]
    fn epochs_are_different_permutations_and_repeatable() {
        let seed = 20_261_123;
        println!("seed {seed}");
        let config = LoaderConfig { last: LastBatch::Keep, ..LoaderConfig::train(8, seed) };
        let (one, other) = (loader(100, config.clone()), loader(100, config.clone()));
        let first = places(one.iter());
        let second = places(one.iter());
        assert_ne!(first, second);
        for epoch in [&first, &second] {
            let mut sorted = epoch.concat();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<u8>>());
        }
        assert_eq!(places(other.iter()), first);
        assert_eq!(places(other.epoch(1, 0)), second);
        assert_ne!(places(loader(100, LoaderConfig { order: Order::Shuffled { seed: seed + 1 }, ..config }).iter()), first);
    }

    /// Literals from a separate implementation of ChaCha8 and of the shuffle, in Python, after the documentation of
    /// [`permutation`].
    #[test]
    fn the_order_is_the_documented_one() {
        assert_eq!(permutation(42, 0, 10), [7, 8, 6, 4, 5, 2, 1, 9, 3, 0]);
        assert_eq!(permutation(42, 3, 20), [7, 2, 10, 19, 18, 0, 16, 14, 3, 15, 1, 9, 12, 17, 13, 6, 11, 4, 8, 5]);
        assert_eq!(permutation((1 << 40) + 7, 1, 40)[..10], [7, 16, 20, 11, 31, 37, 33, 28, 32, 19]);
        assert!(permutation(42, 0, 0).is_empty());
    }

    #[test]
    fn resuming_gives_exactly_the_batches_that_were_missing() {
        let config = LoaderConfig::train(4, 5);
        let whole: Vec<_> = {
            let loader = loader(50, config.clone());
            (0..3).map(|_| places(loader.iter())).collect()
        };
        for start in 0..=whole[1].len() {
            let resumed = loader(50, config.clone()).starting_at(1, start);
            // Burn moves the loader to the model's device before the first pass.
            let resumed = resumed.to_device(&Device::flex());
            let rest = resumed.iter();
            assert_eq!(rest.progress().items_processed, 4 * start);
            assert_eq!(places(rest), whole[1][start..]);
            assert_eq!(places(resumed.iter()), whole[2]);
        }
        assert!(places(loader(50, config.clone()).epoch(0, usize::MAX)).is_empty());
    }

    #[test]
    fn slices_share_the_images_among_devices() {
        let loader = loader(10, LoaderConfig { last: LastBatch::Keep, ..LoaderConfig::train(4, 3) });
        let (left, right) = (loader.slice(0, 5), loader.slice(5, 10));
        assert_eq!((left.num_items(), right.num_items()), (5, 5));
        let sorted = |part: &Arc<dyn DataLoader<ImageBatch>>| {
            let mut places = places(part.iter()).concat();
            places.sort_unstable();
            places
        };
        assert_eq!(sorted(&left), [0, 1, 2, 3, 4]);
        assert_eq!(sorted(&right), [5, 6, 7, 8, 9]);
        assert_eq!(sorted(&right.slice(3, 99)), [8, 9]);
    }

    #[test]
    fn progress_counts_images() {
        let loader = loader(7, LoaderConfig::test(3));
        let mut batches = loader.iter();
        batches.next();
        assert_eq!((batches.progress().items_processed, batches.progress().items_total), (3, 7));
    }

    #[test]
    fn an_empty_set_has_no_batch() {
        let loader = loader(0, LoaderConfig::test(3));
        assert!(places(loader.iter()).is_empty());
    }

    #[test]
    #[should_panic(expected = "batch size")]
    fn a_batch_of_nothing_is_a_mistake() {
        loader(3, LoaderConfig::test(0));
    }
}
