//! Pictures, JPEG or PNG, as bytes `[C, H, W]`, many of them on all cores.
//!
//! What a file is says its content, not its name. All pictures of a set have the channels and the size of its first; nothing is
//! scaled or converted, since a model is to see what is there. Refused: other formats, channels other than one (gray) and three
//! (R, G, B), 16 bits a channel, a damaged or unfinished file, sides of more than [`MAX_SIDE`]. A header is judged before memory is
//! taken for what it claims. JPEG is decoded strictly and to its end;
//! it has no checksum, so that damage which leaves it well-formed cannot be told.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::thread;

use image::codecs::png::PngDecoder;
use image::{ColorType, ImageDecoder};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::error::DataError;
use super::images::ImageSet;

/// The most pixels that a side of a picture may have.
pub const MAX_SIDE: usize = 4096;

/// The most bytes that a picture's file may have: 64 MiB.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// The most bytes of pixels that a set may have: 8 GiB.
pub(super) const MAX_SET: u64 = 8 << 30;

/// A picture that is yet to be decoded.
#[derive(Debug)]
pub(super) struct Encoded {
    /// The file, or its name within an archive after the archive's.
    pub(super) path: PathBuf,
    /// Its class.
    pub(super) label: u8,
    /// Where its bytes are.
    pub(super) bytes: Bytes,
}

/// Where the bytes of a picture are.
#[derive(Debug)]
pub(super) enum Bytes {
    /// In the file of its path.
    InFile,
    /// Here.
    Here(Vec<u8>),
}

/// Whether a file of this name is taken for a picture.
pub(super) fn is_picture(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension).to_ascii_lowercase();
    !name.starts_with('.') && ["jpg", "jpeg", "png"].contains(&extension.as_str())
}

/// Decodes all pictures, of which there is at least one, in their order.
pub(super) fn decode(name: &str, class_names: Vec<String>, pictures: &[Encoded]) -> Result<ImageSet, DataError> {
    let first = &pictures[0];
    let shape = Picture::open(first, &mut Vec::new())?.shape;
    let len: usize = shape.iter().product();
    let needed = len as u64 * pictures.len() as u64;
    if needed > MAX_SET {
        return Err(DataError::TooLarge { path: first.path.clone(), limit: MAX_SET, found: u128::from(needed) });
    }
    let mut images = vec![0; needed as usize];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = pictures.len().div_ceil(threads);
    let decode_share = |(pictures, images): (&[Encoded], &mut [u8])| {
        let (mut file, mut pixels) = (Vec::new(), Vec::new());
        for (picture, image) in pictures.iter().zip(images.chunks_exact_mut(len)) {
            let picture_of = Picture::open(picture, &mut file)?;
            if picture_of.shape != shape {
                let (path, first) = (picture.path.clone(), first.path.clone());
                return Err(DataError::PictureShape { path, first, expected: shape, found: picture_of.shape });
            }
            picture_of.pixels(&picture.path, &mut pixels)?;
            for (channel, plane) in image.chunks_exact_mut(shape[1] * shape[2]).enumerate() {
                for (byte, pixel) in plane.iter_mut().zip(pixels.chunks_exact(shape[0])) {
                    *byte = pixel[channel];
                }
            }
        }
        Ok(())
    };
    // The shares are joined in their order, so that of several bad pictures the first one is told.
    thread::scope(|scope| {
        let shares = pictures.chunks(share).zip(images.chunks_mut(share * len));
        let workers: Vec<_> = shares.map(|share| scope.spawn(|| decode_share(share))).collect();
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    let labels = pictures.iter().map(|picture| picture.label).collect();
    Ok(ImageSet { name: name.to_owned(), shape, classes: class_names.len(), class_names, images, labels })
}

/// A picture whose header has been read.
struct Picture<'a> {
    /// `[C, H, W]`.
    shape: [usize; 3],
    decoder: Decoder<'a>,
}

enum Decoder<'a> {
    Jpeg(Box<JpegDecoder<ZCursor<&'a [u8]>>>),
    Png(Box<PngDecoder<Cursor<&'a [u8]>>>),
}

impl<'a> Picture<'a> {
    /// Reads the header; `file` keeps the bytes of a picture that is a file.
    fn open(picture: &'a Encoded, file: &'a mut Vec<u8>) -> Result<Self, DataError> {
        let path = &picture.path;
        let bytes: &[u8] = match &picture.bytes {
            Bytes::Here(bytes) => bytes,
            Bytes::InFile => {
                let len = fs::metadata(path).map_err(|error| DataError::io(path, error))?.len();
                if len > MAX_FILE {
                    return Err(DataError::TooLarge { path: path.clone(), limit: MAX_FILE, found: u128::from(len) });
                }
                *file = fs::read(path).map_err(|error| DataError::io(path, error))?;
                file
            }
        };
        if bytes.starts_with(&[0xff, 0xd8]) {
            Self::open_jpeg(path, bytes)
        } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            Self::open_png(path, bytes)
        } else {
            let start = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            let found = if bytes.is_empty() { "an empty file".into() } else { format!("a file that begins with {start}") };
            Err(DataError::CorruptPicture { path: path.clone(), found })
        }
    }

    fn open_jpeg(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        if !ends(bytes) {
            return Err(DataError::CorruptPicture { path: path.into(), found: "no end of the JPEG data".into() });
        }
        // The sides are judged below, in this module's words.
        let options = DecoderOptions::new_fast().set_strict_mode(true).set_max_width(usize::MAX).set_max_height(usize::MAX);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
        decoder.decode_headers().map_err(|error| corrupt(path, error))?;
        let (Some((width, height)), Some(colors)) = (decoder.dimensions(), decoder.input_colorspace()) else {
            return Err(corrupt(path, "no header of a picture"));
        };
        let channels = match colors {
            ColorSpace::Luma => 1,
            ColorSpace::YCbCr | ColorSpace::RGB => 3,
            other => {
                return Err(DataError::PictureChannels {
                    path: path.into(),
                    found: format!("{} channels", other.num_components()),
                });
            }
        };
        let out = if channels == 1 { ColorSpace::Luma } else { ColorSpace::RGB };
        decoder.set_options(options.jpeg_set_out_colorspace(out));
        Ok(Self { shape: sides(path, channels, height, width)?, decoder: Decoder::Jpeg(Box::new(decoder)) })
    }

    fn open_png(path: &Path, bytes: &'a [u8]) -> Result<Self, DataError> {
        // The decoder has limits of its own; the sides are judged before it can say so in its words.
        if let Some([b'I', b'H', b'D', b'R', header @ ..]) = bytes.get(12..24) {
            let side = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
            sides(path, 1, side(4), side(0))?;
        }
        let decoder = PngDecoder::new(Cursor::new(bytes)).map_err(|error| corrupt(path, error))?;
        let (width, height) = decoder.dimensions();
        let channels = match decoder.color_type() {
            ColorType::L8 => 1,
            ColorType::Rgb8 => 3,
            other => {
                let bits = other.bits_per_pixel() / u16::from(other.channel_count());
                let found = format!("{} of {bits} bits", other.channel_count());
                return Err(DataError::PictureChannels { path: path.into(), found });
            }
        };
        let shape = sides(path, channels, height as usize, width as usize)?;
        Ok(Self { shape, decoder: Decoder::Png(Box::new(decoder)) })
    }

    /// Its pixels, `[H, W, C]`.
    fn pixels(self, path: &Path, pixels: &mut Vec<u8>) -> Result<(), DataError> {
        pixels.clear();
        pixels.resize(self.shape.iter().product(), 0);
        match self.decoder {
            Decoder::Jpeg(mut decoder) => decoder.decode_into(pixels).map_err(|error| corrupt(path, error)),
            Decoder::Png(decoder) => decoder.read_image(pixels).map_err(|error| corrupt(path, error)),
        }
    }
}

/// A shape whose sides are neither 0 nor too large.
fn sides(path: &Path, channels: usize, height: usize, width: usize) -> Result<[usize; 3], DataError> {
    if (1..=MAX_SIDE).contains(&height) && (1..=MAX_SIDE).contains(&width) {
        return Ok([channels, height, width]);
    }
    Err(DataError::PictureSides { path: path.into(), limit: MAX_SIDE, height, width })
}

/// Whether JPEG data has an end-of-image marker after its first scan has begun. Markers before it may belong to a thumbnail.
fn ends(bytes: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..at + 4) {
        match marker {
            0xff => at += 1,
            0xda => return bytes[at..].windows(2).any(|pair| pair == [0xff, 0xd9]),
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    // Whatever this is, the decoder says what is wrong with it.
    true
}

fn corrupt(path: &Path, found: impl std::fmt::Display) -> DataError {
    DataError::CorruptPicture { path: path.into(), found: found.to_string().split_whitespace().collect::<Vec<_>>().join(" ") }
}

/// Pictures for the tests of this module and of those that find pictures.
#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    /// A picture of one shade of gray, with `channels` channels.
    pub fn png(channels: usize, height: u32, width: u32, shade: u8) -> Vec<u8> {
        let color =
            [ExtendedColorType::L8, ExtendedColorType::La8, ExtendedColorType::Rgb8, ExtendedColorType::Rgba8][channels - 1];
        encoded_png(color, height, width, &vec![shade; channels * (height * width) as usize])
    }

    fn encoded_png(color: ExtendedColorType, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(pixels, width, height, color).unwrap();
        bytes
    }

    /// As [`png`], but as JPEG.
    pub fn jpeg(channels: usize, height: u32, width: u32, shade: u8) -> Vec<u8> {
        let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        encoded_jpeg(color, height, width, &vec![shade; channels * (height * width) as usize])
    }

    fn encoded_jpeg(color: ExtendedColorType, height: u32, width: u32, pixels: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 95).write_image(pixels, width, height, color).unwrap();
        bytes
    }

    /// A picture with something to see in every part of it.
    fn pattern(color: ExtendedColorType, height: u32, width: u32) -> Vec<u8> {
        let channels = if color == ExtendedColorType::L8 { 1 } else { 3 };
        (0..height * width * channels).map(|at| (at * at % 251) as u8).collect()
    }

    fn decode_all(pictures: Vec<(&str, Vec<u8>)>) -> Result<ImageSet, DataError> {
        let encoded = |(path, bytes): (&str, Vec<u8>)| Encoded { path: path.into(), label: 0, bytes: Bytes::Here(bytes) };
        let pictures: Vec<Encoded> = pictures.into_iter().map(encoded).collect();
        decode("test", vec!["thing".into()], &pictures)
    }

    fn refused(bytes: &[u8]) -> DataError {
        decode_all(vec![("good.png", png(3, 8, 8, 1)), ("folder/bad", bytes.to_vec())]).unwrap_err()
    }

    #[test]
    fn pixels_become_planes_in_the_order_of_the_pictures() {
        let one = encoded_png(ExtendedColorType::Rgb8, 1, 2, &[1, 2, 3, 4, 5, 6]);
        let other = encoded_png(ExtendedColorType::Rgb8, 1, 2, &[7, 8, 9, 10, 11, 12]);
        let set = decode_all((0..9).map(|at| ("p", if at % 2 == 0 { one.clone() } else { other.clone() })).collect()).unwrap();
        assert_eq!((set.shape, set.len()), ([3, 1, 2], 9));
        for at in 0..9 {
            let expected = if at % 2 == 0 { [1, 4, 2, 5, 3, 6] } else { [7, 10, 8, 11, 9, 12] };
            assert_eq!(set.image(at), expected);
        }
    }

    #[test]
    fn jpeg_is_near_what_was_encoded_and_gray_stays_gray() {
        let set = decode_all(vec![("a", jpeg(3, 16, 24, 200))]).unwrap();
        assert_eq!(set.shape, [3, 16, 24]);
        assert!(set.images.iter().all(|byte| byte.abs_diff(200) <= 1));
        assert_eq!(decode_all(vec![("a", jpeg(1, 16, 24, 90))]).unwrap().shape, [1, 16, 24]);
        assert_eq!(decode_all(vec![("a", png(1, 2, 3, 7))]).unwrap().images, [7; 6]);
    }

    #[test]
    fn the_odd_one_out_is_named_with_what_it_has() {
        let error = refused(&png(1, 8, 8, 1)).to_string();
        let text =
            "differing picture, folder/bad: expected 3 channels, 8 x 8 pixels as of good.png, found 1 channel, 8 x 8 pixels";
        assert_eq!(error, text);
        assert!(refused(&jpeg(1, 8, 8, 1)).to_string().contains("found 1 channel"));
        assert!(refused(&jpeg(3, 8, 9, 1)).to_string().ends_with("found 3 channels, 9 x 8 pixels"));
        assert!(refused(&png(4, 8, 8, 1)).to_string().ends_with("expected 1 or 3 channels of 8 bits, found 4 of 8 bits"));
        let deep = encoded_png(ExtendedColorType::Rgb16, 8, 8, &[0; 8 * 8 * 6]);
        assert!(refused(&deep).to_string().ends_with("found 3 of 16 bits"));
        let several = ["a", "b", "c", "d", "e", "f", "g"].map(|name| (name, png(3, 8, 8 + u32::from(name >= "d"), 1)));
        assert!(decode_all(several.to_vec()).unwrap_err().to_string().contains("picture, d:"), "the first of several is told");
    }

    #[test]
    fn every_truncation_is_refused() {
        let whole = encoded_png(ExtendedColorType::Rgb8, 8, 8, &pattern(ExtendedColorType::Rgb8, 8, 8));
        // The last chunk, 12 bytes, has no pixels.
        for len in 0..whole.len() - 12 {
            let error = refused(&whole[..len]);
            assert!(
                matches!(&error, DataError::CorruptPicture { path, .. } if path == Path::new("folder/bad")),
                "{len}: {error}"
            );
        }
        for color in [ExtendedColorType::L8, ExtendedColorType::Rgb8] {
            let whole = encoded_jpeg(color, 24, 24, &pattern(color, 24, 24));
            for len in 0..whole.len() {
                let error = refused(&whole[..len]);
                assert!(matches!(error, DataError::CorruptPicture { .. }), "{len}: {error}");
            }
        }
    }

    #[test]
    fn damage_never_panics() {
        let jpeg = encoded_jpeg(ExtendedColorType::Rgb8, 32, 32, &pattern(ExtendedColorType::Rgb8, 32, 32));
        let png = encoded_png(ExtendedColorType::Rgb8, 32, 32, &pattern(ExtendedColorType::Rgb8, 32, 32));
        for whole in [&jpeg, &png] {
            for at in 0..whole.len() {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x55;
                let _ = decode_all(vec![("p", damaged)]);
            }
        }
        // A flipped bit of PNG's pixels is found by its checksum.
        let middle = png.len() / 2;
        let mut damaged = png.clone();
        damaged[middle] ^= 1;
        assert!(matches!(decode_all(vec![("p", damaged)]), Err(DataError::CorruptPicture { .. })));
    }

    #[test]
    fn headers_that_claim_much_are_refused_before_memory_is_taken() {
        let mut giant = png(3, 8, 8, 1);
        giant[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        // The header's checksum, CRC-32 of the chunk's type and data.
        let mut crc = flate2::Crc::new();
        crc.update(&giant[12..29]);
        giant[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        let error = decode_all(vec![("p", giant)]).unwrap_err();
        assert!(matches!(error, DataError::PictureSides { height: 0x7fff_ffff, .. }), "{error}");

        let mut giant = jpeg(3, 8, 8, 1);
        let frame = giant.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
        giant[frame + 5..frame + 9].copy_from_slice(&[0xff; 4]);
        let error = decode_all(vec![("p", giant)]).unwrap_err();
        assert_eq!(error.to_string(), "unsupported picture, p: expected sides of 1 to 4096 pixels, found 65535 x 65535");
    }

    #[test]
    fn content_that_is_no_picture_says_how_it_begins() {
        assert_eq!(
            refused(b"GIF89a").to_string(),
            "corrupt picture, folder/bad: expected a whole JPEG or PNG, found a file that begins with 47 49 46 38"
        );
        assert!(refused(b"").to_string().ends_with("found an empty file"));
    }
}
