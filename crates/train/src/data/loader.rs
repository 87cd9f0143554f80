//! Batches of images for Burn, in an order that can be repeated.
//!
//! Epoch `e` of a shuffled loader visits the images in the order [`permutation`]`(seed, e, N)`, which depends on nothing else:
//! not on the machine, not on the epochs before. So a position is an epoch and a batch, and a run resumes in the middle of an
//! epoch with exactly the batches it had not seen ([`ImageLoader::starting_at`]).
//!
//! Worker threads make batches on the host ahead of time; the thread that takes one puts it on the device. What is in a batch
//! depends on seed, epoch and position alone (see `augment`), so any number of workers gives the same batches.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use burn::data::dataloader::{DataLoader, DataLoaderIterator, Progress};
use burn::data::dataset::DatasetError;
use burn::tensor::{Device, Int, Tensor, TensorData};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::augment::{Augment, Place};
use super::error::DataError;
use super::images::ImageSet;
use super::normalize::Normalize;
use super::prefetch::Prefetch;

/// A batch on a device.
#[derive(Clone, Debug)]
pub struct ImageBatch {
    /// `[B, C, H, W]`, reals as [`LoaderConfig::normalize`] says.
    pub images: Tensor<4>,
    /// `[B]`, classes in `[0, classes)`.
    pub targets: Tensor<1, Int>,
    /// What else is in the images, if they are mixtures of two.
    pub mix: Option<Mix>,
    /// Which part of a batch it is, if devices share one.
    pub part: Option<BatchPart>,
}

/// A part of a batch, for one of several devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchPart {
    /// Its place among the parts, from 0.
    pub index: usize,
    /// Its share of the batch's images, in `(0, 1]`.
    pub share: f64,
}

impl ImageBatch {
    /// The same on `device`.
    pub fn to_device(self, device: &Device) -> Self {
        // Devices differ in the integers that they compute with.
        let classes = |targets: Tensor<1, Int>| Tensor::from_data(targets.into_data(), device);
        Self {
            images: self.images.to_device(device),
            targets: classes(self.targets),
            mix: self.mix.map(|mix| Mix { targets: classes(mix.targets), lambda: mix.lambda }),
            part: self.part,
        }
    }
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
    /// How images are varied, by the seed of [`order`](Self::order), or 0 in stored order.
    pub augment: Augment,
    /// Threads that make batches ahead of time; with 0 they are made when they are asked for. It changes no batch.
    pub workers: usize,
}

impl LoaderConfig {
    /// For training: shuffled by `seed`, the last, smaller batch dropped; reals in `[0, 1]`, nothing varied, one worker.
    pub fn train(batch_size: usize, seed: u64) -> Self {
        LoaderConfig { order: Order::Shuffled { seed }, last: LastBatch::Drop, ..Self::test(batch_size) }
    }

    /// For evaluation: every image, as stored; reals in `[0, 1]`, nothing varied, one worker.
    pub fn test(batch_size: usize) -> Self {
        LoaderConfig {
            batch_size,
            order: Order::Stored,
            last: LastBatch::Keep,
            normalize: Normalize::unit(),
            augment: Augment::none(),
            workers: 1,
        }
    }

    /// Refuses images that normalization or augmentation do not suit.
    pub(super) fn suits(&self, images: &ImageSet) -> Result<(), DataError> {
        self.normalize.suits(&images.name, images.shape[0])?;
        Ok(self.augment.suits(&images.name, images.shape)?)
    }

    /// The same with another normalization.
    pub fn with_normalize(self, normalize: Normalize) -> Self {
        LoaderConfig { normalize, ..self }
    }

    /// The same with another augmentation.
    pub fn with_augment(self, augment: Augment) -> Self {
        LoaderConfig { augment, ..self }
    }

    /// The same with another number of workers.
    pub fn with_workers(self, workers: usize) -> Self {
        LoaderConfig { workers, ..self }
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
    /// A loader over all images of `set`, at the beginning of epoch 0. Where normalization or augmentation do not suit the images, an
    /// error takes the place of the first batch; [`DataConfig::suits`](super::DataConfig::suits) tells beforehand.
    ///
    /// # Panics
    ///
    /// Panics when the batch size is 0.
    pub fn new(set: Arc<ImageSet>, config: LoaderConfig, device: &Device) -> Self {
        assert!(config.batch_size > 0, "batch size: expected at least 1, found 0");
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
    pub fn epoch(&self, epoch: u64, start: usize) -> ImageBatches {
        let order = match self.config.order {
            Order::Stored => None,
            Order::Shuffled { seed } => Some(permutation(seed, epoch, self.items.len())),
        };
        let total = self.num_items();
        let batches = self.batches_per_epoch();
        let maker = Maker { set: self.set.clone(), items: self.items.clone(), config: self.config.clone(), epoch, order, total };
        let (maker, next) = (Arc::new(maker), start.min(batches));
        ImageBatches { maker, device: self.device.clone(), next, batches, total, ahead: Ahead::Unstarted }
    }

    /// A loader over part of the same images, standing where this one stands.
    fn part(&self, items: Range<usize>, device: &Device) -> Self {
        let next = Mutex::new(*self.next.lock().unwrap_or_else(PoisonError::into_inner));
        ImageLoader { set: self.set.clone(), items, config: self.config.clone(), device: device.clone(), next }
    }
}

/// Makes the batches of one epoch on the host, on whichever thread asks.
struct Maker {
    set: Arc<ImageSet>,
    items: Range<usize>,
    config: LoaderConfig,
    epoch: u64,
    /// Places within the range of items, when they are not simply counted up.
    order: Option<Vec<u32>>,
    /// Images of the epoch.
    total: usize,
}

/// A batch on the host.
struct HostBatch {
    /// `[B, C, H, W]`.
    images: Vec<f32>,
    /// `[B]`.
    targets: Vec<i32>,
    /// Classes `[B]` of the other images, and the share of the first.
    mix: Option<(Vec<i32>, f32)>,
}

impl Maker {
    /// Images of the epoch that batch `batch` holds.
    fn places(&self, batch: usize) -> Range<usize> {
        let first = batch * self.config.batch_size;
        first..self.total.min(first + self.config.batch_size)
    }

    /// Batch `batch` of the epoch.
    fn make(&self, batch: usize) -> HostBatch {
        let LoaderConfig { order, normalize, augment, .. } = &self.config;
        let [channels, height, width] = self.set.shape;
        let seed = match order {
            Order::Stored => 0,
            Order::Shuffled { seed } => *seed,
        };
        // Parts of a loader, on other devices, draw other numbers than this one.
        let place = |place: usize| Place { seed, epoch: self.epoch, position: self.items.start + place };
        let cover: Vec<u8> = (0..channels).map(|channel| normalize.mean_byte(channel)).collect();
        let places = self.places(batch);
        let mut images = Vec::with_capacity(places.len() * self.set.image_len());
        let mut targets = Vec::with_capacity(places.len());
        let mut varied = Vec::new();
        for position in places.clone() {
            let index = self.items.start + self.order.as_ref().map_or(position, |order| order[position] as usize);
            let image = self.set.image(index);
            if augment.varies_bytes() {
                augment.vary(image, self.set.shape, &cover, place(position), &mut varied);
                normalize.append(&varied, height * width, &mut images);
            } else {
                normalize.append(image, height * width, &mut images);
            }
            targets.push(i32::from(self.set.labels[index]));
        }
        let mix = augment.lambda(place(places.start)).map(|lambda| {
            mix(&mut images, self.set.image_len(), lambda);
            (targets.iter().rev().copied().collect(), lambda)
        });
        HostBatch { images, targets, mix }
    }
}

/// Mixes the images of a batch with those of the same batch from its end on.
fn mix(images: &mut [f32], image_len: usize, lambda: f32) {
    let others = images.to_vec();
    for (image, other) in images.chunks_exact_mut(image_len).zip(others.chunks_exact(image_len).rev()) {
        for (real, other) in image.iter_mut().zip(other) {
            *real = lambda * *real + (1.0 - lambda) * other;
        }
    }
}

impl HostBatch {
    /// The batch on `device`.
    fn upload(self, [channels, height, width]: [usize; 3], device: &Device) -> ImageBatch {
        let count = self.targets.len();
        let classes = |targets| Tensor::from_data(TensorData::new(targets, [count]), device);
        ImageBatch {
            images: Tensor::from_data(TensorData::new(self.images, [count, channels, height, width]), device),
            targets: classes(self.targets),
            mix: self.mix.map(|(targets, lambda)| Mix { targets: classes(targets), lambda }),
            part: None,
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

/// The batches of one epoch. Threads are started when the first one is taken, and end with this.
pub struct ImageBatches {
    maker: Arc<Maker>,
    device: Device,
    /// The batch to be taken next.
    next: usize,
    batches: usize,
    /// Images of the epoch.
    total: usize,
    ahead: Ahead,
}

/// Who makes the batches.
enum Ahead {
    Unstarted,
    Workers(Prefetch<HostBatch>),
    Taker,
}

impl Iterator for ImageBatches {
    type Item = Result<ImageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.batches {
            return None;
        }
        if matches!(self.ahead, Ahead::Unstarted) {
            if let Err(error) = self.maker.config.suits(&self.maker.set) {
                self.next = self.batches;
                return Some(Err(DatasetError::new(error)));
            }
            let maker = self.maker.clone();
            let make = Arc::new(move |batch| maker.make(batch));
            let workers = Prefetch::start(self.maker.config.workers, self.next, self.batches, make);
            self.ahead = workers.map_or(Ahead::Taker, Ahead::Workers);
        }
        let batch = match &mut self.ahead {
            Ahead::Workers(workers) => workers.take()?,
            _ => self.maker.make(self.next),
        };
        self.next += 1;
        Some(Ok(batch.upload(self.maker.set.shape, &self.device)))
    }
}

impl DataLoaderIterator<ImageBatch> for ImageBatches {
    fn progress(&self) -> Progress {
        let done = self.next.saturating_mul(self.maker.config.batch_size).min(self.total);
        Progress::new(done, self.total, Some("items".to_owned()))
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

    /// A batch read back: pixels, classes, and the classes and the share of a mixture.
    type Plain = (Vec<f32>, Vec<i64>, Option<(Vec<i64>, f32)>);

    /// The batches of 40 images of 2 x 6 x 5.
    fn host(config: &LoaderConfig, epoch: u64, start: usize) -> Vec<Plain> {
        let images = (0..40 * 60).map(|at| (at * 7 % 251) as u8).collect();
        let labels = (0..40).map(|index| index % 10).collect();
        let (shape, class_names) = ([2, 6, 5], class_numbers(10));
        let set = Arc::new(ImageSet { name: "pattern".into(), shape, classes: 10, class_names, images, labels });
        let loader = ImageLoader::new(set, config.clone(), &Device::flex());
        let classes = |targets: Tensor<1, Int>| targets.into_data().convert::<i64>().try_into_vec::<i64>().unwrap();
        loader
            .epoch(epoch, start)
            .map(|batch| {
                let ImageBatch { images, targets, mix, .. } = batch.unwrap();
                (images.into_data().try_into_vec().unwrap(), classes(targets), mix.map(|mix| (classes(mix.targets), mix.lambda)))
            })
            .collect()
    }

    #[test]
    fn any_number_of_workers_gives_the_same_batches_from_any_position_on() {
        let augment = Augment { crop: 2, flip: true, cutout: 2, mixup: 0.4 };
        let config = LoaderConfig { last: LastBatch::Keep, ..LoaderConfig::train(6, 77) }.with_augment(augment);
        let one = host(&config.clone().with_workers(0), 3, 0);
        assert_eq!(one.len(), 7);
        for workers in [1, 2, 3, 16] {
            for start in 0..=7 {
                assert_eq!(host(&config.clone().with_workers(workers), 3, start), one[start..], "{workers} workers from {start}");
            }
        }
        assert_ne!(host(&config, 4, 0), one);
    }

    #[test]
    fn mixtures_are_of_the_batch_and_its_reverse() {
        let plain = LoaderConfig::train(6, 5).with_normalize(Normalize::signed());
        let mixed = plain.clone().with_augment(Augment { mixup: 1.0, ..Augment::none() });
        let (plain, mixed) = (host(&plain, 0, 0), host(&mixed, 0, 0));
        for ((images, targets, none), (mixtures, first, mix)) in plain.iter().zip(&mixed) {
            let (second, lambda) = mix.as_ref().unwrap();
            assert!(none.is_none() && first == targets);
            assert!(second.iter().eq(targets.iter().rev()));
            for (at, mixture) in mixtures.iter().enumerate() {
                let other = images[(5 - at / 60) * 60 + at % 60];
                assert_eq!(*mixture, lambda * images[at] + (1.0 - lambda) * other);
            }
        }
        let lambdas: Vec<f32> = mixed.iter().map(|(.., mix)| mix.as_ref().unwrap().1).collect();
        assert!(lambdas.windows(2).all(|pair| pair[0] != pair[1]), "{lambdas:?}");
    }

    #[test]
    fn parts_draw_other_numbers_than_the_whole() {
        let images = vec![0; 20].into_iter().chain((1..=20).flat_map(|_| [1u8])).collect::<Vec<u8>>();
        let set = ImageSet {
            name: "s".into(),
            shape: [1, 1, 2],
            classes: 1,
            class_names: class_numbers(1),
            images,
            labels: vec![0; 20],
        };
        let flip = Augment { mixup: 1.0, ..Augment::none() };
        let config = LoaderConfig { order: Order::Stored, ..LoaderConfig::test(10) }.with_augment(flip);
        let loader = ImageLoader::new(Arc::new(set), config, &Device::flex());
        let lambda = |part: Arc<dyn DataLoader<ImageBatch>>| part.iter().next().unwrap().unwrap().mix.unwrap().lambda;
        assert_ne!(lambda(loader.slice(0, 10)), lambda(loader.slice(10, 20)));
    }

    #[test]
    fn an_epoch_may_be_left_before_its_end() {
        let loader = loader(200, LoaderConfig::test(1).with_workers(4));
        for taken in [0, 1, 7] {
            let mut batches = loader.epoch(0, 0);
            assert_eq!(places(batches.by_ref().take(taken)).len(), taken);
            assert_eq!(batches.progress().items_processed, taken);
        }
    }

    #[test]
    fn settings_that_do_not_suit_the_images_are_one_error_and_no_batch() {
        let crop = Augment { crop: 1, ..Augment::none() };
        let wrong = [LoaderConfig::test(1).with_normalize(Normalize::imagenet()), LoaderConfig::test(1).with_augment(crop)];
        for (config, word) in wrong.into_iter().zip(["normalize, count", "augment, crop on count"]) {
            let results: Vec<_> = loader(3, config).iter().collect();
            assert_eq!(results.len(), 1);
            let error = results.into_iter().next().unwrap().unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
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
