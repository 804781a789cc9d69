//! Pictures as PNG: 8-bit RGB, with text chunks for the settings.
//!
//! The same picture and texts give the same bytes. Texts outside Latin-1 become iTXt, as other
//! programs write them. Reading trusts nothing: sizes are limited before memory is taken.

use std::io::Cursor;
use std::path::Path;

use png::BitDepth;
use png::ColorType;
use png::Limits;
use png::text_metadata::ITXtChunk;
use png::text_metadata::TEXtChunk;

use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;

/// Most pixels of a picture that is read: 8192 x 8192, 192 MiB.
const MOST_PIXELS: u64 = 1 << 26;
/// Most bytes of all texts of a file together, unpacked.
const MOST_TEXT: usize = 8 << 20;
/// What the decoder may allocate beside the pixels: a row and the chunks, packed.
const MOST_WORKSPACE: usize = 16 << 20;

/// A picture: rows from the top, three bytes a pixel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Pixels of a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub data: Vec<u8>,
}

impl RgbImage {
    /// The picture in `pixels [H, W, 3]`.
    #[must_use]
    pub fn from_tensor(pixels: &Tensor<u8, 3>) -> Self {
        let [height, width, _] = pixels.shape();
        Self { width, height, data: pixels.host().to_vec() }
    }

    /// Peak signal-to-noise ratio against a picture of the same size, in dB; 100 for the same picture,
    /// which is more than any other can have.
    ///
    /// # Panics
    /// If the sizes differ: a bug of the caller.
    #[must_use]
    pub fn psnr(&self, other: &Self) -> f64 {
        assert_eq!([self.width, self.height], [other.width, other.height], "pictures of two sizes");
        let square = |(a, b): (&u8, &u8)| (f64::from(*a) - f64::from(*b)).powi(2);
        let sum: f64 = self.data.iter().zip(&other.data).map(square).sum();
        match sum > 0.0 {
            true => 10.0 * (255.0 * 255.0 * self.data.len() as f64 / sum).log10(),
            false => 100.0,
        }
    }
}

/// The picture as a PNG file with `texts`, keyword and text, in that order.
///
/// # Errors
/// [`Error::Request`] if the picture is empty or its data does not fit its size, a keyword has not 1
/// to 79 Latin-1 characters, or a text holds NUL.
pub fn encode_png(image: &RgbImage, texts: &[(&str, &str)]) -> Result<Vec<u8>> {
    let (width, height) = checked_size(image)?;
    for (keyword, text) in texts {
        let sound = keyword.chars().all(is_latin1) && (1..=79).contains(&keyword.chars().count());
        if !sound || text.contains('\0') {
            let reason = format!("expected a keyword and a text without NUL, found `{keyword}`");
            return Err(Error::Request { field: "PNG text", reason });
        }
    }
    let mut file = Vec::new();
    write_png(&mut file, (width, height), &image.data, texts).map_err(|error| {
        let reason = format!("expected a picture that PNG can hold: {error}");
        Error::Request { field: "image", reason }
    })?;
    Ok(file)
}

fn write_png(
    file: &mut Vec<u8>,
    (width, height): (u32, u32),
    data: &[u8],
    texts: &[(&str, &str)],
) -> std::result::Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(file, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    for &(keyword, text) in texts {
        if text.chars().all(is_latin1) {
            writer.write_text_chunk(&TEXtChunk::new(keyword, text))?;
        } else {
            writer.write_text_chunk(&ITXtChunk::new(keyword, text))?;
        }
    }
    writer.write_image_data(data)?;
    writer.finish()
}

fn checked_size(image: &RgbImage) -> Result<(u32, u32)> {
    let RgbImage { width, height, data } = image;
    let bytes = width.checked_mul(*height).and_then(|pixels| pixels.checked_mul(3));
    match (u32::try_from(*width), u32::try_from(*height)) {
        (Ok(columns @ 1..), Ok(rows @ 1..)) if bytes == Some(data.len()) => Ok((columns, rows)),
        _ => {
            let found = data.len();
            let reason = format!("expected {width} x {height} x 3 bytes, found {found}");
            Err(Error::Request { field: "image", reason })
        }
    }
}

/// Printable Latin-1 and the line feed: what a tEXt chunk may hold.
fn is_latin1(character: char) -> bool {
    matches!(character, '\n' | ' '..='~' | '\u{a0}'..='\u{ff}')
}

/// The picture and the texts, keyword and text, of a PNG file: plain texts first, then compressed,
/// then Unicode ones. `path` is for messages only.
///
/// # Errors
/// [`Error::Format`] naming `path`: not a PNG, damaged, not 8-bit RGB, more than 8192 x 8192 pixels,
/// more than 8 MiB of text.
pub fn decode_png(bytes: &[u8], path: &Path) -> Result<(RgbImage, Vec<(String, String)>)> {
    let fail = |reason: String| Error::Format { path: path.to_owned(), reason };
    let damaged = |error| fail(format!("expected a sound PNG file: {error}"));
    let limits = Limits { bytes: MOST_WORKSPACE };
    let decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    let mut reader = decoder.read_info().map_err(damaged)?;

    let info = reader.info();
    let (width, height) = info.size();
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        let most = format!("expected at most {MOST_PIXELS} pixels");
        return Err(fail(format!("{most}, found {width} x {height}")));
    }
    if (info.color_type, info.bit_depth) != (ColorType::Rgb, BitDepth::Eight) {
        let found = format!("{:?} of depth {:?}", info.color_type, info.bit_depth);
        return Err(fail(format!("expected RGB of depth Eight, found {found}")));
    }
    let size = reader.output_buffer_size().ok_or_else(|| fail("picture too large".to_owned()))?;
    let mut data = vec![0; size];
    reader.next_frame(&mut data).map_err(damaged)?;
    // Texts may follow the pixels.
    reader.finish().map_err(damaged)?;
    let texts = texts_of(reader.info()).map_err(damaged)?;
    Ok((RgbImage { width: width as usize, height: height as usize, data }, texts))
}

fn texts_of(
    info: &png::Info<'_>,
) -> std::result::Result<Vec<(String, String)>, png::DecodingError> {
    let mut room = MOST_TEXT;
    let mut texts = Vec::new();
    let mut push = |keyword: &str, text: String| {
        room = room.checked_sub(text.len()).ok_or(png::DecodingError::LimitsExceeded)?;
        texts.push((keyword.to_owned(), text));
        Ok::<usize, png::DecodingError>(room)
    };
    let mut left = MOST_TEXT;
    for chunk in &info.uncompressed_latin1_text {
        left = push(&chunk.keyword, chunk.text.clone())?;
    }
    for chunk in &info.compressed_latin1_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(left)?;
        left = push(&chunk.keyword, chunk.get_text()?)?;
    }
    for chunk in &info.utf8_text {
        let mut chunk = chunk.clone();
        chunk.decompress_text_with_limit(left)?;
        left = push(&chunk.keyword, chunk.get_text()?)?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn picture() -> RgbImage {
        RgbImage { width: 3, height: 2, data: (0..18).collect() }
    }

    fn file(texts: &[(&str, &str)]) -> Vec<u8> {
        encode_png(&picture(), texts).unwrap()
    }

    fn reason(bytes: &[u8]) -> String {
        decode_png(bytes, Path::new("a.png")).unwrap_err().to_string()
    }

    /// A chunk as it stands in a file, with its checksum.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut checksum = u32::MAX;
        for byte in kind.iter().chain(data) {
            checksum ^= u32::from(*byte);
            for _ in 0..8 {
                checksum = (checksum >> 1) ^ (0xedb8_8320 * (checksum & 1));
            }
        }
        let length = u32::try_from(data.len()).unwrap().to_be_bytes();
        [&length, kind.as_slice(), data, &(!checksum).to_be_bytes()].concat()
    }

    /// The file with a chunk put in front of its pixels.
    fn with_chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        let mut file = file(&[]);
        file.splice(33..33, chunk(kind, data));
        file
    }

    /// The file with another header.
    fn with_header(width: u32, height: u32, depth: u8, color: ColorType) -> Vec<u8> {
        let sizes = [width.to_be_bytes(), height.to_be_bytes()].concat();
        let header = [sizes.as_slice(), &[depth, color as u8, 0, 0, 0]].concat();
        let mut file = file(&[]);
        file.splice(8..33, chunk(b"IHDR", &header));
        file
    }

    #[test]
    fn psnr_of_pictures() {
        let one = RgbImage { width: 1, height: 1, data: vec![10, 20, 30] };
        assert!((one.psnr(&one) - 100.0).abs() < 1e-12);
        let off_by_255 = RgbImage { data: vec![0; 3], ..one.clone() };
        let white = RgbImage { data: vec![255; 3], ..one.clone() };
        assert!(white.psnr(&off_by_255).abs() < 1e-12);
        let near = RgbImage { data: vec![11, 20, 30], ..one.clone() };
        // 10 log10(255^2 * 3).
        assert!((one.psnr(&near) - 52.9018).abs() < 1e-3);
    }

    #[test]
    fn pixels_and_texts_come_back() {
        let texts =
            [("parameters", "a fox\nSteps: 4"), ("caf\u{e9}", "\u{ff}"), ("flux-rt", "狐 🦊")];
        let bytes = file(&texts);
        assert_eq!(bytes, file(&texts), "the bytes depend on nothing else");
        let (image, read) = decode_png(&bytes, Path::new("a.png")).unwrap();
        assert_eq!(image, picture());
        let read: Vec<(&str, &str)> = read.iter().map(|(k, t)| (k.as_str(), t.as_str())).collect();
        assert_eq!(read, texts);
        let kinds = ["tEXtparameters\0a fox", "tEXtcaf", "iTXtflux-rt\0\0\0\0\0狐"];
        for kind in kinds {
            let found = bytes.windows(kind.len()).any(|window| window == kind.as_bytes());
            assert!(found, "{kind}");
        }
    }

    #[test]
    fn what_png_cannot_hold_is_refused() {
        for (width, height, bytes) in [(0, 2, 0), (3, 2, 17), (usize::MAX, 2, 6)] {
            let image = RgbImage { width, height, data: vec![0; bytes] };
            let error = encode_png(&image, &[]).unwrap_err();
            assert!(matches!(error, Error::Request { field: "image", .. }), "{error}");
        }
        for texts in [("", "a"), (&*"k".repeat(80), "a"), ("狐", "a"), ("k", "a\0b")] {
            let error = encode_png(&picture(), &[texts]).unwrap_err();
            assert!(matches!(error, Error::Request { field: "PNG text", .. }), "{error}");
        }
    }

    #[test]
    fn hostile_files_are_refused() {
        assert!(reason(b"").starts_with("a.png: expected a sound PNG file"));
        assert!(reason(b"GIF89a").starts_with("a.png: expected a sound PNG file"));
        let sound = file(&[("parameters", "text")]);
        for length in 0..sound.len() - 12 {
            assert!(decode_png(&sound[..length], Path::new("a.png")).is_err(), "{length} bytes");
        }

        assert_eq!(
            reason(&with_header(1 << 20, 1 << 20, 8, ColorType::Rgb)),
            "a.png: expected at most 67108864 pixels, found 1048576 x 1048576"
        );
        assert!(
            decode_png(&with_header(8192, 8192, 8, ColorType::Rgb), Path::new("a.png")).is_err()
        );
        assert_eq!(
            reason(&with_header(3, 2, 8, ColorType::Rgba)),
            "a.png: expected RGB of depth Eight, found Rgba of depth Eight"
        );
        assert_eq!(
            reason(&with_header(3, 2, 16, ColorType::Rgb)),
            "a.png: expected RGB of depth Eight, found Rgb of depth Sixteen"
        );
    }

    #[test]
    fn text_bombs_are_refused() {
        let mut bomb = png::text_metadata::ZTXtChunk::new("k", " ".repeat(MOST_TEXT + 1));
        bomb.compress_text().unwrap();
        let mut packed = Vec::new();
        png::text_metadata::EncodableTextChunk::encode(&bomb, &mut packed).unwrap();
        let data = &packed[8..packed.len() - 4];
        assert!(data.len() < 100_000, "{}", data.len());
        let message = reason(&with_chunk(b"zTXt", data));
        assert!(message.starts_with("a.png: expected a sound PNG file"), "{message}");
        // Plain text of that size, and a chunk whose parts are missing.
        let plain = [b"k\0".as_slice(), " ".repeat(MOST_TEXT + 1).as_bytes()].concat();
        assert!(reason(&with_chunk(b"tEXt", &plain)).contains("limits"));
        for cut in [b"".as_slice(), b"k", b"k\0", b"k\0\0", b"k\0\0\0", b"k\0\0\0\0"] {
            let (image, texts) = decode_png(&with_chunk(b"iTXt", cut), Path::new("a.png")).unwrap();
            assert_eq!((image, texts), (picture(), Vec::new()), "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(at in 0usize..200, byte: u8) {
            let mut bytes = file(&[("parameters", "text"), ("flux-rt", "狐")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok((image, _)) = decode_png(&bytes, Path::new("a.png")) {
                prop_assert_eq!(image.data.len(), image.width * image.height * 3);
            }
        }
    }
}
