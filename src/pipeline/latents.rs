//! Latents files: safetensors with one tensor `latents`.
//!
//! Read are packed latents `[B, tokens, 64]` or `[tokens, 64]` and unpacked ones `[B, 16, h, w]`, in
//! f32, bf16 or f16; written are packed ones in f32, as diffusers' step callback sees them.

use std::path::Path;

use half::bf16;
use half::f16;
use safetensors::Dtype;
use safetensors::tensor::TensorView;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::files;
use crate::files::File;
use crate::model::config::VaeConfig;
use crate::model::weights::checkpoint::Checkpoint;
use crate::ops::pack;

/// The tensor's name.
const NAME: &str = "latents";

/// Latents read from a file.
#[derive(Debug)]
#[non_exhaustive]
pub struct LatentsFile {
    /// `[tokens, 64]` of each picture.
    pub packed: Vec<Tensor<f32, 2>>,
    /// Width and height of the pictures in pixels, known for unpacked latents only.
    pub size: Option<[usize; 2]>,
}

/// Reads the latents in a file.
///
/// # Errors
/// [`Error::Read`], [`Error::Format`] for a broken file, [`Error::Weight`] when there is no tensor
/// `latents` or it has another dtype or shape, or holds NaN or infinity.
pub fn read(path: &Path) -> Result<LatentsFile> {
    let checkpoint = Checkpoint::open(&File::Disk(path.into()))?;
    let (Some(stored), Some(bytes)) = (checkpoint.stored(NAME), checkpoint.bytes_of(NAME)) else {
        let names: Vec<&str> = checkpoint.names().take(4).collect();
        let found = format!("tensors like {}", names.join(", "));
        return Err(checkpoint.error(NAME, "a tensor of that name", found));
    };
    let values: Vec<f32> = match stored.dtype {
        Dtype::F32 => words(bytes).map(f32::from_le_bytes).collect(),
        Dtype::BF16 => words(bytes).map(|word| bf16::from_le_bytes(word).to_f32()).collect(),
        Dtype::F16 => words(bytes).map(|word| f16::from_le_bytes(word).to_f32()).collect(),
        other => return Err(checkpoint.error(NAME, "F32, BF16 or F16", format!("{other:?}"))),
    };
    checkpoint.expect_whole()?;
    if let Some(index) = values.iter().position(|value| !value.is_finite()) {
        let found = format!("{} at index {index}", values[index]);
        return Err(checkpoint.error(NAME, "finite numbers", found));
    }
    let misshapen = || {
        let expected = "[B, tokens, 64], [tokens, 64] or [B, 16, h, w] with even h and w";
        checkpoint.error(NAME, expected, format!("{:?}", stored.shape))
    };
    if stored.shape.contains(&0) {
        return Err(misshapen());
    }
    match *stored.shape {
        [tokens, channels] | [_, tokens, channels] => {
            let shape = [tokens, channels];
            let packed = values.chunks(tokens * channels);
            let packed = packed.map(|values| Tensor::from_host(shape, values.to_vec())).collect();
            Ok(LatentsFile { packed, size: None })
        }
        [_, channels, height, width] => {
            let shape = [channels, height, width];
            let packed_shape = pack::packed_shape(shape).map_err(|_| misshapen())?;
            let pack = |values: &[f32]| {
                let latents = Tensor::from_host(shape, values.to_vec());
                let mut packed = Tensor::<Act, 2>::zeros(packed_shape);
                pack::pack(&mut packed, &latents)?;
                Ok(Tensor::from_host(packed_shape, packed.host().to_vec()))
            };
            let packed = values.chunks(channels * height * width).map(pack).collect::<Result<_>>();
            let size = [width, height].map(|side| side * VaeConfig::PIXELS_PER_LATENT);
            Ok(LatentsFile { packed: packed?, size: Some(size) })
        }
        _ => Err(misshapen()),
    }
}

/// Writes packed latents, all of one shape `[tokens, 64]`, as f32 `[B, tokens, 64]`.
///
/// # Errors
/// [`Error::Write`]; [`Error::Request`] when the pictures differ in size.
pub fn write(path: &Path, pictures: &[Tensor<f32, 2>]) -> Result<()> {
    let [tokens, channels] = pictures.first().map_or([0, 64], Tensor::shape);
    if let Some(other) = pictures.iter().find(|picture| picture.shape() != [tokens, channels]) {
        let found = other.shape();
        let reason =
            format!("expected latents of one size, found [{tokens}, {channels}] and {found:?}");
        return Err(Error::Request { field: "save-latents", reason });
    }
    let values = pictures.iter().flat_map(Tensor::host);
    let bytes: Vec<u8> = values.flat_map(|value| value.to_le_bytes()).collect();
    let invalid = |error| Error::Write { path: path.into(), source: std::io::Error::other(error) };
    let shape = vec![pictures.len(), tokens, channels];
    let view = TensorView::new(Dtype::F32, shape, &bytes).map_err(invalid)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let file = safetensors::serialize([(NAME, view)], Some(metadata)).map_err(invalid)?;
    files::write_atomic(path, &file)
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> std::path::PathBuf {
        let path = folder.join("latents.safetensors");
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        files::write_atomic(&path, &safetensors::serialize([(NAME, view)], None).unwrap()).unwrap();
        path
    }

    fn bytes_of(values: impl Iterator<Item = u8>) -> Vec<u8> {
        values.flat_map(|value| f32::from(value).to_le_bytes()).collect()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latents.safetensors");
        let picture = |start: f32| Tensor::from_host([2, 2], vec![start, -0.5, 1e-9, 3.25]);
        write(&path, &[picture(1.0), picture(2.0)]).unwrap();
        let read = read(&path).unwrap();
        assert_eq!(read.size, None);
        assert_eq!(read.packed.len(), 2);
        assert_eq!(read.packed[1].host(), picture(2.0).host());
        assert_eq!(read.packed[1].shape(), [2, 2]);
    }

    #[test]
    fn unpacked_latents_are_packed_and_tell_the_size() {
        let folder = tempfile::tempdir().unwrap();
        // Two pictures of one channel, 2 rows of 4: two tokens each.
        let path = file(folder.path(), Dtype::F32, &[2, 1, 2, 4], &bytes_of(0..16));
        let read = read(&path).unwrap();
        assert_eq!(read.size, Some([32, 16]));
        assert_eq!(read.packed[0].host(), [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
        assert_eq!(read.packed[1].host(), [8.0, 9.0, 12.0, 13.0, 10.0, 11.0, 14.0, 15.0]);
    }

    #[test]
    fn half_precision_is_widened() {
        let folder = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            [bf16::ONE, bf16::NEG_ONE].iter().flat_map(|v| v.to_le_bytes()).collect();
        let path = file(folder.path(), Dtype::BF16, &[1, 2], &bytes);
        assert_eq!(read(&path).unwrap().packed[0].host(), [1.0, -1.0]);
        let bytes: Vec<u8> =
            [f16::ONE, f16::NEG_ONE].iter().flat_map(|v| v.to_le_bytes()).collect();
        let path = file(folder.path(), Dtype::F16, &[1, 2], &bytes);
        assert_eq!(read(&path).unwrap().packed[0].host(), [1.0, -1.0]);
    }

    #[test]
    fn what_is_no_latents_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |dtype, shape: &[usize], bytes: &[u8]| {
            read(&file(folder.path(), dtype, shape, bytes)).unwrap_err().to_string()
        };
        assert!(refused(Dtype::I32, &[1, 1], &[0; 4]).contains("expected F32, BF16 or F16"));
        assert!(refused(Dtype::F32, &[1, 1, 3, 2], &[0; 24]).contains("even h and w"));
        assert!(refused(Dtype::F32, &[0, 64], &[]).contains("found [0, 64]"));
        assert!(refused(Dtype::F32, &[2], &[0; 8]).contains("found [2]"));
        assert!(refused(Dtype::F32, &[1, 1], &f32::NAN.to_le_bytes()).contains("NaN at index 0"));
        let path = folder.path().join("other.safetensors");
        let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        files::write_atomic(&path, &safetensors::serialize([("x", view)], None).unwrap()).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("found tensors like x"));
    }
}
