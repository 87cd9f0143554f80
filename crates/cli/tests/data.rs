//! `qat data`, and what `train` and `eval` say to data that is damaged.

mod command;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Output;

use command::{json, qat, refused, stderr, stdout, trained};
use image::{ImageFormat, RgbImage};
use tempfile::TempDir;

/// An IDX file of bytes.
fn idx(dimensions: &[u32], data: &[u8]) -> Vec<u8> {
    let magic = 0x0800 + dimensions.len() as u32;
    std::iter::once(&magic).chain(dimensions).flat_map(|word| word.to_be_bytes()).chain(data.iter().copied()).collect()
}

/// A folder of `images` train and test images of 28 by 28, with `labels` labels.
fn write(folder: &Path, images: u32, labels: u32) {
    for split in ["train", "t10k"] {
        let pixels = idx(&[images, 28, 28], &vec![7; images as usize * 784]);
        fs::write(folder.join(format!("{split}-images-idx3-ubyte")), pixels).unwrap();
        let classes: Vec<u8> = (0..labels).map(|label| (label % 10) as u8).collect();
        fs::write(folder.join(format!("{split}-labels-idx1-ubyte")), idx(&[labels], &classes)).unwrap();
    }
}

fn check(spec: &Path) -> Output {
    qat().args(["data", "check"]).arg(spec).output().unwrap()
}

#[test]
fn the_repositorys_mnist_is_the_published_one() {
    let report = json(["data", "check", "mnist"]);
    assert_eq!((report["train"].as_u64(), report["test"].as_u64()), (Some(60_000), Some(10_000)));
    assert!(report["verdicts"].as_array().unwrap().iter().all(|verdict| verdict == "published file"), "{report}");
    assert_eq!(report["files"].as_array().unwrap().len(), 4);
    let list = json(["data", "list"]);
    let found = |name: &str| list["datasets"].as_array().unwrap().iter().find(|entry| entry["name"] == name).unwrap().clone();
    assert!(found("mnist")["folder"].is_string());
    assert_eq!(found("cifar10")["name"], "cifar10");
}

#[test]
fn folders_are_checked_by_their_structure() {
    let folder = TempDir::new().unwrap();
    write(folder.path(), 20, 20);
    let output = check(folder.path());
    assert!(output.status.success());
    assert!(stdout(&output).contains("20 + 20 images of 1x28x28") && stdout(&output).contains("no published checksum"));
}

#[test]
fn damaged_data_is_refused() {
    let folder = TempDir::new().unwrap();
    let images = folder.path().join("t10k-images-idx3-ubyte");
    let eval = || qat().args(["eval", "--data"]).arg(folder.path()).arg(trained()).output().unwrap();
    refused(&check(&folder.path().join("none")), 1);
    assert!(refused(&check(folder.path()), 1).contains("found none of them"));

    write(folder.path(), 20, 19);
    assert!(refused(&check(folder.path()), 1).contains("19"));
    assert!(refused(&eval(), 1).contains("count mismatch"));

    write(folder.path(), 20, 20);
    let whole = fs::read(&images).unwrap();
    for length in [0, 3, 15, 16, 17, whole.len() - 1] {
        fs::write(&images, &whole[..length]).unwrap();
        assert!(refused(&eval(), 1).contains("truncated"), "{length} bytes");
    }
    fs::write(&images, idx(&[u32::MAX, u32::MAX, u32::MAX], &[])).unwrap();
    assert!(refused(&eval(), 1).contains("too large"));
    fs::write(&images, idx(&[20, 14, 56], &vec![0; 20 * 784])).unwrap();
    assert!(refused(&eval(), 1).contains("[1, 28, 28]"));
    let mut wrong_label = idx(&[20], &[3; 20]);
    *wrong_label.last_mut().unwrap() = 10;
    fs::write(&images, &whole).unwrap();
    fs::write(folder.path().join("t10k-labels-idx1-ubyte"), wrong_label).unwrap();
    assert!(refused(&eval(), 1).contains("below 10"));
}

#[test]
fn a_named_dataset_that_is_not_the_published_one_is_refused() {
    let root = TempDir::new().unwrap();
    let folder = root.path().join("mnist");
    fs::create_dir(&folder).unwrap();
    write(&folder, 20, 20);
    let output = qat().env("QAT_DATASETS", root.path()).args(["data", "check", "mnist"]).output().unwrap();
    assert!(refused(&output, 1).contains("checksum"));
}

/// A picture of 28 by 28 in one color, gray or RGB by the number of its channels.
fn picture(color: &[u8], format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    match *color {
        [shade] => image::GrayImage::from_pixel(28, 28, image::Luma([shade])).write_to(&mut bytes, format).unwrap(),
        [r, g, b] => RgbImage::from_pixel(28, 28, image::Rgb([r, g, b])).write_to(&mut bytes, format).unwrap(),
        _ => panic!("one or three channels"),
    }
    bytes.into_inner()
}

fn put(folder: &Path, path: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, bytes).unwrap();
    path
}

/// A folder of gray pictures of two classes in both splits.
fn pictures() -> TempDir {
    let folder = TempDir::new().unwrap();
    for (path, shade) in [("train/dark/a.jpg", 20), ("train/dark/b.png", 30), ("train/light/a.jpg", 220), ("test/dark/a.png", 25)]
    {
        let format = if path.ends_with("png") { ImageFormat::Png } else { ImageFormat::Jpeg };
        put(folder.path(), path, &picture(&[shade], format));
    }
    put(folder.path(), "test/light/a.png", &picture(&[230], ImageFormat::Png));
    folder
}

/// A .npy file.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n");
    [b"\x93NUMPY\x01\x00".as_slice(), &(header.len() as u16).to_le_bytes(), header.as_bytes(), data].concat()
}

/// An archive of a folder's files.
fn archive(folder: &Path) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_dir_all("pets", folder).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn every_form_of_data_is_checked_and_judged_on() {
    let folder = pictures();
    let tar = put(folder.path(), "pets.tar", &archive(folder.path()));
    for spec in [folder.path(), &tar] {
        let report = json([Path::new("data").as_os_str(), "check".as_ref(), spec.as_os_str()]);
        assert_eq!((report["train"].as_u64(), report["test"].as_u64()), (Some(3), Some(2)), "{report}");
        assert_eq!(report["class_names"], serde_json::json!(["dark", "light"]));
        assert_eq!(report["train_counts"], serde_json::json!([2, 1]));
    }
    let output = qat().args(["data", "check"]).arg(folder.path()).output().unwrap();
    assert!(
        stdout(&output).contains("3 + 2 images of 1x28x28, 2 classes") && stdout(&output).contains("dark"),
        "{}",
        stdout(&output)
    );

    let x = put(folder.path(), "x.npy", &npy("|u1", "(3, 1, 28, 28)", &[9; 3 * 784]));
    let y = put(folder.path(), "y.npy", &npy("<i8", "(3,)", &[1, 0, 0, 0, 0, 0, 0, 0].repeat(3)));
    let arrays = format!("{},{}", x.display(), y.display());
    let joined = format!("{}+{}", folder.path().display(), tar.display());
    for (spec, samples) in [(folder.path().to_str().unwrap(), 2), (&arrays, 3), (&joined, 4)] {
        let report = json(["eval", "--data", spec, trained().to_str().unwrap()]);
        assert_eq!(report["samples"].as_u64(), Some(samples), "{spec}");
    }
    let out = folder.path().join("run");
    let train = |spec: &str| qat().args(["train", spec, "--model", "mlp", "--out"]).arg(&out).output().unwrap();
    assert!(refused(&train(&arrays), 1).contains("one split for two"));
    assert!(!out.exists());
    let list = json(["data", "list"]);
    assert!(list["forms"].as_array().unwrap().iter().any(|form| form["path"] == "A+B"));
}

#[test]
fn bad_pictures_and_arrays_say_what_and_where() {
    let said = |change: &dyn Fn(&Path), words: &[&str]| {
        let folder = pictures();
        change(folder.path());
        let line = refused(&check(folder.path()), 1);
        for word in words {
            assert!(line.contains(word), "{word} in {line}");
        }
    };
    let jpeg = picture(&[1, 2, 3], ImageFormat::Jpeg);
    said(&|folder| fs::remove_file(folder.join("train/light/a.jpg")).unwrap(), &["empty class", "train/light"]);
    said(
        &|folder| drop(put(folder, "train/light/b.jpg", &jpeg)),
        &["differing picture", "train/light/b.jpg", "expected 1 channel", "found 3 channels"],
    );
    said(&|folder| drop(put(folder, "train/light/b.jpg", &jpeg[..jpeg.len() / 2])), &["corrupt picture", "train/light/b.jpg"]);
    let png = picture(&[7], ImageFormat::Png);
    said(&|folder| drop(put(folder, "test/dark/b.png", &png[..png.len() / 2])), &["corrupt picture", "test/dark/b.png"]);
    said(&|folder| drop(put(folder, "test/odd/b.png", &png)), &["differing classes", "\"odd\""]);

    let folder = TempDir::new().unwrap();
    let eval = |x: Vec<u8>, y: Vec<u8>| {
        let (x, y) = (put(folder.path(), "x.npy", &x), put(folder.path(), "y.npy", &y));
        let spec = format!("{},{}", x.display(), y.display());
        refused(&qat().args(["eval", "--data", &spec]).arg(trained()).output().unwrap(), 1)
    };
    let (x, y) = (npy("|u1", "(1, 1, 28, 28)", &[9; 784]), npy("|u1", "(1,)", &[1]));
    assert!(eval(npy("<f8", "(1, 1, 28, 28)", &[0; 8 * 784]), y.clone()).contains("wrong dtype"));
    assert!(eval(x.clone(), npy("<f4", "(1,)", &[0; 4])).contains("y.npy: expected integers"));
    assert!(eval(x.clone(), npy("<i2", "(1,)", &[0, 1])).contains("label out of range"));
    assert!(eval(npy("|u1", "(1, 784)", &[9; 784]), y).contains("wrong shape"));
    let line = refused(&qat().args(["eval", "--data"]).arg(folder.path().join("x.npy")).arg(trained()).output().unwrap(), 1);
    assert!(line.contains("no labels"), "{line}");

    let mut header = tar::Header::new_ustar();
    header.as_mut_bytes()[..18].copy_from_slice(b"../train/dark/a.jp");
    header.set_size(0);
    header.set_cksum();
    let escaping = put(folder.path(), "x.tar", &[header.as_bytes().as_slice(), &[0; 1024]].concat());
    assert!(refused(&check(&escaping), 1).contains("unsafe archive"));
}

/// An address at which there are the repository's own files of MNIST.
fn mirror() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/mnist", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let request = lines.next().unwrap();
            lines.find(|line| line.is_empty());
            let name = request.split(' ').nth(1).unwrap().rsplit('/').next().unwrap();
            let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/mnist").join(name)).unwrap();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&bytes));
        }
    });
    address
}

fn fetch(root: &Path, args: &[&str]) -> Output {
    let mut command = qat();
    // Whatever proxy there is does not know this machine's own addresses.
    for proxy in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    command.env("QAT_DATASETS", root).args(["data", "fetch"]).args(args).output().unwrap()
}

#[test]
fn fetching_places_the_published_files_or_says_what_to_place() {
    let root = TempDir::new().unwrap();
    // The repository's files have the published data in another wrapping, which is not the published file.
    let output = fetch(root.path(), &["mnist", "--from", &mirror()]);
    assert!(refused(&output, 1).contains("wrong file"), "{}", stderr(&output));

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = fetch(root.path(), &["cifar10", "--from", &format!("http://{nobody}")]);
    assert!(refused(&output, 1).contains("cannot fetch"));
    let hint = stderr(&output);
    for part in ["cifar-10-binary.tar.gz (170052171 bytes, md5 c32a1d4ab5d03f1284b67883e8d87530)", "cs.toronto.edu", "cifar10:"] {
        assert!(hint.contains(part), "{part} in {hint}");
    }
    assert!(refused(&fetch(root.path(), &["imagenet"]), 1).contains("mnist, fashion-mnist, cifar10"));

    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets");
    let output = fetch(&shipped, &["mnist", "--json", "-q"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let report: serde_json::Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(report["files"].as_array().unwrap().len(), 4);
}
