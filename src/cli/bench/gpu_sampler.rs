//! SM clock and power of a GPU while something runs, read ten times a second through NVML, which comes
//! with the driver.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread;
use std::thread::JoinHandle;
use std::time::Duration;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::Clock;
use serde_json::Value;
use serde_json::json;

const INTERVAL: Duration = Duration::from_millis(100);

/// One reading.
#[derive(Debug, Clone, Copy)]
struct Reading {
    sm_mhz: u32,
    watts: f64,
}

/// A thread that reads until it is asked to stop.
pub(super) struct GpuSampler {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Reading>>,
}

/// What was read, in the middle and at the ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct GpuLoad {
    pub(super) sm_mhz: [u32; 3],
    pub(super) watts: [f64; 3],
}

impl GpuLoad {
    pub(super) fn json(&self) -> Value {
        let [low, median, high] = self.sm_mhz;
        let [least, middle, most] = self.watts;
        json!({
            "sm_mhz": { "min": low, "median": median, "max": high },
            "watts": { "min": least, "median": middle, "max": most },
        })
    }
}

impl GpuSampler {
    /// Starts reading the GPU of that id; none where NVML does not answer.
    pub(super) fn start(uuid: &str) -> Option<Self> {
        let uuid = uuid.to_owned();
        let nvml = Nvml::init().ok()?;
        nvml.device_by_uuid(uuid.as_str()).ok()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut readings = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                readings.extend(read(&nvml, &uuid));
                thread::sleep(INTERVAL);
            }
            readings
        });
        Some(Self { stop, thread })
    }

    /// Stops; none if nothing was read.
    pub(super) fn stop(self) -> Option<GpuLoad> {
        self.stop.store(true, Ordering::Relaxed);
        let readings = self.thread.join().ok()?;
        let mut clocks: Vec<u32> = readings.iter().map(|reading| reading.sm_mhz).collect();
        let mut watts: Vec<f64> = readings.iter().map(|reading| reading.watts).collect();
        clocks.sort_unstable();
        watts.sort_unstable_by(f64::total_cmp);
        Some(GpuLoad { sm_mhz: ends_and_median(&clocks)?, watts: ends_and_median(&watts)? })
    }
}

fn read(nvml: &Nvml, uuid: &str) -> Option<Reading> {
    let device = nvml.device_by_uuid(uuid).ok()?;
    let sm_mhz = device.clock_info(Clock::SM).ok()?;
    let watts = f64::from(device.power_usage().ok()?) / 1e3;
    Some(Reading { sm_mhz, watts })
}

/// Least, middle and most of sorted values.
fn ends_and_median<T: Copy>(sorted: &[T]) -> Option<[T; 3]> {
    Some([*sorted.first()?, *sorted.get(sorted.len() / 2)?, *sorted.last()?])
}
