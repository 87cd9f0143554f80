//! The trained numbers of a model, in the module that it was captured from.

use std::collections::HashMap;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Tensor, TensorData};

use super::{QatLayer, QatModel};
use crate::graph::{self, GraphError};

impl QatModel {
    /// The module with the trained weights and statistics of this model in place of its own; what was not captured stays.
    ///
    /// Burn's modules share running statistics with their clones, so those of a clone of `module` change with it.
    ///
    /// # Errors
    /// The module lacks a parameter that this model was captured with, or has it in another shape.
    pub fn write_back<M: Module>(&self, module: M) -> Result<M, GraphError> {
        // A statistic that the module has not taken in yet would take the place of what is written; a snapshot flushes it.
        drop(module.valid());
        let mut writer = Writer { values: self.parameters_by_path(), path: Vec::new(), mismatch: None };
        let module = module.map(&mut writer);
        if let Some(error) = writer.mismatch {
            return Err(error);
        }
        match writer.values.into_iter().min_by(|a, b| a.0.cmp(&b.0)) {
            Some((path, data)) => Err(GraphError::ParameterMismatch {
                path,
                expected: format!("{:?}", data.shape().to_vec()),
                found: "no such parameter".into(),
            }),
            None => Ok(module),
        }
    }

    fn parameters_by_path(&self) -> HashMap<String, TensorData> {
        let mut values = HashMap::new();
        let mut put = |path: &Option<String>, data: TensorData| {
            if let Some(path) = path {
                values.insert(path.clone(), data);
            }
        };
        for (step, layer) in self.steps() {
            let sources = &step.sources;
            let (bias, norm) = match layer {
                QatLayer::Conv2d(conv) => {
                    put(&sources.weight, conv.weight.val().into_data());
                    (&conv.bias, &conv.norm)
                }
                QatLayer::ConvTranspose2d(conv) => {
                    put(&sources.weight, conv.weight.val().into_data());
                    (&conv.bias, &conv.norm)
                }
                QatLayer::Linear(linear) => {
                    put(&sources.weight, linear.weight.val().into_data());
                    (&linear.bias, &None)
                }
                QatLayer::Embedding(embedding) => {
                    put(&sources.weight, embedding.weight.val().into_data());
                    (&None, &None)
                }
                QatLayer::Constant(constant) => {
                    put(&sources.weight, constant.value.val().into_data());
                    (&None, &None)
                }
                _ => (&None, &None),
            };
            if let Some(bias) = bias {
                put(&sources.bias, bias.val().into_data());
            }
            if let Some(norm) = norm {
                put(&sources.gamma, norm.gamma.val().into_data());
                put(&sources.beta, norm.beta.val().into_data());
                put(&sources.mean, norm.running_mean.value_sync().into_data());
                put(&sources.variance, norm.running_var.value_sync().into_data());
            }
        }
        values
    }
}

/// Puts values into a module's parameters by path.
struct Writer {
    values: HashMap<String, TensorData>,
    path: Vec<String>,
    mismatch: Option<GraphError>,
}

impl ModuleMapper for Writer {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let path = self.path.join(".");
        let Some(data) = self.values.remove(&path) else { return param };
        let shape = param.shape().to_vec();
        let found = data.shape().to_vec();
        // A bias arrives as it was captured, possibly with a leading 1, and the weight of a one-dimensional convolution as an image's.
        if found != shape && data.num_elements() != shape.iter().product::<usize>() {
            self.mismatch.get_or_insert(GraphError::ParameterMismatch {
                path,
                expected: format!("{found:?}"),
                found: format!("{shape:?}"),
            });
            return param;
        }
        param.map(|old| {
            let learns = old.is_require_grad();
            Tensor::from_data(graph::reshaped(&data, shape), &old.device()).set_require_grad(learns)
        })
    }
}
