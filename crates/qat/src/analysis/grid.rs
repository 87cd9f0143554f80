//! The grid that each layer's output lies on.
//!
//! A layer has a quantizer of its own, or keeps the grid of its first input.

use crate::fake_quantize::Mode;
use crate::model::QatModel;
use crate::qparams::QParams;

/// The grid of an activation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerGrid {
    /// Scale, zero point and format.
    pub qparams: QParams,
    /// Whether it is that of the layer's input.
    pub shared: bool,
}

/// The grid of the input, then that of each layer's output, in the order of [`QatModel::layers`]; `None` where there is none.
pub fn layer_grids(model: &QatModel) -> Vec<Option<LayerGrid>> {
    let topology = model.topology();
    let mut grids: Vec<Option<QParams>> = vec![None; topology.values.len()];
    grids[topology.input.0] = (model.input.mode() == Mode::Quantize).then(|| model.input.qparams());
    for (step, layer) in model.steps() {
        let own = layer.output().map(|quantizer| quantizer.qparams());
        grids[step.output.0] = own.or_else(|| step.inputs.first().and_then(|input| grids[input.0]));
    }
    let input = grids[topology.input.0].map(|qparams| LayerGrid { qparams, shared: false });
    let layers = model.layers.iter().enumerate().map(|(index, layer)| {
        let qparams = grids[model.first_step(index).output.0]?;
        Some(LayerGrid { qparams, shared: layer.output().is_none() })
    });
    std::iter::once(input).chain(layers).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QConfig;
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        pool: MaxPool2d,
    }

    impl Net {
        fn forward(&self, x: Tensor<4>) -> Tensor<4> {
            self.pool.forward(self.conv.forward(x))
        }
    }

    #[test]
    fn a_pool_has_the_grid_of_its_input() {
        let device = Device::flex();
        let net = Net { conv: Conv2dConfig::new([1, 2], [3, 3]).init(&device), pool: MaxPool2dConfig::new([2, 2]).init() };
        let model = QatModel::prepare(&net, [1, 1, 6, 6], &QConfig::int8(), Net::forward).unwrap().with_mode(Mode::Observe);
        model.forward::<4, 4>(Tensor::from_floats([[[[0.5; 6]; 6]]], &device));
        let grids: Vec<LayerGrid> = layer_grids(&model.calibrated().unwrap()).into_iter().flatten().collect();
        assert_eq!(grids.iter().map(|grid| grid.shared).collect::<Vec<_>>(), [false, false, true]);
        assert_eq!(grids[1].qparams, grids[2].qparams);
        assert_ne!(grids[0].qparams, grids[1].qparams);
    }
}
