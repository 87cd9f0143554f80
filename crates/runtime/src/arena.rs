//! Which buffer holds which value: values that are never alive together share one.
//!
//! A value is alive from the node that defines it to the last node that reads it; the model's output to the end. Buffers are
//! assigned in execution order, each value to the largest free one, which grows if need be. Not here: the buffers themselves
//! (see `engine`).

use alloc::{vec, vec::Vec};

use crate::{codes::CodeType, model::IntegerModel};

/// The assignment of values to buffers.
#[derive(Debug, PartialEq)]
pub(crate) struct Arena {
    /// Buffer of each value.
    pub(crate) slot: Vec<usize>,
    /// The buffers.
    pub(crate) slots: Vec<Slot>,
}

/// A buffer for values of one code type.
#[derive(Debug, PartialEq)]
pub(crate) struct Slot {
    pub(crate) code_type: CodeType,
    /// In codes.
    pub(crate) length: usize,
}

impl Arena {
    /// Plans a validated model; `elements` are the lengths of its values.
    pub(crate) fn new(model: &IntegerModel, elements: &[usize]) -> Self {
        let mut last_use: Vec<Option<usize>> = vec![None; model.values.len()];
        for (index, node) in model.nodes.iter().enumerate() {
            for input in &node.inputs {
                last_use[input.0] = Some(index);
            }
        }
        last_use[model.output.0] = Some(model.nodes.len());

        let mut arena = Self { slot: vec![0; model.values.len()], slots: Vec::new() };
        let mut free = Vec::new();
        arena.place(model, model.input.0, elements, &mut free);
        for (index, node) in model.nodes.iter().enumerate() {
            arena.place(model, node.output.0, elements, &mut free);
            if last_use[node.output.0].is_none() {
                free.push(arena.slot[node.output.0]);
            }
            for (position, input) in node.inputs.iter().enumerate() {
                // A value read twice by one node is given back once.
                if last_use[input.0] == Some(index) && !node.inputs[..position].contains(input) {
                    free.push(arena.slot[input.0]);
                }
            }
        }
        arena
    }

    fn place(&mut self, model: &IntegerModel, value: usize, elements: &[usize], free: &mut Vec<usize>) {
        let code_type = model.values[value].code_type;
        let fitting = (0..free.len()).filter(|&i| self.slots[free[i]].code_type == code_type);
        let slot = match fitting.max_by_key(|&i| self.slots[free[i]].length) {
            Some(i) => free.swap_remove(i),
            None => {
                self.slots.push(Slot { code_type, length: 0 });
                self.slots.len() - 1
            }
        };
        self.slots[slot].length = self.slots[slot].length.max(elements[value]);
        self.slot[value] = slot;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Node, QParams, ValueId, ValueInfo},
        op::{Clamp, Elementwise, Op},
        rules::Rules,
    };
    use alloc::string::ToString;

    fn model(nodes: &[(&[usize], usize)], output: usize) -> IntegerModel {
        let node = |&(inputs, output): &(&[usize], usize)| Node {
            op: if inputs.len() == 2 { Op::Add(Elementwise { clamp: Clamp::INT8 }) } else { Op::Clamp(Clamp::INT8) },
            inputs: inputs.iter().map(|&i| ValueId(i)).collect(),
            output: ValueId(output),
        };
        let value = |i: usize| ValueInfo::int8(&i.to_string(), &[1], QParams { scale: 1.0, zero_point: 0 });
        IntegerModel {
            rules: Rules::OnnxRuntime,
            values: (0..=nodes.len()).map(value).collect(),
            nodes: nodes.iter().map(node).collect(),
            input: ValueId(0),
            output: ValueId(output),
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let arena = Arena::new(&model(&[(&[0], 1), (&[1], 2), (&[2], 3)], 3), &[5, 7, 2, 1]);
        assert_eq!(
            arena,
            Arena { slot: vec![0, 1, 0, 1], slots: [5, 7].map(|length| Slot { code_type: CodeType::Int8, length }).into() }
        );
    }

    #[test]
    fn a_shortcut_keeps_its_buffer() {
        // Value 1 is read again by the addition, so 2 and 3 may not overwrite it.
        let arena = Arena::new(&model(&[(&[0], 1), (&[1], 2), (&[2], 3), (&[1, 3], 4)], 4), &[4; 5]);
        assert_eq!(arena.slot, [0, 1, 0, 2, 0]);
    }

    #[test]
    fn the_output_is_never_overwritten() {
        // The output is value 1; values 2 and 3 come after it.
        let arena = Arena::new(&model(&[(&[0], 1), (&[1], 2), (&[2, 2], 3)], 1), &[4; 4]);
        assert!(arena.slot[2] != arena.slot[1] && arena.slot[3] != arena.slot[1]);
    }
}
