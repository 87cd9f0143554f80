//! Where values lie in memory: those that are never alive together share it.
//!
//! Blocks are placed one by one, the largest first, each at the lowest place that no block alive at the same time takes.

use std::ops::RangeInclusive;

/// A value that needs memory.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// In elements, at least 1.
    pub(crate) length: usize,
    /// From the node that writes it to the last one that reads it.
    pub(crate) alive: RangeInclusive<usize>,
}

impl Block {
    fn meets(&self, other: &Self) -> bool {
        self.alive.start() <= other.alive.end() && other.alive.start() <= self.alive.end()
    }
}

/// The offset of each block, and the elements needed for all.
pub(crate) fn place(blocks: &[Block]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by_key(|&block| std::cmp::Reverse(blocks[block].length));
    let (mut offsets, mut placed, mut total) = (vec![0; blocks.len()], Vec::new(), 0);
    for block in order {
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&other: &&usize| blocks[other].meets(&blocks[block]))
            .map(|&other| (offsets[other], offsets[other] + blocks[other].length))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (start, end) in taken {
            if offset + blocks[block].length <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[block] = offset;
        placed.push(block);
        total = total.max(offset + blocks[block].length);
    }
    (offsets, total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(list: &[(usize, RangeInclusive<usize>)]) -> Vec<Block> {
        list.iter().map(|(length, alive)| Block { length: *length, alive: alive.clone() }).collect()
    }

    #[test]
    fn a_chain_takes_its_two_largest_neighbours() {
        let (offsets, total) = place(&blocks(&[(10, 0..=1), (30, 1..=2), (20, 2..=3), (5, 3..=4)]));
        assert_eq!(total, 50);
        assert_eq!(offsets, [30, 0, 30, 0]);
    }

    #[test]
    fn blocks_alive_together_never_overlap() {
        // Every pair of lifetimes on six nodes, with lengths that differ.
        let all: Vec<Block> = (0..6)
            .flat_map(|start| (start..6).map(move |end| Block { length: 1 + (7 * start + 3 * end) % 11, alive: start..=end }))
            .collect();
        let (offsets, total) = place(&all);
        for (i, a) in all.iter().enumerate() {
            assert!(offsets[i] + a.length <= total);
            for (j, b) in all.iter().enumerate().skip(i + 1) {
                let apart = offsets[i] + a.length <= offsets[j] || offsets[j] + b.length <= offsets[i];
                assert!(apart || !a.meets(b), "{i} and {j}");
            }
        }
    }
}
