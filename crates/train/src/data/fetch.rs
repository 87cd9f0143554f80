//! Downloads of the named datasets from their official addresses.
//!
//! ```text
//! address ─HTTP, Range─▶ .NAME.part ─size, MD5─▶ NAME ─unpack (cifar10)─▶ data_batch_*.bin, test_batch.bin
//! ```
//!
//! A file has its own name only once its checksum is right. What came before a connection broke is kept and continued, by the next
//! attempt and by the next call; a server that cannot continue begins anew. Files that are in place are not fetched again, and files
//! of the same name that are others are never replaced. Without a network the error says at once what to put where by other means.
//! Not here: where datasets are looked for afterwards (see `catalog`).

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use ureq::Agent;

use super::catalog;
use super::cifar;
use crate::atomic;

/// A file at an address.
#[derive(Debug)]
struct Remote {
    name: &'static str,
    bytes: u64,
    /// MD5 as published, hexadecimal. It tells damage; it is no proof against forgery.
    md5: &'static str,
}

/// A dataset at its official address.
#[derive(Debug)]
struct Publication {
    dataset: &'static str,
    /// What the names of the files are appended to.
    address: &'static str,
    files: &'static [Remote],
    /// Whether the one file is an archive of CIFAR-10's records.
    is_archive: bool,
}

/// The checksums are those that torchvision, Zalando and the University of Toronto publish.
static PUBLICATIONS: [Publication; 3] = [
    Publication {
        dataset: "mnist",
        address: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            Remote { name: "train-images-idx3-ubyte.gz", bytes: 9_912_422, md5: "f68b3c2dcbeaaa9fbdd348bbdeb94873" },
            Remote { name: "train-labels-idx1-ubyte.gz", bytes: 28_881, md5: "d53e105ee54ea40749a09fcbcd1e9432" },
            Remote { name: "t10k-images-idx3-ubyte.gz", bytes: 1_648_877, md5: "9fb629c4189551a2d022fa330f9573f3" },
            Remote { name: "t10k-labels-idx1-ubyte.gz", bytes: 4_542, md5: "ec29112dd5afa0611ce80d1b7f02629c" },
        ],
        is_archive: false,
    },
    Publication {
        dataset: "fashion-mnist",
        address: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files: &[
            Remote { name: "train-images-idx3-ubyte.gz", bytes: 26_421_880, md5: "8d4fb7e6c68d591d4c3dfef9ec88bf0d" },
            Remote { name: "train-labels-idx1-ubyte.gz", bytes: 29_515, md5: "25c81989df183df01b3e8a0aad5dffbe" },
            Remote { name: "t10k-images-idx3-ubyte.gz", bytes: 4_422_102, md5: "bef4ecab320f06d8554ea6380940ec79" },
            Remote { name: "t10k-labels-idx1-ubyte.gz", bytes: 5_148, md5: "bb300cfdad3c16e7a12a480ee83cd310" },
        ],
        is_archive: false,
    },
    Publication {
        dataset: "cifar10",
        address: "https://www.cs.toronto.edu/~kriz/",
        files: &[Remote { name: "cifar-10-binary.tar.gz", bytes: 170_052_171, md5: "c32a1d4ab5d03f1284b67883e8d87530" }],
        is_archive: true,
    },
];

/// What is told while files come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchEvent<'a> {
    /// The file was there already, and is the published one.
    InPlace {
        /// The file.
        path: &'a Path,
    },
    /// A download begins, or goes on.
    Begins {
        /// Where it comes from.
        address: &'a str,
        /// Bytes that are here from an earlier attempt.
        have: u64,
        /// Bytes of the whole file.
        bytes: u64,
    },
    /// More has come.
    Progress {
        /// Bytes that are here.
        have: u64,
        /// Bytes of the whole file.
        bytes: u64,
    },
    /// The file is in place, its checksum right.
    Placed {
        /// The file.
        path: &'a Path,
    },
}

/// A dataset that could not be fetched.
#[derive(Debug, thiserror::Error)]
#[error("{cause}")]
pub struct FetchError {
    #[source]
    cause: FetchCause,
    by_hand: Option<String>,
}

impl FetchError {
    /// What went wrong.
    pub fn cause(&self) -> &FetchCause {
        &self.cause
    }

    /// How to get the files in place by other means, as one line.
    pub fn hint(&self) -> Option<&str> {
        match self.cause {
            FetchCause::InTheWay { .. } => Some("move it away, or keep it and do without fetching"),
            FetchCause::Busy { .. } => Some("wait until the other process has fetched it"),
            _ => self.by_hand.as_deref(),
        }
    }
}

/// Why a dataset could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchCause {
    /// Nothing of this name is published where this program knows.
    #[error("unknown dataset, {name}: expected one of {known}, found another name")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// The server cannot be reached.
    #[error("cannot fetch, {address}: expected an answer, found {source}")]
    Unreachable {
        /// The file's address.
        address: String,
        /// What stood in the way.
        source: Box<ureq::Error>,
    },
    /// The connection broke, more than once.
    #[error("broken connection, {address}: expected {bytes} bytes, found {have}, which are kept, and then {source}")]
    Broken {
        /// The file's address.
        address: String,
        /// Bytes of the whole file.
        bytes: u64,
        /// Bytes that have come.
        have: u64,
        /// What broke it.
        source: io::Error,
    },
    /// The server has no such file, or does not give it.
    #[error("cannot fetch, {address}: expected HTTP status 200 or 206, found {status}")]
    Status {
        /// The file's address.
        address: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server has a file of another length.
    #[error("wrong file, {address}: expected {bytes} bytes, found {found}")]
    Size {
        /// The file's address.
        address: String,
        /// Bytes of the published file.
        bytes: u64,
        /// Bytes of this, or that have come when it was given up.
        found: u64,
    },
    /// What came is not what was published; it is removed.
    #[error("wrong checksum, {address}: expected md5 {expected}, found {found}")]
    Checksum {
        /// The file's address.
        address: String,
        /// The published file's MD5, hexadecimal.
        expected: &'static str,
        /// This file's MD5, hexadecimal.
        found: String,
    },
    /// Another file has the name.
    #[error("file in the way, {}: expected the published file or none, found another", .path.display())]
    InTheWay {
        /// The file.
        path: PathBuf,
    },
    /// Another process fetches the same file.
    #[error("busy, {}: expected to fetch it alone, found another process at it", .path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// An archive with the right checksum has not the expected files.
    #[error("unpacking, {}: expected {expected}, found {found}", .path.display())]
    Unpack {
        /// The archive.
        path: PathBuf,
        /// What it should have.
        expected: &'static str,
        /// What is wrong.
        found: String,
    },
    /// The operating system would not write or read a file.
    #[error("cannot write, {}: expected a folder with room for the file, found {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's word on it.
        source: io::Error,
    },
}

/// The names that [`fetch`] knows.
pub fn fetchable() -> Vec<&'static str> {
    PUBLICATIONS.iter().map(|publication| publication.dataset).collect()
}

/// Fetches what is missing of a dataset and gives the folder it is in: below the folder that `QAT_DATASETS` names, else below the first
/// `datasets` here or above, else below a new one here. `from` is another address with the same files, a mirror.
///
/// # Errors
///
/// [`FetchError`]; whatever has come is kept for the next call, unless its checksum is wrong.
pub fn fetch(name: &str, from: Option<&str>, tell: &mut dyn FnMut(FetchEvent<'_>)) -> Result<PathBuf, FetchError> {
    let Some(publication) = PUBLICATIONS.iter().find(|publication| publication.dataset == name) else {
        let cause = FetchCause::Unknown { name: name.into(), known: fetchable().join(", ") };
        return Err(FetchError { cause, by_hand: None });
    };
    let folder = root().join(name);
    let agent = Agent::new_with_config(
        Agent::config_builder()
            .timeout_resolve(Some(ANSWER))
            .timeout_connect(Some(ANSWER))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .build(),
    );
    publication.fetch(from.unwrap_or(publication.address), &folder, &agent, tell)?;
    Ok(folder)
}

/// How long a server may take to be found.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a server may say nothing.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a connection may break without anything new having come.
const ATTEMPTS: usize = 3;

/// The folder that datasets are put below.
fn root() -> PathBuf {
    if let Some(wished) = std::env::var_os("QAT_DATASETS") {
        return wished.into();
    }
    let here = std::env::current_dir().unwrap_or_default();
    let there = here.ancestors().map(|folder| folder.join("datasets")).find(|folder| folder.is_dir());
    there.unwrap_or_else(|| here.join("datasets"))
}

impl Publication {
    fn fetch(&self, address: &str, folder: &Path, agent: &Agent, tell: &mut dyn FnMut(FetchEvent<'_>)) -> Result<(), FetchError> {
        self.try_fetch(address, folder, agent, tell)
            .map_err(|cause| FetchError { cause, by_hand: Some(self.by_hand(address, folder)) })
    }

    fn try_fetch(
        &self,
        address: &str,
        folder: &Path,
        agent: &Agent,
        tell: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), FetchCause> {
        let records: Vec<PathBuf> = RECORD_FILES.iter().map(|name| folder.join(name)).collect();
        if self.is_archive && records.iter().all(|path| path.exists()) {
            for path in &records {
                if fs::metadata(path).map_err(|source| io_error(path, source))?.len() != RECORDS_BYTES {
                    return Err(FetchCause::InTheWay { path: path.clone() });
                }
                tell(FetchEvent::InPlace { path });
            }
            return Ok(());
        }
        fs::create_dir_all(folder).map_err(|source| io_error(folder, source))?;
        for remote in self.files {
            let path = folder.join(remote.name);
            if path.exists() {
                let is_it = path.is_file()
                    && (md5_of_file(&path).map_err(|source| io_error(&path, source))? == remote.md5
                        || catalog::is_published(self.dataset, &path));
                if !is_it {
                    return Err(FetchCause::InTheWay { path });
                }
                tell(FetchEvent::InPlace { path: &path });
            } else {
                let address = format!("{}/{}", address.trim_end_matches('/'), remote.name);
                remote.download(&address, &path, agent, tell)?;
                tell(FetchEvent::Placed { path: &path });
            }
            if self.is_archive {
                unpack(&path, folder)?;
                records.iter().for_each(|path| tell(FetchEvent::Placed { path }));
                fs::remove_file(&path).map_err(|source| io_error(&path, source))?;
            }
        }
        Ok(())
    }

    /// What to put where, on one line.
    fn by_hand(&self, address: &str, folder: &Path) -> String {
        let file = |remote: &Remote| format!("{} ({} bytes, md5 {})", remote.name, remote.bytes, remote.md5);
        let files = self.files.iter().map(file).collect::<Vec<_>>().join(", ");
        let then = if self.is_archive { ", and run the command again, which unpacks it" } else { "" };
        let whence = if address == self.address { address.to_owned() } else { format!("{address} or {}", self.address) };
        format!("or get by other means, from {whence}, and put into {}: {files}{then}", folder.display())
    }
}

/// How one transfer ended.
enum Transfer {
    /// All bytes are here.
    Complete,
    /// The connection broke.
    Broken(io::Error),
    /// What is here cannot be continued; it was cut off.
    Anew,
}

impl Remote {
    /// Downloads the file to `path`, which does not exist.
    fn download(
        &self,
        address: &str,
        path: &Path,
        agent: &Agent,
        tell: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<(), FetchCause> {
        let part = path.with_file_name(format!(".{}.part", self.name));
        let io = |source| io_error(&part, source);
        let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&part).map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FetchCause::Busy { path: part }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        let mut fruitless = 0;
        loop {
            let have = file.metadata().map_err(io)?.len();
            match self.transfer(address, &part, &mut file, have, agent, tell)? {
                Transfer::Complete => break,
                Transfer::Anew => fruitless += 1,
                Transfer::Broken(source) => {
                    let now = file.metadata().map_err(io)?.len();
                    fruitless = if now > have { 0 } else { fruitless + 1 };
                    if fruitless >= ATTEMPTS {
                        return Err(FetchCause::Broken { address: address.into(), bytes: self.bytes, have: now, source });
                    }
                }
            }
        }
        let found = md5_of(&mut file).map_err(io)?;
        if found != self.md5 {
            fs::remove_file(&part).map_err(io)?;
            return Err(FetchCause::Checksum { address: address.into(), expected: self.md5, found });
        }
        file.sync_all().and_then(|()| fs::rename(&part, path)).map_err(io)?;
        path.parent().map_or(Ok(()), atomic::sync).map_err(io)
    }

    /// Appends to `file`, of `have` bytes, as much as comes.
    fn transfer(
        &self,
        address: &str,
        part: &Path,
        file: &mut File,
        have: u64,
        agent: &Agent,
        tell: &mut dyn FnMut(FetchEvent<'_>),
    ) -> Result<Transfer, FetchCause> {
        let io = |source| io_error(part, source);
        let size = |found| FetchCause::Size { address: address.into(), bytes: self.bytes, found };
        let anew = |file: &mut File| file.set_len(0).map(|()| Transfer::Anew).map_err(io);
        if have == self.bytes {
            return Ok(Transfer::Complete);
        }
        if have > self.bytes {
            return anew(file);
        }
        let mut request = agent.get(address);
        if have > 0 {
            request = request.header("Range", format!("bytes={have}-"));
        }
        let response = match request.call() {
            Ok(response) => response,
            // The connection stood and broke before an answer, as it may in the middle of one.
            Err(ureq::Error::Io(source)) if source.kind() != io::ErrorKind::ConnectionRefused => {
                return Ok(Transfer::Broken(source));
            }
            Err(source) => return Err(FetchCause::Unreachable { address: address.into(), source: Box::new(source) }),
        };
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let start = match response.status().as_u16() {
            200 => 0,
            206 if header("content-range").starts_with(&format!("bytes {have}-")) => have,
            206 | 416 if have > 0 => return anew(file),
            status => return Err(FetchCause::Status { address: address.into(), status }),
        };
        if let Ok(length) = header("content-length").parse::<u64>()
            && start.saturating_add(length) != self.bytes
        {
            return Err(size(start.saturating_add(length)));
        }
        tell(FetchEvent::Begins { address, have: start, bytes: self.bytes });
        file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).map_err(io)?;
        let mut body = response.into_body().into_reader();
        let (mut now, mut piece) = (start, vec![0; 1 << 16]);
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) if now < self.bytes => {
                    return Ok(Transfer::Broken(io::Error::new(io::ErrorKind::UnexpectedEof, "the end of the connection")));
                }
                Ok(0) => return Ok(Transfer::Complete),
                Ok(count) => count,
                Err(source) => return Ok(Transfer::Broken(source)),
            };
            now += count as u64;
            if now > self.bytes {
                file.set_len(0).map_err(io)?;
                return Err(size(now));
            }
            file.write_all(&piece[..count]).map_err(io)?;
            tell(FetchEvent::Progress { have: now, bytes: self.bytes });
        }
    }
}

/// The files of records in the archive.
const RECORD_FILES: [&str; 6] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", cifar::TEST_FILE];

/// Bytes of each of them.
const RECORDS_BYTES: u64 = 10_000 * cifar::RECORD as u64;

/// Puts the records of CIFAR-10's archive into `folder`.
fn unpack(archive: &Path, folder: &Path) -> Result<(), FetchCause> {
    let wrong = |found: String| FetchCause::Unpack {
        path: archive.into(),
        expected: "data_batch_1.bin to data_batch_5.bin and test_batch.bin of 10,000 records",
        found,
    };
    let io = |source| io_error(archive, source);
    let file = File::open(archive).map_err(io)?;
    let mut missing = RECORD_FILES.to_vec();
    let mut members = tar::Archive::new(GzDecoder::new(io::BufReader::new(file)));
    for member in members.entries().map_err(io)? {
        let mut member = member.map_err(|error| wrong(error.to_string()))?;
        let path = member.path().map_err(|error| wrong(error.to_string()))?.into_owned();
        let Some(at) = missing.iter().position(|name| path.file_name().is_some_and(|file| file == *name)) else { continue };
        if member.size() != RECORDS_BYTES {
            return Err(wrong(format!("{} of {} bytes", path.display(), member.size())));
        }
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).map_err(|error| wrong(error.to_string()))?;
        let to = folder.join(missing.remove(at));
        atomic::replace(&to, &bytes).map_err(|source| io_error(&to, source))?;
    }
    if missing.is_empty() { Ok(()) } else { Err(wrong(format!("no {}", missing.join(", ")))) }
}

/// MD5 of a file from its beginning, hexadecimal.
fn md5_of(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Md5::new();
    io::copy(file, &mut hash)?;
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn md5_of_file(path: &Path) -> io::Result<String> {
    md5_of(&mut File::open(path)?)
}

fn io_error(path: &Path, source: io::Error) -> FetchCause {
    FetchCause::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::sync::{Arc, Mutex};
    use tempfile::TempDir;

    /// What a server does with its file.
    #[derive(Clone, Default)]
    struct Manners {
        /// Understands Range.
        ranges: bool,
        /// Breaks each answer off after so many bytes of the body.
        cut: Option<usize>,
        /// Answers with this status.
        status: Option<u16>,
        /// Says no length, and ends the body by closing.
        no_length: bool,
        /// Claims to continue, elsewhere than it was asked to.
        wrong_range: bool,
    }

    /// An HTTP server with one file, and the Range of each request to it.
    struct Server {
        address: String,
        ranges: Arc<Mutex<Vec<Option<usize>>>>,
    }

    impl Server {
        fn start(content: Vec<u8>, manners: Manners) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let ranges = Arc::new(Mutex::new(Vec::new()));
            let seen = ranges.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let mut range = None;
                    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                        let line = line.unwrap().to_lowercase();
                        if let Some(from) = line.strip_prefix("range: bytes=") {
                            range = Some(from.trim_end_matches('-').parse::<usize>().unwrap());
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    seen.lock().unwrap().push(range);
                    let from = range.filter(|_| manners.ranges).unwrap_or(0);
                    let status = manners.status.unwrap_or(if from > 0 { 206 } else { 200 });
                    let body = if manners.status.is_some() { b"sorry".as_slice() } else { &content[from..] };
                    let mut head = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n");
                    if !manners.no_length {
                        head += &format!("Content-Length: {}\r\n", body.len());
                    }
                    if from > 0 {
                        let from = if manners.wrong_range { from + 1 } else { from };
                        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", content.len() - 1, content.len());
                    }
                    let sent = &body[..manners.cut.unwrap_or(body.len()).min(body.len())];
                    // A client that gives up early is no failure of the server.
                    let _ = stream.write_all((head + "\r\n").as_bytes()).and_then(|()| stream.write_all(sent));
                }
            });
            Self { address, ranges }
        }

        fn ranges(&self) -> Vec<Option<usize>> {
            self.ranges.lock().unwrap().clone()
        }
    }

    fn content() -> Vec<u8> {
        (0..200_000u32).map(|at| (at * at % 251) as u8).collect()
    }

    fn md5(bytes: &[u8]) -> String {
        Md5::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A dataset of one file with this content.
    fn publication(content: &[u8], is_archive: bool) -> Publication {
        let remote = Remote { name: "file.gz", bytes: content.len() as u64, md5: md5(content).leak() };
        Publication { dataset: "tiny", address: "http://official.example/", files: vec![remote].leak(), is_archive }
    }

    /// Without whatever proxy the environment names.
    fn agent() -> Agent {
        let config = Agent::config_builder().proxy(None).http_status_as_error(false);
        Agent::new_with_config(config.timeout_per_read(Some(Duration::from_secs(5))).build())
    }

    fn fetch_from(server: &Server, folder: &Path) -> Result<Vec<String>, FetchError> {
        let mut told = Vec::new();
        let mut tell = |event: FetchEvent<'_>| match event {
            FetchEvent::Progress { .. } => {}
            FetchEvent::Begins { have, .. } => told.push(format!("begins {have}")),
            FetchEvent::InPlace { .. } => told.push("in place".into()),
            FetchEvent::Placed { .. } => told.push("placed".into()),
        };
        publication(&content(), false).fetch(&server.address, folder, &agent(), &mut tell)?;
        Ok(told)
    }

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn ranges() -> Manners {
        Manners { ranges: true, ..Manners::default() }
    }

    #[test]
    fn a_file_comes_whole_and_is_not_fetched_twice() {
        let root = TempDir::new().unwrap();
        let folder = root.path().join("new/tiny");
        let server = Server::start(content(), ranges());
        assert_eq!(fetch_from(&server, &folder).unwrap(), ["begins 0", "placed"]);
        assert_eq!(fs::read(folder.join("file.gz")).unwrap(), content());
        assert_eq!(files(&folder), ["file.gz"]);
        assert_eq!(fetch_from(&server, &folder).unwrap(), ["in place"]);
        assert_eq!(server.ranges(), [None]);
    }

    #[test]
    fn a_cut_connection_is_continued_at_once_and_by_the_next_call() {
        let folder = TempDir::new().unwrap();
        let server = Server::start(content(), Manners { cut: Some(70_000), ..ranges() });
        assert_eq!(fetch_from(&server, folder.path()).unwrap(), ["begins 0", "begins 70000", "begins 140000", "placed"]);
        assert_eq!(server.ranges(), [None, Some(70_000), Some(140_000)]);
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), content());

        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(".file.gz.part"), &content()[..1234]).unwrap();
        let server = Server::start(content(), ranges());
        assert_eq!(fetch_from(&server, folder.path()).unwrap(), ["begins 1234", "placed"]);
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), content());
    }

    #[test]
    fn a_connection_that_gives_nothing_is_given_up_and_what_came_is_kept() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(".file.gz.part"), &content()[..1234]).unwrap();
        let server = Server::start(content(), Manners { cut: Some(0), ..ranges() });
        let error = fetch_from(&server, folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::Broken { have: 1234, bytes: 200_000, .. }), "{error}");
        assert_eq!(server.ranges().len(), ATTEMPTS);
        assert_eq!(fs::read(folder.path().join(".file.gz.part")).unwrap(), content()[..1234]);
    }

    #[test]
    fn a_server_without_ranges_begins_anew() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join(".file.gz.part"), &content()[..1234]).unwrap();
        let server = Server::start(content(), Manners::default());
        assert_eq!(fetch_from(&server, folder.path()).unwrap(), ["begins 0", "placed"]);
        assert_eq!(server.ranges(), [Some(1234)]);
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), content());
    }

    #[test]
    fn parts_that_cannot_be_continued_are_cut_off() {
        let folder = TempDir::new().unwrap();
        let part = folder.path().join(".file.gz.part");
        fs::write(&part, &content()[..1234]).unwrap();
        let server = Server::start(content(), Manners { wrong_range: true, ..ranges() });
        assert_eq!(fetch_from(&server, folder.path()).unwrap(), ["begins 0", "placed"]);
        assert_eq!(server.ranges(), [Some(1234), None]);

        fs::remove_file(folder.path().join("file.gz")).unwrap();
        fs::write(&part, vec![0; 200_001]).unwrap();
        assert_eq!(fetch_from(&server, folder.path()).unwrap(), ["begins 0", "placed"]);
    }

    #[test]
    fn another_file_has_the_wrong_checksum_and_is_not_kept() {
        let folder = TempDir::new().unwrap();
        let mut other = content();
        other[150_000] ^= 1;
        let error = fetch_from(&Server::start(other, ranges()), folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::Checksum { .. }), "{error}");
        assert!(error.to_string().contains(&md5(&content())), "{error}");
        assert_eq!(files(folder.path()), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_another_length_is_refused_before_it_comes() {
        for (length, manners) in [(199_999, ranges()), (200_001, ranges()), (200_001, Manners { no_length: true, ..ranges() })] {
            let folder = TempDir::new().unwrap();
            let mut other = content();
            other.resize(length, 7);
            let error = fetch_from(&Server::start(other, manners), folder.path()).unwrap_err();
            assert!(matches!(error.cause(), FetchCause::Size { bytes: 200_000, .. }), "{error}");
            assert!(!folder.path().join("file.gz").exists());
        }
    }

    #[test]
    fn what_is_not_there_and_who_does_not_answer_say_what_to_do_by_hand() {
        let folder = TempDir::new().unwrap();
        let server = Server::start(content(), Manners { status: Some(404), ..Manners::default() });
        let error = fetch_from(&server, folder.path()).unwrap_err();
        let text = format!("cannot fetch, {}/file.gz: expected HTTP status 200 or 206, found 404", server.address);
        assert_eq!(error.to_string(), text);
        assert_eq!(server.ranges().len(), 1, "a refusal is final");

        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = Server { address: format!("http://{nobody}"), ranges: Arc::default() };
        let error = fetch_from(&silent, folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::Unreachable { .. }), "{error}");
        let hint = error.hint().unwrap();
        for part in ["http://official.example/", "file.gz (200000 bytes", &md5(&content()), folder.path().to_str().unwrap()] {
            assert!(hint.contains(part), "{part} in {hint}");
        }
    }

    #[test]
    fn a_file_in_the_way_is_left_alone() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("file.gz"), b"somebody's own").unwrap();
        let server = Server::start(content(), ranges());
        let error = fetch_from(&server, folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::InTheWay { .. }), "{error}");
        assert_eq!(fs::read(folder.path().join("file.gz")).unwrap(), b"somebody's own");
        assert!(server.ranges().is_empty());
    }

    #[test]
    fn one_process_at_a_time() {
        let folder = TempDir::new().unwrap();
        let part = File::create(folder.path().join(".file.gz.part")).unwrap();
        part.lock().unwrap();
        let error = fetch_from(&Server::start(content(), ranges()), folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::Busy { .. }), "{error}");
    }

    #[test]
    fn an_archive_of_records_is_unpacked_and_removed() {
        let archive = |records: usize| {
            let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
            for (label, name) in RECORD_FILES.iter().enumerate() {
                let mut record = vec![0; cifar::RECORD];
                record[0] = label as u8;
                let bytes = record.repeat(records);
                let mut header = tar::Header::new_ustar();
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), bytes.as_slice()).unwrap();
            }
            builder.into_inner().unwrap().finish().unwrap()
        };
        let fetch = |content: &[u8], folder: &Path| {
            let server = Server::start(content.to_vec(), ranges());
            let mut placed = 0;
            let mut count = |event: FetchEvent<'_>| placed += usize::from(matches!(event, FetchEvent::Placed { .. }));
            publication(content, true)
                .fetch(&server.address, folder, &agent(), &mut count)
                .map(|()| (placed, server.ranges().len()))
        };
        let folder = TempDir::new().unwrap();
        let whole = archive(10_000);
        assert_eq!(fetch(&whole, folder.path()).unwrap(), (7, 1));
        assert_eq!(files(folder.path()), RECORD_FILES);
        assert_eq!(cifar::load("x", &[folder.path().join("data_batch_3.bin")]).unwrap().labels, [2; 10_000]);
        assert_eq!(fetch(&whole, folder.path()).unwrap(), (0, 0), "the records are in place");

        let folder = TempDir::new().unwrap();
        let error = fetch(&archive(3), folder.path()).unwrap_err();
        assert!(matches!(error.cause(), FetchCause::Unpack { .. }), "{error}");
    }

    #[test]
    fn published_data_that_is_compressed_anew_is_in_place() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist");
        let mut in_place = 0;
        let mut tell = |event: FetchEvent<'_>| in_place += usize::from(matches!(event, FetchEvent::InPlace { .. }));
        PUBLICATIONS[0].fetch("http://127.0.0.1:1/", &shipped, &agent(), &mut tell).unwrap();
        assert_eq!(in_place, 4);
    }
}
