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

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use proptest::{prelude::*, test_runner::RngSeed};

    const INT8: CodeType = CodeType::Int8;

    fn cells(lengths: &[usize]) -> Vec<CellSize> {
        lengths.iter().map(|&length| CellSize { code_type: INT8, length }).collect()
    }

    fn step(inputs: &[usize], output: usize, reuse: Reuse) -> Use<'_> {
        Use { inputs, output, reuse }
    }

    /// When each block is alive, and the codes of a type that are alive together at the worst time: no plan needs less.
    fn lower_bound(cells: &[CellSize], steps: &[Use], input: usize, output: usize) -> [usize; 3] {
        let (_, blocks) = blocks(cells, steps, input, output);
        let mut bound = [0; 3];
        for time in 0..=steps.len() + 1 {
            let mut alive = [0; 3];
            for block in blocks.iter().filter(|block| block.first <= time && time <= block.last) {
                alive[index(block.code_type)] += block.length;
            }
            bound = core::array::from_fn(|kind| bound[kind].max(alive[kind]));
        }
        bound
    }

    #[test]
    fn a_chain_takes_its_two_largest_neighbours() {
        let steps = [step(&[0], 1, Reuse::Never), step(&[1], 2, Reuse::Never), step(&[2], 3, Reuse::Never)];
        let arena = Arena::new(&cells(&[5, 7, 2, 1]), &steps, 0, 3);
        assert_eq!(arena, Arena { offset: vec![7, 0, 7, 0], length: [12, 0, 0] });
    }

    #[test]
    fn a_shortcut_keeps_its_place() {
        // Cell 1 is read again by the addition, so neither 2 nor 3 may lie there.
        let steps = [
            step(&[0], 1, Reuse::Never),
            step(&[1], 2, Reuse::Never),
            step(&[2], 3, Reuse::Never),
            step(&[3, 1], 4, Reuse::IfDead),
        ];
        let arena = Arena::new(&cells(&[4; 5]), &steps, 0, 4);
        assert!(arena.offset[2] != arena.offset[1] && arena.offset[3] != arena.offset[1]);
        assert_eq!(arena.offset[4], arena.offset[3], "the sum takes the place of its first operand");
        assert_eq!(arena.length, [12, 0, 0]);
    }

    #[test]
    fn nothing_overwrites_what_is_read_later() {
        // Cell 1 is cell 0 in another shape, and cell 0 is read after cell 2 is defined from cell 1.
        let steps = [step(&[0], 1, Reuse::Always), step(&[1], 2, Reuse::IfDead), step(&[0], 3, Reuse::Never)];
        let arena = Arena::new(&cells(&[4; 4]), &steps, 0, 3);
        assert_eq!(arena.offset[1], arena.offset[0]);
        assert_ne!(arena.offset[2], arena.offset[0]);
        // An operand in both places is in neither overwritten.
        let arena = Arena::new(&cells(&[4; 2]), &[step(&[0, 0], 1, Reuse::IfDead)], 0, 1);
        assert_ne!(arena.offset[1], arena.offset[0]);
    }

    #[test]
    fn the_output_is_never_overwritten() {
        // The output is cell 1; cells 2 and 3 come after it.
        let steps = [step(&[0], 1, Reuse::Never), step(&[1], 2, Reuse::IfDead), step(&[2, 2], 3, Reuse::Never)];
        let arena = Arena::new(&cells(&[4; 4]), &steps, 0, 1);
        assert!(arena.offset[2] != arena.offset[1] && arena.offset[3] != arena.offset[1]);
    }

    /// Cells with lengths and types, and for each step its operands among the cells before, and whether it overwrites.
    fn problem() -> impl Strategy<Value = (Vec<CellSize>, Vec<(Vec<usize>, Reuse)>)> {
        let cell = (1usize..50, prop::sample::select(vec![CodeType::Int8, CodeType::Int16, CodeType::Int32]));
        let reuse = prop::sample::select(vec![Reuse::Never, Reuse::IfDead, Reuse::Always]);
        (1usize..20).prop_flat_map(move |steps| {
            let operands = prop::collection::vec(any::<prop::sample::Index>(), 1..4);
            let steps = prop::collection::vec((operands, reuse.clone()), steps);
            (prop::collection::vec(cell.clone(), 21), steps).prop_map(|(sizes, steps)| {
                let mut cells: Vec<CellSize> =
                    sizes.into_iter().map(|(length, code_type)| CellSize { code_type, length }).take(steps.len() + 1).collect();
                let step = |(index, (operands, reuse)): (usize, (Vec<prop::sample::Index>, Reuse))| {
                    let operands: Vec<usize> = operands.iter().map(|operand| operand.index(index + 1)).collect();
                    // The same codes in the same place have one length and type; a step that overwrites often has.
                    if reuse != Reuse::Never {
                        cells[index + 1] = cells[operands[0]];
                    }
                    (operands, reuse)
                };
                let steps = steps.into_iter().enumerate().map(step).collect();
                (cells, steps)
            })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20_261_124), ..ProptestConfig::with_cases(3000) })]

        #[test]
        fn cells_survive_until_they_are_read((cells, steps) in problem()) {
            let steps: Vec<Use> =
                steps.iter().enumerate().map(|(index, (inputs, reuse))| step(inputs, index + 1, *reuse)).collect();
            let output = steps.len();
            let arena = Arena::new(&cells, &steps, 0, output);
            // Every place remembers which cell was written there last; a cell in the place of another takes its codes over.
            let mut owner: [Vec<usize>; 3] = arena.length.map(|length| vec![usize::MAX; length]);
            let place = |cell: usize| (index(cells[cell].code_type), arena.offset[cell]..arena.offset[cell] + cells[cell].length);
            let mut same: Vec<usize> = (0..cells.len()).collect();
            let (kind, range) = place(0);
            owner[kind][range].fill(0);
            for used in &steps {
                for &operand in used.inputs {
                    let (kind, range) = place(operand);
                    prop_assert!(owner[kind][range].iter().all(|&owner| owner == same[operand]), "cell {} is gone", operand);
                }
                if used.reuse == Reuse::Always {
                    same[used.output] = same[used.inputs[0]];
                } else {
                    let (kind, range) = place(used.output);
                    for &operand in used.inputs.iter().skip(usize::from(used.reuse == Reuse::IfDead)) {
                        let (operand_kind, operand) = place(operand);
                        let apart = kind != operand_kind || operand.end <= range.start || range.end <= operand.start;
                        prop_assert!(apart, "the result lies on an operand");
                    }
                    owner[kind][range].fill(used.output);
                }
            }
            let (kind, range) = place(output);
            prop_assert!(owner[kind][range].iter().all(|&owner| owner == same[output]), "the output is gone");
            let bound = lower_bound(&cells, &steps, 0, output);
            for kind in 0..3 {
                prop_assert!(arena.length[kind] >= bound[kind]);
                prop_assert!(arena.length[kind] <= 2 * bound[kind], "{:?} for {:?}", arena.length, bound);
            }
        }
    }
}
