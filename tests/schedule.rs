//! Sigmas, timesteps and rounded times against those of diffusers, bit for bit.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

mod golden;

use flux_rt::model::config::SchedulerConfig;
use flux_rt::pipeline::schedule::Schedule;
use flux_rt::pipeline::schedule::TimeRounding;
use flux_rt::pipeline::schedule::model_guidance;

fn config(kind: &str) -> SchedulerConfig {
    SchedulerConfig {
        num_train_timesteps: 1000,
        shift: if kind == "schnell" { 1.0 } else { 3.0 },
        use_dynamic_shifting: kind == "dev",
        base_shift: 0.5,
        max_shift: 1.15,
        base_image_seq_len: 256,
        max_image_seq_len: 4096,
    }
}

/// The schedule that a golden's name, like `dev.tokens4096.steps28`, stands for.
fn schedule(name: &str) -> Schedule {
    let number =
        |prefix: &str| name.split('.').find_map(|part| part.strip_prefix(prefix)?.parse().ok());
    let config = config(name.split('.').next().unwrap_or_default());
    let tokens = number("tokens").unwrap_or(4096);
    match number("steps") {
        Some(steps) => Schedule::new(&config, steps, tokens),
        None => Schedule::from_sigmas(&config, &[1.0, 0.9, 0.55, 0.3, 0.05], tokens),
    }
    .unwrap()
}

#[test]
fn schedules_are_those_of_diffusers() {
    let mut compared = 0;
    for (name, expected) in golden::tensors("schedule.safetensors") {
        let expected = golden::narrow(&expected);
        let (base, what) = name.rsplit_once('.').unwrap_or_default();
        let actual = match what {
            "sigmas" => schedule(base).sigmas,
            "timesteps" => schedule(base).timesteps,
            "time_bf16" if base != "guidance" => {
                schedule(base).model_times(TimeRounding::DiffusersBf16)
            }
            _ => continue,
        };
        assert_eq!(actual, expected, "{name}");
        compared += 1;
    }
    assert!(compared > 150, "{compared}");
}

#[test]
fn guidance_is_rounded_as_diffusers_rounds_it() {
    let goldens = golden::tensors("schedule.safetensors");
    let rounded: Vec<f32> = golden::narrow(&goldens["guidance"])
        .into_iter()
        .map(|guidance| model_guidance(guidance, TimeRounding::DiffusersBf16))
        .collect();
    assert_eq!(rounded, golden::narrow(&goldens["guidance.time_bf16"]));
}
