//! Why a file of weights is refused, with everything that is wrong at once.

use std::{fmt, io, path::PathBuf};

/// An error of reading or writing weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PretrainedError {
    /// The file cannot be read.
    #[error("weights, {}: expected a readable file, found {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written; what was there before is untouched.
    #[error("weights, {}: expected it to be written, found {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The name does not say how the file is to be read.
    #[error("weights, {}: expected a .pt, .pth, .th, .safetensors, .bpk or .mpk file, found {found}", path.display())]
    Extension {
        /// The file.
        path: PathBuf,
        /// Its extension.
        found: String,
    },
    /// The file is not what its name says.
    #[error("weights, {}: expected {expected}, found {found}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What its name says.
        expected: &'static str,
        /// What is wrong.
        found: String,
    },
    /// The tensors are not those of the network.
    #[error("parameters, {}: expected the {expected} of the network, found {differences}", path.display())]
    Parameters {
        /// The file.
        path: PathBuf,
        /// How many tensors the network has.
        expected: usize,
        /// All that is wrong.
        differences: Box<Differences>,
    },
    /// A weight is NaN or infinite.
    #[error("parameters, {} tensor {tensor} element {element}: expected finite numbers, found {value}", path.display())]
    NonFinite {
        /// The file.
        path: PathBuf,
        /// The first such tensor, in alphabetical order, as the file names it.
        tensor: String,
        /// The first such element, in row-major order.
        element: usize,
        /// What it is.
        value: f64,
    },
    /// A rule of renaming is no regular expression.
    #[error("rename rule, {rule}: expected REGEX=REPLACEMENT, found {found}")]
    Rule {
        /// The rule as it was given.
        rule: String,
        /// What is wrong with it.
        found: String,
    },
}

impl PretrainedError {
    /// What the user can do about it, when there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parameters { differences, .. } if !differences.missing.is_empty() && !differences.unknown.is_empty() => {
                Some("where names alone differ, --rename 'REGEX=REPLACEMENT' gives them the network's")
            }
            Self::Parameters { differences, .. } if differences.missing.is_empty() && !differences.unknown.is_empty() => {
                Some("leave tensors out with --rename 'REGEX='")
            }
            Self::Parameters { .. } => Some("the file is of another network, or of another number of classes"),
            Self::NonFinite { .. } => Some("the training that wrote the file diverged; take an earlier checkpoint"),
            _ => None,
        }
    }
}

/// How the tensors of a file and of a network differ, all of it, in alphabetical order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Of the network alone.
    pub missing: Vec<Described>,
    /// Of the file alone.
    pub unknown: Vec<Described>,
    /// In both, of different shapes.
    pub shapes: Vec<Reshaped>,
    /// In both, real numbers in the network and none in the file.
    pub kinds: Vec<String>,
    /// Names of the network that several tensors of the file have.
    pub ambiguous: Vec<String>,
}

/// A tensor by its name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// As the file would name it.
    pub name: String,
    /// As the file would lay it out.
    pub shape: Vec<usize>,
}

/// A tensor of two shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reshaped {
    /// As the file names it.
    pub name: String,
    /// The network's.
    pub expected: Vec<usize>,
    /// The file's.
    pub found: Vec<usize>,
}

impl Differences {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let described = |all: &[Described]| all.iter().map(|one| format!("{} {:?}", one.name, one.shape)).collect();
        let shapes = |one: &Reshaped| format!("{} should be {:?} and is {:?}", one.name, one.expected, one.found);
        let groups: [(&str, Vec<String>); 5] = [
            ("missing", described(&self.missing)),
            ("unknown", described(&self.unknown)),
            ("of another shape", self.shapes.iter().map(shapes).collect()),
            ("without real numbers", self.kinds.clone()),
            ("several times", self.ambiguous.clone()),
        ];
        let mut separator = "";
        for (what, names) in groups.iter().filter(|(_, names)| !names.is_empty()) {
            write!(f, "{separator}{} {what} ({})", names.len(), names.join(", "))?;
            separator = "; ";
        }
        Ok(())
    }
}
