//! Weights that wait in host memory until they are used: what a GPU with little memory does not keep.
//!
//! They are brought one after the other, each while the one before is in use, and multiplied by the same
//! kernels: results are those of weights that stay, bit for bit.

use half::bf16;

use crate::device::Device;
use crate::device::Offloaded;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// What of the weights does not stay on the device as it is, so that they take less of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Residency {
    /// So many of the transformer's modulation layers, the last ones, wait in host memory.
    pub modulation_offloaded: usize,
    /// T5's linear layers are in e4m3: other bits, slightly other pictures.
    pub t5_fp8: bool,
    /// So many of T5's blocks, the last ones, wait in host memory.
    pub t5_offloaded: usize,
}

/// Weights that can wait in host memory.
pub trait Offload: Sized {
    /// What they are there.
    type Offloaded;

    /// Takes them out of their device's memory.
    ///
    /// # Errors
    /// As [`Offloaded::of`].
    fn offload(self) -> Result<Self::Offloaded>;

    /// The weights on their device, as [`Offloaded::fetch`] gives tensors.
    ///
    /// # Errors
    /// As [`Offloaded::fetch`].
    fn fetch(offloaded: &Self::Offloaded) -> Result<Self>;
}

/// Weights on their device, or waiting.
#[derive(Debug)]
pub enum Residence<W: Offload> {
    /// On the device.
    Resident(W),
    /// In host memory.
    Offloaded(W::Offloaded),
}

impl<W: Offload> Residence<W> {
    /// The weights, if they are on the device.
    pub fn resident(&self) -> Option<&W> {
        match self {
            Self::Resident(weights) => Some(weights),
            Self::Offloaded(_) => None,
        }
    }

    fn offloaded(&self) -> Option<&W::Offloaded> {
        match self {
            Self::Resident(_) => None,
            Self::Offloaded(offloaded) => Some(offloaded),
        }
    }
}

/// Calls `work` with all weights in order. The next that wait are brought while `work` is done, so
/// that two of them are on the device at most.
///
/// # Errors
/// Those of `work` and of [`Offload::fetch`].
pub fn in_turn<W: Offload>(
    device: &Device,
    all: &[Residence<W>],
    work: impl FnMut(&W) -> Result<()>,
) -> Result<()> {
    let done = fetching(device, all, work);
    if all.iter().any(|weights| weights.resident().is_none()) {
        // After an error there may be copies that no work has waited for, into memory that is free.
        device.await_fetched()?;
    }
    done
}

fn fetching<W: Offload>(
    device: &Device,
    all: &[Residence<W>],
    mut work: impl FnMut(&W) -> Result<()>,
) -> Result<()> {
    let mut waiting = all.iter().filter_map(Residence::offloaded);
    let mut fetch = || waiting.next().map(W::fetch).transpose();
    let mut next = fetch()?;
    for weights in all {
        match (weights, next.take()) {
            (Residence::Resident(weights), fetched) => {
                work(weights)?;
                next = fetched;
            }
            (Residence::Offloaded(_), Some(fetched)) => {
                device.await_fetched()?;
                next = fetch()?;
                work(&fetched)?;
            }
            (Residence::Offloaded(_), None) => unreachable!("one is fetched for each that waits"),
        }
    }
    Ok(())
}

/// A linear layer in host memory.
#[derive(Debug)]
pub struct OffloadedLinear {
    weight: OffloadedWeight,
    bias: Option<Offloaded<f32, 1>>,
}

#[derive(Debug)]
enum OffloadedWeight {
    F32(Offloaded<f32, 2>),
    Bf16(Offloaded<bf16, 2>),
    Fp8(Offloaded<u8, 2>, Offloaded<f32, 2>, Scaling),
}

impl Offload for Linear {
    type Offloaded = OffloadedLinear;

    fn offload(self) -> Result<OffloadedLinear> {
        let weight = match self.weight {
            Weight::F32(weight) => OffloadedWeight::F32(Offloaded::of(weight)?),
            Weight::Bf16(weight) => OffloadedWeight::Bf16(Offloaded::of(weight)?),
            Weight::Fp8(weight) => {
                let (values, scales, scaling) = weight.into_parts();
                OffloadedWeight::Fp8(Offloaded::of(values)?, Offloaded::of(scales)?, scaling)
            }
            Weight::Part(_) => {
                return Err(Error::Shape {
                    op: "offload",
                    tensor: "weight",
                    expected: "a whole one".into(),
                    actual: "a part".into(),
                });
            }
        };
        Ok(OffloadedLinear { weight, bias: self.bias.map(Offloaded::of).transpose()? })
    }

    fn fetch(offloaded: &OffloadedLinear) -> Result<Self> {
        let weight = match &offloaded.weight {
            OffloadedWeight::F32(weight) => Weight::F32(weight.fetch()?),
            OffloadedWeight::Bf16(weight) => Weight::Bf16(weight.fetch()?),
            OffloadedWeight::Fp8(values, scales, scaling) => {
                Weight::Fp8(Quantized::of_parts(values.fetch()?, scales.fetch()?, *scaling))
            }
        };
        Ok(Self { weight, bias: offloaded.bias.as_ref().map(Offloaded::fetch).transpose()? })
    }
}

impl Offload for Tensor<f32, 1> {
    type Offloaded = Offloaded<f32, 1>;

    fn offload(self) -> Result<Offloaded<f32, 1>> {
        Offloaded::of(self)
    }

    fn fetch(offloaded: &Offloaded<f32, 1>) -> Result<Self> {
        offloaded.fetch()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn linear(value: f32) -> Linear {
        let weight = Weight::F32(Tensor::from_host([1, 1], vec![value]));
        Linear { weight, bias: Some(Tensor::from_host([1], vec![value])) }
    }

    fn first(linear: &Linear) -> f32 {
        let Weight::F32(weight) = &linear.weight else { panic!("an f32 weight") };
        weight.host()[0]
    }

    fn mixed(waiting: &[bool]) -> Vec<Residence<Linear>> {
        let residence = |(index, waits): (usize, &bool)| match linear(index as f32) {
            linear if *waits => Residence::Offloaded(linear.offload().unwrap()),
            linear => Residence::Resident(linear),
        };
        waiting.iter().enumerate().map(residence).collect()
    }

    #[test]
    fn weights_come_in_order_wherever_they_wait() {
        for pattern in 0..32_u8 {
            let waiting: Vec<bool> = (0..5).map(|bit| pattern >> bit & 1 == 1).collect();
            let mut seen = Vec::new();
            let mut note = |linear: &Linear| {
                seen.push(first(linear));
                Ok(())
            };
            in_turn(&Device::Cpu, &mixed(&waiting), &mut note).unwrap();
            assert_eq!(seen, [0.0, 1.0, 2.0, 3.0, 4.0], "{waiting:?}");
        }
        in_turn(&Device::Cpu, &[], |_: &Linear| Err(Error::Cancelled)).unwrap();
    }

    #[test]
    fn an_error_ends_the_turn() {
        let mut seen = 0;
        let all = mixed(&[true, true, true]);
        let outcome = in_turn(&Device::Cpu, &all, |_| {
            seen += 1;
            Err(Error::Cancelled)
        });
        assert!(matches!(outcome, Err(Error::Cancelled)) && seen == 1);
    }

    #[test]
    fn every_precision_comes_back_as_it_went() {
        let bf16 = Tensor::from_host([1, 2], vec![bf16::ONE, bf16::NEG_ONE]);
        let mut fp8 = Quantized::zeros([1, 2], Scaling::Row);
        fp8.view_mut().values.row_mut(0).copy_from_slice(&[0x38, 0xb8]);
        fp8.view_mut().scales.row_mut(0).copy_from_slice(&[0.5]);
        for weight in [Weight::Bf16(bf16), Weight::Fp8(fp8)] {
            let before = format!("{weight:?}");
            let offloaded = Linear { weight, bias: None }.offload().unwrap();
            let Linear { weight, bias } = Linear::fetch(&offloaded).unwrap();
            assert!(format!("{weight:?}") == before && bias.is_none());
        }
    }
}
