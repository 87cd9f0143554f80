//! A step on several devices at once: each takes a part of the batch, and the main one adds up what they found.
//!
//! With parts `B_i` of a batch `B`, the gradient of the batch's mean loss is `Σ |B_i| / |B| · g_i`, so that a step is that of one device
//! but for the order of sums. The threads are those of Burn's `MultiDevicesTrainStep`, the strategy `MultiDevice` without its epochs.
//! Parameters, ranges and steps of weights among them, are those of the main device: every step begins with copies of them, so they
//! never differ from device to device. Running statistics are the mean of what the devices made of them; a batch norm that still uses the
//! batch's statistics uses those of its part, as it does wherever data is shared out. Calibration and evaluation happen on the main device.

use crate::{
    classifier::{Buffers, Classifier, StepOutput, Trainer},
    data::{BatchPart, ImageBatch, Mix},
    error::TrainError,
};
use burn::{
    data::dataloader::{DataLoaderIterator, Progress},
    data::dataset::DatasetError,
    module::{Module, ModuleMapper, Param},
    optim::GradientsParams,
    tensor::{Device, Tensor},
    train::train::MultiDevicesTrainStep,
};

/// Devices that share each batch, the main one first.
pub(super) struct Team<M: Classifier> {
    workers: MultiDevicesTrainStep<Trainer<M>>,
    devices: Vec<Device>,
}

/// What one device found.
pub(super) struct Part {
    /// The images that it saw, on the main device.
    pub(super) images: Tensor<4>,
    pub(super) output: StepOutput,
    /// Those of its share of the batch's loss, on the main device.
    pub(super) gradients: GradientsParams,
}

impl<M: Classifier> Team<M> {
    /// A thread for each device; `main` has automatic differentiation.
    pub(super) fn new(main: &Device, more: &[Device]) -> Self {
        let with_gradients = |device: &Device| if device.is_autodiff() { device.clone() } else { device.clone().autodiff() };
        let devices: Vec<Device> = std::iter::once(main).chain(more).map(with_gradients).collect();
        Self { workers: MultiDevicesTrainStep::new(&devices), devices }
    }

    /// Loss and gradients of `batch`, part by part in the order of the devices; `model` has the running statistics of all of them
    /// afterwards. `place` says which step it is.
    pub(super) fn step(
        &self,
        model: &Trainer<M>,
        batch: ImageBatch,
        place: impl FnOnce() -> String,
    ) -> Result<Vec<Part>, TrainError> {
        let parts = self.shared_out(batch);
        let images: Vec<Tensor<4>> = parts.iter().map(|part| part.images.clone()).collect();
        let mut sources: Vec<Box<dyn DataLoaderIterator<ImageBatch>>> = Vec::with_capacity(parts.len());
        for (index, part) in parts.into_iter().enumerate() {
            sources.push(Box::new(Once(Some(part.to_device(&self.devices[index])))));
        }
        while sources.len() < self.devices.len() {
            sources.push(Box::new(Once(None)));
        }
        let (outputs, _) =
            self.workers.step(&mut sources, model).map_err(|source| TrainError::Devices { place: place(), source })?;
        // They come in the order in which devices are done, but sums depend on their order.
        let mut outputs: Vec<_> = outputs.into_iter().map(|output| output.output).collect();
        outputs.sort_by_key(|output| output.item.part().map(|part| part.index));

        let mut merge = Merge(Vec::with_capacity(outputs.len()));
        let mut found = Vec::with_capacity(outputs.len());
        for (images, mut output) in images.into_iter().zip(outputs) {
            if let (Some(part), Some(buffers)) = (output.item.part(), output.item.take_buffers()) {
                merge.0.push((part.share, buffers));
            }
            let gradients = output.grads.to_device(&self.devices[0], model);
            found.push(Part { images, output: output.item, gradients });
        }
        // Clones of a model share its running statistics.
        let _ = model.clone().map(&mut merge);
        Ok(found)
    }

    /// `batch` in as many parts as there are devices, or images if those are fewer; the first ones are larger by one image where
    /// it does not come out even.
    fn shared_out(&self, batch: ImageBatch) -> Vec<ImageBatch> {
        let [count, ..] = batch.images.dims();
        let (least, larger) = (count / self.devices.len(), count % self.devices.len());
        let (mut parts, mut start) = (Vec::new(), 0);
        for index in 0..self.devices.len() {
            let images = least + usize::from(index < larger);
            if images == 0 {
                break;
            }
            let range = start..start + images;
            start += images;
            parts.push(ImageBatch {
                images: batch.images.clone().slice([range.clone()]),
                targets: batch.targets.clone().slice([range.clone()]),
                mix: batch.mix.as_ref().map(|mix| Mix { targets: mix.targets.clone().slice([range]), lambda: mix.lambda }),
                part: Some(BatchPart { index, share: images as f64 / count as f64 }),
            });
        }
        parts
    }
}

/// A loader of one batch at most.
struct Once(Option<ImageBatch>);

impl Iterator for Once {
    type Item = Result<ImageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl DataLoaderIterator<ImageBatch> for Once {
    fn progress(&self) -> Progress {
        Progress::new(1, 1, None)
    }
}

/// Puts the mean of the devices' running statistics in place of the old ones.
struct Merge(Vec<(f64, Buffers)>);

impl ModuleMapper for Merge {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let found: Option<Vec<(f64, &Tensor<1>)>> =
            self.0.iter().map(|(share, buffers)| Some((*share, buffers.0.get(&param.id)?))).collect();
        let Some(found) = found else { return param };
        param.map(|old| {
            let (shape, device) = (old.dims(), old.device());
            let old = old.detach();
            let sum = found.into_iter().fold(old.clone(), |sum, (share, value)| {
                let value = value.clone().to_device(&device).reshape(shape);
                // What has not changed stays to the bit, an infinity of an observer that has seen nothing too.
                let unchanged = value.clone().equal(old.clone());
                sum + ((value - old.clone()) * share).mask_fill(unchanged, 0.0)
            });
            sum.set_require_grad(false)
        })
    }
}

#[cfg(all(test, feature = "ndarray"))]
mod tests {
    use super::*;
    use crate::zoo::{ZooModel, ZooNet};
    use burn::module::ModuleVisitor;
    use burn::optim::GradientsAccumulator;
    use burn::tensor::{Distribution, Int, TensorData};
    use burn::train::TrainStep;
    use qat::DeviceName;

    const SEED: u64 = 20_261_124;

    fn devices() -> (Device, Device) {
        (DeviceName::Flex.init().unwrap().autodiff(), DeviceName::NdArray.init().unwrap())
    }

    fn batch(model: ZooModel, images: usize, device: &Device) -> ImageBatch {
        let [c, h, w] = model.input_shape();
        device.seed(SEED);
        let targets: Vec<i32> = (0..images as i32).map(|index| index % 10).collect();
        ImageBatch {
            images: Tensor::random([images, c, h, w], Distribution::Uniform(0.0, 1.0), device),
            targets: Tensor::from_data(TensorData::new(targets, [images]), device),
            mix: None,
            part: None,
        }
    }

    fn trainer(model: ZooModel, device: &Device) -> Trainer<ZooNet> {
        let mut trainer = Trainer::new(model.init(&device.clone().inner(), SEED));
        trainer.model = trainer.model.train().fork(device);
        trainer
    }

    /// Numbers of a model by parameter: gradients where there are any, or values.
    struct Numbers<'a>(Option<&'a GradientsParams>, Vec<Vec<f32>>);

    impl ModuleVisitor for Numbers<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let numbers = match self.0 {
                Some(gradients) => gradients.get::<D>(param.id),
                None => Some(param.val()),
            };
            self.1.extend(numbers.map(|numbers| numbers.try_into_vec_as().unwrap()));
        }
    }

    fn numbers<M: Module>(model: &M, gradients: Option<&GradientsParams>) -> Vec<Vec<f32>> {
        let mut numbers = Numbers(gradients, Vec::new());
        model.valid();
        model.visit(&mut numbers);
        numbers.1
    }

    fn assert_near(found: &[Vec<f32>], expected: &[Vec<f32>], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
            let largest = expected.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() <= tolerance * largest, "tensor {index}: {found} for {expected}");
            }
        }
    }

    fn joined(model: &Trainer<ZooNet>, parts: Vec<Part>) -> (f64, GradientsParams) {
        let mut sum = GradientsAccumulator::new();
        let mut loss = 0.0;
        for Part { output, gradients, .. } in parts {
            let share = output.part().unwrap().share;
            loss += share * f64::from(output.read().unwrap().loss);
            sum.accumulate(model, gradients);
        }
        (loss, sum.grads())
    }

    #[test]
    fn parts_of_unlike_size_add_up_to_the_gradient_of_the_whole() {
        let (main, other) = devices();
        for images in [1, 2, 5] {
            let model = trainer(ZooModel::LeNet, &main);
            let whole = model.step(batch(ZooModel::LeNet, images, &main));
            let parts = Team::new(&main, std::slice::from_ref(&other))
                .step(&model, batch(ZooModel::LeNet, images, &main), || "a test".into())
                .unwrap();
            let sizes: Vec<usize> = parts.iter().map(|part| part.images.dims()[0]).collect();
            assert_eq!(sizes, [vec![1], vec![1, 1], vec![3, 2]][images / 2], "{images} images");
            let (loss, gradients) = joined(&model, parts);
            assert!((loss - f64::from(whole.item.read().unwrap().loss)).abs() < 1e-6);
            assert_near(&numbers(&model, Some(&gradients)), &numbers(&model, Some(&whole.grads)), 1e-4);
        }
    }

    #[test]
    fn running_statistics_are_those_of_all_devices() {
        let (main, other) = devices();
        // Both halves are the same images, so that the statistics of a half are those of the whole.
        let batch = || {
            let ImageBatch { images, targets, .. } = batch(ZooModel::ResNet8, 4, &main);
            let targets: Tensor<1, Int> = Tensor::cat(vec![targets.clone(), targets], 0);
            ImageBatch { images: Tensor::cat(vec![images.clone(), images], 0), targets, mix: None, part: None }
        };
        let alone = trainer(ZooModel::ResNet8, &main);
        let before = numbers(&alone, None);
        let whole = alone.step(batch());
        let model = trainer(ZooModel::ResNet8, &main);
        let parts = Team::new(&main, &[other]).step(&model, batch(), || "a test".into()).unwrap();
        let (_, gradients) = joined(&model, parts);
        let (found, expected) = (numbers(&model, None), numbers(&alone, None));
        assert_ne!(expected, before, "a step changes running statistics");
        assert_near(&found, &expected, 1e-4);
        assert_near(&numbers(&model, Some(&gradients)), &numbers(&alone, Some(&whole.grads)), 1e-3);
    }
}
