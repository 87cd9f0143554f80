//! From a model to the steps that its engine takes: which kernel computes each node, how values stand in memory, and where.
//!
//! A [`Cell`] is a value in one layout. Images stand channels last between the kernels that want them so; where a value is
//! needed in the other layout, a step converts it, once. A reshape is no step's work: its cell lies where its operand does. Not
//! here: where cells lie (see `arena`), how steps run (see `engine`).

use alloc::{vec, vec::Vec};

use crate::{
    arena::{Arena, CellSize, Reuse, Use},
    codes::CodeType,
    kernels::{
        fast::{self, Layout, Level, ScratchSize},
        reference::{Prepared, prepare},
    },
    model::{IntegerModel, ValueId, ValueInfo},
    op::Op,
    validate::lengths,
};

/// Everything about running a model that does not change from run to run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) cells: Vec<Cell>,
    pub(crate) steps: Vec<Step>,
    /// The cell that takes the model's input, and the one that holds its output.
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// What brings the input to its cell's layout.
    pub(crate) enter: Option<fast::Kernel>,
    pub(crate) arena: Arena,
    /// What the fast kernels use; `None` where all kernels are the reference's.
    pub(crate) level: Option<Level>,
}

/// A value in one layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) value: usize,
    pub(crate) code_type: CodeType,
    /// Codes of one sample.
    pub(crate) length: usize,
    /// Whether it is an image that stands as `[h, w, c]`.
    pub(crate) channels_last: bool,
}

/// One kernel with its operands, as cells.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kernel: StepKernel,
    pub(crate) inputs: Vec<usize>,
    pub(crate) output: usize,
    /// Whether this step defines the cell's value, rather than bringing it to another layout.
    pub(crate) defines: bool,
}

/// A step whose rows several threads compute.
#[cfg(feature = "threads")]
#[derive(Clone, Copy)]
pub(crate) struct Share<'a> {
    pub(crate) kernel: &'a fast::Kernel,
    pub(crate) level: Level,
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Rows of the result, and codes of a row.
    pub(crate) rows: usize,
    pub(crate) length: usize,
}

/// What computes a step.
#[derive(Debug)]
pub(crate) enum StepKernel {
    /// The reference's kernel for the node of that index, and what is prepared for it.
    Reference(usize, Prepared),
    /// A prepared node or a change of layout.
    Fast(fast::Kernel),
    /// Nothing: the result is the operand, in its place.
    Same,
}

impl StepKernel {
    fn reuse(&self) -> Reuse {
        match self {
            Self::Reference(..) => Reuse::Never,
            Self::Fast(kernel) if kernel.overwrites() => Reuse::IfDead,
            Self::Fast(_) => Reuse::Never,
            Self::Same => Reuse::Always,
        }
    }
}

impl Plan {
    /// Plans a validated model; without a level, for the reference kernels.
    pub(crate) fn new(model: &IntegerModel, level: Option<Level>) -> Self {
        let mut builder = Builder {
            model,
            lengths: lengths(model),
            cells: Vec::new(),
            of: vec![[None; 2]; model.values.len()],
            steps: Vec::new(),
        };
        let input = builder.define(model.input, level.is_some() && builder.is_read_channels_last(model.input));
        for index in 0..model.nodes.len() {
            match level {
                Some(level) => builder.fast(index, level),
                None => builder.reference(index),
            }
        }
        let output = builder.any(model.output);
        let Builder { cells, steps, .. } = builder;
        let sizes: Vec<CellSize> = cells.iter().map(|cell| CellSize { code_type: cell.code_type, length: cell.length }).collect();
        let uses: Vec<Use> =
            steps.iter().map(|step| Use { inputs: &step.inputs, output: step.output, reuse: step.kernel.reuse() }).collect();
        let arena = Arena::new(&sizes, &uses, input, output);
        let enter = cells[input].channels_last.then(|| fast::to_channels_last(model.input_info()));
        Self { cells, steps, input, output, enter, arena, level }
    }

    /// A step as several threads share it, where they gain by it.
    #[cfg(feature = "threads")]
    pub(crate) fn share<'a>(&self, step: &'a Step) -> Option<Share<'a>> {
        let (StepKernel::Fast(kernel), Some(level)) = (&step.kernel, self.level) else { return None };
        let [rows, length] = kernel.rows_worth_sharing()?;
        Some(Share { kernel, level, input: step.inputs[0], output: step.output, rows, length })
    }

    /// The scratch that running so many samples at once needs.
    pub(crate) fn scratch(&self, samples: usize) -> ScratchSize {
        let Some(level) = self.level else { return ScratchSize::default() };
        let sizes = self.steps.iter().map(|step| match &step.kernel {
            StepKernel::Fast(kernel) => kernel.scratch(level, samples),
            StepKernel::Reference(..) | StepKernel::Same => ScratchSize::default(),
        });
        sizes.fold(ScratchSize::default(), ScratchSize::max)
    }

    /// Bytes of the packed constants.
    pub(crate) fn packed(&self) -> usize {
        let bytes = self.steps.iter().map(|step| match &step.kernel {
            StepKernel::Fast(kernel) => kernel.allocated(),
            StepKernel::Reference(..) | StepKernel::Same => 0,
        });
        bytes.sum()
    }
}

struct Builder<'a> {
    model: &'a IntegerModel,
    lengths: Vec<usize>,
    cells: Vec<Cell>,
    /// The cell of each value in the order of its shape, and channels last.
    of: Vec<[Option<usize>; 2]>,
    steps: Vec<Step>,
}

impl Builder<'_> {
    /// Whether a kernel for images reads the value, which is one.
    fn is_read_channels_last(&self, value: ValueId) -> bool {
        let model = self.model;
        let reads = |node: &crate::model::Node| {
            let inputs: Vec<_> = node.inputs.iter().map(|id| &model.values[id.0]).collect();
            let layout = || fast::layout(model.rules, &node.op, &inputs, &model.values[node.output.0]);
            node.inputs.contains(&value) && layout() == Some(Layout::ChannelsLast)
        };
        fast::is_image(&model.values[value.0]) && model.nodes.iter().any(reads)
    }

    /// A new cell for a value; the layout is that of the shape where both layouts are one.
    fn define(&mut self, value: ValueId, channels_last: bool) -> usize {
        let info = &self.model.values[value.0];
        let channels_last = channels_last && fast::is_image(info);
        let cell = self.cells.len();
        self.cells.push(Cell { value: value.0, code_type: info.code_type, length: self.lengths[value.0], channels_last });
        self.of[value.0][usize::from(channels_last)] = Some(cell);
        cell
    }

    /// A cell of a value that is defined.
    fn any(&self, value: ValueId) -> usize {
        let [row_major, channels_last] = self.of[value.0];
        row_major.or(channels_last).expect("validation has every value defined before its use")
    }

    /// The cell of a value in a layout; a step makes it where there is none yet.
    fn cell(&mut self, value: ValueId, channels_last: bool) -> usize {
        let info = &self.model.values[value.0];
        let channels_last = channels_last && fast::is_image(info);
        if let Some(cell) = self.of[value.0][usize::from(channels_last)] {
            return cell;
        }
        let from = self.any(value);
        let kernel = if channels_last { fast::to_channels_last(info) } else { fast::to_row_major(info) };
        let output = self.define(value, channels_last);
        self.steps.push(Step { kernel: StepKernel::Fast(kernel), inputs: vec![from], output, defines: false });
        output
    }

    /// A cell with an operand stretched to the shape of a result, which only the next step reads.
    fn stretched(&mut self, from: usize, info: &ValueInfo, y: &ValueInfo, channels_last: bool) -> usize {
        let output = self.cells.len();
        let length = y.shape.iter().product();
        self.cells.push(Cell { length, channels_last, ..self.cells[from] });
        let kernel = fast::stretch(info, y, channels_last);
        self.steps.push(Step { kernel: StepKernel::Fast(kernel), inputs: vec![from], output, defines: false });
        output
    }

    fn reference(&mut self, index: usize) {
        let node = &self.model.nodes[index];
        let infos: Vec<_> = node.inputs.iter().map(|id| &self.model.values[id.0]).collect();
        let prepared = prepare(self.model.rules, &node.op, &infos, &self.model.values[node.output.0]);
        let inputs = node.inputs.iter().map(|&id| self.cell(id, false)).collect();
        let output = self.define(node.output, false);
        self.steps.push(Step { kernel: StepKernel::Reference(index, prepared), inputs, output, defines: true });
    }

    fn fast(&mut self, index: usize, level: Level) {
        let model = self.model;
        let node = &model.nodes[index];
        let y = &model.values[node.output.0];
        if matches!(node.op, Op::Reshape) {
            let inputs = vec![self.cell(node.inputs[0], false)];
            let output = self.define(node.output, false);
            return self.steps.push(Step { kernel: StepKernel::Same, inputs, output, defines: true });
        }
        let infos: Vec<_> = node.inputs.iter().map(|id| &model.values[id.0]).collect();
        let Some(layout) = fast::layout(model.rules, &node.op, &infos, y) else {
            return self.reference(index);
        };
        let channels_last = match layout {
            Layout::ChannelsLast => true,
            Layout::RowMajor => false,
            // Operands have one rank; those in which both layouts are one count as either.
            Layout::Either => node.inputs.iter().any(|&id| self.cells[self.any(id)].channels_last),
        };
        let mut inputs: Vec<usize> = node.inputs.iter().map(|&id| self.cell(id, channels_last)).collect();
        if fast::stretches(&node.op) {
            for (input, info) in inputs.iter_mut().zip(&infos).filter(|(_, info)| info.shape != y.shape) {
                *input = self.stretched(*input, info, y, channels_last);
            }
        }
        let kernel = fast::Kernel::new(level, model.rules, &node.op, &infos, y, channels_last);
        let output = self.define(node.output, channels_last);
        self.steps.push(Step { kernel: StepKernel::Fast(kernel), inputs, output, defines: true });
    }
}
