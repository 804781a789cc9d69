//! A GPU before it is opened: whether this program can use it, and what launchers need to know.
#![expect(unsafe_code, reason = "calls of the CUDA driver")]

use cudarc::driver::sys;
use cudarc::driver::sys::CUdevice_attribute as Attribute;

use crate::device::cuda::driver::Driver;
use crate::device::cuda::driver::call;
use crate::device::modules::MODULES;
use crate::device::modules::Tier;
use crate::error::Error;
use crate::error::Result;

/// The oldest driver that loads this program's PTX: CUDA 13.0.
const DRIVER_VERSION: i32 = 13_000;
/// Compute capability of the `portable` tier.
const PORTABLE_CAPABILITY: (i32, i32) = (8, 0);
/// Of the modules for e4m3: Ada and newer.
const SM89_CAPABILITY: (i32, i32) = (8, 9);
/// Of the `sm90` tier, which runs on no other: H100 and H200.
const SM90_CAPABILITY: (i32, i32) = (9, 0);

/// A usable GPU.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) name: String,
    /// As `nvidia-smi -L` writes it: the order of cards differs between CUDA and NVML.
    pub(super) uuid: String,
    pub(super) handle: sys::CUdevice,
    pub(super) multiprocessors: usize,
    /// Most threads that a multiprocessor runs at once.
    pub(super) threads: usize,
    /// Shared memory that one block may take.
    pub(super) smem_bytes_per_block: u32,
    /// The best kernels that it runs.
    pub(super) tier: Tier,
    /// Whether its tensor cores take e4m3.
    pub(super) fp8: bool,
}

/// Whether a CUDA driver is installed.
pub(crate) fn driver_is_present() -> bool {
    // SAFETY: looks the library up and closes it again; no function of it is called.
    unsafe { sys::is_culib_present() }
}

impl Card {
    /// GPU `index`.
    ///
    /// # Errors
    /// [`Error::Device`] without a driver, without that GPU, with one that is too old, or where this
    /// program has no kernels; [`Error::Cuda`] if the driver refuses.
    pub(super) fn new(driver: &Driver, index: usize) -> Result<Self> {
        let refuse =
            |reason: String| Err(Error::Device { reason: format!("cuda:{index}: {reason}") });
        if !driver_is_present() {
            return refuse(
                "no NVIDIA driver found; install one of CUDA 13.0 or newer (580), or compute with \
                 --device cpu"
                    .into(),
            );
        }
        if MODULES.is_empty() {
            return refuse(
                "this program was built without a CUDA compiler and has no kernels; see README, \
                 Build, or compute with --device cpu"
                    .into(),
            );
        }
        // SAFETY: the flags have to be 0.
        unsafe { call!(driver, cuInit(0)) }?;
        let mut version = 0;
        // SAFETY: writes one number.
        unsafe { call!(driver, cuDriverGetVersion(&mut version)) }?;
        if version < DRIVER_VERSION {
            let name = |version: i32| format!("{}.{}", version / 1000, version % 1000 / 10);
            let (expected, found) = (name(DRIVER_VERSION), name(version));
            return refuse(format!(
                "expected an NVIDIA driver of CUDA {expected} or newer (580), found one of CUDA \
                 {found}"
            ));
        }
        let mut count = 0;
        // SAFETY: writes one number.
        unsafe { call!(driver, cuDeviceGetCount(&mut count)) }?;
        let Some(ordinal) = i32::try_from(index).ok().filter(|&ordinal| ordinal < count) else {
            return refuse(format!("expected a GPU below {count}"));
        };
        let mut handle = 0;
        // SAFETY: writes one handle.
        unsafe { call!(driver, cuDeviceGet(&mut handle, ordinal)) }?;
        let name = name(driver, handle)?;
        let capability = (
            attribute(driver, handle, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(driver, handle, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if capability < PORTABLE_CAPABILITY {
            let (major, minor) = capability;
            return refuse(format!(
                "expected compute capability 8.0 or newer (Ampere), found {name} with \
                 {major}.{minor}"
            ));
        }
        let size =
            |which| Ok(usize::try_from(attribute(driver, handle, which)?).unwrap_or(1).max(1));
        let smem = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        Ok(Self {
            uuid: uuid(driver, handle)?,
            name,
            handle,
            multiprocessors: size(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            threads: size(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?,
            smem_bytes_per_block: attribute(driver, handle, smem)?.unsigned_abs(),
            tier: tier(capability),
            fp8: has_fp8(capability),
        })
    }
}

fn tier(capability: (i32, i32)) -> Tier {
    if capability == SM90_CAPABILITY { Tier::Sm90 } else { Tier::Portable }
}

fn has_fp8(capability: (i32, i32)) -> bool {
    capability >= SM89_CAPABILITY
}

fn name(driver: &Driver, device: sys::CUdevice) -> Result<String> {
    let mut name = [0_u8; 128];
    // SAFETY: `device` comes from cuDeviceGet; writes that many bytes at most, the last one 0.
    unsafe { call!(driver, cuDeviceGetName(name.as_mut_ptr().cast(), 128, device)) }?;
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// As `nvidia-smi -L` writes it.
fn uuid(driver: &Driver, device: sys::CUdevice) -> Result<String> {
    let mut uuid = sys::CUuuid { bytes: [0; 16] };
    // SAFETY: `device` comes from cuDeviceGet; writes one id.
    unsafe { call!(driver, cuDeviceGetUuid_v2(&mut uuid, device)) }?;
    let uuid: String =
        uuid.bytes.iter().map(|byte| format!("{:02x}", byte.cast_unsigned())).collect();
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &uuid[part]);
    Ok(format!("GPU-{a}-{b}-{c}-{d}-{e}"))
}

fn attribute(driver: &Driver, device: sys::CUdevice, attribute: Attribute) -> Result<i32> {
    let mut value = 0;
    // SAFETY: `device` comes from cuDeviceGet; writes one number.
    unsafe { call!(driver, cuDeviceGetAttribute(&mut value, attribute, device)) }?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_from_ada_on_have_fp8_and_hopper_its_own_tier() {
        let of = |capability| (tier(capability), has_fp8(capability));
        for ampere in [(8, 0), (8, 6), (8, 7)] {
            assert_eq!(of(ampere), (Tier::Portable, false), "{ampere:?}");
        }
        for other in [(8, 9), (10, 0), (12, 0), (12, 1)] {
            assert_eq!(of(other), (Tier::Portable, true), "{other:?}");
        }
        assert_eq!(of((9, 0)), (Tier::Sm90, true));
    }
}
