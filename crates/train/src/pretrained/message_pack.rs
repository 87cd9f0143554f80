//! Records of earlier versions of Burn, `.mpk`: MessagePack of a module's record by the names of its fields.
//!
//! A record is `{ metadata, item }`. In `item`, structures are maps, lists are arrays, and what a module has no parameters for is nil.
//! A parameter is `{ id, param }`, its data `{ bytes, shape, dtype }`; the oldest ones have `{ value: [numbers], shape }`.

use burn::store::{bridge, burn_pack::Tensor as PackTensor};
use burn::tensor::{Bytes, DType, TensorData};
use rmpv::ValueRef;

/// Levels of nesting that a record may have.
const DEPTH: usize = 64;

/// The parameters of a record with their paths; `Err` says what is wrong.
pub(super) fn parameters(mut bytes: &[u8]) -> Result<Vec<PackTensor>, String> {
    let record = rmpv::decode::read_value_ref_with_max_depth(&mut bytes, DEPTH).map_err(|error| error.to_string())?;
    let item = entry(&record, "item").ok_or("no map with an `item`")?;
    let mut parameters = Vec::new();
    collect(item, &mut Vec::new(), &mut parameters)?;
    Ok(parameters)
}

fn entry<'a, 'b>(value: &'b ValueRef<'a>, key: &str) -> Option<&'b ValueRef<'a>> {
    let ValueRef::Map(entries) = value else { return None };
    entries.iter().find(|(name, _)| text(name) == Some(key)).map(|(_, value)| value)
}

fn text<'a>(value: &'a ValueRef<'_>) -> Option<&'a str> {
    if let ValueRef::String(text) = value { text.as_str() } else { None }
}

fn collect(value: &ValueRef<'_>, path: &mut Vec<String>, into: &mut Vec<PackTensor>) -> Result<(), String> {
    if let (Some(_), Some(data)) = (entry(value, "id"), entry(value, "param")) {
        let name = path.join(".");
        let data = tensor(data).map_err(|what| format!("{name}: {what}"))?;
        into.push(bridge::from_data(data, name, None));
        return Ok(());
    }
    let mut within = |name: String, value: &ValueRef<'_>| {
        path.push(name);
        let result = collect(value, path, into);
        path.pop();
        result
    };
    match value {
        ValueRef::Map(entries) => {
            entries.iter().try_for_each(|(name, value)| within(text(name).ok_or("a field without a name")?.to_owned(), value))
        }
        ValueRef::Array(items) => items.iter().enumerate().try_for_each(|(index, value)| within(index.to_string(), value)),
        // Constants of a module: numbers, switches, nothing.
        _ => Ok(()),
    }
}

fn tensor(data: &ValueRef<'_>) -> Result<TensorData, String> {
    let shape = entry(data, "shape").and_then(|shape| if let ValueRef::Array(sizes) = shape { Some(sizes) } else { None });
    let shape = shape.ok_or("no shape")?;
    let shape: Option<Vec<usize>> = shape.iter().map(|size| usize::try_from(size.as_u64()?).ok()).collect();
    let shape = shape.ok_or("a shape that is no list of sizes")?;
    let elements = shape.iter().try_fold(1usize, |all, size| all.checked_mul(*size)).ok_or("a shape without bounds")?;
    match (entry(data, "bytes"), entry(data, "value")) {
        (Some(ValueRef::Binary(bytes)), _) => {
            let dtype = entry(data, "dtype").and_then(text).unwrap_or("no dtype");
            let dtype = match dtype {
                "F64" => DType::F64,
                "F32" => DType::F32,
                "F16" => DType::F16,
                "BF16" => DType::BF16,
                "I64" => DType::I64,
                "I32" => DType::I32,
                "I16" => DType::I16,
                "I8" => DType::I8,
                "U64" => DType::U64,
                "U32" => DType::U32,
                "U16" => DType::U16,
                "U8" => DType::U8,
                other => return Err(format!("elements of type {other}")),
            };
            let bytes = Bytes::from_bytes_vec(bytes.to_vec());
            TensorData::try_from_bytes(bytes, shape, dtype).map_err(|error| error.to_string())
        }
        (None, Some(ValueRef::Array(values))) => {
            let values: Option<Vec<f32>> = values.iter().map(number).collect();
            let values = values.ok_or("values that are no numbers")?;
            if values.len() != elements {
                return Err(format!("{} values for shape {shape:?}", values.len()));
            }
            Ok(TensorData::new(values, shape))
        }
        _ => Err("neither bytes nor values".into()),
    }
}

fn number(value: &ValueRef<'_>) -> Option<f32> {
    match value {
        ValueRef::F32(value) => Some(*value),
        ValueRef::F64(value) => Some(*value as f32),
        ValueRef::Integer(value) => value.as_f64().map(|value| value as f32),
        _ => None,
    }
}
