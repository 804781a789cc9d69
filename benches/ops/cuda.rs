//! Times on the GPU, and their table: an op between two CUDA events, after L2 was overwritten.
//!
//! The table's rates count what an op has to compute, read and write, not what its kernel does; the
//! share is of the ceiling that binds it. Two ceilings: a device-to-device copy that moves as many
//! bytes, timed in the same way in the same run, and the data sheet's dense bf16 rate of an H100 SXM,
//! which no clock under load holds.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use flux_rt::Result;
use flux_rt::device::Act;
use flux_rt::device::Cuda;
use flux_rt::device::CudaEvent;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::upsample::upsample;

use crate::Work;

/// Timed calls of a case's loop, as criterion makes them after its warm-up.
pub(crate) const SAMPLES: usize = 10;
/// Iterations that are queued before the host waits for the last.
const QUEUED: usize = 32;
/// More than the L2 of any card.
const FLUSH_BYTES: usize = 256 << 20;
/// What the copy that is the ceiling copies.
const COPY_BYTES: usize = 1 << 30;
/// How the copied bytes are cut into rows, which lie one behind the other.
const COPY_ROW_BYTES: usize = 1 << 16;
/// Until clocks are sustained.
const WARM_UP: Duration = Duration::from_secs(1);
/// An H100 SXM's tensor cores, dense bf16 with f32 sums: 4,096 FLOP a clock and multiprocessor, 132
/// multiprocessors, 1.83 GHz.
const PEAK_FLOPS: f64 = 4096.0 * 132.0 * 1.83e9;

/// A line of the table.
pub(crate) struct Row {
    pub(crate) op: &'static str,
    pub(crate) shape: String,
    pub(crate) work: Work,
    pub(crate) median_us: f64,
}

/// Events and what the iterations of the current case took.
pub(crate) struct Timer {
    events: Vec<[CudaEvent; 2]>,
    /// Copied from the first to the second before every iteration.
    flush: [Tensor<u8, 2>; 2],
    /// A kernel over next to nothing, input then output: the op comes behind a kernel, as in a
    /// model, and not behind a copy, which another engine of the card may have made.
    behind: [Tensor<Act, 3>; 2],
    /// Microseconds of every iteration, of the last calls of [`Self::time`].
    calls: VecDeque<Vec<f64>>,
    /// Copied from the first to the second, where a copy is timed.
    copied: [Tensor<u8, 2>; 2],
    /// What two events take with nothing between them.
    empty_us: f64,
}

impl Timer {
    /// Warms the GPU up and measures the ceiling.
    pub(crate) fn new(cuda: &Arc<Cuda>) -> Result<Self> {
        let device = &Device::Cuda(Arc::clone(cuda));
        let pair = |_| Ok([CudaEvent::new(cuda)?, CudaEvent::new(cuda)?]);
        let mut timer = Self {
            events: (0..QUEUED).map(pair).collect::<Result<_>>()?,
            flush: [bytes(device, FLUSH_BYTES, 1)?, bytes(device, FLUSH_BYTES, 2)?],
            behind: [crate::random(device, [1, 1, 8], 3)?, Tensor::empty(device, [2, 2, 8])?],
            calls: VecDeque::new(),
            copied: [copied(device, 4)?, copied(device, 5)?],
            empty_us: 0.0,
        };
        let begin = Instant::now();
        while begin.elapsed() < WARM_UP {
            timer.copy_us(2 * COPY_BYTES)?;
        }
        timer.empty_us = timer.median_of(|| Ok(()))?;
        Ok(timer)
    }

    fn median_of(&mut self, mut body: impl FnMut() -> Result<()>) -> Result<f64> {
        self.begin_case(&mut body)?;
        self.time(2 * QUEUED as u64, &mut body)?;
        Ok(self.median_us().unwrap_or(f64::NAN))
    }

    /// How long a copy takes that reads and writes `bytes` in all.
    fn copy_us(&mut self, bytes: usize) -> Result<f64> {
        let [source, mut target] =
            std::mem::replace(&mut self.copied, [0, 0].map(|none| Tensor::zeros([none; 2])));
        let (rows, columns) = match bytes / 2 {
            few @ 0..=COPY_ROW_BYTES => (1, few.max(1)),
            many => ((many / COPY_ROW_BYTES).min(COPY_BYTES / COPY_ROW_BYTES), COPY_ROW_BYTES),
        };
        let us = self.median_of(|| {
            let part = source.matrix().rows(0..rows).columns(0..columns);
            target.matrix_mut().rows(0..rows).columns(0..columns).copy_from(part)
        });
        self.copied = [source, target];
        let scale = bytes as f64 / (2 * rows * columns) as f64;
        Ok(us? * scale.max(1.0))
    }

    /// Forgets the last case's times, and runs `body` once: its kernel is compiled at the first call.
    pub(crate) fn begin_case(&mut self, body: &mut impl FnMut() -> Result<()>) -> Result<()> {
        self.calls.clear();
        body()?;
        let [_, end] = &self.events[0];
        end.record()?;
        end.wait()
    }

    /// Runs `body` `iters` times and adds up its times on the GPU.
    ///
    /// The overwriting of L2 lies before the first event and takes longer than the host needs to
    /// queue the rest of an iteration, so the GPU never waits for the host between the events.
    pub(crate) fn time(
        &mut self,
        iters: u64,
        body: &mut impl FnMut() -> Result<()>,
    ) -> Result<Duration> {
        let mut left = usize::try_from(iters).unwrap_or(usize::MAX);
        let mut times = Vec::new();
        while left > 0 {
            let events = &self.events[..left.min(QUEUED)];
            for [start, end] in events {
                let [source, target] = &mut self.flush;
                target.matrix_mut().copy_from(source.matrix())?;
                let [input, output] = &mut self.behind;
                upsample(output, input)?;
                start.record()?;
                body()?;
                end.record()?;
            }
            for [start, end] in events {
                end.wait()?;
                times.push(f64::from(end.ms_since(start)?) * 1e3);
            }
            left -= events.len();
        }
        let total_us: f64 = times.iter().sum();
        self.calls.push_back(times);
        if self.calls.len() > SAMPLES {
            self.calls.pop_front();
        }
        Ok(Duration::from_secs_f64(total_us / 1e6))
    }

    /// The median of all iterations of the last [`SAMPLES`] calls; criterion's warm-up lies before.
    pub(crate) fn median_us(&self) -> Option<f64> {
        let mut times: Vec<f64> = self.calls.iter().flatten().copied().collect();
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied()
    }

    /// Prints the table, in Markdown.
    #[expect(clippy::print_stdout, reason = "the table is the result")]
    pub(crate) fn print_table(&mut self, device: &Device, rows: &[Row]) -> Result<()> {
        let peak = PEAK_FLOPS / 1e12;
        let copy = 2.0 * COPY_BYTES as f64 / self.copy_us(2 * COPY_BYTES)? / 1e3;
        println!("{}", device.name());
        println!(
            "copy of 1 GiB in this run: {copy:.0} GB/s, read plus written; two events with nothing \
             between them: {:.1} µs, which every time includes",
            self.empty_us
        );
        println!();
        println!(
            "| kernel | shape | median µs | TFLOP/s | GB/s | share of the ceiling that binds: bf16 \
             {peak:.0} TFLOP/s (4096 FLOP x 132 SM x 1.83 GHz), e4m3 twice that, or a copy of as many bytes |"
        );
        println!("|---|---|---|---|---|---|");
        for Row { op, shape, work, median_us } in rows {
            let seconds = median_us / 1e6;
            let flops = work.flops as f64;
            let bytes = work.bytes_on(device) as f64;
            let (peak, format) =
                if work.fp8 { (2.0 * PEAK_FLOPS, "e4m3") } else { (PEAK_FLOPS, "bf16") };
            let computing = flops / peak;
            let moving = self.copy_us(work.bytes_on(device))? / 1e6;
            let (least, ceiling) =
                if computing > moving { (computing, format) } else { (moving, "copy") };
            let tflops = match work.flops {
                0 => String::new(),
                _ => format!("{:.1}", flops / seconds / 1e12),
            };
            let gbytes = bytes / seconds / 1e9;
            let share = 100.0 * least / seconds;
            println!(
                "| {op} | {shape} | {median_us:.1} | {tflops} | {gbytes:.0} | {share:.1} % of {ceiling} |"
            );
        }
        Ok(())
    }
}

/// What is copied where a copy is timed.
fn copied(device: &Device, seed: u64) -> Result<Tensor<u8, 2>> {
    let rows = [COPY_BYTES / COPY_ROW_BYTES, COPY_ROW_BYTES];
    Ok(bytes(device, COPY_BYTES, seed)?.reshape(rows))
}

/// Random bytes, in rows of a MiB.
fn bytes(device: &Device, len: usize, seed: u64) -> Result<Tensor<u8, 2>> {
    let mut number = crate::numbers(seed);
    crate::tiled(device, [len >> 20, 1 << 20], || number().to_bits().to_le_bytes()[1])
}
