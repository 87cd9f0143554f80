//! What a generated program consists of, before any language: constants, calls of kernels in order, and where each value lies.
//!
//! The input is read where the caller has it and the output written where the caller wants it; constants are read where they are
//! stored; a reshape is its operand. All other values share one arena for each type of codes, since neither language lets bytes be
//! read as wider integers safely.

use std::ops::RangeInclusive;

use qat_runtime::{CodeType, Codes, IntegerModel, Op, Rules, ValueId, ValueInfo};

use super::{
    arena::{self, Block},
    identifier,
    kernel::{Form, Kernel},
    steps::{self, Call, Field, Values},
};
use crate::{error::ExportError, obstacle::Obstacle};

/// The types of codes, in the order of [`Plan::arenas`].
pub(crate) const CODE_TYPES: [CodeType; 3] = [CodeType::Int8, CodeType::Int16, CodeType::Int32];

/// A whole program.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) input: &'a ValueInfo,
    pub(crate) output: &'a ValueInfo,
    /// In order of first use.
    pub(crate) kernels: Vec<Kernel>,
    /// Most outer axes that a kernel counts through, at least 1.
    pub(crate) axes: usize,
    pub(crate) tables: Vec<Table>,
    pub(crate) steps: Vec<Step>,
    /// Elements of each arena.
    pub(crate) arenas: [usize; 3],
}

/// A constant table.
#[derive(Debug)]
pub(crate) struct Table {
    /// Unique in the program, lower case.
    pub(crate) name: String,
    pub(crate) values: Values,
}

/// One call of a kernel.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) kernel: Kernel,
    /// Of its constants; unique in the program, lower case.
    pub(crate) name: String,
    pub(crate) fields: Vec<(&'static str, Constant)>,
    pub(crate) inputs: Vec<Place>,
    pub(crate) output: Place,
}

/// A constant of a call.
#[derive(Debug)]
pub(crate) enum Constant {
    Number(i64),
    /// A number that a slice of Rust carries by itself; for C alone.
    Length(usize),
    List(Vec<usize>),
    /// Index into [`Plan::tables`].
    Table(usize),
}

/// Where a value lies.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Place {
    Input,
    Output,
    /// Index into [`Plan::tables`].
    Table(usize),
    Arena {
        code_type: CodeType,
        /// In elements.
        offset: usize,
        /// In elements.
        length: usize,
    },
}

/// What stands in the way of generated code, all of it; empty for a model that can be generated. The model validates.
pub(crate) fn obstacles(model: &IntegerModel) -> Vec<Obstacle> {
    if model.rules != Rules::TfliteMicro {
        let expected = "tflite-micro, the rules that generated code follows";
        return vec![Obstacle { place: "rules".into(), expected, found: model.rules.to_string() }];
    }
    model.nodes.iter().filter_map(|node| steps::calls(model, node).err()).collect()
}

impl<'a> Plan<'a> {
    /// The program of a model; `format` is the language's name in errors.
    pub(crate) fn new(model: &'a IntegerModel, format: &'static str) -> Result<Self, ExportError> {
        model.validate()?;
        if let Some(obstacle) = obstacles(model).into_iter().next() {
            return Err(obstacle.into_error(format));
        }
        let mut builder = Builder { model, roots: roots(model), kernels: Vec::new(), tables: Vec::new(), steps: Vec::new() };
        let (places, arenas) = builder.places();
        for (index, node) in model.nodes.iter().enumerate() {
            let calls = steps::calls(model, node).map_err(|obstacle| obstacle.into_error(format))?;
            let several = calls.len() > 1;
            for (number, call) in calls.into_iter().enumerate() {
                let label = identifier::plain(node.op.layer().unwrap_or(node.op.kind())).to_ascii_lowercase();
                let part = if several { format!("_{number}") } else { String::new() };
                builder.step(call, format!("n{index}_{label}{part}"), &places, node.output);
            }
        }
        let last = &places[model.output.0];
        if *last != Place::Output {
            // The output is the input or a constant under another shape.
            let info = model.output_info();
            let length = info.shape.iter().product();
            let fields = [("rows", 1), ("length", length), ("x_first", 0), ("x_inner", 1), ("y_first", 0), ("y_inner", 1)];
            let mut fields: Vec<_> = fields.map(|(name, size)| (name, Field::Size(size))).into();
            fields.extend([("size", Field::Sizes(Vec::new()))]);
            fields.extend(["x_step", "y_step"].map(|name| (name, Field::Steps(Vec::new()))));
            let call = Call { kernel: Kernel::plain(Form::Copy, info.code_type), fields, inputs: vec![model.output] };
            let step = builder.with_places(call, format!("n{}_output", model.nodes.len()), &places, Place::Output);
            builder.push(step);
        }
        let Builder { kernels, tables, steps, .. } = builder;
        let outer = |(_, field): &(_, Pending)| match field {
            Pending::Axes(list, _) => list.len(),
            Pending::Constant(_) => 0,
        };
        let axes = steps.iter().flat_map(|step| &step.fields).map(outer).max().unwrap_or(1).max(1);
        let steps = steps.into_iter().map(|step| step.finish(axes)).collect();
        Ok(Self { input: model.input_info(), output: model.output_info(), kernels, axes, tables, steps, arenas })
    }

    /// Bytes of all arenas.
    pub(crate) fn arena_bytes(&self) -> usize {
        CODE_TYPES.iter().zip(self.arenas).map(|(code_type, length)| code_type.bytes() * length).sum()
    }
}

/// For each value the one whose memory it is: itself, or what it is a reshape of.
fn roots(model: &IntegerModel) -> Vec<usize> {
    let mut roots: Vec<usize> = (0..model.values.len()).collect();
    for node in model.nodes.iter().filter(|node| matches!(node.op, Op::Reshape)) {
        roots[node.output.0] = roots[node.inputs[0].0];
    }
    roots
}

/// A step whose walks have as many axes as they need.
struct PendingStep {
    kernel: Kernel,
    name: String,
    fields: Vec<(&'static str, Pending)>,
    inputs: Vec<Place>,
    output: Place,
}

enum Pending {
    Constant(Constant),
    /// A list to fill up in front.
    Axes(Vec<usize>, usize),
}

impl PendingStep {
    fn finish(self, axes: usize) -> Step {
        let field = |(name, field)| match field {
            Pending::Constant(constant) => (name, constant),
            Pending::Axes(list, filler) => {
                let mut full = vec![filler; axes - list.len()];
                full.extend(list);
                (name, Constant::List(full))
            }
        };
        let Self { kernel, name, fields, inputs, output } = self;
        Step { kernel, name, fields: fields.into_iter().map(field).collect(), inputs, output }
    }
}

struct Builder<'a> {
    model: &'a IntegerModel,
    roots: Vec<usize>,
    kernels: Vec<Kernel>,
    tables: Vec<Table>,
    steps: Vec<PendingStep>,
}

impl Builder<'_> {
    /// Where every value lies, and the elements of each arena. Adds the tables of constants.
    fn places(&mut self) -> (Vec<Place>, [usize; 3]) {
        let model = self.model;
        let mut places: Vec<Option<Place>> = vec![None; model.values.len()];
        places[model.input.0] = Some(Place::Input);
        for (index, node) in model.nodes.iter().enumerate() {
            if let Op::Constant(codes) = &node.op {
                let values = match codes {
                    Codes::Int8(codes) => Values::I8(codes.clone()),
                    Codes::Int16(codes) => Values::I16(codes.clone()),
                    Codes::Int32(codes) => Values::I32(codes.clone()),
                };
                places[node.output.0] = Some(Place::Table(self.table(format!("n{index}_constant"), values)));
            }
        }
        let output = self.roots[model.output.0];
        places[output].get_or_insert(Place::Output);
        let mut arenas = [0; 3];
        for (code_type, total) in CODE_TYPES.into_iter().zip(&mut arenas) {
            let values: Vec<usize> = (0..model.values.len())
                .filter(|&value| self.roots[value] == value && places[value].is_none())
                .filter(|&value| model.values[value].code_type == code_type)
                .collect();
            let length = |value: usize| model.values[value].shape.iter().product();
            let blocks: Vec<Block> =
                values.iter().map(|&value| Block { length: length(value), alive: self.alive(value) }).collect();
            let (offsets, length) = arena::place(&blocks);
            *total = length;
            for ((&value, block), offset) in values.iter().zip(&blocks).zip(offsets) {
                places[value] = Some(Place::Arena { code_type, offset, length: block.length });
            }
        }
        // Every root has a place by now.
        let places = self.roots.iter().map(|&root| places[root].clone().unwrap_or(Place::Output)).collect();
        (places, arenas)
    }

    /// From the node that defines a value to the last that reads it or a reshape of it.
    fn alive(&self, root: usize) -> RangeInclusive<usize> {
        let is_same = |id: &ValueId| self.roots[id.0] == root;
        let touches = |(_, node): &(usize, &qat_runtime::Node)| is_same(&node.output) || node.inputs.iter().any(is_same);
        let mut nodes = self.model.nodes.iter().enumerate().filter(touches).map(|(index, _)| index);
        let first = nodes.next().unwrap_or(0);
        first..=nodes.next_back().unwrap_or(first)
    }

    /// The table of those values: one that is there already, as where a layer is applied several times, or a new one.
    fn table(&mut self, name: String, values: Values) -> usize {
        if let Some(index) = self.tables.iter().position(|table| table.values == values) {
            return index;
        }
        self.tables.push(Table { name, values });
        self.tables.len() - 1
    }

    fn step(&mut self, call: Call, name: String, places: &[Place], output: ValueId) {
        let step = self.with_places(call, name, places, places[output.0].clone());
        self.push(step);
    }

    fn push(&mut self, step: PendingStep) {
        if !self.kernels.contains(&step.kernel) {
            self.kernels.push(step.kernel);
        }
        self.steps.push(step);
    }

    fn with_places(&mut self, call: Call, name: String, places: &[Place], output: Place) -> PendingStep {
        let inputs = call.inputs.iter().map(|id| places[id.0].clone()).collect();
        let mut fields = Vec::new();
        for (field_name, field) in call.fields {
            let field = match field {
                Field::Number(number) => Pending::Constant(Constant::Number(number.into())),
                // Sizes are below 2^28.
                Field::Size(size) => Pending::Constant(Constant::Number(size as i64)),
                Field::Length(length) => Pending::Constant(Constant::Length(length)),
                Field::Pair(pair) => Pending::Constant(Constant::List(pair.into())),
                Field::Sizes(list) => Pending::Axes(list, 1),
                Field::Steps(list) => Pending::Axes(list, 0),
                Field::Table(values) => Pending::Constant(Constant::Table(self.table(format!("{name}_{field_name}"), values))),
            };
            fields.push((field_name, field));
        }
        PendingStep { kernel: call.kernel, name, fields, inputs, output }
    }
}
