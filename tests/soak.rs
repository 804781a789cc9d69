//! Many pictures in one process: memory stays flat, no file stays open, and the last picture is the first.
//!
//! 20 pictures; `FLUX_RT_SOAK=500` makes that many. Each has another prompt, mode, cache and size than the
//! one before. Prints a line for every tenth of them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a helper of a test may fail it, and its figures are kept"
)]

#[path = "common/data.rs"]
mod data;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use flux_rt::cache::Preset;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::DeviceChoice;
use flux_rt::pipeline::Engine;
use flux_rt::pipeline::EngineBuilder;
use flux_rt::pipeline::Request;
use flux_rt::pipeline::RgbImage;

/// Four sizes: an engine keeps the buffers of three.
const SIZES: [[usize; 2]; 4] = [[128, 128], [96, 160], [160, 64], [64, 64]];
const SUBJECTS: [&str; 3] = ["apple", "heart", "penguin"];
/// Growth of the host's memory that is none: the allocator keeps what it was given back.
const SLACK: usize = 8 << 20;
/// The same before every mode had its turn with every size, which takes 20 pictures.
const EARLY_SLACK: usize = 32 << 20;

/// What a process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    resident: usize,
    /// Bytes of the GPU's memory.
    device: usize,
    files: usize,
    threads: usize,
}

/// An engine for the modes that share weights, and one for `original`, which rounds in other places.
struct Engines {
    elastic: Engine,
    original: Engine,
}

impl Engines {
    fn new(device: DeviceChoice) -> Self {
        let builder = || -> EngineBuilder {
            let model = data::path("models/demo").to_string_lossy().into_owned();
            Engine::builder().model(model).device(device)
        };
        let elastic = builder().mode(Mode::Xl).more_modes([Mode::L, Mode::M, Mode::S]);
        Self {
            elastic: elastic.build().unwrap(),
            original: builder().mode(Mode::Original).build().unwrap(),
        }
    }

    /// The picture of that number.
    fn draw(&mut self, index: usize) -> RgbImage {
        let modes = [Mode::Xl, Mode::S, Mode::Original, Mode::L, Mode::M];
        let caches = [Preset::None, Preset::Aggressive, Preset::Conservative];
        // After as many pictures as modes or sizes it is another mode's or cache's turn.
        let mode = &modes[index % modes.len()];
        let [width, height] = SIZES[index % SIZES.len()];
        let request = Request {
            prompt: Some(format!("picture {index}: a red {}", SUBJECTS[index % SUBJECTS.len()])),
            cache: caches[(index / 2) % caches.len()].options(),
            width: Some(width),
            height: Some(height),
            seed: index as u64,
            ..Request::default()
        };
        let engine = match mode {
            Mode::Original => &mut self.original,
            _ => &mut self.elastic,
        };
        engine.use_mode(mode).unwrap();
        engine.generate(&request).unwrap().image
    }

    fn held(&self) -> Held {
        let status = flux_rt::files::read_text(Path::new("/proc/self/status")).unwrap();
        let value = |name: &str| -> usize {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let device = self.elastic.gpu_memory().map_or(0, |memory| memory.held_bytes);
        Held {
            resident: 1024 * value("VmRSS:"),
            device,
            files: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            threads: value("Threads:"),
        }
    }
}

/// How many pictures are asked for.
fn pictures() -> usize {
    let Some(asked) = std::env::var_os("FLUX_RT_SOAK") else { return 20 };
    let number = asked.to_str().and_then(|text| text.parse().ok()).filter(|number| *number >= 20);
    number.expect("FLUX_RT_SOAK is a number of pictures, 20 at least")
}

fn soaks(device: DeviceChoice) {
    // The process's memory is that of one of the tests.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let pictures = pictures();
    let mut engines = Engines::new(device);
    let first = engines.draw(0);
    let mut held = Vec::new();
    for index in 1..pictures - 1 {
        engines.draw(index);
        held.push(engines.held());
        if index % (pictures / 10) == 0 {
            let Held { resident, device, files, threads } = engines.held();
            println!(
                "{index:4} pictures: {:.1} MB resident, {:.1} MB of the GPU, {files} files, {threads} threads",
                resident as f64 / 1e6,
                device as f64 / 1e6
            );
        }
    }
    assert!(engines.draw(0) == first, "the last picture is another than the first");

    let resident_slack = if pictures < 100 { EARLY_SLACK } else { SLACK };
    let (early, late) = held.split_at(held.len() / 2);
    let most = |held: &[Held], of: fn(&Held) -> usize| held.iter().map(of).max().unwrap();
    for (what, of, slack) in [
        ("bytes of memory", (|held| held.resident) as fn(&Held) -> usize, resident_slack),
        ("bytes of the GPU's memory", |held| held.device, 0),
        ("open files", |held| held.files, 0),
        ("threads", |held| held.threads, 0),
    ] {
        let (before, after) = (most(early, of), most(late, of));
        assert!(after <= before + slack, "{what}: {before} in the first half, {after} later");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn many_pictures_take_no_more_memory_than_some() {
    soaks(DeviceChoice::Cpu);
}

#[test]
#[cfg(target_os = "linux")]
fn cuda_many_pictures_take_no_more_memory_than_some() {
    if flux_rt::device::Device::cuda(0).is_err() {
        assert!(std::env::var_os("FLUX_RT_REQUIRE_GPU").is_none(), "FLUX_RT_REQUIRE_GPU is set");
        return println!("skipped: no GPU");
    }
    soaks(DeviceChoice::Cuda(0));
}
