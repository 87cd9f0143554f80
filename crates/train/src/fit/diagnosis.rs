//! Where a number first went wrong: the layers of a model with the batch that failed.
//!
//! The walk is in order of execution: the images, then each layer's parameters and its output. Not here: noticing that a loss is
//! wrong (see `segment`).

use crate::classifier::Classifier;
use crate::image_order::run_images;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::Tensor;
use qat::{Activation, QatModel};
use std::fmt;

/// A tensor of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Culprit {
    /// The layer, as in `blocks.0.conv1`; `input` for the images. Empty where the model's layers are not known.
    pub layer: String,
    /// Its operation, as in `conv2d`.
    pub operation: String,
    /// `output`, or the path of a parameter.
    pub tensor: String,
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.layer.as_str(), self.operation.as_str()) {
            ("", _) => f.write_str(&self.tensor),
            (layer, "") => write!(f, "{} of {layer}", self.tensor),
            (layer, operation) => write!(f, "{} of {layer} ({operation})", self.tensor),
        }
    }
}

/// The first number that is not finite when `model` sees `images`.
pub(crate) fn first_non_finite(model: &QatModel, images: Tensor<4>) -> Option<Culprit> {
    let mut finite = Vec::with_capacity(model.topology().values.len());
    run_images(model, images, |_, activation| finite.push(magnitude(activation).is_finite()));
    let mut finite = finite.into_iter();
    if finite.next() == Some(false) {
        return Some(Culprit { layer: "input".into(), operation: String::new(), tensor: "images".into() });
    }
    for ((step, layer), finite) in model.steps().zip(finite) {
        let culprit = |tensor: String| Culprit { layer: step.name.clone(), operation: layer.name().into(), tensor };
        // Statistics that the failing batch has spoilt say nothing about the cause.
        if let Some(path) = parameter(layer, |path| path.starts_with("norm.running_")) {
            return Some(culprit(path));
        }
        if !finite {
            return Some(culprit("output".into()));
        }
    }
    None
}

/// The layer with the largest absolute output when `model` sees `images`, and that number.
pub(crate) fn largest_output(model: &QatModel, images: Tensor<4>) -> Option<(Culprit, f32)> {
    let mut sizes = Vec::with_capacity(model.topology().values.len());
    run_images(model, images, |_, activation| sizes.push(magnitude(activation)));
    let (largest, (step, layer)) = sizes.into_iter().skip(1).zip(model.steps()).max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((Culprit { layer: step.name.clone(), operation: layer.name().into(), tensor: "output".into() }, largest))
}

/// The largest absolute number of an activation; NaN where there is one.
fn magnitude(activation: &Activation) -> f32 {
    activation
        .to_data()
        .iter::<f32>()
        .fold(0.0, |largest: f32, x| if x.is_nan() || largest.is_nan() { f32::NAN } else { largest.max(x.abs()) })
}

/// The first parameter or statistic of `model` that holds NaN or an infinity, by its layer where those are known.
pub(crate) fn spoilt<M: Classifier>(model: &M) -> Option<Culprit> {
    let of_layer = model.quantized().and_then(|layers| {
        layers.steps().find_map(|(step, layer)| {
            let tensor = parameter(layer, |_| false)?;
            Some(Culprit { layer: step.name.clone(), operation: layer.name().into(), tensor })
        })
    });
    of_layer.or_else(|| {
        let tensor = parameter(model, |_| false)?;
        Some(Culprit { layer: String::new(), operation: String::new(), tensor })
    })
}

/// Path of the first parameter or statistic of a module that holds NaN or an infinity; observers, which begin with infinities, and
/// what `ignore` says are passed over.
fn parameter<M: Module>(module: &M, ignore: fn(&str) -> bool) -> Option<String> {
    let mut search = Search { path: Vec::new(), found: None, ignore, in_observer: 0 };
    module.visit(&mut search);
    search.found
}

struct Search {
    path: Vec<String>,
    found: Option<String>,
    ignore: fn(&str) -> bool,
    /// How many containers of the path are observers.
    in_observer: usize,
}

impl ModuleVisitor for Search {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.in_observer += usize::from(container == OBSERVER);
        if !container.starts_with(VARIANT) {
            self.path.push(name.into());
        }
    }

    fn exit_module(&mut self, _: &str, container: &str) {
        self.in_observer -= usize::from(container == OBSERVER);
        if !container.starts_with(VARIANT) {
            self.path.pop();
        }
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.found.is_some() || self.in_observer > 0 {
            return;
        }
        let path = self.path.join(".");
        if (self.ignore)(&path) {
            return;
        }
        let finite: Option<bool> = param.val().is_finite().all().try_into_scalar().ok();
        if finite != Some(true) {
            self.found = Some(path);
        }
    }
}

const OBSERVER: &str = "Struct:Observer";
/// The name of an enum's variant is no part of a tensor's name.
const VARIANT: &str = "Enum:";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::Classifier;
    use crate::zoo::ZooModel;
    use burn::tensor::Device;
    use qat::{QConfig, QatLayer};

    fn model() -> QatModel {
        let net = ZooModel::LeNet.init(&Device::flex(), 1);
        QatModel::prepare(&net, [1, 1, 28, 28], &QConfig::int8(), |net, x| net.logits(x)).unwrap()
    }

    #[test]
    fn the_first_layer_is_named_with_its_tensor() {
        let device = Device::flex();
        let images = || Tensor::<4>::ones([2, 1, 28, 28], &device) * 0.5;
        assert_eq!(first_non_finite(&model(), images()), None);
        let poisoned = first_non_finite(&model(), images().mask_fill(images().greater_scalar(0.0), f32::NAN)).unwrap();
        assert_eq!(poisoned.to_string(), "images of input");

        let mut broken = model();
        let QatLayer::Linear(linear) = broken.layers.iter_mut().rfind(|layer| matches!(layer, QatLayer::Linear(_))).unwrap()
        else {
            panic!("it was chosen so")
        };
        linear.weight = linear.weight.clone().map(|w| w * f32::INFINITY);
        let last = broken.steps().filter(|(_, layer)| matches!(layer, QatLayer::Linear(_))).last().unwrap().0.name.clone();
        assert_eq!(first_non_finite(&broken, images()).unwrap().to_string(), format!("weight of {last} (linear)"));

        // Finite parameters whose product is not.
        let mut large = model();
        for layer in &mut large.layers {
            if let QatLayer::Linear(linear) = layer {
                linear.weight = linear.weight.clone().map(|w| w.ones_like() * 1e30);
            }
        }
        let culprit = first_non_finite(&large, images()).unwrap();
        assert_eq!(culprit.tensor, "output");
        let (largest, value) = largest_output(&large.clone().with_mode(qat::Mode::Float), images()).unwrap();
        assert!(value > 1e29 || value.is_nan(), "{largest}: {value}");
    }
}
