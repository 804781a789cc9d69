//! How long each kernel takes, and how large the inputs of matrix products are: measured while the
//! work is launched one by one, never in a recorded graph.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use half::bf16;

use crate::device::cuda::Buffer;
use crate::device::cuda::Cuda;
use crate::device::cuda::CudaEvent;
use crate::error::Result;

/// Every so manieth row of an input is looked at.
const SAMPLED: usize = 61;

/// What a launch has to do, for rates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Work {
    /// Nothing that is worth a rate.
    #[default]
    None,
    /// Multiplications and additions of a matrix product.
    Flops(usize),
    /// Bytes that must be read and written.
    Bytes(usize),
}

/// All launches of one kernel and shape of work.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelTime {
    /// The kernel's entry.
    pub name: String,
    /// Of one launch.
    pub work: Work,
    /// How often.
    pub launches: usize,
    /// Of all launches together.
    pub ms: f64,
}

/// What a profile saw.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Profile {
    /// Longest first.
    pub kernels: Vec<KernelTime>,
    /// Root mean square of the inputs of each kind of matrix product: smallest and largest.
    pub inputs: Vec<(&'static str, f64, f64)>,
}

/// What a profile looks at; not both, since looking at inputs stops the GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profiled {
    /// The time of every launch.
    Times,
    /// The inputs of matrix products.
    Inputs,
}

/// A profile under way.
#[derive(Debug)]
pub(super) struct Recorder {
    profiled: Profiled,
    launches: Vec<(String, Work, CudaEvent, CudaEvent)>,
    inputs: BTreeMap<&'static str, (f64, f64)>,
}

/// None while nothing is profiled.
pub(super) type Slot = Mutex<Option<Recorder>>;

impl Cuda {
    fn recorder(&self) -> MutexGuard<'_, Option<Recorder>> {
        self.profile.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether launches are being timed: then nothing may be recorded as a graph.
    pub fn is_profiling(&self) -> bool {
        self.recorder().is_some()
    }

    fn is_profiled(&self, what: Profiled) -> bool {
        self.recorder().as_ref().is_some_and(|recorder| recorder.profiled == what)
    }

    /// Starts a profile.
    pub fn start_profile(&self, profiled: Profiled) {
        let recorder = Recorder { profiled, launches: Vec::new(), inputs: BTreeMap::new() };
        *self.recorder() = Some(recorder);
    }

    /// Ends it.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work.
    pub fn finish_profile(&self) -> Result<Profile> {
        let Some(recorder) = self.recorder().take() else { return Ok(Profile::default()) };
        self.synchronize()?;
        let mut kernels: Vec<KernelTime> = Vec::new();
        for (name, work, start, end) in recorder.launches {
            let ms = f64::from(end.ms_since(&start)?);
            match kernels.iter_mut().find(|kernel| kernel.name == name && kernel.work == work) {
                Some(kernel) => {
                    (kernel.launches, kernel.ms) = (kernel.launches + 1, kernel.ms + ms)
                }
                None => kernels.push(KernelTime { name, work, launches: 1, ms }),
            }
        }
        kernels.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        let inputs = recorder.inputs.into_iter().map(|(op, (low, high))| (op, low, high)).collect();
        Ok(Profile { kernels, inputs })
    }

    /// Times `launch` if a profile is under way.
    pub(super) fn timed(
        self: &Arc<Self>,
        name: &str,
        work: Work,
        launch: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.is_profiled(Profiled::Times) {
            return launch();
        }
        let [start, end] = [CudaEvent::new(self)?, CudaEvent::new(self)?];
        start.record()?;
        launch()?;
        end.record()?;
        if let Some(recorder) = self.recorder().as_mut() {
            recorder.launches.push((name.to_owned(), work, start, end));
        }
        Ok(())
    }

    /// Notes the root mean square of some rows of a matrix product's input, if a profile of inputs is
    /// under way.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub(crate) fn note_input(
        self: &Arc<Self>,
        op: &'static str,
        address: u64,
        [rows, cols, stride]: [usize; 3],
    ) -> Result<()> {
        let rows = rows.div_ceil(SAMPLED);
        if !self.is_profiled(Profiled::Inputs) || rows * cols == 0 {
            return Ok(());
        }
        let element = size_of::<bf16>();
        let sample = Buffer::new(self, rows * cols * element)?;
        let pitches = [cols * element, stride * SAMPLED * element];
        self.copy_rows([sample.address(), address], pitches, [rows, cols * element])?;
        let mut values = vec![bf16::ZERO; rows * cols];
        sample.download(&mut values)?;
        let sum: f64 = values.iter().map(|value| value.to_f64().powi(2)).sum();
        let rms = (sum / values.len() as f64).sqrt();
        if let Some(recorder) = self.recorder().as_mut() {
            let range = recorder.inputs.entry(op).or_insert((rms, rms));
            *range = (range.0.min(rms), range.1.max(rms));
        }
        Ok(())
    }
}
