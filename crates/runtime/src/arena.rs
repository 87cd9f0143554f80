//! Where in one buffer each cell lies, so that cells which are never alive together may share their place.
//!
//! A cell is alive from the step that defines it to the last step that reads it; the model's output to the end. A step may
//! leave its result in the place of its first operand, and such cells are one block. Blocks are placed from the largest to the
//! smallest, each at the lowest offset where it fits between blocks that are alive with it, as TFLite-Micro's greedy planner
//! does. Codes of each type have a buffer of their own. Not here: the buffers themselves (see `engine`).

use alloc::{vec, vec::Vec};

use crate::codes::CodeType;

/// What the arena knows of a cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CellSize {
    pub(crate) code_type: CodeType,
    /// In codes.
    pub(crate) length: usize,
}

/// What the arena knows of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Use<'a> {
    pub(crate) inputs: &'a [usize],
    pub(crate) output: usize,
    pub(crate) reuse: Reuse,
}

/// Whether a step's result lies where its first operand does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It may not.
    Never,
    /// It does where nothing reads the operand's place later.
    IfDead,
    /// It is the operand.
    Always,
}

/// The places of all cells, in codes of one sample.
#[derive(Debug, PartialEq)]
pub(crate) struct Arena {
    /// Offset of each cell in the buffer of its type.
    pub(crate) offset: Vec<usize>,
    /// Length of the buffers, indexed by [`index`].
    pub(crate) length: [usize; 3],
}

/// Index of a type's buffer.
pub(crate) fn index(code_type: CodeType) -> usize {
    match code_type {
        CodeType::Int8 => 0,
        CodeType::Int16 => 1,
        CodeType::Int32 => 2,
    }
}

/// Cells that lie in one place, and when one of them is alive: from `first` to `last`, both included.
#[derive(Clone, Copy, Debug)]
struct Block {
    code_type: CodeType,
    length: usize,
    first: usize,
    last: usize,
}

impl Arena {
    /// Plans the cells of `steps`; `input` is alive before the first step and `output` after the last one.
    pub(crate) fn new(cells: &[CellSize], steps: &[Use], input: usize, output: usize) -> Self {
        let (block_of, blocks) = blocks(cells, steps, input, output);
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_by_key(|&block| core::cmp::Reverse(blocks[block].length));
        let mut offset: Vec<Option<usize>> = vec![None; blocks.len()];
        let mut length = [0; 3];
        for block in order {
            let Block { code_type, length: size, first, last } = blocks[block];
            let alive_together = |&other: &usize| {
                let other = &blocks[other];
                other.code_type == code_type && other.first <= last && first <= other.last
            };
            let mut taken: Vec<(usize, usize)> = (0..blocks.len())
                .filter(alive_together)
                .filter_map(|other| offset[other].map(|start| (start, start + blocks[other].length)))
                .collect();
            taken.sort_unstable();
            let mut place = 0;
            for (start, end) in taken {
                if place + size <= start {
                    break;
                }
                place = place.max(end);
            }
            offset[block] = Some(place);
            let total = &mut length[index(code_type)];
            *total = (*total).max(place + size);
        }
        let offset = block_of.iter().map(|&block| offset[block].expect("every block is placed")).collect();
        Self { offset, length }
    }
}

/// The block of each cell, and the blocks.
fn blocks(cells: &[CellSize], steps: &[Use], input: usize, output: usize) -> (Vec<usize>, Vec<Block>) {
    // Step `i` happens at time `i + 1`.
    let mut last: Vec<usize> = vec![0; cells.len()];
    for (step, used) in steps.iter().enumerate() {
        last[used.output] = step + 1;
        for &cell in used.inputs {
            last[cell] = step + 1;
        }
    }
    last[output] = steps.len() + 1;

    let mut block_of = vec![usize::MAX; cells.len()];
    let mut blocks: Vec<Block> = Vec::new();
    let fresh = |blocks: &mut Vec<Block>, cell: usize, first: usize| {
        let CellSize { code_type, length } = cells[cell];
        blocks.push(Block { code_type, length, first, last: last[cell] });
        blocks.len() - 1
    };
    block_of[input] = fresh(&mut blocks, input, 0);
    for (step, used) in steps.iter().enumerate() {
        let shared = used.inputs.first().map(|&operand| block_of[operand]).filter(|&block| {
            let alike =
                blocks[block].code_type == cells[used.output].code_type && blocks[block].length == cells[used.output].length;
            // Another operand in the same place would be overwritten as well.
            let alone = used.inputs[1..].iter().all(|&other| block_of[other] != block);
            match used.reuse {
                Reuse::Never => false,
                Reuse::IfDead => alike && alone && blocks[block].last <= step + 1,
                Reuse::Always => true,
            }
        });
        block_of[used.output] = match shared {
            Some(block) => {
                blocks[block].last = blocks[block].last.max(last[used.output]);
                block
            }
            None => fresh(&mut blocks, used.output, step + 1),
        };
    }
    (block_of, blocks)
}
