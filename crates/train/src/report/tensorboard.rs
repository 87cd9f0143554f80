//! Event files that TensorBoard reads: `tensorboard/train` and `tensorboard/valid`, one file each.
//!
//! A file is a row of records, each `length: u64, crc(length): u32, bytes, crc(bytes): u32`, little-endian, with CRC-32C masked as
//! TFRecord masks it: `rotate_right(crc, 15) + 0xa282ead8`. The bytes are an `Event` in protobuf; the first names the version
//! of the format. A scalar is called `PHASE/QUANTITY` and counted by the steps of its phase. A resumed run first cuts the events that
//! lie beyond its checkpoint; apart from the time of day, a file is the same as if the run had never stopped.

use super::phase_named;
use crate::{error::TrainError, fit::Phase};
use prost::Message;
use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// TensorBoard takes files with `tfevents` in their name.
const NAME: &str = "events.out.tfevents.0000000000.qat";
const VERSION: &str = "brain.Event:2";

/// What happened at a step.
#[derive(Clone, PartialEq, Message)]
struct Event {
    /// Seconds since 1970.
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
}

/// A file of events, open at its end.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Opens the file in `folder` for events after those that `keep` says stay; they end where the first one goes, or is damaged.
    pub(super) fn open(folder: &Path, keep: impl Fn(Phase, usize) -> bool) -> Result<Self, TrainError> {
        let path = folder.join(NAME);
        let io = |source| TrainError::Io { action: "open events", path: path.clone(), source };
        fs::create_dir_all(folder).map_err(io)?;
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(io)?;
        let length = kept(&file, keep).map_err(io)?;
        file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(io)?;
        let mut events = Self { path, file };
        if length == 0 {
            events.append(&Event { file_version: Some(VERSION.into()), ..now() })?;
        }
        Ok(events)
    }

    /// Adds the scalars of a step.
    pub(super) fn push(&mut self, phase: Phase, step: usize, scalars: &[(&str, f32)]) -> Result<(), TrainError> {
        let value = |(name, value): &(&str, f32)| Value { tag: format!("{phase}/{name}"), simple_value: Some(*value) };
        let summary = Summary { value: scalars.iter().map(value).collect() };
        self.append(&Event { step: step as i64, summary: Some(summary), ..now() })
    }

    fn append(&mut self, event: &Event) -> Result<(), TrainError> {
        self.file.write_all(&record(&event.encode_to_vec())).map_err(|source| self.error(source))
    }

    /// Makes the events survive a crash.
    pub(super) fn sync(&mut self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> TrainError {
        TrainError::Io { action: "write events", path: self.path.clone(), source }
    }
}

fn now() -> Event {
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64());
    Event { wall_time, ..Event::default() }
}

/// Length of the records before the first one that goes.
fn kept(file: &File, keep: impl Fn(Phase, usize) -> bool) -> io::Result<u64> {
    let total = file.metadata()?.len();
    let mut reader = BufReader::new(file);
    let mut length = 0;
    while let Some(bytes) = next_record(&mut reader, total - length)? {
        let Ok(event) = Event::decode(bytes.as_slice()) else { break };
        let stays = match (length, event.file_version, event.summary.as_ref().and_then(|summary| summary.value.first())) {
            (0, Some(version), None) => version == VERSION,
            (1.., None, Some(Value { tag, .. })) => {
                let phase = tag.split_once('/').and_then(|(phase, _)| phase_named(phase));
                phase.zip(usize::try_from(event.step).ok()).is_some_and(|(phase, step)| keep(phase, step))
            }
            _ => false,
        };
        if !stays {
            break;
        }
        length += OVERHEAD + bytes.len() as u64;
    }
    Ok(length)
}

/// Bytes of a record beside its contents.
const OVERHEAD: u64 = 16;

/// `bytes` as a record.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    [&length[..], &masked_crc(&length).to_le_bytes(), bytes, &masked_crc(bytes).to_le_bytes()].concat()
}

/// The contents of the next record; `None` at the end and for what is no record. At most `left` bytes are there.
fn next_record(reader: &mut impl Read, left: u64) -> io::Result<Option<Vec<u8>>> {
    if left < OVERHEAD {
        return Ok(None);
    }
    let (mut length, mut crc) = ([0; 8], [0; 4]);
    reader.read_exact(&mut length)?;
    reader.read_exact(&mut crc)?;
    let size = u64::from_le_bytes(length);
    if u32::from_le_bytes(crc) != masked_crc(&length) || size > left - OVERHEAD {
        return Ok(None);
    }
    let mut bytes = vec![0; size as usize];
    reader.read_exact(&mut bytes)?;
    reader.read_exact(&mut crc)?;
    Ok((u32::from_le_bytes(crc) == masked_crc(&bytes)).then_some(bytes))
}

/// CRC-32C as TFRecord stores it, so that the checksum of bytes that hold checksums is none of them.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected polynomial 0x82f63b78.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut crc, mut bit) = (byte as u32, 0);
            while bit < 8 {
                crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
                bit += 1;
            }
            table[byte] = crc;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4; and the check value of the catalogue of CRCs.
    #[test]
    fn checksums_are_those_of_the_standard() {
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// The version event as TensorFlow writes it, with the time 1.0: made by `RecordWriter` of tensorboard 2.21.0.
    #[test]
    fn a_record_is_tensorflows() {
        let event = Event { wall_time: 1.0, file_version: Some(VERSION.into()), ..Event::default() };
        let header = [24, 0, 0, 0, 0, 0, 0, 0, 0xa3, 0x7f, 0x4b, 0x22];
        let body = b"\x09\0\0\0\0\0\0\xf0\x3f\x1a\x0dbrain.Event:2";
        assert_eq!(record(&event.encode_to_vec()), [&header[..], body, &[0x86, 0xbf, 0x57, 0x7a]].concat());
    }

    fn events(folder: &Path) -> Vec<Event> {
        let bytes = fs::read(folder.join(NAME)).unwrap();
        let mut reader = bytes.as_slice();
        let mut found = Vec::new();
        loop {
            let left = reader.len() as u64;
            let Some(bytes) = next_record(&mut reader, left).unwrap() else { break };
            found.push(Event::decode(bytes.as_slice()).unwrap());
        }
        assert!(reader.is_empty(), "every byte belongs to a record");
        found
    }

    #[test]
    fn events_come_back_and_those_that_go_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("train");
        let mut file = EventFile::open(&folder, |_, _| true).unwrap();
        file.push(Phase::Float, 7, &[("loss", 0.5), ("accuracy", 90.0)]).unwrap();
        for step in 1..=3 {
            file.push(Phase::Qat, step, &[("loss", step as f32)]).unwrap();
        }
        drop(file);
        let all = events(&folder);
        assert_eq!(all.len(), 5);
        assert_eq!(all[0].file_version.as_deref(), Some(VERSION));
        let values = &all[1].summary.as_ref().unwrap().value;
        assert_eq!((all[1].step, values[1].tag.as_str(), values[1].simple_value), (7, "float/accuracy", Some(90.0)));

        let mut file = EventFile::open(&folder, |phase, step| phase < Phase::Qat || step <= 1).unwrap();
        file.push(Phase::Qat, 2, &[("loss", 20.0)]).unwrap();
        drop(file);
        let again = events(&folder);
        assert_eq!(again[..3], all[..3]);
        assert_eq!(again.len(), 4);
        assert_eq!(again[3].summary.as_ref().unwrap().value[0].simple_value, Some(20.0));
    }

    #[test]
    fn damage_is_cut_with_what_follows_it() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let mut file = EventFile::open(folder, |_, _| true).unwrap();
        file.push(Phase::Float, 1, &[("loss", 1.0)]).unwrap();
        file.push(Phase::Float, 2, &[("loss", 2.0)]).unwrap();
        drop(file);
        let whole = fs::read(folder.join(NAME)).unwrap();
        let last = record(&[]).len() + events(folder)[2].encode_to_vec().len();
        for damage in 0..3 {
            let mut bytes = whole.clone();
            match damage {
                0 => bytes.truncate(whole.len() - 1),
                1 => bytes[whole.len() - 6] ^= 1,
                // A length far beyond the file.
                _ => bytes[whole.len() - last + 5] = 0x7f,
            }
            fs::write(folder.join(NAME), bytes).unwrap();
            drop(EventFile::open(folder, |_, _| true).unwrap());
            assert_eq!(fs::read(folder.join(NAME)).unwrap(), whole[..whole.len() - last], "damage {damage}");
        }
        fs::write(folder.join(NAME), b"something else entirely, and long enough").unwrap();
        drop(EventFile::open(folder, |_, _| true).unwrap());
        assert_eq!(events(folder).len(), 1, "a file of another kind begins anew");
    }
}
