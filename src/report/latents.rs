//! How far latents are from others.

use crate::device::Tensor;

/// Relative L2 distance of latents `[tokens, 64]` from `reference`'s; none if the sizes differ, a number is
/// none, or the reference is nothing but zeros.
#[must_use]
pub(crate) fn latents_error(latents: &Tensor<f32, 2>, reference: &Tensor<f32, 2>) -> Option<f64> {
    if latents.shape() != reference.shape() {
        return None;
    }
    let pairs = latents.host().iter().zip(reference.host());
    let [error, size] = pairs.fold([0.0; 2], |[error, size], (&found, &exact)| {
        let [found, exact] = [found, exact].map(f64::from);
        [error + (found - exact).powi(2), size + exact * exact]
    });
    let relative = (error / size).sqrt();
    relative.is_finite().then_some(relative)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latents_are_compared_as_vectors() {
        let tensor = |values: [f32; 2]| Tensor::from_host([1, 2], values.to_vec());
        assert_eq!(latents_error(&tensor([3.0, 4.5]), &tensor([3.0, 4.0])), Some(0.1));
        assert_eq!(latents_error(&tensor([0.0; 2]), &tensor([0.0; 2])), None);
        assert_eq!(latents_error(&tensor([f32::NAN, 1.0]), &tensor([1.0; 2])), None);
        assert_eq!(latents_error(&tensor([1.0; 2]), &Tensor::zeros([2, 2])), None);
    }
}
