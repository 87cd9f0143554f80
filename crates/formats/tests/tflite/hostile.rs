//! Files that were made to mislead a reader, one for each way a file can be wrong.

use qat_formats::tflite::*;

use super::models::{everything, fully_connected};

/// A file laid down by hand, tables before what they lead to.
#[derive(Clone)]
struct Raw {
    bytes: Vec<u8>,
}

/// Where a table, its vtable and its fields are in a [`Raw`].
#[derive(Clone)]
struct RawTable {
    at: usize,
    vtable: usize,
    fields: Vec<usize>,
}

impl Raw {
    fn new() -> Self {
        Self { bytes: [&[0; 4], b"TFL3".as_slice()].concat() }
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        self.bytes.extend_from_slice(bytes);
        self.bytes.len() - bytes.len()
    }

    fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.bytes[at..at + N].copy_from_slice(&bytes);
    }

    /// Makes the offset at `from` lead to the end of the file so far.
    fn here(&mut self, from: usize) {
        let distance = self.bytes.len() - from;
        self.set(from, (distance as u32).to_le_bytes());
    }

    /// A table at the end of the file with the fields `slots`, whose vtable stands before it.
    fn table(&mut self, slots: &[(u16, &[u8])]) -> RawTable {
        let count = slots.iter().map(|&(slot, _)| slot + 1).max().unwrap_or(0);
        let size = 4 + slots.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let vtable = self.put(&(4 + 2 * count).to_le_bytes());
        self.put(&(size as u16).to_le_bytes());
        let entries = self.put(&vec![0; usize::from(2 * count)]);
        let at = self.bytes.len();
        self.put(&((at - vtable) as i32).to_le_bytes());
        let mut fields = Vec::new();
        for (slot, bytes) in slots {
            let field = self.put(bytes);
            self.set(entries + 2 * usize::from(*slot), ((field - at) as u16).to_le_bytes());
            fields.push(field);
        }
        RawTable { at, vtable, fields }
    }

    /// A list at the end of the file, to which the offset at `from` leads; where its elements begin.
    fn list(&mut self, from: usize, count: u32, elements: &[u8]) -> usize {
        self.here(from);
        self.put(&count.to_le_bytes());
        self.put(elements)
    }

    /// A list of one table, to which the offset at `from` leads.
    fn list_of_one(&mut self, from: usize, slots: &[(u16, &[u8])]) -> RawTable {
        let element = self.list(from, 1, &[0; 4]);
        let table = self.table(slots);
        self.set(element, ((table.at - element) as u32).to_le_bytes());
        table
    }

    /// A list of `count` offsets that all lead to one table, to which the offset at `from` leads.
    fn list_of_the_same(&mut self, from: usize, count: u32, slots: &[(u16, &[u8])]) -> RawTable {
        let elements = self.list(from, count, &vec![0; 4 * count as usize]);
        let table = self.table(slots);
        for element in (elements..).step_by(4).take(count as usize) {
            self.set(element, ((table.at - element) as u32).to_le_bytes());
        }
        table
    }

    /// A model with an offset to nothing in each of `slots`; version 3 and the first buffer are there.
    fn model(slots: &[u16]) -> (Self, RawTable) {
        let mut raw = Self::new();
        let fields: Vec<(u16, &[u8])> = slots.iter().map(|&slot| (slot, [0; 4].as_slice())).collect();
        let version = 3u32.to_le_bytes();
        raw.here(0);
        let model = raw.table(&[[(4, [0; 4].as_slice()), (0, version.as_slice())].as_slice(), &fields].concat());
        raw.set(0, (model.at as u32).to_le_bytes());
        raw.list_of_one(model.fields[0], &[]);
        (raw, RawTable { fields: model.fields[2..].to_vec(), ..model })
    }

    /// A model of one subgraph without tensors.
    fn minimal() -> (Self, RawTable) {
        let (mut raw, model) = Self::model(&[2]);
        raw.list_of_one(model.fields[0], &[]);
        (raw, model)
    }

    fn error(&self) -> ReadError {
        read(&self.bytes).expect_err("a hostile file was read")
    }
}

#[test]
fn what_the_others_are_made_of_is_read() {
    let (raw, _) = Raw::minimal();
    assert_eq!(read(&raw.bytes).unwrap(), Model { subgraphs: vec![SubGraph::default()], ..Model::default() });
}

#[test]
fn another_identifier() {
    for bytes in [b"".as_slice(), b"TFL", b"\x08\0\0\0TFL", b"\x08\0\0\0TFL2\0\0\0\0", b"PK\x03\x04 not flat"] {
        assert!(matches!(read(bytes), Err(ReadError::Identifier { .. })), "{bytes:?}");
    }
    let error = read(b"\x08\0\0\0TFL2").unwrap_err().to_string();
    assert_eq!(error, "TFLite file: expected the identifier TFL3 at byte 4, found [84, 70, 76, 50] among 8 bytes");
}

#[test]
fn another_version() {
    let mut model = fully_connected();
    for version in [0, 2, 4, u32::MAX] {
        model.version = version;
        assert_eq!(read(&write(&model).unwrap()), Err(ReadError::Version { found: version }));
    }
}

#[test]
fn offsets_that_lead_out_of_the_file_or_nowhere() {
    let (raw, model) = Raw::minimal();
    let length = raw.bytes.len() as u32;
    for (at, path) in [(0, "model"), (model.fields[0], "subgraphs")] {
        for offset in [0, length - at as u32, length, u32::MAX] {
            let mut wrong = raw.clone();
            wrong.set(at, offset.to_le_bytes());
            match wrong.error() {
                ReadError::Offset { path: named, at: seen, found, .. } => assert_eq!((&*named, seen, found), (path, at, offset)),
                error => panic!("{error}"),
            }
        }
    }
}

#[test]
fn tables_and_vtables_that_are_none() {
    let (raw, model) = Raw::minimal();
    let length = raw.bytes.len() as i32;
    let at = model.at as i32;
    let wrong = |change: &dyn Fn(&mut Raw)| {
        let mut wrong = raw.clone();
        change(&mut wrong);
        match wrong.error() {
            ReadError::Table { path, .. } => assert_eq!(path, "model"),
            error => panic!("{error}"),
        }
    };
    // A vtable before the file, at its last bytes, behind it, and as far away as can be said.
    for vtable in [-1, length - 3, length, at.wrapping_sub(i32::MAX), at.wrapping_sub(i32::MIN)] {
        wrong(&|raw| raw.set(model.at, at.wrapping_sub(vtable).to_le_bytes()));
    }
    // No room for its sizes, half an entry, more entries than bytes in the file.
    for size in [0u16, 2, 5, u16::MAX, u16::MAX - 1] {
        wrong(&|raw| raw.set(model.vtable, size.to_le_bytes()));
    }
    // A table without room for the way to its vtable, and one that leaves the file.
    for size in [0u16, 3, u16::MAX] {
        wrong(&|raw| raw.set(model.vtable + 2, size.to_le_bytes()));
    }
    wrong(&|raw| {
        let last = raw.bytes.len() as u32 - 3;
        raw.set(0, last.to_le_bytes());
    });
}

#[test]
fn fields_that_leave_their_table() {
    let (raw, model) = Raw::minimal();
    let slot = model.vtable + 4 + 2 * 2;
    for entry in [1u16, 3, 13, 16, u16::MAX] {
        let mut wrong = raw.clone();
        wrong.set(slot, entry.to_le_bytes());
        match wrong.error() {
            ReadError::Field { path, found, size: 16, expected: 4, .. } => assert_eq!((&*path, found), ("subgraphs", entry)),
            error => panic!("{error}"),
        }
    }
}

#[test]
fn lists_that_leave_the_file() {
    let (mut raw, model) = Raw::model(&[2, 5]);
    raw.list_of_one(model.fields[0], &[]);
    raw.list(model.fields[1], 2, &[0; 8]);
    assert_eq!(read(&raw.bytes).unwrap().metadata_buffer, [0, 0]);
    let count = raw.bytes.len() - 12;
    for wrong in [3, 1 << 30, u32::MAX] {
        raw.set(count, wrong.to_le_bytes());
        let error = raw.error();
        assert!(matches!(&error, ReadError::List { count, element: 4, .. } if *count == wrong), "{error}");
    }
    // Not even room for the count.
    raw.bytes.truncate(count + 3);
    assert!(matches!(raw.error(), ReadError::List { count: 0, .. }));
}

#[test]
fn texts_that_are_none() {
    let (mut raw, model) = Raw::model(&[2, 3]);
    raw.list_of_one(model.fields[0], &[]);
    let text = raw.list(model.fields[1], 2, b"ab\0");
    assert_eq!(read(&raw.bytes).unwrap().description, "ab");
    for (at, byte) in [(text, 0xff), (text + 2, b'c')] {
        let mut wrong = raw.clone();
        wrong.bytes[at] = byte;
        let error = wrong.error();
        assert!(matches!(&error, ReadError::Text { path, at } if path == "description" && *at == text), "{error}");
    }
    // The zero is behind the end of the file.
    raw.bytes.pop();
    assert!(matches!(raw.error(), ReadError::Text { .. }));
}

#[test]
fn options_without_a_table() {
    let (mut raw, model) = Raw::model(&[1, 2]);
    raw.list_of_one(model.fields[0], &[]);
    let subgraph = raw.list_of_one(model.fields[1], &[(3, &[0; 4])]);
    raw.list_of_one(subgraph.fields[0], &[(3, &[11])]);
    let error = raw.error();
    let named = |path: &str| path == "subgraphs[0].operators[0]";
    assert!(matches!(&error, ReadError::Missing { path, .. } if named(path)), "{error}");
}

/// A model whose second buffer says to be behind the tables, with the bytes 5, 6, 7 there.
fn behind(offset_and_size: impl Fn(u64) -> (u64, u64), data: bool) -> Raw {
    let mut raw = Raw::new();
    let version = 3u32.to_le_bytes();
    raw.here(0);
    let model = raw.table(&[(0, &version), (2, &[0; 4]), (4, &[0; 4])]);
    raw.set(0, (model.at as u32).to_le_bytes());
    raw.list_of_one(model.fields[1], &[]);
    let elements = raw.list(model.fields[2], 2, &[0; 8]);
    let first = raw.table(&[]);
    let second = match data {
        true => raw.table(&[(1, &[0; 8]), (2, &[0; 8]), (0, &[0; 4])]),
        false => raw.table(&[(1, &[0; 8]), (2, &[0; 8])]),
    };
    raw.set(elements, ((first.at - elements) as u32).to_le_bytes());
    raw.set(elements + 4, ((second.at - elements - 4) as u32).to_le_bytes());
    if let Some(&field) = second.fields.get(2) {
        raw.list(field, 1, &[9]);
    }
    let (offset, size) = offset_and_size(raw.put(&[5, 6, 7]) as u64);
    raw.set(second.fields[0], offset.to_le_bytes());
    raw.set(second.fields[1], size.to_le_bytes());
    raw
}

#[test]
fn buffers_behind_the_tables() {
    assert_eq!(read(&behind(|at| (at, 3), false).bytes).unwrap().buffers[1].data, [5, 6, 7]);
    assert_eq!(read(&behind(|_| (1, 1), false).bytes).unwrap().buffers[1].data, []);
    for wrong in [
        behind(|at| (at, 4), false),
        behind(|at| (at + 4, 0), false),
        behind(|at| (at, u64::MAX), false),
        behind(|_| (u64::MAX, u64::MAX), false),
        behind(|_| (0, u64::MAX), false),
        behind(|at| (at, 3), true),
    ] {
        let error = wrong.error();
        assert!(matches!(&error, ReadError::Behind { path, .. } if path == "buffers[1].data"), "{error}");
    }
}

#[test]
fn a_thousand_names_that_are_one() {
    let (mut raw, model) = Raw::model(&[2, 6]);
    raw.list_of_one(model.fields[0], &[]);
    let metadata = raw.list_of_the_same(model.fields[1], 1000, &[(0, &[0; 4])]);
    raw.list(metadata.fields[0], 500, &[[b'x'; 500].as_slice(), &[0]].concat());
    let length = raw.bytes.len();
    let error = raw.error();
    assert!(matches!(error, ReadError::Budget { limit, .. } if limit == 32 * length), "{error}");
}

#[test]
fn a_thousand_subgraphs_of_a_thousand_operators_that_are_one() {
    let (mut raw, model) = Raw::model(&[2]);
    let subgraph = raw.list_of_the_same(model.fields[0], 1000, &[(3, &[0; 4])]);
    let operator = raw.list_of_the_same(subgraph.fields[0], 1000, &[(1, &[0; 4])]);
    raw.list(operator.fields[0], 1000, &[0; 4000]);
    let error = raw.error();
    assert!(matches!(error, ReadError::Budget { .. }), "{error}");
}

#[test]
fn a_thousand_tables_with_one_long_vtable() {
    let (mut raw, model) = Raw::model(&[2, 6]);
    raw.list_of_one(model.fields[0], &[]);
    let slots: Vec<(u16, &[u8])> = (0..30_000).map(|slot| (slot, if slot == 29_999 { &[0; 4] } else { [].as_slice() })).collect();
    raw.list_of_the_same(model.fields[1], 1000, &slots[1..]);
    let error = raw.error();
    assert!(matches!(error, ReadError::Budget { .. }), "{error}");
}

#[test]
fn fields_beyond_the_schema_are_noted() {
    let (mut raw, model) = Raw::model(&[2, 9, 40]);
    let subgraph = raw.list_of_one(model.fields[0], &[(0, &[0; 4]), (7, &[0; 4])]);
    // Sparsity, which is not followed, and a buffer in another file, which makes a constant of the tensor.
    raw.list_of_one(subgraph.fields[0], &[(Tensor::SPARSITY, &[0xff; 4]), (Tensor::EXTERNAL_BUFFER, &[1, 0, 0, 0])]);
    let model = read(&raw.bytes).unwrap();
    assert_eq!(model.unread, [9, 40]);
    assert_eq!(model.subgraphs[0].unread, [7]);
    assert_eq!(model.subgraphs[0].tensors[0].unread, [Tensor::SPARSITY, Tensor::EXTERNAL_BUFFER]);
    assert!(matches!(write(&model), Err(WriteError::Unread { .. })));
}

#[test]
fn options_beyond_the_schema_are_noted() {
    // An unknown table, a known one with a field too many, and options without a type.
    let options = |number: u8, slots: &[(u16, &[u8])]| {
        let (mut raw, model) = Raw::model(&[1, 2]);
        raw.list_of_one(model.fields[0], &[]);
        let subgraph = raw.list_of_one(model.fields[1], &[(3, &[0; 4])]);
        let operator = raw.list_of_one(subgraph.fields[0], &[(3, &[number]), (4, &[0; 4])]);
        raw.here(operator.fields[1]);
        let table = raw.table(slots);
        let distance = table.at - operator.fields[1];
        raw.set(operator.fields[1], (distance as u32).to_le_bytes());
        read(&raw.bytes).unwrap().subgraphs[0].operators[0].clone()
    };
    assert_eq!(options(92, &[]).builtin_options, BuiltinOptions::Unread { table: 92, slots: Vec::new() });
    assert_eq!(options(22, &[(1, &[1])]).builtin_options, BuiltinOptions::Unread { table: 22, slots: vec![1] });
    let fully_connected = options(8, &[(0, &[1]), (5, &[0; 4])]);
    assert_eq!(fully_connected.builtin_options, BuiltinOptions::Unread { table: 8, slots: vec![5] });
    let untyped = options(0, &[]);
    assert_eq!((untyped.builtin_options, untyped.unread), (BuiltinOptions::None, vec![4]));
}

/// What a reader says of [`everything`] after a change.
fn changed(change: impl FnOnce(&mut Model)) -> CheckError {
    let mut model = everything();
    change(&mut model);
    let found = check(&model).expect_err("a contradiction was not found");
    assert_eq!(read(&write(&model).unwrap()), Err(ReadError::Check(found.clone())));
    found
}

#[test]
fn parts_that_are_not_there() {
    let subgraph = changed(|model| model.subgraphs.clear());
    assert_eq!(subgraph, CheckError::Missing { part: "a subgraph" });
    let buffer = changed(|model| model.buffers.clear());
    assert_eq!(buffer, CheckError::Missing { part: "a first buffer" });
    assert_eq!(changed(|model| model.buffers[0].data = vec![1, 2]), CheckError::FirstBuffer { found: 2 });
}

#[test]
fn operators_that_are_none() {
    for change in [
        |code: &mut OperatorCode| code.builtin_code = BuiltinOperator(-5),
        |code: &mut OperatorCode| code.builtin_code = BuiltinOperator::CUSTOM,
        |code: &mut OperatorCode| code.custom_code = "name".to_owned(),
    ] {
        let error = changed(|model| change(&mut model.operator_codes[0]));
        assert!(matches!(&error, CheckError::OperatorCode { path, .. } if path == "operator_codes[0]"), "{error}");
    }
}

#[test]
fn indices_that_refer_to_nothing() {
    let index = |wanted: &str, change: &dyn Fn(&mut Model)| match changed(change) {
        CheckError::Index { path, .. } => assert_eq!(path, wanted),
        error => panic!("{wanted}: {error}"),
    };
    index("subgraphs[0].tensors[1].buffer", &|model| model.subgraphs[0].tensors[1].buffer = 6);
    index("subgraphs[0].tensors[1].buffer", &|model| model.subgraphs[0].tensors[1].buffer = u32::MAX);
    index("subgraphs[0].operators[0].opcode_index", &|model| model.subgraphs[0].operators[0].opcode_index = 3);
    for wrong in [-2, 4, i32::MIN, i32::MAX] {
        index("subgraphs[0].operators[0].inputs[1]", &|model| model.subgraphs[0].operators[0].inputs[1] = wrong);
    }
    for wrong in [-1, 4, i32::MIN, i32::MAX] {
        index("subgraphs[0].operators[0].outputs[0]", &|model| model.subgraphs[0].operators[0].outputs[0] = wrong);
        index("subgraphs[0].inputs[0]", &|model| model.subgraphs[0].inputs[0] = wrong);
        index("subgraphs[0].outputs[0]", &|model| model.subgraphs[0].outputs[0] = wrong);
        index("subgraphs[0].operators[0].intermediates[0]", &|model| model.subgraphs[0].operators[0].intermediates = vec![wrong]);
        index("metadata_buffer[1]", &|model| model.metadata_buffer[1] = if wrong == 4 { 6 } else { wrong });
    }
    index("metadata[0].buffer", &|model| model.metadata[0].buffer = 6);
    index("signature_defs[0].subgraph_index", &|model| model.signature_defs[0].subgraph_index = 2);
    index("signature_defs[0].inputs[0]", &|model| model.signature_defs[0].inputs[0].tensor_index = 4);
    index("signature_defs[0].outputs[0]", &|model| model.signature_defs[0].outputs[0].tensor_index = u32::MAX);
    for wrong in [-1, 2, i32::MAX] {
        index("subgraphs[0].tensors[1].quantization.quantized_dimension", &|model| {
            model.subgraphs[0].tensors[1].quantization.as_mut().unwrap().quantized_dimension = wrong;
        });
    }
    index("subgraphs[0].tensors[2].quantization.quantized_dimension", &|model| {
        model.subgraphs[0].tensors[2].quantization.as_mut().unwrap().quantized_dimension = -1;
    });
}

#[test]
fn a_bias_with_the_dimension_of_its_weights_is_read() {
    let mut model = fully_connected();
    model.subgraphs[0].tensors[2].quantization.as_mut().unwrap().quantized_dimension = 3;
    assert_eq!(read(&write(&model).unwrap()).unwrap(), model);
}

#[test]
fn shapes_that_are_none() {
    let signature = |wrong: &[i32]| changed(|model| model.subgraphs[0].tensors[0].shape_signature = wrong.to_vec());
    let shape = |wrong: &[i32]| changed(|model| model.subgraphs[0].tensors[3].shape = wrong.to_vec());
    let quarter = i32::MAX / 2 + 1;
    for error in [
        shape(&[-1, 2]),
        shape(&[0, i32::MIN]),
        shape(&[i32::MAX; 3]),
        // 2⁶³ elements are a number that can be said, their bits are not.
        changed(|model| {
            let tensor = &mut model.subgraphs[0].tensors[3];
            (tensor.shape, tensor.r#type) = (vec![quarter, quarter, 8], TensorType::COMPLEX128);
        }),
        signature(&[-2, 3]),
        signature(&[-1]),
        signature(&[-1, 3, 1]),
    ] {
        assert!(matches!(error, CheckError::Shape { .. }), "{error}");
    }
    let mut empty = fully_connected();
    empty.subgraphs[0].tensors[3].shape = vec![i32::MAX, i32::MAX, i32::MAX, 0];
    assert_eq!(check(&empty), Ok(()), "an empty tensor has no elements");
}

#[test]
fn constants_that_do_not_fill_their_shape() {
    let length = |change: &dyn Fn(&mut Model)| match changed(change) {
        CheckError::Length { expected, found, .. } => (expected, found),
        error => panic!("{error}"),
    };
    assert_eq!(length(&|model| model.buffers[1].data.truncate(5)), (6, 5));
    assert_eq!(length(&|model| model.buffers[1].data.push(0)), (6, 7));
    assert_eq!(length(&|model| model.subgraphs[0].tensors[1].shape = vec![i32::MAX, 3]), (3 * i32::MAX as usize, 6));
    assert_eq!(length(&|model| model.subgraphs[0].tensors[1].shape = vec![0]), (0, 6));
    // Three elements of 4 bits are two bytes; of 2 bits, one.
    assert_eq!(length(&|model| model.subgraphs[1].tensors[0].shape = vec![5]), (3, 2));
    assert_eq!(length(&|model| model.subgraphs[1].tensors[0].r#type = TensorType::INT2), (1, 2));
    let mut text = everything();
    text.subgraphs[1].tensors[0].r#type = TensorType::STRING;
    assert_eq!(check(&text), Ok(()), "texts vary in length");
}

#[test]
fn lists_of_different_length() {
    let count = |change: &dyn Fn(&mut Model)| match changed(change) {
        CheckError::Count { what, expected, found, .. } => (what, expected, found),
        error => panic!("{error}"),
    };
    let quantization = |change: fn(&mut QuantizationParameters)| {
        count(&|model| change(model.subgraphs[1].tensors[3].quantization.as_mut().unwrap()))
    };
    assert_eq!(quantization(|q| q.zero_point.truncate(2)), ("zero points", 3, 2));
    assert_eq!(quantization(|q| q.scale.truncate(2)), ("zero points", 2, 3));
    assert_eq!(quantization(|q| q.max.truncate(2)), ("highest values", 3, 2));
    assert_eq!(quantization(|q| q.quantized_dimension = 0), ("scales", 2, 3));
    let mutating = count(&|model| model.subgraphs[1].operators.last_mut().unwrap().mutating_variable_inputs.push(true));
    assert_eq!(mutating, ("mutating_variable_inputs", 3, 4));
}

#[test]
fn operators_in_a_circle_or_out_of_order() {
    let undefined = |wanted: &str, change: &dyn Fn(&mut SubGraph)| match changed(|model| change(&mut model.subgraphs[1])) {
        CheckError::Undefined { path, .. } => assert_eq!(path, wanted),
        error => panic!("{wanted}: {error}"),
    };
    // Its own output, a circle of two, two that are swapped, and an output that nothing defines.
    undefined("subgraphs[1].operators[0].inputs[0]", &|subgraph| {
        subgraph.operators[0].inputs[0] = subgraph.operators[0].outputs[0]
    });
    undefined("subgraphs[1].operators[0].inputs[0]", &|subgraph| {
        subgraph.operators[0].inputs[0] = subgraph.operators[1].outputs[0]
    });
    undefined("subgraphs[1].operators[3].inputs[0]", &|subgraph| subgraph.operators.swap(3, 4));
    undefined("subgraphs[1].operators[0].inputs[0]", &|subgraph| subgraph.inputs.clear());
    undefined("subgraphs[1].outputs[2]", &|subgraph| {
        subgraph.outputs.push(subgraph.tensors.len() as i32);
        subgraph.tensors.push(Tensor::default());
    });
}

#[test]
fn tensors_with_two_origins() {
    let redefined = |wanted: &str, change: &dyn Fn(&mut SubGraph)| match changed(|model| change(&mut model.subgraphs[1])) {
        CheckError::Redefined { path, .. } => assert_eq!(path, wanted),
        error => panic!("{wanted}: {error}"),
    };
    redefined("subgraphs[1].operators[1].outputs[0]", &|subgraph| {
        subgraph.operators[1].outputs[0] = subgraph.operators[0].outputs[0];
    });
    redefined("subgraphs[1].operators[0].outputs[1]", &|subgraph| {
        let output = subgraph.operators[0].outputs[0];
        subgraph.operators[0].outputs.push(output);
    });
    redefined("subgraphs[1].operators[0].outputs[0]", &|subgraph| subgraph.operators[0].outputs[0] = subgraph.inputs[0]);
    // A constant.
    redefined("subgraphs[1].operators[0].outputs[0]", &|subgraph| subgraph.operators[0].outputs[0] = 0);
    redefined("subgraphs[1].operators[0].outputs[2]", &|subgraph| subgraph.operators[0].outputs.extend([1, 1]));
    redefined("subgraphs[1].inputs[1]", &|subgraph| subgraph.inputs.push(0));
    redefined("subgraphs[1].inputs[1]", &|subgraph| subgraph.inputs.push(subgraph.inputs[0]));
}

#[test]
fn tensors_without_elements_need_no_origin_and_may_have_one() {
    let mut model = everything();
    let subgraph = &mut model.subgraphs[1];
    assert_eq!(subgraph.tensors[1].element_count(), Some(0));
    subgraph.operators[0].inputs[0] = 1;
    subgraph.operators[0].outputs.push(1);
    assert_eq!(check(&model), Ok(()));
}

#[test]
fn names_that_say_nothing() {
    let name = |change: &dyn Fn(&mut Model)| match changed(change) {
        CheckError::Name { path, .. } => path,
        error => panic!("{error}"),
    };
    assert_eq!(name(&|model| model.signature_defs.push(model.signature_defs[0].clone())), "signature_defs[1]");
    let twice = |maps: &mut Vec<TensorMap>| maps.push(maps[0].clone());
    assert_eq!(name(&|model| twice(&mut model.signature_defs[0].inputs)), "signature_defs[0].inputs[1]");
    assert_eq!(name(&|model| twice(&mut model.signature_defs[0].outputs)), "signature_defs[0].outputs[1]");
}
