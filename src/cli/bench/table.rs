//! The kernels of a profile as text and JSON.

use serde_json::Value;
use serde_json::json;

use crate::device::KernelTime;
use crate::device::Profile;
use crate::device::Work;

/// TFLOP/s or GB/s of a kernel.
fn rate(kernel: &KernelTime) -> Option<(f64, &'static str)> {
    let seconds = kernel.ms / 1e3 / kernel.launches as f64;
    match kernel.work {
        Work::Flops(flops) => Some((flops as f64 / 1e12 / seconds, "TFLOP/s")),
        Work::Bytes(bytes) => Some((bytes as f64 / 1e9 / seconds, "GB/s")),
        Work::None => None,
    }
}

pub(super) fn kernel_json(profile: &Profile) -> Value {
    let rows = profile.kernels.iter().map(|kernel| {
        let mut row = json!({
            "name": kernel.name,
            "launches": kernel.launches,
            "ms": kernel.ms,
        });
        match kernel.work {
            Work::Flops(flops) => row["gflop"] = json!(flops as f64 / 1e9),
            Work::Bytes(bytes) => row["mb"] = json!(bytes as f64 / 1e6),
            Work::None => {}
        }
        if let Some((rate, unit)) = rate(kernel) {
            row[unit.to_lowercase().replace("/s", "_per_s")] = json!(rate);
        }
        row
    });
    rows.collect()
}

/// One line a kernel and shape of work; those below a thousandth of the whole are added up.
pub(super) fn kernel_table(profile: &Profile) -> String {
    let total: f64 = profile.kernels.iter().map(|kernel| kernel.ms).sum();
    let mut text = format!(
        "\nkernels of one image, launched one by one: {total:.1} ms\n{:<26} {:>10} {:>8} {:>9} {:>10} {:>6}\n",
        "kernel", "work", "launches", "ms", "us each", "share"
    );
    let mut rest = (0, 0.0);
    for kernel in &profile.kernels {
        if kernel.ms < total / 1e3 {
            rest = (rest.0 + kernel.launches, rest.1 + kernel.ms);
            continue;
        }
        let work = match kernel.work {
            Work::Flops(flops) => format!("{:.1} GFLOP", flops as f64 / 1e9),
            Work::Bytes(bytes) => format!("{:.1} MB", bytes as f64 / 1e6),
            Work::None => String::new(),
        };
        let each = 1e3 * kernel.ms / kernel.launches as f64;
        let share = 100.0 * kernel.ms / total;
        text += &format!(
            "{:<26} {work:>13} {:>5} {:>9.2} {each:>10.1} {share:>5.1}%",
            kernel.name, kernel.launches, kernel.ms
        );
        if let Some((rate, unit)) = rate(kernel) {
            text += &format!(" {rate:>7.0} {unit}");
        }
        text.push('\n');
    }
    let (launches, ms) = rest;
    text += &format!("{:<26} {:>13} {launches:>5} {ms:>9.2}\n", "others", "");
    for (op, least, most) in &profile.inputs {
        text += &format!("inputs of {op:<10} root mean square {least:.2} to {most:.2}\n");
    }
    text
}
