//! From the keys of a file to the paths of a network.
//!
//! Rules are applied in order, each to what the ones before it made of a key. Wrappers need no rule: a checkpoint's part that holds the
//! network (`state_dict`, `model_state_dict`, …) and what `DataParallel` or `torch.compile` put in front (`module`, `_orig_mod`) are
//! found by trying which of them gives most of the network's names.

use std::collections::BTreeSet;

use burn::store::KeyRemapper;

use super::error::PretrainedError;

/// Names that checkpoints give to the part that holds the network: everything beside it is something else, an optimizer's state say.
const PARTS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "network"];

/// Names that wrappers of modules put before every key.
const WRAPPERS: [&str; 2] = ["module", "_orig_mod"];

/// How many of these names may stand before a key.
const LEVELS: usize = 4;

/// Rules that give tensors other names.
#[derive(Clone, Debug, Default)]
pub struct Rename {
    rules: KeyRemapper,
}

impl Rename {
    /// No rules.
    pub fn none() -> Self {
        Self::default()
    }

    /// These rules, followed by one that replaces what `pattern`, a regular expression, matches by `replacement`, in which `$1` is the
    /// first group. A key of which nothing is left is left out.
    ///
    /// # Errors
    /// [`PretrainedError::Rule`]: the pattern is no regular expression.
    pub fn with(self, pattern: &str, replacement: &str) -> Result<Self, PretrainedError> {
        let rules = self.rules.add_pattern(pattern, replacement);
        let rules = rules.map_err(|error| PretrainedError::Rule {
            rule: format!("{pattern}={replacement}"),
            found: error.to_string().lines().map(str::trim).collect::<Vec<_>>().join(" "),
        })?;
        Ok(Self { rules })
    }

    /// As [`Rename::with`], from `REGEX=REPLACEMENT`, parted at the last `=`.
    ///
    /// # Errors
    /// [`PretrainedError::Rule`].
    pub fn with_rule(self, rule: &str) -> Result<Self, PretrainedError> {
        match rule.rsplit_once('=') {
            Some((pattern, replacement)) => self.with(pattern, replacement),
            None => Err(PretrainedError::Rule { rule: rule.into(), found: "no =".into() }),
        }
    }

    /// The rules of a table of patterns and replacements.
    ///
    /// # Panics
    /// If a pattern is no regular expression; tables are part of the program.
    pub(crate) fn table(table: &[(&str, &str)]) -> Self {
        let rules = KeyRemapper::from_patterns(table.to_vec());
        Self { rules: rules.expect("a table of the program has regular expressions") }
    }

    /// These rules, followed by `others`.
    pub fn then(mut self, others: Self) -> Self {
        self.rules.patterns.extend(others.rules.patterns);
        self
    }

    /// The new name of `key`; `None` where it is left out.
    fn applied(&self, key: &str) -> Option<String> {
        let mut name = key.to_owned();
        for (pattern, replacement) in &self.rules.patterns {
            name = pattern.replace_all(&name, replacement.as_str()).into_owned();
        }
        (!name.is_empty()).then_some(name)
    }
}

/// The keys of a file as a network sees them.
pub(super) struct Named {
    /// What stands before the part of a checkpoint that holds the network; no key of the network's own has it.
    pub part: String,
    /// For each key its name in the network; `None` for what is not of the network: parts of a checkpoint beside it, and keys that a
    /// rule leaves out.
    pub names: Vec<Option<String>>,
}

/// Names the keys of a file, where `expected` are the network's names.
pub(super) fn named(keys: &[&str], expected: &BTreeSet<&str>, rename: &Rename) -> Named {
    let named = |prefix: &Prefix| -> Named {
        let names = keys.iter().map(|key| key.strip_prefix(&prefix.whole).and_then(|key| rename.applied(key)));
        Named { part: prefix.part.clone(), names: names.collect() }
    };
    let hits = |named: &Named| named.names.iter().flatten().filter(|name| expected.contains(name.as_str())).count();
    let mut best = named(&Prefix::default());
    for prefix in prefixes(keys) {
        let other = named(&prefix);
        // The first of equals is the shortest.
        if hits(&other) > hits(&best) {
            best = other;
        }
    }
    best
}

/// What stands before the network's names in a file.
#[derive(Clone, Default, PartialEq, Eq)]
struct Prefix {
    whole: String,
    /// The beginning of it that names a part of a checkpoint.
    part: String,
}

/// All prefixes of known words that may stand before the network's keys, the shortest first.
fn prefixes(keys: &[&str]) -> Vec<Prefix> {
    let mut all = vec![Prefix::default()];
    let mut next = 0;
    while let Some(Prefix { whole, part }) = all.get(next).filter(|prefix| prefix.whole.matches('.').count() < LEVELS).cloned() {
        next += 1;
        let inside = |prefix: &str| keys.iter().filter(|key| key.starts_with(prefix)).count();
        for word in PARTS.into_iter().chain(WRAPPERS) {
            let longer = format!("{whole}{word}.");
            let holds = inside(&longer);
            let is_everything = holds == inside(&whole);
            // A wrapper stands before every key; a part has others beside it, or a name that no module has.
            let is_part = PARTS.contains(&word) && (!is_everything || word.ends_with("state_dict"));
            let prefix = Prefix { part: if is_part { longer.clone() } else { part.clone() }, whole: longer };
            if holds > 0 && (is_part || is_everything) && !all.contains(&prefix) {
                all.push(prefix);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(keys: &[&str], expected: &[&str], rename: &Rename) -> Vec<Option<String>> {
        named(keys, &expected.iter().copied().collect(), rename).names
    }

    fn some(names: &[&str]) -> Vec<Option<String>> {
        names.iter().map(|name| Some((*name).to_owned())).collect()
    }

    #[test]
    fn wrappers_and_parts_are_taken_off() {
        let expected = ["conv.weight", "fc.bias"];
        for prefix in
            ["", "module.", "_orig_mod.", "state_dict.", "state_dict.module.", "model.", "model_state_dict._orig_mod.module."]
        {
            let keys = expected.map(|key| format!("{prefix}{key}"));
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            assert_eq!(names(&keys, &expected, &Rename::none()), some(&expected), "{prefix}");
        }
    }

    #[test]
    fn a_part_is_no_beginning_of_a_networks_own_keys_and_a_wrapper_is() {
        let expected = BTreeSet::from(["conv.weight"]);
        for (key, part) in
            [("state_dict.module.conv.weight", "state_dict."), ("module.conv.weight", ""), ("model.conv.weight", "")]
        {
            assert_eq!(named(&[key], &expected, &Rename::none()).part, part, "{key}");
        }
        assert_eq!(named(&["model.conv.weight", "epoch"], &expected, &Rename::none()).part, "model.");
    }

    #[test]
    fn what_stands_beside_the_network_is_not_of_it() {
        let keys = ["state_dict.conv.weight", "optimizer.state.0.exp_avg", "state_dict.extra"];
        let found = names(&keys, &["conv.weight"], &Rename::none());
        assert_eq!(found, [Some("conv.weight".into()), None, Some("extra".into())]);
    }

    #[test]
    fn a_network_with_a_part_of_that_name_keeps_it() {
        let keys = ["model.conv.weight", "head.weight"];
        assert_eq!(names(&keys, &keys, &Rename::none()), some(&keys));
    }

    #[test]
    fn rules_follow_one_another_and_may_leave_out() {
        let rename = Rename::none().with_rule(r"^fc\.=linear.").unwrap().with_rule(r"^(\w+)\.gamma$=$1.weight").unwrap();
        let rename = rename.with_rule("^aux.*=").unwrap();
        let keys = ["module.fc.gamma", "module.aux.weight"];
        assert_eq!(names(&keys, &["linear.weight"], &rename), [Some("linear.weight".into()), None]);
    }

    #[test]
    fn a_rule_that_is_none_is_refused() {
        let error = Rename::none().with_rule("(=x").unwrap_err().to_string();
        assert!(error.starts_with("rename rule, (=x: expected REGEX=REPLACEMENT, found "), "{error}");
        let error = Rename::none().with_rule("fc").unwrap_err().to_string();
        assert_eq!(error, "rename rule, fc: expected REGEX=REPLACEMENT, found no =");
    }
}
