//! What becomes of the quantizers of a model: their modes, ranges, bits and observers, and the statistics of batch norms.

use super::{QatLayer, QatModel};
use crate::config::ConfigError;
use crate::fake_quantize::{FakeQuantize, Mode, RangeSource};
use crate::format::{CodeRange, IntegerFormat};
use crate::graph::GraphError;
use crate::nn::NormStatistics;
use crate::observer::ObserverKind;

impl QatModel {
    /// The same model with all its quantizers in another mode.
    pub fn with_mode(self, mode: Mode) -> Self {
        let model = self.map_quantizers(|_, quantizer| Ok::<_, GraphError>(quantizer.with_mode(mode)));
        model.expect("a mode is never refused").with_table_mode(mode)
    }

    /// The same model with observers that have seen nothing, of the given kind or of that which each had.
    pub fn with_observer(self, kind: Option<ObserverKind>) -> Self {
        let model = self.map_quantizers(|_, quantizer| Ok::<_, GraphError>(quantizer.with_observer(kind)));
        model.expect("an observer is never refused")
    }

    /// The same model with its constants and embeddings, which have no quantizer, in another mode.
    fn with_table_mode(mut self, mode: Mode) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Constant(layer) => QatLayer::Constant(layer.with_mode(mode)),
                QatLayer::Embedding(layer) => QatLayer::Embedding(layer.with_mode(mode)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with the statistics of its batch norms frozen, or not (Q14).
    pub fn with_norm_frozen(mut self, frozen: bool) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Conv2d(conv) => QatLayer::Conv2d(conv.with_norm_frozen(frozen)),
                QatLayer::ConvTranspose2d(conv) => QatLayer::ConvTranspose2d(conv.with_norm_frozen(frozen)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with other statistics of its batch norms in training (Q13), (Q94).
    pub fn with_norm_statistics(mut self, statistics: NormStatistics) -> Self {
        self.layers = self
            .layers
            .into_iter()
            .map(|layer| match layer {
                QatLayer::Conv2d(conv) => QatLayer::Conv2d(conv.with_norm_statistics(statistics)),
                QatLayer::ConvTranspose2d(conv) => QatLayer::ConvTranspose2d(conv.with_norm_statistics(statistics)),
                layer => layer,
            })
            .collect();
        self
    }

    /// The same model with the ranges that were observed in [`Mode::Observe`], ready in [`Mode::Quantize`]; the input's range is fixed.
    ///
    /// # Errors
    /// A quantizer saw nothing, or something that is not finite.
    pub fn calibrated(mut self) -> Result<Self, GraphError> {
        if !self.topology.input_is_indices {
            let (min, max) = usable("input", &self.input)?;
            self.input = self.input.with_fixed_range(min, max);
        }
        self.layers = self.layers.into_iter().map(QatLayer::with_steps_for_weight).collect();
        let mut first = true;
        let model = self.map_quantizers(|name, quantizer| {
            if std::mem::take(&mut first) || quantizer.source() != RangeSource::Calibration {
                return Ok(quantizer.with_mode(Mode::Quantize));
            }
            let (min, max) = usable(name, &quantizer)?;
            Ok(quantizer.with_range(min, max).with_mode(Mode::Quantize))
        })?;
        Ok(model.with_table_mode(Mode::Quantize))
    }

    /// The same model with at least so many bits in each weight and activation, 2 to 8; where its scheme has more, as for the first
    /// and last layer, these. With 8 and 8, then 4 and 4, then fewer, a model that was prepared for few bits comes down to its
    /// scheme in stages.
    ///
    /// Ranges stay what they are, so that steps grow as codes become fewer; steps that a weight keeps are found anew (Q73).
    ///
    /// # Errors
    /// [`GraphError::Config`] for bits that do not exist.
    pub fn with_bits(mut self, weight_bits: u8, activation_bits: u8) -> Result<Self, GraphError> {
        let place = || "all layers".to_owned();
        if !(2..=8).contains(&weight_bits) {
            let found = format!("{weight_bits} bits");
            return Err(GraphError::Config(ConfigError::Weight { place: place(), found }));
        }
        if !(2..=8).contains(&activation_bits) {
            let (expected, found) = ("2 to 8", activation_bits);
            return Err(GraphError::Config(ConfigError::Activation { place: place(), expected, found }));
        }
        let at_least = |format: IntegerFormat, bits: u8, eight: CodeRange| match IntegerFormat::new(bits, format.range()) {
            Some(wider) if bits > format.bits() => {
                if bits == 8 {
                    wider.with_range(eight)
                } else {
                    wider
                }
            }
            _ => format,
        };
        let activation = |scheme: IntegerFormat, quantizer: FakeQuantize| {
            let format = at_least(scheme, activation_bits, CodeRange::Full);
            if format == quantizer.format() { quantizer } else { quantizer.with_format(format) }
        };
        let scheme = self.scheme.clone();
        self.input = activation(scheme.input, self.input);
        let layers = self.layers.into_iter().zip(&scheme.layers);
        self.layers = layers
            .map(|(layer, (weight, output))| {
                let layer = match weight.map(|weight| at_least(weight, weight_bits, CodeRange::Narrow)) {
                    Some(format) if layer.weight_format() != Some(format) => layer.with_weight_format(format),
                    _ => layer,
                };
                let Ok(layer) = layer.map_output(|quantizer| {
                    Ok::<_, std::convert::Infallible>(output.map_or(quantizer.clone(), |output| activation(output, quantizer)))
                });
                layer
            })
            .collect();
        Ok(self)
    }

    fn map_quantizers<E>(mut self, mut map: impl FnMut(&str, FakeQuantize) -> Result<FakeQuantize, E>) -> Result<Self, E> {
        self.input = map("input", self.input)?;
        let topology = self.topology.clone();
        let name = |index: usize| topology.steps.iter().find(|step| step.layer == index).map_or("", |step| step.name.as_str());
        let layers = self.layers.into_iter().enumerate();
        self.layers = layers.map(|(index, layer)| layer.map_output(|q| map(name(index), q))).collect::<Result<_, _>>()?;
        Ok(self)
    }
}

fn usable(name: &str, quantizer: &FakeQuantize) -> Result<(f32, f32), GraphError> {
    let refuse = |found: String| GraphError::NotCalibrated { place: format!("output of {name}"), found };
    let (min, max) = quantizer.observed().ok_or_else(|| refuse("nothing".into()))?;
    // A width beyond f32 has no step.
    if (max - min).is_finite() { Ok((min, max)) } else { Err(refuse(format!("[{min}, {max}]"))) }
}
