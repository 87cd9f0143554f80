//! Multiplications, bit operations and bytes of each layer, for one sample.
//!
//! A convolution multiplies each weight once for each position of its output, a linear layer once for each row; one bit operation
//! count (BOPs) is that number times the bits of weight and input. Additions, pools and relus count as none. Bytes are those of
//! constants: of a float model 4 for each number, batch norm's four a channel included; of the integer model those of the
//! packed weight and, for each output channel, 4 for the bias and 4 for the multiplier, or for the step of each of its groups. Not here: time, and memory for activations.

use crate::fake_quantize::WeightScale;
use crate::format::IntegerFormat;
use crate::graph::ValueId;
use crate::model::{QatLayer, QatModel};

/// Cost of one layer of a [`QatModel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// The layer's name, as in `blocks.0.conv1`.
    pub name: String,
    /// The operation and what is fused into it, as in `conv2d+batch_norm+relu`.
    pub op: String,
    /// Shape of the output for one sample.
    pub output_shape: Vec<usize>,
    /// Numbers that learn: weight, bias, γ and β.
    pub parameters: u64,
    /// Bits of a weight, 32 where it stays in float; `None` where there is none.
    pub weight_bits: Option<u8>,
    /// Steps of the weight's or table's grid; `None` where it has none.
    pub weight_steps: Option<u64>,
    /// Multiply-accumulate operations for one sample.
    pub macs: u64,
    /// `macs` times the bits of a weight times the bits of an input.
    pub bops: u64,
    /// Size of the float constants.
    pub float_bytes: u64,
    /// Size of the integer constants.
    pub integer_bytes: u64,
}

/// The cost of every layer, in the order of their first steps; the arithmetic is that of all its steps together.
pub fn layer_costs(model: &QatModel) -> Vec<LayerCost> {
    let topology = model.topology();
    let formats = model.activation_formats();
    let elements = |value: ValueId| topology.values[value.0].sample_shape().iter().product::<usize>() as u64;
    (model.layers.iter().enumerate())
        .map(|(index, layer)| {
            let step = model.first_step(index);
            let output_shape = topology.values[step.output.0].sample_shape();
            let weights = Weights::of(layer).unwrap_or_default();
            let macs = topology.steps.iter().filter(|step| step.layer == index).map(|step| match layer {
                // Each input of a transposed convolution meets the weights of its channel.
                QatLayer::ConvTranspose2d(conv) => {
                    let [c_in, ..] = conv.weight.val().dims();
                    weights.elements * (elements(step.inputs[0]) / c_in as u64)
                }
                QatLayer::MatMul(_) => {
                    let inner = topology.values[step.inputs[0].0].sample_shape().last().copied().unwrap_or(1);
                    elements(step.output) * inner as u64
                }
                _ => weights.elements * (elements(step.output) / weights.channels.max(1)),
            });
            let macs = if matches!(layer, QatLayer::Embedding(_)) { 0 } else { macs.sum() };
            let input_bits = |operand: usize| step.inputs.get(operand).map_or(0, |value| formats[value.0].bits());
            let other_bits = if matches!(layer, QatLayer::MatMul(_)) { input_bits(1) } else { weights.bits.unwrap_or_default() };
            LayerCost {
                name: step.name.clone(),
                op: op(layer),
                output_shape,
                parameters: weights.elements + weights.channels * (weights.biases + 2 * weights.norms),
                weight_bits: weights.bits,
                weight_steps: (weights.steps > 0).then_some(weights.steps),
                macs,
                bops: macs * u64::from(other_bits) * u64::from(input_bits(0)),
                float_bytes: 4 * (weights.elements + weights.channels * (weights.biases + 4 * weights.norms)),
                integer_bytes: weights.packed() + weights.step_bytes(),
            }
        })
        .collect()
}

/// The constants of a layer.
#[derive(Default)]
struct Weights {
    elements: u64,
    /// Output channels.
    channels: u64,
    /// Biases a channel, 0 or 1.
    biases: u64,
    /// Batch norms, 0 or 1.
    norms: u64,
    bits: Option<u8>,
    /// Of its grid.
    steps: u64,
}

impl Weights {
    /// Bytes of the weight's codes, which are stored in 2, 4 or 8 bits.
    fn packed(&self) -> u64 {
        let stored = u64::from(self.bits.unwrap_or(8)).next_power_of_two();
        (self.elements * stored).div_ceil(8)
    }

    /// Bytes of biases, and of the multiplier of each channel or the steps of its groups; a table has neither.
    fn step_bytes(&self) -> u64 {
        if self.channels == 0 { 0 } else { 4 * self.channels + 4 * self.channels.max(self.steps) }
    }

    fn of(layer: &QatLayer) -> Option<Self> {
        match layer {
            QatLayer::Conv2d(conv) => {
                let [c_out, c_in_per_group, k_h, k_w] = conv.weight.val().dims();
                Some(Self {
                    elements: (c_out * c_in_per_group * k_h * k_w) as u64,
                    channels: c_out as u64,
                    biases: conv.bias.is_some().into(),
                    norms: conv.norm.is_some().into(),
                    bits: Some(bits_of_weight(layer)),
                    steps: conv.quantizer.count([c_out, c_in_per_group * k_h * k_w]) as u64,
                })
            }
            QatLayer::Linear(linear) => {
                let [d_input, d_output] = linear.weight.val().dims();
                Some(Self {
                    elements: (d_input * d_output) as u64,
                    channels: d_output as u64,
                    biases: linear.bias.is_some().into(),
                    norms: 0,
                    bits: Some(bits_of_weight(layer)),
                    steps: linear.quantizer.count([d_output, d_input]) as u64,
                })
            }
            QatLayer::ConvTranspose2d(conv) => {
                let [c_in, c_out_per_group, k_h, k_w] = conv.weight.val().dims();
                let groups = conv.config().options.groups;
                Some(Self {
                    elements: (c_in * c_out_per_group * k_h * k_w) as u64,
                    channels: (c_out_per_group * groups) as u64,
                    biases: conv.bias.is_some().into(),
                    norms: conv.norm.is_some().into(),
                    bits: Some(bits_of_weight(layer)),
                    steps: conv.quantizer.count([c_out_per_group * groups, c_in / groups * k_h * k_w]) as u64,
                })
            }
            QatLayer::Embedding(embedding) => {
                let [rows, width] = embedding.weight.val().dims();
                let bits = Some(embedding.format().bits());
                Some(Self { elements: (rows * width) as u64, bits, steps: 1, ..Self::default() })
            }
            _ => None,
        }
    }
}

/// Bits of a weight, 32 where it stays in float.
fn bits_of_weight(layer: &QatLayer) -> u8 {
    let is_real = layer.quantizer().is_some_and(|quantizer| quantizer.scale() == WeightScale::Real);
    if is_real { 32 } else { layer.weight_format().map_or(32, IntegerFormat::bits) }
}

/// The operation's name and what is fused into it.
fn op(layer: &QatLayer) -> String {
    let norm = match layer {
        QatLayer::Conv2d(conv) => conv.norm.is_some(),
        QatLayer::ConvTranspose2d(conv) => conv.norm.is_some(),
        _ => false,
    };
    let clamp = layer.clamp().name().map(|name| format!("+{name}")).unwrap_or_default();
    format!("{}{}{clamp}", layer.name(), if norm { "+batch_norm" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::QConfig;
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
    use burn::tensor::activation::relu;
    use burn::tensor::{Device, Tensor};

    #[derive(Module, Debug)]
    struct Net {
        conv: Conv2d,
        norm: BatchNorm,
        logits: Linear,
    }

    impl Net {
        fn forward(&self, x: Tensor<4>) -> Tensor<2> {
            self.logits.forward(relu(self.norm.forward(self.conv.forward(x))).flatten(1, 3))
        }
    }

    #[test]
    fn counts_follow_from_shapes() {
        let device = Device::flex();
        let net = Net {
            conv: Conv2dConfig::new([2, 4], [3, 3]).with_groups(2).with_stride([2, 2]).with_bias(false).init(&device),
            norm: BatchNormConfig::new(4).init(&device),
            logits: LinearConfig::new(4 * 2 * 3, 5).init(&device),
        };
        let model = QatModel::prepare(&net, [1, 2, 5, 7], &QConfig::int8(), Net::forward).unwrap();
        let costs = layer_costs(&model);
        let names: Vec<&str> = costs.iter().map(|cost| cost.op.as_str()).collect();
        assert_eq!(names, ["conv2d+batch_norm+relu", "reshape", "linear"]);
        let conv = &costs[0];
        assert_eq!(conv.output_shape, [4, 2, 3]);
        // 4 · (2 / 2) · 3 · 3 weights, each used at 2 · 3 positions.
        assert_eq!((conv.parameters, conv.macs, conv.bops), (36 + 8, 36 * 6, 36 * 6 * 64));
        assert_eq!((conv.float_bytes, conv.integer_bytes), (4 * (36 + 16), 36 + 32));
        let linear = &costs[2];
        assert_eq!((linear.parameters, linear.macs, linear.weight_bits), (125, 120, Some(8)));
        assert_eq!((conv.weight_steps, linear.weight_steps, costs[1].weight_steps), (Some(4), Some(5), None));
        assert_eq!((linear.float_bytes, linear.integer_bytes), (500, 120 + 40));
        assert_eq!((costs[1].parameters, costs[1].macs, costs[1].weight_bits), (0, 0, None));

        let granularity = crate::Granularity::per_group(10).unwrap();
        let config = QConfig { weight_granularity: granularity, ..QConfig::w4a8() };
        let costs = layer_costs(&QatModel::prepare(&net, [1, 2, 5, 7], &config, Net::forward).unwrap());
        // A channel of 9 weights is one group, one of 24 is three.
        assert_eq!((costs[0].weight_steps, costs[2].weight_steps), (Some(4), Some(15)));
        assert_eq!((costs[0].integer_bytes, costs[2].integer_bytes), (18 + 32, 60 + 4 * 5 + 4 * 15));
    }
}
