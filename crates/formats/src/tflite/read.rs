//! The bytes of a `.tflite` file as a [`Model`], or what is wrong with them.

use thiserror::Error;

use super::check::{CheckError, check};
use super::flatbuffer::{File, Path, Table};
use super::options::BuiltinOptions;
use super::schema::{
    Buffer, BuiltinOperator, Metadata, Model, Operator, OperatorCode, QuantizationParameters, SignatureDef, SubGraph, Tensor,
    TensorMap, TensorType,
};

/// What is wrong with the bytes of a TFLite file. `path` is a place in the model, as in `subgraphs[0].tensors[3].name`; `at`
/// counts bytes from the start of the file.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are no TFLite file of a schema that has an identifier.
    #[error("TFLite file: expected the identifier TFL3 at byte 4, found {found:?} among {length} bytes")]
    Identifier {
        /// What stands there, as far as the file goes.
        found: Vec<u8>,
        /// Length of the file in bytes.
        length: usize,
    },
    /// Another version of the schema.
    #[error("TFLite file, version: expected 3, found {found}")]
    Version {
        /// The version in the file.
        found: u32,
    },
    /// An offset leads out of the file or to itself.
    #[error("TFLite file, {path}: expected an offset into the file of {length} bytes at byte {at}, found {found}")]
    Offset {
        /// What the offset leads to.
        path: String,
        /// Where the offset is.
        at: usize,
        /// The offset; 0 where the file ends before it.
        found: u32,
        /// Length of the file in bytes.
        length: usize,
    },
    /// A table or its vtable leaves the file or is too short to be one.
    #[error("TFLite file, {path}: expected {expected} of {length} bytes for the table at byte {at}, found {found}")]
    Table {
        /// The table.
        path: String,
        /// Where the table begins.
        at: usize,
        /// What a table has.
        expected: &'static str,
        /// The number that contradicts it.
        found: i64,
        /// Length of the file in bytes.
        length: usize,
    },
    /// A field leaves its table.
    #[error("TFLite file, {path}: expected {expected} bytes inside the table of {size} at byte {at}, found them from {found} on")]
    Field {
        /// The field.
        path: String,
        /// Where the table begins.
        at: usize,
        /// Bytes of the table.
        size: u16,
        /// Bytes of the field.
        expected: usize,
        /// Where in the table its vtable says that the field begins.
        found: u16,
    },
    /// A list leaves the file.
    #[error("TFLite file, {path} at byte {at}: expected a list inside the file of {length} bytes, found {count} times {element}")]
    List {
        /// The list.
        path: String,
        /// Where the list begins.
        at: usize,
        /// The number of elements in the file; 0 where the file ends before it.
        count: u32,
        /// Bytes of an element.
        element: usize,
        /// Length of the file in bytes.
        length: usize,
    },
    /// A text is not UTF-8 or has no zero behind it.
    #[error("TFLite file, {path}: expected UTF-8 that ends in a zero at byte {at}, found other bytes")]
    Text {
        /// The text.
        path: String,
        /// Where its bytes begin.
        at: usize,
    },
    /// Bytes that the file keeps behind its tables are not there, or are said twice.
    #[error("TFLite file, {path}: expected bytes of the {length} of the file and no others, found {size} at byte {offset}")]
    Behind {
        /// What the bytes are.
        path: String,
        /// Where the file says that they begin.
        offset: u64,
        /// How many the file says that they are.
        size: u64,
        /// Length of the file in bytes.
        length: usize,
    },
    /// A number says how a table goes on, and the table does not.
    #[error("TFLite file, {path} at byte {at}: expected {expected}, found none")]
    Missing {
        /// What lacks the part.
        path: String,
        /// Where in the file that is.
        at: usize,
        /// The part.
        expected: &'static str,
    },
    /// What the file describes, by reading parts of it over and over, is more than a file of its length may hold.
    #[error("TFLite file, {path} at byte {at}: expected a model of at most {limit} bytes in a file of {length}, found more")]
    Budget {
        /// What was one too many.
        path: String,
        /// Where in the file that is.
        at: usize,
        /// Memory that this file may ask for, in bytes.
        limit: usize,
        /// Length of the file in bytes.
        length: usize,
    },
    /// The tables are in order and what they say is not.
    #[error(transparent)]
    Check(#[from] CheckError),
}

/// Reads the bytes of a `.tflite` file.
///
/// The model is one of schema version 3, and [`check`] finds nothing wrong with it. Fields and option tables that the structs do
/// not hold are noted in `unread`.
///
/// # Errors
///
/// [`ReadError`] for bytes that are no TFLite model, are cut short, or contradict themselves, and for a model that takes more
/// than 32 bytes of memory for each of the file's.
pub fn read(bytes: &[u8]) -> Result<Model, ReadError> {
    let length = bytes.len();
    let found = bytes.get(4..).unwrap_or_default();
    let found = &found[..found.len().min(4)];
    if found != b"TFL3" {
        return Err(ReadError::Identifier { found: found.to_vec(), length });
    }
    let file = File::new(bytes);
    let model = read_model(&file.root(&Path::Root)?)?;
    check(&model)?;
    Ok(model)
}

fn read_model(table: &Table) -> Result<Model, ReadError> {
    let version = table.scalar(0, "version")?.map_or(0, u32::from_le_bytes);
    if version != 3 {
        return Err(ReadError::Version { found: version });
    }
    Ok(Model {
        version,
        operator_codes: table.tables(1, "operator_codes", read_operator_code)?,
        subgraphs: table.tables(2, "subgraphs", read_subgraph)?,
        description: table.text(3, "description")?,
        buffers: table.tables(4, "buffers", read_buffer)?,
        metadata_buffer: table.numbers(5, "metadata_buffer", i32::from_le_bytes)?,
        metadata: table.tables(6, "metadata", read_metadata)?,
        signature_defs: table.tables(7, "signature_defs", read_signature_def)?,
        unread: table.unread(&[0, 1, 2, 3, 4, 5, 6, 7])?,
    })
}

fn read_operator_code(table: &Table) -> Result<OperatorCode, ReadError> {
    let byte = table.scalar(0, "deprecated_builtin_code")?.map_or(0, i8::from_le_bytes);
    let number = table.scalar(3, "builtin_code")?.map_or(0, i32::from_le_bytes);
    Ok(OperatorCode {
        builtin_code: BuiltinOperator(number.max(byte.into())),
        custom_code: table.text(1, "custom_code")?,
        version: table.scalar(2, "version")?.map_or(1, i32::from_le_bytes),
        unread: table.unread(&[0, 1, 2, 3])?,
    })
}

fn read_subgraph(table: &Table) -> Result<SubGraph, ReadError> {
    Ok(SubGraph {
        tensors: table.tables(0, "tensors", read_tensor)?,
        inputs: table.numbers(1, "inputs", i32::from_le_bytes)?,
        outputs: table.numbers(2, "outputs", i32::from_le_bytes)?,
        operators: table.tables(3, "operators", read_operator)?,
        name: table.text(4, "name")?,
        debug_metadata_index: table.scalar(5, "debug_metadata_index")?.map_or(-1, i32::from_le_bytes),
        unread: table.unread(&[0, 1, 2, 3, 4, 5])?,
    })
}

fn read_tensor(table: &Table) -> Result<Tensor, ReadError> {
    Ok(Tensor {
        shape: table.numbers(0, "shape", i32::from_le_bytes)?,
        r#type: TensorType(table.scalar(1, "type")?.map_or(0, i8::from_le_bytes)),
        buffer: table.scalar(2, "buffer")?.map_or(0, u32::from_le_bytes),
        name: table.text(3, "name")?,
        quantization: table.table(4, "quantization", read_quantization)?,
        is_variable: table.scalar(5, "is_variable")?.is_some_and(|[byte]| byte != 0),
        shape_signature: table.numbers(7, "shape_signature", i32::from_le_bytes)?,
        has_rank: table.scalar(8, "has_rank")?.is_some_and(|[byte]| byte != 0),
        unread: table.unread(&[0, 1, 2, 3, 4, 5, 7, 8])?,
    })
}

fn read_quantization(table: &Table) -> Result<QuantizationParameters, ReadError> {
    // Slot 4 is the type of slot 5, which is none where there is nothing in slot 5.
    Ok(QuantizationParameters {
        min: table.numbers(0, "min", f32::from_le_bytes)?,
        max: table.numbers(1, "max", f32::from_le_bytes)?,
        scale: table.numbers(2, "scale", f32::from_le_bytes)?,
        zero_point: table.numbers(3, "zero_point", i64::from_le_bytes)?,
        quantized_dimension: table.scalar(6, "quantized_dimension")?.map_or(0, i32::from_le_bytes),
        unread: table.unread(&[0, 1, 2, 3, 4, 6])?,
    })
}

fn read_operator(table: &Table) -> Result<Operator, ReadError> {
    let number = table.scalar(3, "builtin_options_type")?.map_or(0, u8::from_le_bytes);
    let builtin_options = match number {
        0 => BuiltinOptions::None,
        _ => {
            let options = table.table(4, "builtin_options", |table| BuiltinOptions::read(number, table))?;
            options.ok_or_else(|| ReadError::Missing {
                path: table.path().to_string(),
                at: table.position(),
                expected: "the builtin_options that builtin_options_type names",
            })?
        }
    };
    let mut unread = table.unread(&[0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13])?;
    // Options without a type are options that nobody can read.
    unread.retain(|&slot| slot != 4 || number == 0);
    Ok(Operator {
        opcode_index: table.scalar(0, "opcode_index")?.map_or(0, u32::from_le_bytes),
        inputs: table.numbers(1, "inputs", i32::from_le_bytes)?,
        outputs: table.numbers(2, "outputs", i32::from_le_bytes)?,
        builtin_options,
        custom_options: read_bytes(
            table,
            5,
            "custom_options",
            [9, 10],
            ["large_custom_options_offset", "large_custom_options_size"],
        )?,
        custom_options_format: table.scalar(6, "custom_options_format")?.map_or(0, i8::from_le_bytes),
        mutating_variable_inputs: table.numbers(7, "mutating_variable_inputs", |[byte]: [u8; 1]| byte != 0)?,
        intermediates: table.numbers(8, "intermediates", i32::from_le_bytes)?,
        debug_metadata_index: table.scalar(13, "debug_metadata_index")?.map_or(-1, i32::from_le_bytes),
        unread,
    })
}

fn read_buffer(table: &Table) -> Result<Buffer, ReadError> {
    Ok(Buffer { data: read_bytes(table, 0, "data", [1, 2], ["offset", "size"])?, unread: table.unread(&[0, 1, 2])? })
}

/// Bytes in `slot`, or those behind the tables that the slots `place` give offset and size of.
fn read_bytes(
    table: &Table,
    slot: u16,
    name: &'static str,
    place: [u16; 2],
    names: [&'static str; 2],
) -> Result<Vec<u8>, ReadError> {
    let data = table.bytes(slot, name)?;
    let offset = table.scalar(place[0], names[0])?.map_or(0, u64::from_le_bytes);
    let size = table.scalar(place[1], names[1])?.map_or(0, u64::from_le_bytes);
    // Writers put 1 into both before they know the place.
    if offset <= 1 && size <= 1 {
        return Ok(data);
    }
    let (file, path) = (table.file(), Path::Field(table.path(), name));
    let range = usize::try_from(offset).ok().zip(usize::try_from(size).ok());
    let behind = range.and_then(|(offset, size)| file.bytes.get(offset..offset.checked_add(size)?)).filter(|_| data.is_empty());
    let wrong = || ReadError::Behind { path: path.to_string(), offset, size, length: file.bytes.len() };
    let behind = behind.ok_or_else(wrong)?;
    file.pay(behind.len(), &path, table.position())?;
    Ok(behind.to_vec())
}

fn read_metadata(table: &Table) -> Result<Metadata, ReadError> {
    Ok(Metadata {
        name: table.text(0, "name")?,
        buffer: table.scalar(1, "buffer")?.map_or(0, u32::from_le_bytes),
        unread: table.unread(&[0, 1])?,
    })
}

fn read_signature_def(table: &Table) -> Result<SignatureDef, ReadError> {
    Ok(SignatureDef {
        inputs: table.tables(0, "inputs", read_tensor_map)?,
        outputs: table.tables(1, "outputs", read_tensor_map)?,
        signature_key: table.text(2, "signature_key")?,
        subgraph_index: table.scalar(4, "subgraph_index")?.map_or(0, u32::from_le_bytes),
        // Slot 3 is deprecated and without meaning.
        unread: table.unread(&[0, 1, 2, 3, 4])?,
    })
}

fn read_tensor_map(table: &Table) -> Result<TensorMap, ReadError> {
    Ok(TensorMap {
        name: table.text(0, "name")?,
        tensor_index: table.scalar(1, "tensor_index")?.map_or(0, u32::from_le_bytes),
        unread: table.unread(&[0, 1])?,
    })
}
