//! Shapes of a convolution, and what follows from them.

/// A two-dimensional convolution of `[batch, c_in, h, w]` by `[c_out, c_in / groups, k_h, k_w]`.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::ops) struct Conv2dShape {
    /// Images.
    pub batch: usize,
    /// Channels of the input.
    pub c_in: usize,
    /// Channels of the output.
    pub c_out: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps of the kernel, > 0.
    pub stride: [usize; 2],
    /// Zeros above and left of the input.
    pub padding: [usize; 2],
    /// Distance of neighbouring taps, > 0.
    pub dilation: [usize; 2],
    /// Groups, a divisor of both channel counts.
    pub groups: usize,
}

impl Conv2dShape {
    /// Input channels that an output channel sees.
    pub fn group_inputs(&self) -> usize {
        self.c_in / self.groups
    }

    /// Output channels of a group.
    pub fn group_outputs(&self) -> usize {
        self.c_out / self.groups
    }

    /// Taps of the kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// Numbers in a channel of the input.
    pub fn input_area(&self) -> usize {
        self.input[0] * self.input[1]
    }

    /// Numbers in a channel of the output.
    pub fn output_area(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Numbers in the input.
    pub fn input_len(&self) -> usize {
        self.batch * self.c_in * self.input_area()
    }

    /// Numbers in the weight.
    pub fn weight_len(&self) -> usize {
        self.c_out * self.group_inputs() * self.taps()
    }

    /// Numbers in the output.
    pub fn output_len(&self) -> usize {
        self.batch * self.c_out * self.output_area()
    }
}
