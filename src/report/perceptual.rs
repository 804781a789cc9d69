//! SSIMULACRA 2, a score of how different two pictures look: 100 for the same, 90 when the eye sees no
//! difference side by side, 70 for high quality, 50 for medium, 30 for low, below 0 for another picture.

use ssimulacra2::ColorPrimaries;
use ssimulacra2::Rgb;
use ssimulacra2::TransferCharacteristic;
use ssimulacra2::compute_frame_ssimulacra2;

use crate::pipeline::RgbImage;

/// The score of a picture against a reference.
///
/// # Errors
/// Why there is none, in a sentence: sizes that differ, or below 8 x 8 pixels.
pub(crate) fn ssimulacra2(picture: &RgbImage, reference: &RgbImage) -> Result<f64, String> {
    let frame = |image: &RgbImage| {
        let pixel = |pixel: &[u8]| [0, 1, 2].map(|colour| f32::from(pixel[colour]) / 255.0);
        let pixels = image.data.chunks_exact(3).map(pixel).collect();
        let (transfer, primaries) = (TransferCharacteristic::SRGB, ColorPrimaries::BT709);
        Rgb::new(pixels, image.width, image.height, transfer, primaries)
    };
    let frames = frame(reference).and_then(|reference| Ok((reference, frame(picture)?)));
    let (reference, picture) = frames.map_err(|error| error.to_string())?;
    compute_frame_ssimulacra2(reference, picture).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(size: usize, value: u8) -> RgbImage {
        RgbImage { width: size, height: size, data: vec![value; 3 * size * size] }
    }

    #[test]
    fn the_same_picture_is_perfect_and_others_are_less() {
        let mut picture = grey(64, 128);
        assert!((ssimulacra2(&picture, &picture).unwrap() - 100.0).abs() < 1e-6);
        let reference = picture.clone();
        picture.data.iter_mut().step_by(7).for_each(|value| *value += 40);
        let less = ssimulacra2(&picture, &reference).unwrap();
        assert!(less < 60.0, "{less}");
    }

    #[test]
    fn what_cannot_be_scored_says_why() {
        let why = ssimulacra2(&grey(4, 1), &grey(4, 1)).unwrap_err();
        assert!(why.contains("8x8"), "{why}");
        assert!(ssimulacra2(&grey(16, 1), &grey(32, 1)).is_err());
    }
}
