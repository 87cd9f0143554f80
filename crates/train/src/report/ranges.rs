//! `ranges.csv`: the range of each quantizer at each evaluation.
//!
//! ```text
//! phase,epoch,step,quantizer,bits,min,max,scale,zero_point
//! qat,0,0,input,8,0,1,0.003921569,-128
//! ```
//!
//! Step 0 is the range after calibration. The step of a weight that has one of its own is named `LAYER weight`; where each channel
//! or group has one, it is their mean. `min` and `max` are the real numbers of the lowest and the highest code. All numbers are the
//! shortest decimals that read back as the same float32. A resumed run first cuts the rows that lie beyond its checkpoint.

use crate::{error::TrainError, fit::Phase};
use qat::QatModel;
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

const HEADER: &str = "phase,epoch,step,quantizer,bits,min,max,scale,zero_point\n";

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct RangeRow {
    pub(super) phase: Phase,
    pub(super) epoch: usize,
    pub(super) step: usize,
    pub(super) quantizer: String,
    pub(super) bits: u8,
    pub(super) min: f32,
    pub(super) max: f32,
    pub(super) scale: f32,
    pub(super) zero_point: i32,
}

/// The rows of all quantizers of `model` as they stand.
pub(super) fn rows(model: &QatModel, phase: Phase, epoch: usize, step: usize) -> Vec<RangeRow> {
    let row = |(name, _, quantizer): (&str, _, &qat::FakeQuantize)| {
        let qparams = quantizer.qparams();
        let ((min, max), bits) = (qparams.real_range(), qparams.format.bits());
        RangeRow {
            phase,
            epoch,
            step,
            quantizer: name.into(),
            bits,
            min,
            max,
            scale: qparams.scale,
            zero_point: qparams.zero_point,
        }
    };
    let weight = |(index, layer): (usize, &qat::QatLayer)| {
        let quantizer = layer.quantizer()?;
        let (format, name) = (quantizer.format(), &model.first_step(index).name);
        let scale = quantizer.reach.as_ref()?.val().mean().into_scalar::<f32>() / format.quant_max() as f32;
        Some(RangeRow {
            phase,
            epoch,
            step,
            quantizer: format!("{name} weight"),
            bits: format.bits(),
            min: format.quant_min() as f32 * scale,
            max: format.quant_max() as f32 * scale,
            scale,
            zero_point: 0,
        })
    };
    let weights: Vec<RangeRow> = model.layers.iter().enumerate().filter_map(weight).collect();
    model.quantizers().into_iter().map(row).chain(weights).collect()
}

/// The file, open at its end.
pub(super) struct RangesFile {
    path: PathBuf,
    file: File,
}

impl RangesFile {
    /// Opens the file for rows after those that `keep` says stay; they end where the first one goes, or is damaged.
    pub(super) fn open(path: &Path, keep: impl Fn(Phase, usize) -> bool) -> Result<Self, TrainError> {
        let io = |source| TrainError::Io { action: "open ranges", path: path.into(), source };
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(io)?;
        let length = kept(&file, keep).map_err(io)?;
        file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(io)?;
        let mut ranges = Self { path: path.into(), file };
        if length == 0 {
            ranges.append(HEADER.as_bytes())?;
        }
        Ok(ranges)
    }

    /// Adds rows.
    pub(super) fn push(&mut self, rows: &[RangeRow]) -> Result<(), TrainError> {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        let written = rows.iter().try_for_each(|row| writer.serialize(row)).map_err(io::Error::from);
        let bytes = written.and_then(|()| writer.into_inner().map_err(|error| error.into_error()));
        self.append(&bytes.map_err(|source| self.error(source))?)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), TrainError> {
        self.file.write_all(bytes).map_err(|source| self.error(source))
    }

    /// Makes the rows survive a crash.
    pub(super) fn sync(&mut self) -> Result<(), TrainError> {
        self.file.sync_data().map_err(|source| self.error(source))
    }

    fn error(&self, source: io::Error) -> TrainError {
        TrainError::Io { action: "write ranges", path: self.path.clone(), source }
    }
}

/// Length of the heading and the rows before the first one that goes; 0 when no row stays.
fn kept(file: &File, keep: impl Fn(Phase, usize) -> bool) -> io::Result<u64> {
    let mut reader = csv::Reader::from_reader(file);
    let mut length = 0;
    let mut rows = reader.deserialize::<RangeRow>();
    while let Some(row) = rows.next() {
        match row {
            Ok(row) if keep(row.phase, row.step) => length = rows.reader().position().byte(),
            Ok(_) => break,
            Err(error) if error.is_io_error() => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(length)
}

/// The rows of the file at `path`; none where there is no file.
pub(super) fn read(path: &Path) -> Result<Vec<RangeRow>, TrainError> {
    super::read_csv(path, "ranges.csv of this program")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn row(step: usize, name: &str) -> RangeRow {
        let (phase, quantizer) = (Phase::Qat, name.into());
        RangeRow { phase, epoch: step / 4, step, quantizer, bits: 8, min: -0.1, max: 0.7, scale: 0.003, zero_point: -96 }
    }

    #[test]
    fn weights_with_steps_of_their_own_have_rows() {
        use burn::tensor::Device;
        let device = Device::flex();
        let net = crate::zoo::ZooModel::Mlp.init(&device, 1);
        let rows_of = |config: qat::QConfig| {
            let model = crate::recipe::prepare(&net, [1, 28, 28], &config).unwrap();
            rows(&model, Phase::Qat, 0, 0)
        };
        assert_eq!(rows_of(qat::QConfig::int8()).iter().filter(|row| row.quantizer.ends_with(" weight")).count(), 0);
        let rows = rows_of(qat::QConfig::w4a4());
        let row = rows.iter().find(|row| row.quantizer == "fc2 weight").unwrap();
        assert_eq!((row.bits, row.zero_point), (4, 0));
        assert!(row.scale > 0.0 && row.max == 7.0 * row.scale && row.min < 0.0, "{row:?}");
    }

    #[test]
    fn rows_come_back_whatever_a_layer_is_called() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranges.csv");
        assert_eq!(read(&path).unwrap(), []);
        let rows = [row(0, "input"), row(0, "a,\"b\"\nc"), row(4, "input")];
        let mut file = RangesFile::open(&path, |_, _| true).unwrap();
        file.push(&rows[..2]).unwrap();
        file.push(&rows[2..]).unwrap();
        assert_eq!(read(&path).unwrap(), rows);
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.starts_with("phase,epoch,step,quantizer,bits,min,max,scale,zero_point\nqat,0,0,input,8,-0.1,0.7,0.003,-96\n")
        );
    }

    #[test]
    fn what_lies_beyond_the_checkpoint_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranges.csv");
        let mut file = RangesFile::open(&path, |_, _| true).unwrap();
        file.push(&[row(0, "a"), row(4, "a"), row(8, "a")]).unwrap();
        file.file.write_all(b"qat,3,12,a,8,-0").unwrap();
        drop(file);
        let mut file = RangesFile::open(&path, |_, step| step <= 4).unwrap();
        assert_eq!(read(&path).unwrap(), [row(0, "a"), row(4, "a")]);
        file.push(&[row(8, "b")]).unwrap();
        assert_eq!(read(&path).unwrap(), [row(0, "a"), row(4, "a"), row(8, "b")]);
        drop(RangesFile::open(&path, |_, _| false).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), HEADER);
    }
}
