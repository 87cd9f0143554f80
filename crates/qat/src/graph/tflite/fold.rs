//! What is computed from constants and shapes alone, before the model runs.
//!
//! A batch of any size counts as 1 in the shape of an activation: a list that a reshape is told says 1 for the batch then, as
//! a file for a batch of 1 has it.

use qat_formats::tflite::order::transpose;
use qat_formats::tflite::{BuiltinOperator, BuiltinOptions, TensorType};

use super::constants::Constant;
use super::{Held, Reader, Refusal, Site};

impl Reader<'_> {
    /// Computes the operator now where nothing that it reads depends on the input, or where it asks for a shape alone; whether it
    /// did.
    pub(super) fn is_folded(&mut self, site: &Site, operator: BuiltinOperator) -> Result<bool, Refusal> {
        use BuiltinOperator as B;
        match operator {
            B::DEQUANTIZE => return self.is_dequantized_constant(site),
            B::SHAPE => {
                let activation = self.activation(site, site.input(0)?)?;
                let sizes: Vec<i64> = self.shape(&activation).iter().map(|&size| size as i64).collect();
                let list = Constant { shape: vec![sizes.len()], data: sizes.into() };
                self.held[site.output()?] = Some(Held::Integers(list));
                return Ok(true);
            }
            _ => {}
        }
        let operands: Vec<usize> = site.operator.inputs.iter().filter_map(|&tensor| usize::try_from(tensor).ok()).collect();
        if operands.is_empty() || !operands.iter().all(|&tensor| self.is_constant(tensor)) {
            return Ok(false);
        }
        let is_real = match &self.held[operands[0]] {
            Some(held) => matches!(held, Held::Reals(_)),
            None => !matches!(self.tensor(operands[0]).r#type, TensorType::INT32 | TensorType::INT64),
        };
        let held = if is_real {
            self.folded_reals(site, operator)?.map(Held::Reals)
        } else {
            self.folded_integers(site, operator)?.map(Held::Integers)
        };
        let Some(held) = held else { return Ok(false) };
        self.held[site.output()?] = Some(held);
        Ok(true)
    }

    /// Real numbers under another shape or order; `None` for another operator.
    fn folded_reals(&mut self, site: &Site, operator: BuiltinOperator) -> Result<Option<Constant<f32>>, Refusal> {
        use BuiltinOperator as B;
        let x = self.reals(site, site.input(0)?)?;
        Ok(Some(match operator {
            B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS => {
                let shape = self.target_shape(site, operator, &x.shape)?;
                x.reshaped(shape).ok_or_else(|| site.unsupported("as many numbers as before", format!("{:?}", x.shape)))?
            }
            B::TRANSPOSE => {
                let permutation = self.permutation(site, x.shape.len())?;
                self.pay(site, size_of_val(&*x.data))?;
                let data = transpose(&x.data, &x.shape, &permutation);
                Constant { shape: permutation.iter().map(|&axis| x.shape[axis]).collect(), data: data.into() }
            }
            B::CAST => x,
            _ => return Ok(None),
        }))
    }

    /// Arithmetic on sizes; `None` for another operator.
    fn folded_integers(&mut self, site: &Site, operator: BuiltinOperator) -> Result<Option<Constant<i64>>, Refusal> {
        use BuiltinOperator as B;
        let list = |values: Vec<i64>| Constant { shape: vec![values.len()], data: values.into() };
        Ok(Some(match operator {
            B::RESHAPE | B::SQUEEZE | B::EXPAND_DIMS => {
                let x = self.integer_constant(site, site.input(0)?)?;
                let shape = self.target_shape(site, operator, &x.shape)?;
                x.reshaped(shape).ok_or_else(|| site.unsupported("as many numbers as before", format!("{:?}", x.shape)))?
            }
            B::CAST => self.integer_constant(site, site.input(0)?)?,
            B::PACK | B::CONCATENATION => {
                let mut values = Vec::new();
                for tensor in site.inputs()? {
                    values.extend(self.integers(site, tensor)?);
                }
                if values.len() > 64 {
                    return Err(site.unsupported("a short list of sizes", format!("{} numbers", values.len())));
                }
                list(values)
            }
            B::SLICE | B::STRIDED_SLICE => {
                let x = self.integer_constant(site, site.input(0)?)?;
                let [size] = x.shape[..] else {
                    return Err(site.unsupported("a list of sizes", format!("{:?}", x.shape)));
                };
                let ranges = match operator {
                    B::SLICE => self.slice_ranges(site, &[size])?,
                    _ => self.strided_ranges(site, &[size])?,
                };
                let [axis] = &ranges[..] else { return Err(site.unsupported("one axis", ranges.len().to_string())) };
                let values: Vec<i64> =
                    x.data[axis.range.start..axis.range.end].iter().copied().step_by(axis.range.step).collect();
                match values[..] {
                    [value] if axis.is_dropped => Constant { shape: Vec::new(), data: vec![value].into() },
                    _ => list(values),
                }
            }
            B::GATHER => {
                let x = self.integers(site, site.input(0)?)?;
                let indices = self.integer_constant(site, site.input(1)?)?;
                let value = |&index: &i64| usize::try_from(index).ok().and_then(|index| x.get(index).copied());
                let values: Option<Vec<i64>> = indices.data.iter().map(value).collect();
                let values = values.ok_or_else(|| site.unsupported("indices into the list", format!("{:?}", indices.data)))?;
                Constant { shape: indices.shape, data: values.into() }
            }
            B::REDUCE_PROD => {
                let product =
                    self.integers(site, site.input(0)?)?.iter().fold(1i64, |product, &size| product.saturating_mul(size));
                let shape = match site.options() {
                    BuiltinOptions::Reducer(options) if options.keep_dims => vec![1],
                    _ => Vec::new(),
                };
                Constant { shape, data: vec![product].into() }
            }
            B::ADD | B::SUB | B::MUL | B::DIV | B::FLOOR_DIV | B::MAXIMUM | B::MINIMUM => {
                let (a, b) = (self.integer_constant(site, site.input(0)?)?, self.integer_constant(site, site.input(1)?)?);
                let count = a.data.len().max(b.data.len());
                let fits = |x: &Constant<i64>| x.data.len() == count || x.data.len() == 1;
                if !fits(&a) || !fits(&b) || a.data.is_empty() || b.data.is_empty() {
                    return Err(site.unsupported("lists of one length, or a number", format!("{:?} and {:?}", a.shape, b.shape)));
                }
                let at = |x: &Constant<i64>, index: usize| x.data[if x.data.len() == 1 { 0 } else { index }];
                let compute = |index: usize| {
                    let (a, b) = (at(&a, index), at(&b, index));
                    match operator {
                        B::ADD => a.checked_add(b),
                        B::SUB => a.checked_sub(b),
                        B::MUL => a.checked_mul(b),
                        B::MAXIMUM => Some(a.max(b)),
                        B::MINIMUM => Some(a.min(b)),
                        // Sizes are not negative, so that both divisions round down.
                        _ => a.checked_div(b),
                    }
                };
                let values: Option<Vec<i64>> = (0..count).map(compute).collect();
                let values =
                    values.ok_or_else(|| site.unsupported("numbers within int64", format!("{:?} and {:?}", a.data, b.data)))?;
                let shape = if a.data.len() == count { a.shape } else { b.shape };
                Constant { shape, data: values.into() }
            }
            _ => return Ok(None),
        }))
    }
}
