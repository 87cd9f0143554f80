//! Layers with constants: convolutions, linear layers, products of matrices, tables of rows.

use burn::tensor::ops::ConvOptions;
use qat_formats::tflite::order::Order;
use qat_formats::tflite::{ActivationFunctionType, BuiltinOperator, BuiltinOptions, Padding, WeightsFormat};

use super::constants::Constant;
use super::{Activation, Reader, Refusal, Site};
use crate::graph::{ConstantId, Op, Transposed, ValueId};
use crate::nn::SliceRange;

/// A layer's weight as the file has it.
struct Kernel {
    tensor: usize,
    bias: Option<usize>,
    /// Of the output channels.
    dimension: usize,
    /// From the file's axes to the graph's.
    permutation: Vec<usize>,
    /// In the graph.
    shape: Vec<usize>,
}

impl Reader<'_> {
    /// The sizes of a weight, none of them 0.
    fn kernel_shape<const R: usize>(&mut self, site: &Site, kernel: usize) -> Result<[usize; R], Refusal> {
        let shape = self.reals(site, kernel)?.shape;
        match <[usize; R]>::try_from(shape.clone()) {
            Ok(sizes) if !sizes.contains(&0) => Ok(sizes),
            _ => Err(site
                .unsupported("a weight of the operator's rank, no axis empty", format!("{shape:?} in {}", self.place(kernel)))),
        }
    }

    /// Constants of a layer, and its name. One that is applied again, with the same tensors and options, is the same layer;
    /// otherwise each has constants of its own, also where the converter has stored equal numbers once.
    fn layer(
        &mut self,
        site: &Site,
        kernel: Kernel,
        options: &impl std::fmt::Debug,
    ) -> Result<(String, ConstantId, Option<ConstantId>), Refusal> {
        let weight = self.reals(site, kernel.tensor)?;
        self.layer_of(site, kernel, &weight, options)
    }

    /// The same, with the numbers of the weight at hand, under the shape that the permutation speaks of.
    fn layer_of(
        &mut self,
        site: &Site,
        kernel: Kernel,
        weight: &Constant<f32>,
        options: &impl std::fmt::Debug,
    ) -> Result<(String, ConstantId, Option<ConstantId>), Refusal> {
        let Kernel { tensor, bias, dimension, permutation, shape } = kernel;
        let name = self.layer_name(site, tensor);
        let key = (tensor, bias, format!("{options:?}, {permutation:?}, {shape:?}"));
        if let Some(&(weight, bias)) = self.layers.get(&key) {
            return Ok((name, weight, bias));
        }
        let channels = weight.shape[dimension];
        let numbers = bias.map(|bias| self.reals(site, bias)).transpose()?;
        if let Some(numbers) = numbers.as_ref().filter(|numbers| numbers.data.len() != channels) {
            return Err(
                site.unsupported("a bias of one number for each channel", format!("{} for {channels}", numbers.data.len()))
            );
        }
        let path = self.unique_path(&name);
        let weight = self.parameter(site, Some(format!("{path}.weight")), weight, &permutation, shape)?;
        let bias_id = match numbers {
            Some(numbers) => Some(self.parameter(site, Some(format!("{path}.bias")), &numbers, &[0], vec![channels])?),
            None => None,
        };
        self.layers.insert(key, (weight, bias_id));
        Ok((name, weight, bias_id))
    }

    pub(super) fn conv2d(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::Conv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let kernel = site.input(1)?;
        let [c_out, k_h, k_w, c_in_group] = self.kernel_shape(site, kernel)?;
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let window = self.window(site, site.input(0)?, options.padding, [[k_h, k_w], stride, dilation])?;
        let c_in = self.sample(window.x)[0];
        if !c_in.is_multiple_of(c_in_group) || !c_out.is_multiple_of(c_in / c_in_group) {
            let found = format!("{:?} for {c_in} channels", [c_out, k_h, k_w, c_in_group]);
            return Err(site.unsupported("a weight whose channels divide the input's", found));
        }
        let conv = ConvOptions::new_with_padding(window.stride, window.padding, window.dilation, c_in / c_in_group);
        let shape = vec![c_out, c_in_group, k_h, k_w];
        let kernel = Kernel { tensor: kernel, bias: site.optional(2), dimension: 0, permutation: vec![0, 3, 1, 2], shape };
        let (name, weight, bias) = self.layer(site, kernel, &conv)?;
        let sample = [c_out, window.size[0], window.size[1]];
        let op = Op::Conv2d { weight, bias, norm: None, options: conv };
        let value = self.node(site, name, op, vec![window.x], &sample)?;
        self.image_result(site, options.fused_activation_function, value)
    }

    pub(super) fn depthwise_conv2d(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::DepthwiseConv2D(options) = site.options() else { return Err(site.wrong_options()) };
        let kernel = site.input(1)?;
        let [one, k_h, k_w, c_out] = self.kernel_shape(site, kernel)?;
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let dilation = site.positive([options.dilation_h_factor, options.dilation_w_factor])?;
        let window = self.window(site, site.input(0)?, options.padding, [[k_h, k_w], stride, dilation])?;
        let c_in = self.sample(window.x)[0];
        if one != 1 || !c_out.is_multiple_of(c_in) {
            let found = format!("{:?} for {c_in} channels", [one, k_h, k_w, c_out]);
            return Err(site.unsupported("a weight [1, height, width, a multiple of the channels]", found));
        }
        let conv = ConvOptions::new_with_padding(window.stride, window.padding, window.dilation, c_in);
        let shape = vec![c_out, 1, k_h, k_w];
        let kernel = Kernel { tensor: kernel, bias: site.optional(2), dimension: 3, permutation: vec![3, 0, 1, 2], shape };
        let (name, weight, bias) = self.layer(site, kernel, &conv)?;
        let sample = [c_out, window.size[0], window.size[1]];
        let op = Op::Conv2d { weight, bias, norm: None, options: conv };
        let value = self.node(site, name, op, vec![window.x], &sample)?;
        self.image_result(site, options.fused_activation_function, value)
    }

    fn image_result(&mut self, site: &Site, function: ActivationFunctionType, value: ValueId) -> Result<(), Refusal> {
        let value = self.activated(site, function, value)?;
        self.define(site, site.output()?, Activation { value, order: Order::image(), has_batch: true })
    }

    /// The output's size is an operand; what of the whole result lies beyond it is cut off, by SAME half of it on either side and
    /// the odd row below.
    pub(super) fn conv_transpose2d(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::TransposeConv(options) = site.options() else { return Err(site.wrong_options()) };
        let kernel = site.input(1)?;
        let [c_out, k_h, k_w, c_in] = self.kernel_shape(site, kernel)?;
        let stride = site.positive([options.stride_h, options.stride_w])?;
        let x = self.image(site, site.input(2)?)?;
        let sizes = self.integers(site, site.input(0)?)?;
        let sample = self.sample(x);
        let output: Vec<usize> = sizes.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect();
        let ([1, height, width, channels], true) = (&output[..], sample[0] == c_in) else {
            return Err(site.unsupported("an image from an image", format!("{sizes:?} from {sample:?}")));
        };
        if *channels != c_out {
            return Err(site.unsupported("an output with the weight's channels", format!("{channels} instead of {c_out}")));
        }
        let (mut cut, mut padding, mut output_padding) = ([0; 2], [0; 2], [0; 2]);
        let mut whole = [0; 2];
        for axis in 0..2 {
            let (kernel, wanted) = ([k_h, k_w][axis], [*height, *width][axis]);
            let natural = (sample[axis + 1] - 1).saturating_mul(stride[axis]).saturating_add(kernel);
            let beyond = natural.saturating_sub(wanted);
            padding[axis] = match options.padding {
                Padding::SAME => beyond / 2,
                Padding::VALID => 0,
                other => return Err(site.unsupported("SAME or VALID padding", format!("{other:?}"))),
            };
            cut[axis] = beyond - 2 * padding[axis];
            output_padding[axis] = wanted.saturating_sub(natural);
            whole[axis] = wanted.saturating_add(cut[axis]);
            if output_padding[axis] >= stride[axis] || natural <= beyond {
                return Err(
                    site.unsupported("an output that the input's size and the stride give", format!("{sizes:?} from {sample:?}"))
                );
            }
        }
        let conv = Transposed { stride, padding, output_padding, dilation: [1, 1], groups: 1 };
        let shape = vec![c_in, c_out, k_h, k_w];
        let kernel = Kernel { tensor: kernel, bias: site.optional(3), dimension: 0, permutation: vec![3, 0, 1, 2], shape };
        let (name, weight, bias) = self.layer(site, kernel, &conv)?;
        let op = Op::ConvTranspose2d { weight, bias, norm: None, options: conv };
        let value = self.node(site, name, op, vec![x], &[c_out, whole[0], whole[1]])?;
        let mut value = self.activated(site, options.fused_activation_function, value)?;
        if cut != [0; 2] {
            let range = |end| SliceRange { start: 0, end, step: 1 };
            let ranges = vec![range(c_out), range(*height), range(*width)];
            value = self.step(site, Op::Slice(ranges), vec![value], &[c_out, *height, *width])?;
        }
        self.define(site, site.output()?, Activation { value, order: Order::image(), has_batch: true })
    }

    pub(super) fn linear(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::FullyConnected(options) = site.options() else { return Err(site.wrong_options()) };
        if options.weights_format != WeightsFormat::DEFAULT {
            return Err(site.unsupported("weights in the default layout", format!("{:?}", options.weights_format)));
        }
        let kernel = site.input(1)?;
        let [d_output, d_input] = self.kernel_shape(site, kernel)?;
        let x = self.activation(site, site.input(0)?)?;
        let shape = self.shape(&x);
        let count: usize = shape.iter().product();
        let rows = count / d_input;
        let rows_shape = match options.keep_num_dims {
            true => shape.clone(),
            false => vec![rows, d_input],
        };
        if rows_shape.last() != Some(&d_input) || rows * d_input != count {
            return Err(site.unsupported("rows as long as the weight's", format!("{shape:?} by {:?}", [d_output, d_input])));
        }
        // The operator takes its operand's numbers as rows, whatever its shape.
        let is_flattened = self.flattened.contains_key(&x.value);
        let (x, image) = if is_flattened {
            let image = self.flattened.get(&x.value).copied();
            (x, image)
        } else if rows == 1 && rows_shape.len() == 2 && self.is_turned_image(&x) {
            let value = self.flattened(site, &x)?;
            let image = self.flattened.get(&value).copied();
            (Activation { value, order: Order::plain(1), has_batch: true }, image)
        } else {
            (self.under_shape(site, &x, rows_shape)?, None)
        };
        let order = if x.order.keeps_last() { x.order.clone() } else { Order::plain(x.order.rank()) };
        let value = self.in_order(&x, &order);
        let shape = vec![d_input, d_output];
        let kernel = Kernel { tensor: kernel, bias: site.optional(2), dimension: 0, permutation: vec![1, 0], shape };
        let (name, weight, bias) = match image {
            Some(image) => self.linear_on_image(site, kernel, image)?,
            None => self.layer(site, kernel, &"linear")?,
        };
        let mut sample = self.sample(value);
        if let Some(last) = sample.last_mut() {
            *last = d_output;
        }
        let value = self.node(site, name, Op::Linear { weight, bias }, vec![value], &sample)?;
        let value = self.activated(site, options.fused_activation_function, value)?;
        self.define(site, site.output()?, Activation { value, order, has_batch: x.has_batch })
    }

    /// A layer that reads a flattened image: the columns of the file's weight are in the order `[h, w, c]`, the rows of the
    /// graph's in that of `[c, h, w]`.
    fn linear_on_image(
        &mut self,
        site: &Site,
        kernel: Kernel,
        [c, h, w]: [usize; 3],
    ) -> Result<(String, ConstantId, Option<ConstantId>), Refusal> {
        let weight = self.reals(site, kernel.tensor)?;
        let d_output = weight.shape[0];
        let Some(by_pixel) = weight.reshaped(vec![d_output, h, w, c]) else {
            return Err(
                site.unsupported("a column for each number of the image", format!("{:?} for {:?}", weight.shape, [h, w, c]))
            );
        };
        self.layer_of(site, Kernel { permutation: vec![3, 1, 2, 0], ..kernel }, &by_pixel, &"linear on an image")
    }

    /// A product of matrices: with a constant right factor, a linear layer without bias.
    pub(super) fn mat_mul(&mut self, site: &Site) -> Result<(), Refusal> {
        let BuiltinOptions::BatchMatMul(options) = site.options() else { return Err(site.wrong_options()) };
        let (a, y) = (self.activation(site, site.input(0)?)?, site.output()?);
        let rank = a.order.rank();
        let turned = |reader: &mut Self, x: &Activation, is_turned: bool| {
            let mut axes: Vec<usize> = (0..rank).collect();
            if is_turned && rank > 1 {
                axes.swap(rank - 2, rank - 1);
            }
            let order = x.order.in_transpose(&axes);
            reader.in_order(&Activation { order, ..x.clone() }, &Order::plain(rank))
        };
        if options.adj_x && rank < 2 {
            return Err(site.unsupported("matrices on the left", format!("{:?}", self.shape(&a))));
        }
        let lhs = turned(self, &a, options.adj_x);
        let mut sample = self.sample(lhs);
        let rhs_tensor = site.input(1)?;
        let value = if self.is_constant(rhs_tensor) {
            let mut constant = self.reals(site, rhs_tensor)?;
            let [leading @ .., rows, columns] = &constant.shape[..] else {
                return Err(site.unsupported("a matrix on the right", format!("{:?}", constant.shape)));
            };
            let (rows, columns) = (*rows, *columns);
            if leading.iter().any(|&size| size != 1) || rows == 0 || columns == 0 {
                return Err(site.unsupported("one constant matrix on the right", format!("{:?}", constant.shape)));
            }
            constant.shape = vec![rows, columns];
            let (permutation, [d_input, d_output]) = match options.adj_y {
                true => ([1, 0], [columns, rows]),
                false => ([0, 1], [rows, columns]),
            };
            if sample.last() != Some(&d_input) {
                return Err(site.unsupported("factors that fit", format!("{sample:?} by {:?}", [d_input, d_output])));
            }
            let name = self.layer_name(site, rhs_tensor);
            let path = format!("{}.weight", self.unique_path(&name));
            let weight = self.parameter(site, Some(path), &constant, &permutation, vec![d_input, d_output])?;
            *sample.last_mut().unwrap_or(&mut 0) = d_output;
            self.node(site, name, Op::Linear { weight, bias: None }, vec![lhs], &sample)?
        } else {
            let b = self.activation(site, rhs_tensor)?;
            if b.order.rank() != rank || b.has_batch != a.has_batch || rank < 2 {
                return Err(site.unsupported("matrices for each sample", format!("{:?} by {:?}", self.shape(&a), self.shape(&b))));
            }
            let rhs = turned(self, &b, options.adj_y);
            let other = self.sample(rhs);
            if sample[..rank - 2] != other[..rank - 2] || sample[rank - 1] != other[rank - 2] {
                return Err(site.unsupported("factors that fit, the leading axes equal", format!("{sample:?} by {other:?}")));
            }
            sample[rank - 1] = other[rank - 1];
            self.step(site, Op::MatMul, vec![lhs, rhs], &sample)?
        };
        self.define(site, y, Activation { value, order: Order::plain(rank), has_batch: a.has_batch })
    }

    /// Rows of a constant table by the indices that are the model's input.
    pub(super) fn embedding(&mut self, site: &Site, operator: BuiltinOperator) -> Result<(), Refusal> {
        let (table, indices) = match (operator, site.options()) {
            (BuiltinOperator::EMBEDDING_LOOKUP, _) => (site.input(1)?, site.input(0)?),
            (_, BuiltinOptions::Gather(options)) if options.axis == 0 && options.batch_dims == 0 => {
                (site.input(0)?, site.input(1)?)
            }
            (_, BuiltinOptions::Gather(options)) => {
                return Err(site.unsupported("rows of a table, axis 0", format!("axis {}", options.axis)));
            }
            _ => return Err(site.wrong_options()),
        };
        let indices = self.indices(site, indices)?;
        let [rows, width] = self.kernel_shape(site, table)?;
        let sample = self.sample(indices.value);
        let [length] = sample[..] else {
            return Err(site.unsupported("indices [batch, length]", format!("{sample:?} for each sample")));
        };
        let kernel = Kernel { tensor: table, bias: None, dimension: 0, permutation: vec![0, 1], shape: vec![rows, width] };
        let (name, weight, _) = self.layer(site, kernel, &"embedding")?;
        let value = self.node(site, name, Op::Embedding(weight), vec![indices.value], &[length, width])?;
        self.define(site, site.output()?, Activation { value, order: Order::plain(2), has_batch: true })
    }

    /// A constant as a value of the graph that fits an activation of `rank` axes, the batch included: the same for every sample.
    pub(super) fn constant_value(
        &mut self,
        site: &Site,
        constant: &Constant<f32>,
        like: &Activation,
        rank: usize,
    ) -> Result<ValueId, Refusal> {
        let (id, sample) = self.row(site, constant, like, rank)?;
        self.step(site, Op::Constant(id), Vec::new(), &sample)
    }

    /// A constant `[1, ..]` in the order of an activation of `rank` axes, the batch included, and the sizes behind the 1.
    pub(super) fn row(
        &mut self,
        site: &Site,
        constant: &Constant<f32>,
        like: &Activation,
        rank: usize,
    ) -> Result<(ConstantId, Vec<usize>), Refusal> {
        let batch = usize::from(like.has_batch);
        let missing = rank.checked_sub(constant.shape.len());
        let shape = missing.map(|missing| [vec![1; missing], constant.shape.clone()].concat());
        let shape = shape.filter(|shape| shape[..batch] == [1][..batch] && rank == like.order.rank() + batch);
        let Some(constant) = shape.and_then(|shape| constant.reshaped(shape[batch..].to_vec())) else {
            return Err(site.unsupported("a constant that is the same for every sample", format!("{:?}", constant.shape)));
        };
        let permutation = like.order.undo(&(0..like.order.rank()).collect::<Vec<_>>());
        let sample = like.order.undo(&constant.shape);
        let id = self.parameter(site, None, &constant, &permutation, [vec![1], sample.clone()].concat())?;
        Ok((id, sample))
    }
}
