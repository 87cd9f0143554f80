//! How kernels that reduce over channels go through a tensor.
//!
//! A cube works on one channel, or on some side by side where neighbours in memory are of different channels. A tensor without gaps is
//! walked in the order it lies in memory, whatever its axes' order is.

use burn_cubecl::tensor::CubeTensor;
use cubecl::cube;
use cubecl::prelude::*;

use super::super::grid::Channels;

/// Units of a cube that sums.
pub(super) const UNITS: u32 = 256;

/// Channels that a cube sums side by side where neighbours in memory are of different channels.
pub(super) const SIDE_BY_SIDE: u32 = 32;

/// Cubes along one axis of a launch.
const CUBES_OF_AN_AXIS: usize = 65535;

/// A [`Channels`] as a kernel's argument.
#[derive(CubeLaunch, CubeType)]
pub(super) struct ChannelArgs {
    pub(super) count: usize,
    pub(super) inner: usize,
    #[cube(comptime)]
    pub(super) is_one: bool,
}

/// The channel that this unit sums numbers of.
#[cube]
pub(super) fn channel_of_unit(#[comptime] width: u32) -> usize {
    let group = CUBE_POS_Y as usize + CUBE_POS_Z as usize * CUBE_COUNT_Y as usize;
    group * comptime![width as usize] + (UNIT_POS % width) as usize
}

/// Where the number of that index in a channel lies.
#[cube]
pub(super) fn place(index: usize, channel: usize, channels: &ChannelArgs, #[comptime] width: u32) -> usize {
    if comptime![channels.is_one] {
        index
    } else if comptime![width > 1] {
        index * channels.count + channel
    } else {
        (index / channels.inner * channels.count + channel) * channels.inner + index % channels.inner
    }
}

impl Channels {
    pub(super) fn args(self) -> ChannelArgsLaunch {
        ChannelArgsLaunch::new(self.count, self.inner, self.count == 1)
    }

    /// Channels that a cube sums side by side.
    pub(super) fn width(self) -> u32 {
        if self.is_by_row() { SIDE_BY_SIDE } else { 1 }
    }
}

/// Cubes of a launch: `parts` for each of `groups` of channels.
pub(super) fn cubes(parts: usize, groups: usize) -> CubeCount {
    CubeCount::new_3d(parts as u32, groups.min(CUBES_OF_AN_AXIS) as u32, groups.div_ceil(CUBES_OF_AN_AXIS) as u32)
}

/// The channels of a dense tensor in the order of its memory: the step of their axis there takes the place of `inner`.
pub(super) fn in_memory(tensor: &CubeTensor, channels: Channels) -> Channels {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let mut inner = 1;
    for axis in (0..shape.len()).rev() {
        if inner == channels.inner && shape[axis] == channels.count {
            return Channels { count: channels.count, inner: strides[axis] };
        }
        inner *= shape[axis];
    }
    channels
}
