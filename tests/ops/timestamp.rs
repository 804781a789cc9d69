//! `timestamp`: the right words of the right row, and time that goes forwards.

use std::time::Duration;

use flux_rt::Error;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::timestamp::Edge;
use flux_rt::ops::timestamp::read;
use flux_rt::ops::timestamp::timestamp;

use crate::common::gpu;

/// No time that a clock shows.
const UNTOUCHED: u32 = 0xABAD_1DEA;

/// Three steps' rows; outside of them nothing may change.
fn stamps_of_three_steps(device: &Device, pause: Duration) {
    let untouched = u64::from(UNTOUCHED) << 32 | u64::from(UNTOUCHED);
    let mut stamps = gpu::to(device, Tensor::from_host([3, 4], vec![UNTOUCHED; 12]));
    let counter = |value| gpu::to(device, Tensor::from_host([1], vec![value]));
    // The end of no step, beginnings and ends behind the last.
    timestamp(&mut stamps, &counter(0), Edge::End).unwrap();
    for past in [3, 4, u32::MAX] {
        timestamp(&mut stamps, &counter(past), Edge::Begin).unwrap();
    }
    for past in [4, 5, u32::MAX] {
        timestamp(&mut stamps, &counter(past), Edge::End).unwrap();
    }
    assert_eq!(read(&stamps).unwrap(), [[untouched; 2]; 3]);

    timestamp(&mut stamps, &counter(1), Edge::Begin).unwrap();
    assert_eq!(read(&stamps).unwrap()[0], [untouched; 2]);
    let [begin, end] = read(&stamps).unwrap()[1];
    assert!(begin != untouched && end == untouched, "{begin:#x}, {end:#x}");
    std::thread::sleep(pause);
    timestamp(&mut stamps, &counter(2), Edge::End).unwrap();
    timestamp(&mut stamps, &counter(2), Edge::Begin).unwrap();
    timestamp(&mut stamps, &counter(3), Edge::End).unwrap();
    let [first, [begin, end], [next, last]] = read(&stamps).unwrap()[..] else { panic!("rows") };
    assert_eq!(first, [untouched; 2]);
    let (pause, passed) = (pause.as_nanos(), u128::from(end - begin));
    // The clock's own steps are a microsecond or two on some cards.
    assert!(passed + 4_000 >= pause, "{passed} ns where {pause} were slept");
    assert!(passed < pause + 20_000_000_000, "{passed} ns where {pause} were slept");
    assert!(end <= next && next <= last, "{end}, {next}, {last}");
}

#[test]
fn time_goes_forwards_within_the_rows() {
    stamps_of_three_steps(&Device::Cpu, Duration::from_millis(2));
}

#[test]
fn both_words_are_kept() {
    let stamps = Tensor::from_host([1, 4], vec![5, 1, 0, 2]);
    assert_eq!(read(&stamps).unwrap(), [[(1 << 32) + 5, 2 << 32]]);
}

#[test]
fn wrong_shapes_are_refused() {
    let result = timestamp(&mut Tensor::zeros([2, 3]), &Tensor::zeros([1]), Edge::Begin);
    assert!(matches!(result, Err(Error::Shape { tensor: "stamps", .. })));
    let result = timestamp(&mut Tensor::zeros([2, 4]), &Tensor::zeros([2]), Edge::Begin);
    assert!(matches!(result, Err(Error::Shape { tensor: "step", .. })));
}

#[test]
fn cuda_time_goes_forwards_within_the_rows() {
    let Some(gpu) = gpu::gpu() else { return };
    stamps_of_three_steps(&gpu, Duration::from_millis(20));
}
