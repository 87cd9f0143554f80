//! The steps that follow the largest weights (Q4), as one launch.

#![allow(
    unsafe_code,
    reason = "kernels are launched without bounds checks; every index is below the length that is passed along"
)]

use burn::backend::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::cube;
use cubecl::prelude::*;

use super::super::grid::Channels;
use super::channels::{ChannelArgs, UNITS, channel_of_unit, cubes, in_memory, place};
use super::memory::{buffer, is_dense, numbers_beside};

/// Gives `max |w| / highest` of each channel, or `min_scale` where that is more. The bits of magnitudes have their order, with NaN above all.
#[cube(launch_unchecked, address_type = "dynamic")]
fn weight_step_kernel(
    weight: &[f32],
    steps: &mut [f32],
    channels: ChannelArgs,
    length: usize,
    highest: f32,
    min_scale: f32,
    #[comptime] width: u32,
) {
    let channel = channel_of_unit(width);
    let mut largest = 0u32;
    if channel < channels.count {
        let mut index = (UNIT_POS / width) as usize;
        while index < length {
            let magnitude = u32::reinterpret(weight[place(index, channel, &channels, width)]) & 0x7fff_ffffu32;
            largest = select(magnitude > largest, magnitude, largest);
            index += comptime![(UNITS / width) as usize];
        }
    }
    let mut of_units = Shared::<[u32]>::new_slice(comptime![UNITS as usize]);
    of_units[UNIT_POS as usize] = largest;
    let mut half = comptime![UNITS / 2].runtime();
    sync_cube();
    while half >= width {
        if UNIT_POS < half {
            let own = of_units[UNIT_POS as usize];
            let other = of_units[(UNIT_POS + half) as usize];
            of_units[UNIT_POS as usize] = select(other > own, other, own);
        }
        half /= 2;
        sync_cube();
    }
    if UNIT_POS < width && channel < channels.count {
        let step = f32::reinterpret(of_units[UNIT_POS as usize]) / highest;
        steps[channel] = select(step < min_scale, min_scale, step);
    }
}

/// Steps of each channel, `[channels]`.
pub(in super::super) fn weight_step(weight: CubeTensor, channels: Channels, highest: f32, min_scale: f32) -> CubeTensor {
    let weight = if is_dense(&weight) { weight } else { into_contiguous(weight) };
    let channels = in_memory(&weight, channels);
    let length = weight.shape().num_elements() / channels.count.max(1);
    let width = channels.width();
    let steps = numbers_beside(&weight, channels.count);
    if channels.count == 0 {
        return steps;
    }
    let (client, address) = (weight.client.clone(), weight.required_address_type());
    // SAFETY: all indices are below the number of weights or of channels.
    unsafe {
        weight_step_kernel::launch_unchecked(
            &client,
            cubes(1, channels.count.div_ceil(width as usize)),
            CubeDim::new_1d(UNITS),
            address,
            buffer(weight),
            buffer(steps.clone()),
            channels.args(),
            length,
            highest,
            min_scale,
            width,
        );
    }
    steps
}

#[cfg(test)]
mod tests {
    use burn::backend::ops::FloatTensorOps;
    use burn::tensor::TensorData;
    use burn_cubecl::ops::into_data_sync;
    use burn_cubecl::{CubeBackend, CubeDevice};

    use super::super::super::largest::largest;
    use super::super::super::tests::{Draws, SEED};
    use super::*;

    #[test]
    fn steps_are_those_of_the_host() {
        let shapes: [(&[usize], Option<usize>); 8] = [
            (&[7, 3], Some(1)),
            (&[300, 33], Some(1)),
            (&[16, 3, 3, 3], Some(0)),
            (&[130, 9], Some(0)),
            (&[64, 64, 3, 3], Some(0)),
            (&[40, 12, 5], Some(1)),
            (&[9, 70, 5], None),
            (&[1], None),
        ];
        for (index, (shape, axis)) in shapes.into_iter().enumerate() {
            let seed = SEED + 30_000 + index as u64;
            let mut draws = Draws(seed);
            let mut weight: Vec<f32> = (0..shape.iter().product()).map(|_| draws.number()).collect();
            if index % 2 == 0 {
                let place = draws.below(weight.len());
                weight[place] = [f32::NAN, f32::NEG_INFINITY][index / 2 % 2];
            }
            let channels = match axis {
                Some(axis) => Channels { count: shape[axis], inner: shape[axis + 1..].iter().product() },
                None => Channels { count: 1, inner: weight.len() },
            };
            let expected = largest(&weight, channels).into_iter().map(|largest| {
                let step = largest / 127.0;
                if step < 2e-3 { 2e-3 } else { step }
            });
            let data = TensorData::new(weight.clone(), shape.to_vec());
            let tensor = CubeBackend::float_from_data(data, &CubeDevice::default());
            let found: Vec<f32> =
                into_data_sync(weight_step(tensor, channels, 127.0, 2e-3)).try_to_vec().expect("numbers of f32");
            assert_eq!(found.len(), channels.count);
            for (channel, (found, expected)) in found.iter().zip(expected).enumerate() {
                let is_near = (found - expected).abs() <= 1e-6 * expected;
                let is_same = *found == expected || (found.is_nan() && expected.is_nan());
                assert!(is_near || is_same, "{shape:?}, seed {seed}, [{channel}]: expected {expected}, found {found}");
            }
        }
    }
}
