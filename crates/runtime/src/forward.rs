//! One pass over the steps of a plan, for some samples at once.

use alloc::vec::Vec;

use crate::{
    codes::{CodesMut, CodesRef},
    kernels::{
        fast,
        reference::{self, Operand, Output},
    },
    memory::Memory,
    model::IntegerModel,
    plan::{Plan, Step, StepKernel},
};

/// Computes `samples` samples, which the memory has room for; their codes are `input`. `seen` is called with every cell that a
/// node defines and its codes as they stand.
pub(crate) fn forward(
    model: &IntegerModel,
    plan: &Plan,
    memory: &mut Memory,
    samples: usize,
    input: CodesRef,
    mut seen: impl FnMut(usize, CodesRef),
) {
    enter(plan, memory, samples, input);
    for step in &plan.steps {
        compute(model, plan, memory, samples, step);
        if step.defines {
            seen(step.output, memory.get(plan, step.output, samples));
        }
    }
}

/// Writes the input to its cell.
pub(crate) fn enter(plan: &Plan, memory: &mut Memory, samples: usize, input: CodesRef) {
    let (mut codes, _, scratch) = memory.write(plan, plan.input, samples);
    match (&plan.enter, &mut codes, input, plan.level) {
        (Some(kernel), CodesMut::Int8(codes), CodesRef::Int8(input), Some(level)) => {
            kernel.compute(level, scratch, samples, |_| input, codes);
        }
        _ => codes.copy_from(input),
    }
}

/// Computes one step.
pub(crate) fn compute(model: &IntegerModel, plan: &Plan, memory: &mut Memory, samples: usize, step: &Step) {
    match (&step.kernel, plan.level) {
        (StepKernel::Fast(kernel), Some(level)) => {
            let in_place = kernel.overwrites() && Memory::same_place(plan, step.inputs[0], step.output);
            let (CodesMut::Int8(y), others, scratch) = memory.write(plan, step.output, samples) else {
                unreachable!("fast kernels give int8 codes");
            };
            if kernel.overwrites() && !in_place {
                y.copy_from_slice(others.int8(step.inputs[0]));
            }
            kernel.compute(level, scratch, samples, |operand| others.int8(step.inputs[operand]), y);
        }
        (StepKernel::Reference(index, prepared), _) => {
            let node = &model.nodes[*index];
            let info = &model.values[node.output.0];
            let (mut codes, others, _) = memory.write(plan, step.output, samples);
            let length = plan.cells[step.output].length;
            for sample in 0..samples {
                let operand = |(&cell, id): (&usize, &crate::model::ValueId)| {
                    let length = plan.cells[cell].length;
                    Operand { codes: others.get(cell).slice(sample * length, length), info: &model.values[id.0] }
                };
                let inputs: Vec<Operand> = step.inputs.iter().zip(&node.inputs).map(operand).collect();
                let mut y = Output { codes: codes.slice(sample * length, length), info };
                reference::run(prepared, model.rules, &node.op, &inputs, &mut y);
            }
        }
        (StepKernel::Same, _) => {}
        (StepKernel::Fast(_), None) => unreachable!("a plan without a level has reference kernels alone"),
    }
}

/// Writes the codes of a cell, of any number of samples, in the order of the value's shape.
pub(crate) fn leave(model: &IntegerModel, plan: &Plan, cell: usize, codes: CodesRef, to: &mut CodesMut) {
    match (codes, to, plan.level) {
        (CodesRef::Int8(codes), CodesMut::Int8(to), Some(level)) if plan.cells[cell].channels_last => {
            let kernel = fast::to_row_major(&model.values[plan.cells[cell].value]);
            let samples = codes.len() / plan.cells[cell].length;
            kernel.compute(level, &mut fast::Scratch::default(), samples, |_| codes, to);
        }
        (codes, to, _) => to.copy_from(codes),
    }
}
