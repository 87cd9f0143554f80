//! Batch norm by its running statistics.

use super::Importer;
use super::attributes::NodeView;
use super::refusal::{Outcome, Refusal};
use crate::graph::{BatchNorm, Op};

impl<'a> Importer<'a> {
    pub(super) fn batch_norm(&mut self, node: &NodeView<'a>) -> Outcome {
        let value = self.value(node, 0)?;
        let sample = self.sample(value);
        let trains = node.flag("training_mode", false)?;
        let spatial = node.opset >= 9 || node.flag("spatial", true)?;
        if trains || !spatial {
            let found = if trains { "training_mode = 1" } else { "spatial = 0" };
            return Err(Refusal::new("a batch norm in inference mode, one number for each channel", found));
        }
        let Some(&channels) = sample.first() else { return Err(Refusal::new("a channel axis", "none")) };
        let epsilon = node.float("epsilon", 1e-5)?;
        let [gamma, beta, mean, variance] =
            [self.constant(node, 1)?, self.constant(node, 2)?, self.constant(node, 3)?, self.constant(node, 4)?];
        let all = [&gamma, &beta, &mean, &variance];
        if let Some(other) = all.iter().find(|tensor| tensor.shape != [channels]) {
            return Err(Refusal::new(format!("parameters [{channels}]"), format!("{:?}", other.shape)));
        }
        if epsilon < 0.0 || variance.reals()?.iter().any(|variance| *variance + epsilon <= 0.0) {
            return Err(Refusal::new("variances above 0 with epsilon", format!("{:?} and {epsilon}", variance.elements)));
        }
        // Fusion joins batch norms and convolutions; a linear layer takes one in here.
        if let Some(layer) =
            self.foldable(node, 0).filter(|layer| matches!(self.graph.nodes[layer.node].op, Op::Linear { .. }) && layer.axis == 1)
        {
            let (gamma, beta) = (gamma.reals()?, beta.reals()?);
            let (mean, variance) = (mean.reals()?, variance.reals()?);
            let factor: Vec<f32> =
                gamma.iter().zip(variance).map(|(gamma, variance)| gamma / (variance + epsilon).sqrt()).collect();
            let shift: Vec<f32> = (0..channels).map(|channel| beta[channel] - mean[channel] * factor[channel]).collect();
            self.fold_into(layer, Some(&factor), Some((&shift, None)))?;
            return self.define_value(node, value);
        }
        let norm = BatchNorm {
            gamma: self.channel_parameter(&gamma, "scale", channels)?,
            beta: self.channel_parameter(&beta, "bias", channels)?,
            mean: self.channel_parameter(&mean, "mean", channels)?,
            variance: self.channel_parameter(&variance, "variance", channels)?,
            epsilon: epsilon.into(),
        };
        let output = match sample[..] {
            [_, _, _] => self.add(Op::BatchNorm(norm), vec![value], self.dims(value))?,
            [_, ref rest @ ..] => {
                let image = self.with_sample(value, &[channels, 1, rest.iter().product()]);
                let row = self.dims(value);
                let input = self.add_part("image", Op::Reshape, vec![value], image.clone())?;
                let output = self.add(Op::BatchNorm(norm), vec![input], image)?;
                self.add_part("row", Op::Reshape, vec![output], row)?
            }
            [] => return Err(Refusal::new("a channel axis", "none")),
        };
        self.define_value(node, output)
    }
}
