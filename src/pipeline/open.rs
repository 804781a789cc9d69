//! The device of an engine, and whether it and the model go together.

use std::sync::Arc;

use crate::device::Device;
use crate::device::Faults;
use crate::error::Error;
use crate::error::Result;
use crate::model::source::ModelConfigs;
use crate::model::source::ModelFiles;
use crate::model::source::Weights;
use crate::model::weights::naming::Component;
use crate::pipeline::DType;
use crate::pipeline::DeviceChoice;

/// The device that the user means: with `auto` the first GPU that can be used, unless f32 was asked
/// for, which is the CPU's. With it what the user should know: why a GPU is not used.
///
/// # Errors
/// [`Error::Device`] or [`Error::Cuda`] for a GPU that was asked for by name.
pub(crate) fn open(
    choice: DeviceChoice,
    dtype: DType,
    faults: Option<Arc<Faults>>,
) -> Result<(Device, Option<String>)> {
    if let Some(faults) = faults {
        let DeviceChoice::Cuda(index) = choice else {
            let reason = "expected cuda, where allocations can be made to fail".into();
            return Err(Error::Request { field: "device", reason });
        };
        return Ok((Device::cuda_with_faults(index, faults)?, None));
    }
    match choice {
        DeviceChoice::Cpu => Ok((Device::Cpu, None)),
        DeviceChoice::Cuda(index) => Ok((Device::cuda(index)?, None)),
        DeviceChoice::Auto if dtype == DType::F32 => Ok((Device::Cpu, None)),
        DeviceChoice::Auto => match Device::cuda(0) {
            Ok(device) => Ok((device, None)),
            Err(error) if Device::has_driver() => {
                Ok((Device::Cpu, Some(format!("computing on the CPU: {error}"))))
            }
            Err(_) => Ok((Device::Cpu, None)),
        },
    }
}

/// Refuses a limit of GPU memory where the CPU was asked for.
///
/// # Errors
/// [`Error::Request`].
pub(crate) fn check_max_vram(max_vram: Option<usize>, choice: DeviceChoice) -> Result<()> {
    if max_vram.is_some() && choice == DeviceChoice::Cpu {
        let reason = "expected a GPU, whose memory it limits, found --device cpu; leave it out";
        return Err(Error::Request { field: "max-vram", reason: reason.into() });
    }
    Ok(())
}

/// Refuses models that the device cannot run.
///
/// # Errors
/// [`Error::Device`] for a synthetic model on the CPU, [`Error::Config`] for sizes that no kernel has.
pub(crate) fn check_fit(device: &Device, files: &ModelFiles, configs: &ModelConfigs) -> Result<()> {
    if let Device::Cuda(_) = device {
        return files.check_kernel_limits(configs);
    }
    let synthetic = |component: &Component| {
        matches!(files.component(*component).weights, Weights::Synthetic { .. })
    };
    if Component::ALL.iter().any(synthetic) {
        let reason =
            format!("model `{}` needs a CUDA device: its weights are made there", files.name);
        return Err(Error::Device { reason });
    }
    Ok(())
}
