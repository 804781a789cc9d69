//! The GPU of the `cuda` tests, and how a kernel is held to its oracle: the same call on both
//! devices with the same bf16 numbers.
#![allow(
    dead_code,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "each test binary uses a part of it; a helper of a test may fail it or say it skips"
)]

use std::ops::Deref;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::sync::PoisonError;

use half::bf16;

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Element;
use flux_rt::device::Guard;
use flux_rt::device::Matrix;
use flux_rt::device::MatrixMut;
use flux_rt::device::Quantized;
use flux_rt::device::Tensor;

use super::Tolerance;
use super::assert_close;
use super::random;

/// One op that computes in f32 and rounds its result to bf16, on numbers of size 1. A correct
/// rounding is off by 2^-8 of the element at most, 0.0017 in L2 over many; the other half of `rtol`
/// and of `l2` is for f32 results on the other side of a tie and the card's quick exponential.
/// `atol` is for elements near 0 where terms of size 1 cancel: f32 sums in another order.
pub(crate) const BF16: Tolerance = Tolerance { atol: 1.0 / 512.0, rtol: 1.0 / 128.0, l2: 4e-3 };

/// Results that one rounding determines.
pub(crate) const EXACT: Tolerance = Tolerance { atol: 0.0, rtol: 0.0, l2: 0.0 };

/// What stands around a framed output.
const FRAME: f32 = 5.0;

/// The GPU, lent to one test at a time. At the end no buffer may have been written outside.
pub(crate) struct Gpu {
    device: &'static Device,
    _turn: MutexGuard<'static, ()>,
}

/// The first GPU. Without one this says so and the test is over, unless `FLUX_RT_REQUIRE_GPU` is set.
///
/// `FLUX_RT_GPU_GUARD=separate` gives every buffer an allocation of its own, for compute-sanitizer;
/// `FLUX_RT_GPU_TIER=portable` or `best` runs kernels of one tier where both would be run.
pub(crate) fn gpu() -> Option<Gpu> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let device = DEVICE.get_or_init(|| {
        let separate = std::env::var_os("FLUX_RT_GPU_GUARD").is_some_and(|how| how == "separate");
        let guard = if separate { Guard::Separate } else { Guard::Bands };
        match Device::cuda_guarded(0, guard) {
            Ok(device) => Some(device),
            Err(error) => {
                let required = std::env::var_os("FLUX_RT_REQUIRE_GPU");
                assert!(required.is_none(), "FLUX_RT_REQUIRE_GPU is set, and {error}");
                None
            }
        }
    });
    match device {
        // A test that failed may have left it otherwise.
        Some(Device::Cuda(cuda)) => cuda.set_portable(only("portable")),
        _ => println!("skipped: no GPU"),
    }
    Some(Gpu { device: device.as_ref()?, _turn: turn })
}

/// Whether the kernels of that tier alone are asked for.
fn only(tier: &str) -> bool {
    std::env::var_os("FLUX_RT_GPU_TIER").is_some_and(|asked| asked == tier)
}

impl Deref for Gpu {
    type Target = Device;

    fn deref(&self) -> &Device {
        self.device
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // Asked in any case: the next test starts from 0.
        let damage = self.device.guard_damage();
        if !std::thread::panicking() {
            assert_eq!(damage.unwrap(), 0, "guard bands were written to");
        }
    }
}

impl Gpu {
    /// Whether only small shapes should be tried: `FLUX_RT_GPU_TESTS=small`, for compute-sanitizer.
    pub(crate) fn small(&self) -> bool {
        std::env::var_os("FLUX_RT_GPU_TESTS").is_some_and(|which| which == "small")
    }

    /// What `run` gives here: the same bits twice, and nothing written outside a buffer.
    pub(crate) fn run<T: PartialEq>(&self, what: &str, run: impl Fn(&Device) -> Vec<T>) -> Vec<T> {
        let first = run(self.device);
        let second = run(self.device);
        assert!(first == second, "{what}: two runs differ, or gave NaN");
        assert_eq!(self.guard_damage().unwrap(), 0, "{what}: guard bands were written to");
        first
    }

    /// `run` gives the same here as on the CPU, within the tolerance.
    pub(crate) fn agrees(
        &self,
        what: &str,
        tolerance: Tolerance,
        run: impl Fn(&Device) -> Vec<f32>,
    ) {
        let expected = run(&Device::Cpu);
        self.on_each_tier(|| assert_close(what, &self.run(what, &run), &expected, tolerance));
    }

    /// Whether kernels for e4m3 are to be run: this GPU has them.
    pub(crate) fn has_fp8(&self) -> bool {
        let Device::Cuda(cuda) = self.device else { return false };
        cuda.has_fp8()
    }

    /// Runs `check` with the card's best kernels, and again with those of every card.
    pub(crate) fn on_each_tier(&self, check: impl Fn()) {
        check();
        if !only("portable") && !only("best") {
            self.portable(check);
        }
    }

    /// Runs `check` with the kernels of every card alone.
    pub(crate) fn portable(&self, check: impl FnOnce()) {
        let Device::Cuda(cuda) = self.device else { return };
        cuda.set_portable(true);
        check();
        cuda.set_portable(only("portable"));
    }

    /// `run` gives here what it gives on the CPU, rounded to bf16.
    pub(crate) fn agrees_exactly(&self, what: &str, run: impl Fn(&Device) -> Vec<f32>) {
        let mut expected = run(&Device::Cpu);
        round(&mut expected);
        self.on_each_tier(|| assert_close(what, &self.run(what, &run), &expected, EXACT));
    }

    /// `run` quantises here as on the CPU: scales within 1e-5, and at most one value in a thousand is
    /// another, the next one: what f32 sums in another order turn.
    pub(crate) fn agrees_in_fp8(&self, what: &str, run: impl Fn(&Device) -> Quantized) {
        let parts = |quantized: Quantized| {
            let quantized = quantized.to_device(&Device::Cpu).unwrap();
            let view = quantized.view();
            let rows = 0..view.shape()[0];
            let values: Vec<u8> = rows.flat_map(|row| view.values.row(row).to_vec()).collect();
            let blocks = 0..view.scales.shape()[0];
            let scales: Vec<f32> = blocks.flat_map(|row| view.scales.row(row).to_vec()).collect();
            (values, scales)
        };
        let (expected, scales) = parts(run(&Device::Cpu));
        let numbers = self.run(what, |device| {
            let (values, scales) = parts(run(device));
            values.iter().map(|&byte| f32::from(byte)).chain(scales).collect()
        });
        let (values, found) = numbers.split_at(expected.len());
        assert_close(what, found, &scales, Tolerance { atol: 0.0, rtol: 1e-5, l2: 1e-5 });
        // In the order of their numbers, and both zeros the same.
        let order = |byte: u8| i32::from(byte & 0x7f) * if byte & 0x80 == 0 { 1 } else { -1 };
        let pairs = || values.iter().zip(&expected);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
        let steps = |(found, expected): (&f32, &u8)| (order(*found as u8) - order(*expected)).abs();
        let far = pairs().position(|pair| steps(pair) > 1);
        assert_eq!(far, None, "{what}: a value is off by more than one step");
        let other = pairs().filter(|&pair| steps(pair) == 1).count();
        assert!(1000 * other <= expected.len().max(1000), "{what}: {other} values are others");
    }

    /// Rows, columns and padding for the ops that norm a row: one that fits registers, whole vectors
    /// of eight or not, views in the middle of wider rows.
    pub(crate) fn norm_shapes(&self) -> Vec<[usize; 3]> {
        let widths = [1, 7, 8, 33, 64, 120, 128, 136, 768, 1016, 1024, 1032, 3072, 4096, 4104];
        let edges =
            widths.into_iter().flat_map(|width| [[1, width, 0], [3, width, 8], [17, width, 3]]);
        let real = [[77, 768, 0], [512, 4096, 8], [4608, 3072, 0]];
        edges.chain(real.into_iter().filter(|_| !self.small())).collect()
    }
}

/// Rounds to bf16.
pub(crate) fn round(values: &mut [f32]) {
    values.iter_mut().for_each(|value| *value = bf16::from_f32(*value).to_f32());
}

/// Repeatable bf16 numbers in [-1, 1], on `device`.
pub(crate) fn act<const R: usize>(device: &Device, shape: [usize; R], seed: u64) -> Tensor<Act, R> {
    let mut values = random(shape.iter().product(), seed);
    round(&mut values);
    to(device, Tensor::from_host(shape, values))
}

/// Repeatable numbers in [-1, 1), on `device`.
pub(crate) fn f32s<const R: usize>(
    device: &Device,
    shape: [usize; R],
    seed: u64,
) -> Tensor<f32, R> {
    to(device, Tensor::from_host(shape, random(shape.iter().product(), seed)))
}

/// A weight matrix `[N, K]` in bf16 that gives products of size 1, on `device`.
#[expect(clippy::cast_precision_loss, reason = "K is far below 2^24")]
pub(crate) fn weights(device: &Device, [n, k]: [usize; 2], seed: u64) -> Tensor<bf16, 2> {
    let unit = 1.0 / (k as f32).sqrt();
    let values = random(n * k, seed).into_iter().map(|value| bf16::from_f32(value * unit));
    to(device, Tensor::from_host([n, k], values.collect()))
}

/// The tensor on `device`.
pub(crate) fn to<T: Element, const R: usize>(
    device: &Device,
    tensor: Tensor<T, R>,
) -> Tensor<T, R> {
    tensor.to_device(device).unwrap()
}

/// The elements in host memory.
pub(crate) fn host<T: Element, const R: usize>(tensor: Tensor<T, R>) -> Vec<T::Host> {
    to(&Device::Cpu, tensor).host().to_vec()
}

/// The shape of a buffer around a view: a row above and below, `pad` columns on either side.
pub(crate) fn around([rows, columns]: [usize; 2], pad: usize) -> [usize; 2] {
    [rows + 2, columns + 2 * pad]
}

/// The view in the middle of such a buffer.
pub(crate) fn inside<T: Element>(tensor: &Tensor<T, 2>, pad: usize) -> Matrix<'_, T> {
    let [rows, columns] = tensor.shape();
    tensor.matrix().rows(1..rows - 1).columns(pad..columns - pad)
}

/// As [`inside`], for writing.
pub(crate) fn inside_mut<T: Element>(tensor: &mut Tensor<T, 2>, pad: usize) -> MatrixMut<'_, T> {
    let [rows, columns] = tensor.shape();
    tensor.matrix_mut().rows(1..rows - 1).columns(pad..columns - pad)
}

/// A buffer on `device` for an output in its middle, see [`unframed`].
pub(crate) fn framed(device: &Device, shape: [usize; 2], pad: usize) -> Tensor<Act, 2> {
    let shape = around(shape, pad);
    to(device, Tensor::from_host(shape, vec![FRAME; shape[0] * shape[1]]))
}

/// The output in the middle of what [`framed`] gave; around it nothing may have changed.
#[track_caller]
pub(crate) fn unframed(tensor: Tensor<Act, 2>, pad: usize) -> Vec<f32> {
    let [rows, columns] = tensor.shape();
    let values = host(tensor);
    let mut inner = Vec::new();
    for (row, values) in values.chunks_exact(columns).enumerate() {
        let outside = row == 0 || row + 1 == rows;
        let cut = if outside { columns..columns } else { pad..columns - pad };
        inner.extend_from_slice(&values[cut.clone()]);
        let mut beside = values[..cut.start].iter().chain(&values[cut.end..]);
        let intact = beside.all(|value| value.to_bits() == FRAME.to_bits());
        assert!(intact, "written beside the output, at row {row} of {rows} x {columns}");
    }
    inner
}
