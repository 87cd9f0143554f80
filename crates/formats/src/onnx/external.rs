//! Where the elements of a tensor are that an ONNX file keeps in another one.

use super::read::ReadError;
use super::schema::Tensor;

/// A place in a file beside the model (`TensorProto.external_data`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalData {
    /// Path from the model's folder to the file, with `/` between names. It is relative and does not leave the folder, as far as
    /// names go; links in the file system are for the opener to judge.
    pub location: String,
    /// Where in the file the elements begin, in bytes.
    pub offset: u64,
    /// How many bytes they are; `None` for all that follow.
    pub length: Option<u64>,
}

impl ExternalData {
    /// Where the elements of `tensor` are; `None` for a tensor that has them itself.
    ///
    /// # Errors
    ///
    /// [`ReadError::External`] for a location that is absent, absolute or leads out of the folder by `..`, and for an offset or
    /// length that is no size or a second one.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>, ReadError> {
        if !tensor.is_external() {
            return Ok(None);
        }
        let wrong = |expected, found: &str| {
            Err(ReadError::External { name: tensor.name().to_owned(), expected, found: found.to_owned() })
        };
        let [mut location, mut offset, mut length] = [None; 3];
        for entry in &tensor.external_data {
            let (field, expected) = match entry.key() {
                "location" => (&mut location, "one location"),
                "offset" => (&mut offset, "one offset"),
                "length" => (&mut length, "one length"),
                // Such as a checksum.
                _ => continue,
            };
            if field.replace(entry.value()).is_some() {
                return wrong(expected, entry.value());
            }
        }
        let Some(location) = location else { return wrong("a location", "none") };
        // Both separators, so that a file means the same on every system.
        let escapes = location.split(['/', '\\']).any(|part| part == "..");
        let drive = matches!(location.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        let absolute = location.starts_with(['/', '\\']) || drive;
        if location.is_empty() || location.contains('\0') || escapes || absolute {
            return wrong("a relative location inside the model's folder", location);
        }
        let size = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse::<u64>().ok(),
            false => None,
        };
        let offset = match offset.map(|text| size(text).ok_or(text)) {
            None => 0,
            Some(Ok(offset)) => offset,
            Some(Err(text)) => return wrong("an offset in bytes", text),
        };
        let length = match length.map(|text| size(text).ok_or(text)) {
            None => None,
            Some(Ok(length)) if offset.checked_add(length).is_some() => Some(length),
            Some(Ok(length)) => return wrong("a length that can follow the offset", &length.to_string()),
            Some(Err(text)) => return wrong("a length in bytes", text),
        };
        Ok(Some(Self { location: location.replace('\\', "/"), offset, length }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DataType, StringStringEntry};
    use super::*;

    fn external(entries: &[(&str, &str)]) -> Result<Option<ExternalData>, ReadError> {
        let entry = |&(key, value): &(&str, &str)| StringStringEntry { key: Some(key.to_owned()), value: Some(value.to_owned()) };
        let external_data = entries.iter().map(entry).collect();
        let data_type = Some(DataType::Float.into());
        ExternalData::of(&Tensor { data_type, data_location: Some(1), external_data, ..Tensor::default() })
    }

    #[test]
    fn a_place_in_the_folder_of_the_model() {
        let place = |location: &str, offset, length| Ok(Some(ExternalData { location: location.to_owned(), offset, length }));
        assert_eq!(external(&[("location", "net.onnx.data")]), place("net.onnx.data", 0, None));
        let full = [("length", "12"), ("checksum", "x"), ("offset", "4096"), ("location", "weights\\conv..1.bin")];
        assert_eq!(external(&full), place("weights/conv..1.bin", 4096, Some(12)));
        assert_eq!(ExternalData::of(&Tensor::default()), Ok(None));
    }

    #[test]
    fn a_place_elsewhere_is_refused() {
        for location in [
            "",
            "/etc/passwd",
            "\\\\server\\share",
            "C:\\weights",
            "c:weights",
            "..",
            "../x",
            "a/../../x",
            "a\\..\\x",
            "a/..",
            "a\0b",
        ] {
            assert!(matches!(external(&[("location", location)]), Err(ReadError::External { .. })), "{location:?}");
        }
        assert!(external(&[]).is_err());
        assert!(external(&[("location", "a"), ("location", "a")]).is_err());
    }

    #[test]
    fn sizes_that_are_none_are_refused() {
        for size in ["-1", "+1", " 1", "1.0", "0x10", "", "18446744073709551616"] {
            if !size.is_empty() {
                assert!(external(&[("location", "a"), ("offset", size)]).is_err(), "{size:?}");
            }
            assert!(external(&[("location", "a"), ("length", size)]).is_err(), "{size:?}");
        }
        let overflow = external(&[("location", "a"), ("offset", "18446744073709551615"), ("length", "1")]);
        assert!(matches!(overflow, Err(ReadError::External { .. })));
    }
}
