//! Names of layers in files, which no two layers share.
//!
//! A module that is applied twice gives two nodes of one name, each with multipliers of its own. The first keeps the name; the
//! others are told apart by `.1`, `.2` and so on. Readers and writers name the layers of a model alike.

use std::collections::{HashMap, HashSet};

/// For each of `names`, in order, a name that is no other's.
pub fn unique<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut taken = HashSet::new();
    let mut next = HashMap::new();
    names
        .into_iter()
        .map(|name| {
            let mut candidate = name.to_owned();
            while !taken.insert(candidate.clone()) {
                let number = next.entry(name).or_insert(0u64);
                *number += 1;
                candidate = format!("{name}.{number}");
            }
            candidate
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_names_are_numbered_past_names_in_use() {
        assert_eq!(unique(["a", "b", "a.1", "a", "a"]), ["a", "b", "a.1", "a.2", "a.3"]);
        assert_eq!(unique(["", "", "x"]), ["", ".1", "x"]);
    }
}
