//! Tensors that wait in host memory until their device needs them.

use crate::device::Device;
use crate::device::Element;
use crate::device::Tensor;
use crate::device::cuda::Pinned;
use crate::error::Result;

/// A tensor outside its device's memory: in pinned host memory for CUDA, as it is for the CPU.
#[derive(Debug)]
pub struct Offloaded<T: Element, const R: usize> {
    shape: [usize; R],
    storage: Storage<T>,
}

/// Where the elements wait.
#[derive(Debug)]
enum Storage<T: Element> {
    Host(Vec<T::Host>),
    Pinned(Pinned),
}

impl<T: Element, const R: usize> Offloaded<T, R> {
    /// Takes a tensor out of its device's memory.
    ///
    /// # Errors
    /// [`crate::Error::Device`] where there is not enough host memory to be pinned;
    /// [`crate::Error::Cuda`].
    pub fn of(tensor: Tensor<T, R>) -> Result<Self> {
        let shape = tensor.shape();
        let storage = match tensor.into_parts() {
            Err(data) => Storage::Host(data),
            Ok(buffer) => Storage::Pinned(Pinned::of(&buffer)?),
        };
        Ok(Self { shape, storage })
    }

    /// The tensor on its device, to be used behind [`Device::await_fetched`]: on CUDA it is copied
    /// beside the work that was started before.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn fetch(&self) -> Result<Tensor<T, R>> {
        match &self.storage {
            Storage::Host(data) => Ok(Tensor::from_host(self.shape, data.clone())),
            Storage::Pinned(pinned) => Ok(Tensor::on_cuda(self.shape, pinned.fetch()?)),
        }
    }

    /// Where the fetched tensor is.
    #[must_use]
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Host(_) => Device::Cpu,
            Storage::Pinned(pinned) => Device::Cuda(pinned.cuda().clone()),
        }
    }
}
