//! SSIM (Wang, Bovik, Sheikh, Simoncelli 2004): windows of 11 x 11 weighted by a Gaussian of deviation 1.5,
//! K1 = 0.01, K2 = 0.03, the mean over all windows inside the picture and over its three colours; what
//! scikit-image computes with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.

use crate::pipeline::RgbImage;

/// Pixels on each side of a window's middle: 3.5 deviations.
const RADIUS: usize = 5;
const WIDTH: usize = 2 * RADIUS + 1;
const DEVIATION: f64 = 1.5;
const C1: f64 = (0.01 * 255.0) * (0.01 * 255.0);
const C2: f64 = (0.03 * 255.0) * (0.03 * 255.0);

/// The mean SSIM of two pictures, at most 1; none if their sizes differ or no window fits in.
#[must_use]
pub(crate) fn ssim(picture: &RgbImage, reference: &RgbImage) -> Option<f64> {
    let [width, height] = [reference.width, reference.height];
    if [picture.width, picture.height] != [width, height] || width.min(height) < WIDTH {
        return None;
    }
    let colours = (0..3).map(|colour| {
        let channel = |image: &RgbImage| -> Vec<f64> {
            image.data.iter().skip(colour).step_by(3).map(|&value| f64::from(value)).collect()
        };
        of_channel(&channel(picture), &channel(reference), width)
    });
    Some(colours.sum::<f64>() / 3.0)
}

/// Of two planes with rows of `width`.
fn of_channel(x: &[f64], y: &[f64], width: usize) -> f64 {
    let weighted = |of: &dyn Fn(f64, f64) -> f64| {
        let plane: Vec<f64> = x.iter().zip(y).map(|(&x, &y)| of(x, y)).collect();
        blurred(&plane, width)
    };
    let (mean_x, mean_y) = (weighted(&|x, _| x), weighted(&|_, y| y));
    let (xx, yy, xy) = (weighted(&|x, _| x * x), weighted(&|_, y| y * y), weighted(&|x, y| x * y));
    let windows = mean_x.len();
    let of_window = |i: usize| {
        let (ux, uy) = (mean_x[i], mean_y[i]);
        let (vx, vy, vxy) = (xx[i] - ux * ux, yy[i] - uy * uy, xy[i] - ux * uy);
        let luminance = (2.0 * ux * uy + C1) / (ux * ux + uy * uy + C1);
        luminance * (2.0 * vxy + C2) / (vx + vy + C2)
    };
    (0..windows).map(of_window).sum::<f64>() / windows as f64
}

/// The weighted means of all windows inside a plane.
fn blurred(plane: &[f64], width: usize) -> Vec<f64> {
    let weights = weights();
    let inside = width - WIDTH + 1;
    let rows: Vec<Vec<f64>> = plane
        .chunks_exact(width)
        .map(|row| row.windows(WIDTH).map(|window| dot(window, &weights)).collect())
        .collect();
    let columns = rows.windows(WIDTH).flat_map(|rows| {
        (0..inside)
            .map(|column| rows.iter().zip(&weights).map(|(row, weight)| row[column] * weight).sum())
    });
    columns.collect()
}

fn weights() -> [f64; WIDTH] {
    let weights: [f64; WIDTH] = std::array::from_fn(|i| {
        let distance = i as f64 - RADIUS as f64;
        (-0.5 * (distance / DEVIATION).powi(2)).exp()
    });
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `value(row, column, colour)` in every byte.
    fn image(
        [width, height]: [usize; 2],
        value: impl Fn(usize, usize, usize) -> usize,
    ) -> RgbImage {
        let bytes = (0..width * height * 3).map(|index| {
            let value = value(index / 3 / width, index / 3 % width, index % 3);
            u8::try_from(value % 256).unwrap()
        });
        RgbImage { width, height, data: bytes.collect() }
    }

    /// scikit-image 0.26, `structural_similarity` with the arguments above, on the same bytes.
    #[test]
    fn it_is_scikit_images() {
        let size = [23, 17];
        let reference = image(size, |y, x, c| 5 * x + 9 * y + 40 * c);
        let noisy = image(size, |y, x, c| 5 * x + 9 * y + 40 * c + (7 * x + 13 * y * y + c) % 31);
        let found = ssim(&noisy, &reference).unwrap();
        assert!((found - SKIMAGE).abs() < 1e-9, "{found}");
        assert_eq!(ssim(&reference, &reference), Some(1.0));
    }

    const SKIMAGE: f64 = 0.660_196_628_030_877_6;

    #[test]
    fn pictures_without_a_window_have_none() {
        let small = image([10, 30], |_, _, _| 7);
        assert_eq!(ssim(&small, &small), None);
        assert_eq!(ssim(&image([12, 12], |_, _, _| 7), &image([13, 12], |_, _, _| 7)), None);
    }
}
