//! Sums of products of a layer with weights: packed once, then computed for tiles of patches and blocks of channels.
//!
//! Codes enter as `u = q + 128`, so that they are unsigned bytes, as dot product instructions take them; `acc = b + Σ w · (q −
//! z)` becomes `acc = b' + Σ w · u` with `b' = b − (z + 128) · Σ w`, and padding is the code `z + 128`. Sums wrap as int32
//! does, and validation bounds `acc`, so the result is exact whatever its parts are. Operands of a patch stand in runs of
//! consecutive codes; runs are filled up to whole groups, whose weights there are 0, so whatever code follows a run may be read.

use alloc::{vec, vec::Vec};
use core::ops::Range;

use super::{
    finish::Finish,
    level::{Instructions, LANES, Level, Patches},
};

/// Patches whose starts are kept together, so that the weights of a block are read once for all of them.
const CHUNK: usize = 128;

/// Weights as blocks of 16 channels: for each block, run and group the weights of its channels.
#[derive(Debug)]
pub(crate) enum Blocks {
    /// Four weights for each channel.
    Bytes(Vec<[i8; 4 * LANES]>),
    /// Two weights for each channel.
    Words(Vec<[i16; 2 * LANES]>),
}

impl Blocks {
    #[cfg(all(target_arch = "x86_64", feature = "std"))]
    pub(super) fn bytes(&self) -> &[[i8; 4 * LANES]] {
        match self {
            Self::Bytes(blocks) => blocks,
            Self::Words(_) => unreachable!("weights are packed for the level that reads them"),
        }
    }

    pub(super) fn words(&self) -> &[[i16; 2 * LANES]] {
        match self {
            Self::Words(blocks) => blocks,
            Self::Bytes(_) => unreachable!("weights are packed for the level that reads them"),
        }
    }

    fn allocated(&self) -> usize {
        match self {
            Self::Bytes(blocks) => blocks.capacity() * 4 * LANES,
            Self::Words(blocks) => blocks.capacity() * 4 * LANES,
        }
    }
}

/// The constants of a layer, packed.
#[derive(Debug)]
pub(super) struct Products {
    blocks: Blocks,
    /// `b'` of each block.
    bias: Vec<[i32; LANES]>,
    finish: Finish,
    /// Starts of the runs in a patch.
    runs: Vec<usize>,
    /// Length of a run in groups.
    groups: usize,
    /// Output channels that see the same operands.
    channels: usize,
    /// Blocks of such channels.
    blocks_each: usize,
}

/// What a layer is before it is packed.
pub(super) struct Layer<'a> {
    /// Output channels that see the same operands.
    pub(super) channels: usize,
    /// How often there are so many, each time with operands of their own.
    pub(super) sections: usize,
    /// Starts of the runs in a patch.
    pub(super) runs: Vec<usize>,
    /// Codes of a run.
    pub(super) run_length: usize,
    /// Weight of a channel at a place of a run.
    pub(super) weight: &'a dyn Fn(usize, usize, usize) -> i8,
    /// Of every channel.
    pub(super) bias: &'a [i64],
    /// The input's.
    pub(super) zero_point: i32,
    pub(super) finish: Finish,
}

impl Products {
    pub(super) fn new(level: Level, layer: Layer) -> Self {
        let step = level.step();
        let groups = layer.run_length.div_ceil(step);
        let blocks_each = layer.channels.div_ceil(LANES);
        let each = layer.runs.len() * groups;
        let mut bias = vec![[0; LANES]; layer.sections * blocks_each];
        let mut packed = vec![0; layer.sections * blocks_each * each * step * LANES];
        for section in 0..layer.sections {
            for index in 0..layer.channels {
                let channel = section * layer.channels + index;
                let (block, lane) = (section * blocks_each + index / LANES, index % LANES);
                let mut sum = 0i32;
                for run in 0..layer.runs.len() {
                    for place in 0..layer.run_length {
                        let weight = (layer.weight)(channel, run, place);
                        let group = (block * layer.runs.len() + run) * groups + place / step;
                        packed[(group * LANES + lane) * step + place % step] = weight;
                        sum = sum.wrapping_add(weight.into());
                    }
                }
                // Biases of int8 layers lie within int32.
                bias[block][lane] = (layer.bias[channel] as i32).wrapping_sub(sum.wrapping_mul(layer.zero_point + 128));
            }
        }
        let blocks = if step == 4 {
            Blocks::Bytes(packed.as_chunks().0.to_vec())
        } else {
            Blocks::Words(packed.as_chunks::<{ 2 * LANES }>().0.iter().map(|block| block.map(i16::from)).collect())
        };
        Self { blocks, bias, finish: layer.finish, runs: layer.runs, groups, channels: layer.channels, blocks_each }
    }

    /// Bytes that are allocated.
    pub(super) fn allocated(&self) -> usize {
        self.blocks.allocated()
            + self.bias.capacity() * 4 * LANES
            + self.finish.allocated()
            + self.runs.capacity() * size_of::<usize>()
    }

    /// Codes that may be read behind the last operand.
    pub(super) const SLACK: usize = 3;
}

/// Where the patches of an image start and where their codes go.
pub(super) trait Patching {
    /// Writes the starts in the image of consecutive patches, from `first` on.
    fn starts(&self, first: usize, starts: &mut [usize]);
}

/// All patches of one image, for the channels of one section.
pub(super) struct Section<'a, Code, P> {
    pub(super) products: &'a Products,
    pub(super) image: &'a [Code],
    /// Index of the section.
    pub(super) index: usize,
    /// Offset of the section's operands in a patch.
    pub(super) offset: usize,
    pub(super) patches: Range<usize>,
    pub(super) patching: &'a P,
    /// Distance of the codes of neighbouring patches.
    pub(super) stride: usize,
}

impl<Code: Copy, P: Patching> Section<'_, Code, P> {
    /// Writes the codes of all patches, the first one's first, each patch's channels one after another.
    #[inline(always)]
    pub(super) fn compute<I: Instructions<Code = Code>>(&self, instructions: I, y: &mut [i8]) {
        let mut starts = [0; CHUNK];
        let mut first = self.patches.start;
        while first < self.patches.end {
            let count = CHUNK.min(self.patches.end - first);
            self.patching.starts(first, &mut starts[..count]);
            starts[..count].iter_mut().for_each(|start| *start += self.offset);
            let y = &mut y[(first - self.patches.start) * self.stride..];
            let mut block = 0;
            while block < self.products.blocks_each {
                let left = self.products.blocks_each - block;
                block += match (count, left) {
                    (1, 4..) => self.rows::<I, 1, 4>(instructions, &starts[..count], block, y),
                    (_, 2..) if I::BLOCKS >= 2 => self.rows::<I, 8, 2>(instructions, &starts[..count], block, y),
                    _ if I::ROWS == 8 => self.rows::<I, 8, 1>(instructions, &starts[..count], block, y),
                    _ => self.rows::<I, 4, 1>(instructions, &starts[..count], block, y),
                };
            }
            first += count;
        }
    }

    /// Computes `N` blocks of channels for all starts, `M` of them at a time, and the last ones in smaller tiles.
    #[inline(always)]
    fn rows<I: Instructions<Code = Code>, const M: usize, const N: usize>(
        &self,
        instructions: I,
        starts: &[usize],
        block: usize,
        y: &mut [i8],
    ) -> usize {
        let (tiles, rest) = starts.as_chunks::<M>();
        let mut row = 0;
        for starts in tiles {
            self.tile::<I, M, N>(instructions, starts, M, block, &mut y[row * self.stride..]);
            row += M;
        }
        // A tile that is not full computes some patch again rather than less.
        if rest.len() > 4 {
            self.tile::<I, M, N>(instructions, &filled(rest), rest.len(), block, &mut y[row * self.stride..]);
        } else if rest.len() > 1 {
            self.tile::<I, 4, N>(instructions, &filled(rest), rest.len(), block, &mut y[row * self.stride..]);
        } else if rest.len() == 1 {
            self.tile::<I, 1, N>(instructions, &filled(rest), 1, block, &mut y[row * self.stride..]);
        }
        N
    }

    #[inline(always)]
    fn tile<I: Instructions<Code = Code>, const M: usize, const N: usize>(
        &self,
        instructions: I,
        starts: &[usize; M],
        rows: usize,
        block: usize,
        y: &mut [i8],
    ) {
        let products = self.products;
        let each = products.runs.len() * products.groups;
        let first = self.index * products.blocks_each + block;
        let all = I::weights(&products.blocks);
        let mut weights: [&[I::Weights]; N] = [&[]; N];
        let mut bias = [&products.bias[first]; N];
        for n in 0..N {
            weights[n] = &all[(first + n) * each..][..each];
            bias[n] = &products.bias[first + n];
        }
        let patches = Patches { image: self.image, runs: &products.runs, groups: products.groups };
        let sums = instructions.sums(patches, starts, weights, bias);
        for (m, sums) in sums[..rows].iter().enumerate() {
            for (n, sums) in sums.iter().enumerate() {
                let channel = (block + n) * LANES;
                let codes = products.finish.codes(instructions, first + n, sums);
                let to = &mut y[m * self.stride + self.index * products.channels + channel..];
                match products.channels - channel {
                    LANES.. => to[..LANES].copy_from_slice(&codes),
                    left => to[..left].copy_from_slice(&codes[..left]),
                }
            }
        }
    }
}

/// The starts, and the first one again where there are fewer than `M`.
#[inline(always)]
fn filled<const M: usize>(starts: &[usize]) -> [usize; M] {
    let mut filled = [starts[0]; M];
    for (to, &start) in filled.iter_mut().zip(starts) {
        *to = start;
    }
    filled
}
