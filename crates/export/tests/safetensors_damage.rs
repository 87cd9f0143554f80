//! Damaged checkpoints, many of them with a checksum that is right: an error or a model that validates, and never a panic.

mod models;

use std::collections::BTreeMap;

use models::{Draw, Random, averages, exact, operations, residual};
use qat_export::{CheckpointError, from_safetensors, to_safetensors};
use qat_runtime::Rules;
use safetensors::{Dtype, SafeTensors, serialize, tensor::TensorView};
use sha2::{Digest, Sha256};

const SEED: u64 = 20_261_124;
const MUTATIONS: usize = 30_000;

/// A file taken apart.
#[derive(Clone)]
struct Parts {
    /// The JSON text under the key `qat`.
    description: String,
    /// Data type, shape and bytes by name.
    tensors: BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let (_, header) = SafeTensors::read_metadata(bytes).unwrap();
        let description = header.metadata().as_ref().unwrap()["qat"].clone();
        let file = SafeTensors::deserialize(bytes).unwrap();
        let part = |(name, tensor): (&str, TensorView)| {
            (name.to_owned(), (tensor.dtype(), tensor.shape().to_vec(), tensor.data().to_vec()))
        };
        Self { description, tensors: file.iter().map(part).collect() }
    }

    /// Puts the checksum of the other parts into the description, as `docs/formats.md` defines it.
    fn correct(&mut self) {
        let key = r#""sha256":""#;
        let Some(start) = self.description.find(key).map(|at| at + key.len()) else { return };
        let Some(length) = self.description[start..].find('"') else { return };
        self.description.replace_range(start..start + length, "");
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        part(self.description.as_bytes());
        for (name, (_, _, bytes)) in &self.tensors {
            part(name.as_bytes());
            part(bytes);
        }
        let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.description.insert_str(start, &digest);
    }

    /// The file, or `None` where the safetensors crate does not write these parts.
    fn bytes(&self) -> Option<Vec<u8>> {
        let view = |(name, (dtype, shape, data))| Some((name, TensorView::new(dtype, shape, data).ok()?));
        let views: Option<Vec<_>> = self
            .tensors
            .iter()
            .map(|(name, (dtype, shape, data))| view((name, (*dtype, Vec::clone(shape), data.as_slice()))))
            .collect();
        serialize(views?, Some([("qat".to_owned(), self.description.clone())].into())).ok()
    }
}

/// Where tokens of the description stand for which `is_part` holds of each character.
fn tokens(text: &str, is_part: impl Fn(char) -> bool) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut start = None;
    for (at, character) in text.char_indices().chain([(text.len(), '\n')]) {
        match (is_part(character), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                found.push((from, at));
                start = None;
            }
            _ => {}
        }
    }
    found
}

fn pick<'a, T>(random: &mut Random, list: &'a [T]) -> &'a T {
    &list[random.int(0, list.len() as i32 - 1) as usize]
}

/// Edges of types.
const NUMBERS: &str = "0 1 2 3 -1 7 127 -128 128 255 32767 65536 2147483647 -2147483648 4294967296 9223372036854775807 \
                       18446744073709551615 1e300";

/// Changes the description at one place.
fn describe(parts: &mut Parts, random: &mut Random) {
    let text = &mut parts.description;
    match random.int(0, 5) {
        // A number becomes one at an edge of some type.
        0..=2 => {
            let numbers = tokens(text, |c| c.is_ascii_digit() || c == '-' || c == '.');
            let &(from, to) = pick(random, &numbers);
            let edges: Vec<&str> = NUMBERS.split_whitespace().collect();
            let edge = pick(random, &edges);
            text.replace_range(from..to, edge);
        }
        // A word becomes another of the text: types, names, keys.
        3 => {
            let words = tokens(text, |c| c.is_ascii_alphanumeric() || c == '_' || c == '.');
            let (&(from, to), &(other, end)) = (pick(random, &words), pick(random, &words));
            let other = text[other..end].to_owned();
            text.replace_range(from..to, &other);
        }
        // A list or an object is doubled or emptied.
        4 => {
            let flat = tokens(text, |c| !"[]{}".contains(c));
            let &(from, to) = pick(random, &flat);
            let inner = if random.int(0, 1) == 0 { String::new() } else { format!("{0},{0}", &text[from..to]) };
            text.replace_range(from..to, &inner);
        }
        // A byte goes; names here are ASCII.
        _ => {
            let at = random.int(0, text.len() as i32 - 1) as usize;
            text.remove(at);
        }
    }
}

/// Changes one tensor.
fn change(parts: &mut Parts, random: &mut Random) {
    let names: Vec<String> = parts.tensors.keys().cloned().collect();
    let name = pick(random, &names);
    match random.int(0, 4) {
        0 => {
            parts.tensors.remove(name);
        }
        1 => {
            let other = parts.tensors[pick(random, &names)].clone();
            parts.tensors.insert(name.clone(), other);
        }
        2 => {
            let (_, shape, data) = parts.tensors.get_mut(name).unwrap();
            shape.reverse();
            if random.int(0, 1) == 0 {
                *shape = vec![data.len()];
            }
        }
        3 => {
            // The bits of zeros, infinities, NaN, and the lowest integers.
            let words = [0u32, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f7f_ffff, 1, 0x8080_8080, u32::MAX];
            let word = pick(random, &words).to_le_bytes();
            let (_, _, data) = parts.tensors.get_mut(name).unwrap();
            for (at, byte) in data.iter_mut().enumerate() {
                *byte = word[at % 4];
            }
        }
        _ => {
            let (_, _, data) = parts.tensors.get_mut(name).unwrap();
            let at = random.int(0, data.len() as i32 - 1) as usize;
            data[at] ^= 1 << random.int(0, 7);
        }
    }
}

/// What became of the files.
#[derive(Default, Debug)]
struct Count {
    read: usize,
    format: usize,
    description: usize,
    tensors: usize,
    checksum: usize,
    model: usize,
}

impl Count {
    /// Reads the bytes; a model must validate and be read again as it is written.
    fn read(&mut self, bytes: &[u8]) {
        match from_safetensors(bytes) {
            Ok(model) => {
                self.read += 1;
                model.validate().unwrap();
                let written = to_safetensors(&model).unwrap();
                assert_eq!(to_safetensors(&from_safetensors(&written).unwrap()).unwrap(), written);
            }
            Err(CheckpointError::Format { .. }) => self.format += 1,
            Err(CheckpointError::Checksum { .. }) => self.checksum += 1,
            Err(CheckpointError::Model { .. }) => self.model += 1,
            Err(
                CheckpointError::MissingTensor { .. }
                | CheckpointError::UnexpectedTensor { .. }
                | CheckpointError::DataType { .. }
                | CheckpointError::Shape { .. },
            ) => self.tensors += 1,
            Err(_) => self.description += 1,
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_an_error_or_a_model() {
    println!("seed {SEED}");
    let mut random = Random(SEED);
    let mut all = vec![residual(1), exact(1), averages(1)];
    for rules in [Rules::OnnxRuntime, Rules::TfliteMicro] {
        all.extend(operations(2, Draw::int8(rules)).into_iter().map(|(_, model)| model));
    }
    let files: Vec<Vec<u8>> = all.iter().map(|model| to_safetensors(model).unwrap()).collect();
    let parts: Vec<Parts> = files.iter().map(|bytes| Parts::of(bytes)).collect();
    for (parts, bytes) in parts.iter().zip(&files) {
        let mut corrected = parts.clone();
        corrected.correct();
        assert_eq!(corrected.description, parts.description, "the checksum is the documented one");
        assert_eq!(from_safetensors(&corrected.bytes().unwrap()).unwrap(), from_safetensors(bytes).unwrap());
    }

    let mut count = Count::default();
    for _ in 0..MUTATIONS {
        if random.int(0, 4) == 0 {
            let mut bytes = pick(&mut random, &files).clone();
            for _ in 0..random.int(1, 4) {
                let at = random.int(0, bytes.len() as i32 - 1) as usize;
                bytes[at] = random.bits() as u8;
            }
            bytes.truncate(bytes.len() - if random.int(0, 9) == 0 { random.int(1, 64) as usize } else { 0 });
            count.read(&bytes);
            continue;
        }
        let mut parts = pick(&mut random, &parts).clone();
        for _ in 0..random.int(1, 2) {
            if random.int(0, 2) == 0 { change(&mut parts, &mut random) } else { describe(&mut parts, &mut random) }
        }
        parts.correct();
        if let Some(bytes) = parts.bytes() {
            count.read(&bytes);
        }
    }
    println!("{count:?}");
    let Count { read, format, description, tensors, checksum, model } = count;
    // Every stage of the reader must have been reached, the last ones behind a right checksum.
    for reached in [read, format, description, tensors, checksum, model] {
        assert!(reached > MUTATIONS / 1000, "{reached}");
    }
}
