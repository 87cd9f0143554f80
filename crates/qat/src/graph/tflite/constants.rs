//! Numbers that stand in the file: weights, and the sizes and axes that operators are told.
//!
//! Half precision is widened exactly. Integer codes with a scale, as dynamic-range files have for weights, become
//! `scale · (code − zero_point)`.

use std::rc::Rc;

use burn::tensor::TensorData;
use qat_formats::tflite::order::transpose;
use qat_formats::tflite::{Model, QuantizationParameters, Tensor, TensorType};

use super::{Held, Reader, Refusal, Site, refusal};
use crate::graph::{self, ConstantId};

/// Bytes of numbers that any file may have made of its constants.
const MODEST: usize = 64 << 20;
/// How often operators may read the constants of a larger file on average, as f32.
const MOST_READS: usize = 64;
/// More than any list of axes has; a longer one is not read.
const LONGEST_LIST: usize = 64;

/// Bytes that may be made of the constants of `file`: operators may share one, and each gets a copy of its own.
pub(super) fn budget(file: &Model) -> usize {
    let stored: usize = file.buffers.iter().map(|buffer| buffer.data.len()).sum();
    MODEST.max(stored.saturating_mul(MOST_READS))
}

/// A tensor of numbers that do not depend on the input.
#[derive(Clone)]
pub(super) struct Constant<T> {
    /// Sizes in the order of the file; empty for a number.
    pub shape: Vec<usize>,
    /// Row-major.
    pub data: Rc<[T]>,
}

impl<T: Copy> Constant<T> {
    /// The same numbers under a shape of as many.
    pub(super) fn reshaped(&self, shape: Vec<usize>) -> Option<Self> {
        let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        (count == Some(self.data.len())).then(|| Self { shape, data: self.data.clone() })
    }
}

impl Reader<'_> {
    /// Takes `bytes` out of what may be made of constants.
    pub(super) fn pay(&mut self, site: &Site, bytes: usize) -> Result<(), Refusal> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => {
                Err(site.unsupported("constants that are read a few times each", "more than a file of this size may ask for"))
            }
        }
    }

    /// Whether a tensor's numbers are known before the model runs.
    pub(super) fn is_constant(&self, tensor: usize) -> bool {
        match &self.held[tensor] {
            Some(held) => !matches!(held, Held::Activation(_)),
            None => !self.file.data(self.tensor(tensor)).is_empty(),
        }
    }

    /// Real numbers that do not depend on the input, whatever they are stored as.
    pub(super) fn reals(&mut self, site: &Site, tensor: usize) -> Result<Constant<f32>, Refusal> {
        if let Some(Held::Reals(constant)) = &self.held[tensor] {
            return Ok(constant.clone());
        }
        let info = self.tensor(tensor);
        let data = self.file.data(info);
        let Some(count) =
            info.element_count().filter(|_| self.held[tensor].is_none() && !data.is_empty() && info.unread.is_empty())
        else {
            return Err(site.unsupported("a constant of real numbers", self.place(tensor)));
        };
        self.pay(site, count.saturating_mul(size_of::<f32>()))?;
        let numbers = match info.to_f32s(data) {
            Some(numbers) => Some(numbers),
            None => self.dequantized(info, data),
        };
        let Some(numbers) = numbers.filter(|numbers| numbers.len() == count) else {
            let expected = "real numbers, or integers with a scale";
            return Err(site.unsupported(expected, format!("{:?} in {}", info.r#type, self.place(tensor))));
        };
        if let Some(at) = numbers.iter().position(|number| !number.is_finite()) {
            let found = format!("{} at position {at} of {}", numbers[at], self.place(tensor));
            return Err(site.refuse("finite numbers", found, "train the source model again: its weights are lost"));
        }
        let shape = info.shape.iter().map(|&size| size as usize).collect();
        let constant = Constant { shape, data: numbers.into() };
        self.held[tensor] = Some(Held::Reals(constant.clone()));
        Ok(constant)
    }

    /// What integer codes stand for; `None` if the file does not say.
    fn dequantized(&self, info: &Tensor, data: &[u8]) -> Option<Vec<f32>> {
        let QuantizationParameters { scale, zero_point, quantized_dimension, unread, .. } = info.quantization.as_ref()?;
        if !matches!(info.r#type, TensorType::INT8 | TensorType::UINT8 | TensorType::INT16 | TensorType::INT4 | TensorType::INT2)
            || scale.is_empty()
            || !unread.is_empty()
        {
            return None;
        }
        let codes = info.to_i64s(data)?;
        // How often the elements behind the dimension that scales run along repeat.
        let behind = info.shape.get(usize::try_from(*quantized_dimension).ok()? + 1..).unwrap_or_default();
        let inner: usize = behind.iter().map(|&size| size as usize).product::<usize>().max(1);
        let number = |(at, code): (usize, i64)| {
            let channel = at / inner % scale.len();
            let zero_point = zero_point.get(channel).copied().unwrap_or(0);
            scale[channel] * code.saturating_sub(zero_point) as f32
        };
        Some(codes.into_iter().enumerate().map(number).collect())
    }

    /// Integers that do not depend on the input.
    pub(super) fn integer_constant(&self, site: &Site, tensor: usize) -> Result<Constant<i64>, Refusal> {
        if let Some(Held::Integers(constant)) = &self.held[tensor] {
            return Ok(constant.clone());
        }
        let info = self.tensor(tensor);
        let count = info.element_count().filter(|&count| count <= LONGEST_LIST);
        let is_integer = matches!(info.r#type, TensorType::INT32 | TensorType::INT64) && info.unread.is_empty();
        let values = if is_integer && self.held[tensor].is_none() { info.to_i64s(self.file.data(info)) } else { None };
        match values.filter(|values| Some(values.len()) == count) {
            Some(values) => {
                let shape = info.shape.iter().map(|&size| size as usize).collect();
                Ok(Constant { shape, data: values.into() })
            }
            None => Err(site.unsupported("a short constant list of integers", self.place(tensor))),
        }
    }

    /// A list of sizes, axes or amounts.
    pub(super) fn integers(&self, site: &Site, tensor: usize) -> Result<Vec<i64>, Refusal> {
        Ok(self.integer_constant(site, tensor)?.data.to_vec())
    }

    /// One integer.
    pub(super) fn integer(&self, site: &Site, tensor: usize) -> Result<i64, Refusal> {
        match self.integers(site, tensor)?[..] {
            [value] => Ok(value),
            ref values => Err(site.unsupported("one integer", format!("{values:?}"))),
        }
    }

    /// A constant of the graph: the numbers with their axes in the order `permutation`, under `shape`. One with a path is a
    /// parameter.
    pub(super) fn parameter(
        &mut self,
        site: &Site,
        path: Option<String>,
        constant: &Constant<f32>,
        permutation: &[usize],
        shape: Vec<usize>,
    ) -> Result<ConstantId, Refusal> {
        self.pay(site, size_of_val(&*constant.data))?;
        let numbers = match permutation.is_sorted() {
            true => constant.data.to_vec(),
            false => transpose(&constant.data, &constant.shape, permutation),
        };
        self.graph.constants.push(graph::Constant { path, data: TensorData::new(numbers, shape) });
        Ok(ConstantId(self.graph.constants.len() - 1))
    }

    /// DEQUANTIZE of a constant, as half-precision and dynamic-range files have it before its reader; whether it was one.
    pub(super) fn is_dequantized_constant(&mut self, site: &Site) -> Result<bool, Refusal> {
        let (x, y) = (site.input(0)?, site.output()?);
        if matches!(self.held[x], Some(Held::Activation(_))) || self.tensor(y).r#type != TensorType::FLOAT32 {
            return Ok(false);
        }
        if !self.is_constant(x) {
            return Err(site.refuse("a constant", self.place(x), refusal::INTEGER));
        }
        let constant = self.reals(site, x)?;
        self.held[y] = Some(Held::Reals(constant));
        Ok(true)
    }
}
