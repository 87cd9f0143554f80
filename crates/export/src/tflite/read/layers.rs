//! Layers with constants: convolutions, linear layers, tables of rows.

use qat_formats::tflite::{BuiltinOptions, Padding, TensorType, WeightsFormat};
use qat_runtime::{Conv2d, ConvTranspose2d, Gather, Linear, Op, PackedCodes, WeightBits, Weights};

use super::{Reader, Site};
use crate::{
    error::TfliteError,
    tflite::order::{Order, transpose},
};

impl Reader<'_> {
    /// Weights of a layer from its tensors: `codes` are brought from the file's shape to the model's by a permutation.
    fn weights(
        &self,
        site: &Site,
        kernel: usize,
        bias: Option<usize>,
        dimension: usize,
        permutation: &[usize],
    ) -> Result<Weights, TfliteError> {
        let info = self.tensor(kernel);
        let shape: Vec<usize> = info.shape.iter().map(|&size| size as usize).collect();
        if shape.len() != permutation.len() {
            return Err(site.unsupported("weights of the operator's rank", format!("{shape:?} in {}", self.place(kernel))));
        }
        let bits = match info.r#type {
            TensorType::INT8 => WeightBits::Eight,
            TensorType::INT4 => WeightBits::Four,
            TensorType::INT2 => WeightBits::Two,
            other => return Err(site.unsupported("weights of 8, 4 or 2 bits", format!("{other:?} in {}", self.place(kernel)))),
        };
        let data = self.file.data(info);
        let count = info.element_count().filter(|&count| count > 0 && bits.bytes(count) == data.len());
        let Some(count) = count else {
            return Err(site.unsupported("constant weights", self.place(kernel)));
        };
        let mut bytes = data.to_vec();
        // Unused bits of the last byte mean nothing.
        let used = count % (8 / bits.bits()) * bits.bits();
        if let Some(last) = bytes.last_mut().filter(|_| used != 0) {
            *last &= (1 << used) - 1;
        }
        let Some(packed) = PackedCodes::from_bytes(bytes, count, bits) else {
            return Err(site.unsupported("constant weights", self.place(kernel)));
        };
        let codes = if permutation.is_sorted() {
            packed
        } else {
            let codes = transpose(&packed.unpack(), &shape, permutation);
            PackedCodes::pack(&codes, bits).unwrap_or(packed)
        };

        let channels = shape[dimension];
        let quantization = info.quantization.as_ref();
        let Some(quantization) = quantization.filter(|quantization| !quantization.scale.is_empty()) else {
            return Err(site.unsupported("weights with a scale", self.place(kernel)));
        };
        self.known(kernel, quantization)?;
        if quantization.zero_point.iter().any(|&zero_point| zero_point != 0) {
            return Err(site.unsupported("weights with zero point 0", self.place(kernel)));
        }
        let scale = match quantization.scale[..] {
            [scale] => vec![scale; channels],
            _ if quantization.quantized_dimension as usize == dimension => quantization.scale.clone(),
            _ => {
                let found = format!("scales along dimension {}", quantization.quantized_dimension);
                return Err(site.unsupported("one scale for each output channel", found));
            }
        };
        let bias = match bias {
            None => vec![0; channels],
            Some(tensor) => {
                let bias = self.tensor(tensor);
                let is_bias = matches!(bias.r#type, TensorType::INT32 | TensorType::INT64) && bias.unread.is_empty();
                let values = if is_bias { bias.to_i64s(self.file.data(bias)) } else { None };
                let values = values.filter(|values| values.len() == channels);
                values.ok_or_else(|| site.unsupported("a constant bias of one integer for each channel", self.place(tensor)))?
            }
        };
        Ok(Weights { codes, scale, bias })
    }

    /// The layer's name: the weights' without its ending.
    fn layer(&self, kernel: usize) -> String {
        let name = self.name(kernel);
        name.strip_suffix(".weight").map(str::to_owned).unwrap_or(name)
    }

    fn kernel_shape(&self, site: &Site, kernel: usize) -> Result<[usize; 4], TfliteError> {
        let shape = &self.tensor(kernel).shape;
        let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
        sizes.try_into().map_err(|_| site.unsupported("weights of four axes", format!("{shape:?}")))
    }

    pub(super) fn conv2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::Conv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let [c_out, k_h, k_w, c_in_group] = self.kernel_shape(site, kernel)?;
        let c_in = self.values[x.0].shape[0];
        if c_in_group == 0 || !c_in.is_multiple_of(c_in_group) {
            let found = format!("{c_in_group} for {c_in}");
            return Err(site.unsupported("weights whose channels divide the input's", found));
        }
        let kernel_size = [k_h, k_w];
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let padding = self.window_padding(site, options.padding, x, [kernel_size, stride, dilation], before)?;
        let weights = self.weights(site, kernel, site.optional(2), 0, &[0, 3, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = Conv2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            dilation,
            groups: c_in / c_in_group,
            clamp,
        };
        self.finish(Op::Conv2d(op), &[x], y, Order::image())
    }

    pub(super) fn depthwise_conv2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::DepthwiseConv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(0)?)?;
        let [one, k_h, k_w, c_out] = self.kernel_shape(site, kernel)?;
        let c_in = self.values[x.0].shape[0];
        if one != 1 || c_in == 0 || !c_out.is_multiple_of(c_in) {
            let found = format!("{:?} for {c_in} channels", [one, k_h, k_w, c_out]);
            return Err(site.unsupported("weights [1, height, width, a multiple of the channels]", found));
        }
        let kernel_size = [k_h, k_w];
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let padding = self.window_padding(site, options.padding, x, [kernel_size, stride, dilation], before)?;
        let weights = self.weights(site, kernel, site.optional(2), 3, &[3, 0, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = Conv2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            dilation,
            groups: c_in,
            clamp,
        };
        self.finish(Op::Conv2d(op), &[x], y, Order::image())
    }

    pub(super) fn conv_transpose2d(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::TransposeConv(options) = site.options() else { return Err(site.wrong_options()) };
        let (kernel, y) = (site.input(1)?, site.output()?);
        let (x, before) = self.image_operand(site, site.input(2)?)?;
        let [c_out, k_h, k_w, c_in] = self.kernel_shape(site, kernel)?;
        let (kernel_size, stride) = ([k_h, k_w], site.positive([options.stride_h, options.stride_w])?);
        let sample = self.sample(y);
        if sample.len() != 3 || before != [0; 4] {
            return Err(site.unsupported("an image from an image", format!("{:?}", self.tensor(y).shape)));
        }
        let (mut padding, mut output_padding) = ([0; 4], [0; 2]);
        for axis in 0..2 {
            let (input, output) = (self.values[x.0].shape[axis + 1], sample[axis]);
            let spread = input.saturating_sub(1).checked_mul(stride[axis]);
            let Some(natural) = spread.and_then(|spread| spread.checked_add(kernel_size[axis])) else {
                return Err(site.unsupported("an output within memory", format!("{:?}", self.tensor(y).shape)));
            };
            let cut = natural.saturating_sub(output);
            padding[axis] = match options.padding {
                Padding::SAME => cut / 2,
                Padding::VALID => 0,
                other => return Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
            };
            padding[axis + 2] = cut - padding[axis];
            output_padding[axis] = output.saturating_sub(natural);
        }
        let weights = self.weights(site, kernel, site.optional(3), 0, &[0, 3, 1, 2])?;
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let op = ConvTranspose2d {
            name: self.layer(kernel),
            weights,
            c_out,
            c_in,
            kernel: kernel_size,
            stride,
            padding,
            output_padding,
            dilation: [1, 1],
            groups: 1,
            clamp,
        };
        self.finish(Op::ConvTranspose2d(op), &[x], y, Order::image())
    }

    pub(super) fn linear(&mut self, site: &Site) -> Result<(), TfliteError> {
        let BuiltinOptions::FullyConnected(options) = site.options() else { return Err(site.wrong_options()) };
        if options.weights_format != WeightsFormat::DEFAULT {
            return Err(site.unsupported("weights in the default layout", format!("{:?}", options.weights_format)));
        }
        let (x, kernel, y) = (site.input(0)?, site.input(1)?, site.output()?);
        let weights = self.weights(site, kernel, site.optional(2), 0, &[0, 1])?;
        let [d_output, d_input] = self.tensor(kernel).shape[..] else {
            return Err(site.unsupported("weights of two axes", format!("{:?}", self.tensor(kernel).shape)));
        };
        let (d_output, d_input) = (d_output as usize, d_input as usize);
        let clamp = self.clamp(site, options.fused_activation_function, y)?;
        let mut expected = self.sample(y);
        let Some(last) = expected.last_mut() else {
            return Err(site.unsupported("an output of at least one axis", "none"));
        };
        *last = d_input;
        let held = self.held(site, x)?;
        let (mut value, mut order) = (held.value, held.order.clone());
        if self.sample(x) != expected {
            // The operator takes its operand's numbers as rows, whatever its shape.
            value = self.flat(&held, expected.clone());
            order = Order::plain(expected.len());
        } else if !order.keeps_last() {
            order = Order::plain(expected.len());
            value = self.in_order(&held, &order);
        }
        let name = self.layer(kernel);
        self.finish(Op::Linear(Linear { name, weights, d_input, d_output, clamp }), &[value], y, order)
    }

    pub(super) fn gather(&mut self, site: &Site, table: usize, indices: usize) -> Result<(), TfliteError> {
        let y = site.output()?;
        let info = self.tensor(table);
        let ([rows, width], TensorType::INT8, true) = (&info.shape[..], info.r#type, self.is_constant(table)) else {
            return Err(site.unsupported("a constant table of int8, [rows, width]", self.place(table)));
        };
        if self.codes(table)? != self.codes(y)? {
            return Err(site.unsupported("a table with the result's parameters", self.place(table)));
        }
        let held = self.held(site, indices)?;
        let order = Order::plain(held.order.rank());
        let value = self.in_order(&held, &order);
        let codes: Vec<i8> = self.file.data(info).iter().map(|byte| byte.cast_signed()).collect();
        let op =
            Gather { name: self.layer(table), table: PackedCodes::eight(&codes), rows: *rows as usize, width: *width as usize };
        self.finish(Op::Gather(op), &[value], y, Order::plain(order.rank() + 1))
    }
}
