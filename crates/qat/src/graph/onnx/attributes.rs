//! Attributes of a node, with their defaults.

use qat_formats::onnx::{self, AttributeKind};

use super::refusal::{Outcome, Refusal};

/// One node of the file under reading.
pub(super) struct NodeView<'a> {
    pub(super) node: &'a onnx::Node,
    /// Its position in the file.
    pub(super) index: usize,
    /// Version of the standard operators.
    pub(super) opset: i64,
}

impl<'a> NodeView<'a> {
    pub(super) fn operator(&self) -> &'a str {
        self.node.op_type()
    }

    /// Its name; its position where it has none.
    pub(super) fn name(&self) -> String {
        match self.node.name() {
            "" => format!("node {}", self.index),
            name => name.to_owned(),
        }
    }

    /// The name of input `index`; `None` where it is left out.
    pub(super) fn input(&self, index: usize) -> Option<&'a str> {
        self.node.input.get(index).map(String::as_str).filter(|name| !name.is_empty())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.node.attribute(name).is_some()
    }

    fn of_kind(&self, name: &str, kind: AttributeKind) -> Outcome<Option<&'a onnx::Attribute>> {
        let Some(attribute) = self.node.attribute(name) else { return Ok(None) };
        if attribute.ref_attr_name.as_deref().is_some_and(|name| !name.is_empty()) {
            return Err(Refusal::new(format!("an attribute {name} with a value"), "a reference to a function's"));
        }
        match attribute.r#type {
            Some(found) if found != i32::from(kind) && found != i32::from(AttributeKind::Undefined) => {
                let found = AttributeKind::try_from(found).map_or_else(|_| found.to_string(), |kind| format!("{kind:?}"));
                Err(Refusal::new(format!("an attribute {name} of kind {kind:?}"), found))
            }
            _ => Ok(Some(attribute)),
        }
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Outcome<i64> {
        Ok(self.of_kind(name, AttributeKind::Int)?.map_or(default, |attribute| attribute.i.unwrap_or(default)))
    }

    /// An attribute that is 0 or 1.
    pub(super) fn flag(&self, name: &str, default: bool) -> Outcome<bool> {
        Ok(self.int(name, default.into())? != 0)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Outcome<f32> {
        let value = self.of_kind(name, AttributeKind::Float)?.map_or(default, |attribute| attribute.f.unwrap_or(default));
        if value.is_finite() { Ok(value) } else { Err(Refusal::new(format!("a finite {name}"), value.to_string())) }
    }

    pub(super) fn ints(&self, name: &str) -> Outcome<Option<Vec<i64>>> {
        Ok(self.of_kind(name, AttributeKind::Ints)?.map(|attribute| attribute.ints.clone()))
    }

    pub(super) fn floats(&self, name: &str) -> Outcome<Option<Vec<f32>>> {
        Ok(self.of_kind(name, AttributeKind::Floats)?.map(|attribute| attribute.floats.clone()))
    }

    pub(super) fn string(&self, name: &str, default: &str) -> Outcome<String> {
        let text = self.of_kind(name, AttributeKind::String)?.and_then(|attribute| attribute.s.clone());
        Ok(text.map_or_else(|| default.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(super) fn strings(&self, name: &str) -> Outcome<Option<Vec<String>>> {
        let list = self.of_kind(name, AttributeKind::Strings)?;
        Ok(list.map(|attribute| attribute.strings.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect()))
    }

    pub(super) fn tensor(&self, name: &str) -> Outcome<Option<&'a onnx::Tensor>> {
        Ok(self.of_kind(name, AttributeKind::Tensor)?.and_then(|attribute| attribute.t.as_deref()))
    }

    /// Sizes of at least 1, one for each of `axes`; all 1 where the attribute is absent.
    pub(super) fn positive(&self, name: &str, axes: usize) -> Outcome<Vec<usize>> {
        let Some(values) = self.ints(name)? else { return Ok(vec![1; axes]) };
        let sizes: Vec<usize> = values.iter().filter_map(|n| usize::try_from(*n).ok()).filter(|n| *n > 0).collect();
        if sizes.len() == values.len() && sizes.len() == axes {
            Ok(sizes)
        } else {
            Err(Refusal::new(format!("{axes} {name} of at least 1"), format!("{values:?}")))
        }
    }
}

/// An axis of a tensor of `rank`, which may be counted from the end.
pub(super) fn axis(axis: i64, rank: usize) -> Outcome<usize> {
    let counted = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
    match counted.and_then(|axis| usize::try_from(axis).ok()) {
        Some(axis) if axis < rank => Ok(axis),
        _ => Err(Refusal::new(format!("an axis of {rank}"), axis.to_string())),
    }
}

/// Different axes of a tensor of `rank`, ascending.
pub(super) fn axes(list: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut axes = list.iter().map(|one| axis(*one, rank)).collect::<Outcome<Vec<_>>>()?;
    axes.sort_unstable();
    let count = axes.len();
    axes.dedup();
    if axes.len() == count { Ok(axes) } else { Err(Refusal::new("each axis once", format!("{list:?}"))) }
}
