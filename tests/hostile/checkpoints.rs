//! Broken models, made from the demo model: each is refused as such, in time and little memory, or draws what
//! the whole one draws.

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;

use flux_rt::Error;
use flux_rt::elastic::Mode;
use flux_rt::pipeline::RgbImage;

use crate::alone;
use crate::demo::Demo;
use crate::demo::draw;
use crate::memory::measured;
use crate::mutations;
use crate::mutations::Case;
use crate::watch::Watched;
use crate::watch::watched;

const LEAST_CASES: usize = 2_000;
const MOST_TIME: Duration = Duration::from_secs(1);
const MOST_MEMORY: usize = 64 << 20;
/// How many are given to the program, too.
const FOR_PROGRAM: usize = 60;

#[derive(Default)]
struct Tally {
    refused: usize,
    same: usize,
    longest: (Duration, String),
    most: (usize, String),
}

/// What is wrong with what became of a case, if anything.
fn judge(case: &Case, demo: &Demo, whole: &RgbImage, tally: &mut Tally) -> Result<bool, String> {
    let load = || watched(&case.name, || measured(|| demo.load(case.mode.clone())));
    let mut outcome = load();
    if outcome.time > MOST_TIME {
        // Another process may have had the machine.
        outcome = load();
    }
    let Watched { result, panics, time } = outcome;
    let Some((loaded, memory)) = result.filter(|_| panics == 0) else {
        return Err("panicked".into());
    };
    let error = match loaded {
        Err(error) => error,
        Ok(mut engine) => {
            let drawn = watched(&case.name, || draw(&mut engine));
            return match drawn.result {
                Some(Ok(picture)) if picture == *whole && drawn.panics == 0 => {
                    tally.same += 1;
                    Ok(false)
                }
                Some(Ok(_)) => Err("drew another picture".into()),
                Some(Err(error)) => Err(format!("failed late: {error}")),
                None => Err("panicked while it drew".into()),
            };
        }
    };
    tally.refused += 1;
    if time > tally.longest.0 {
        tally.longest = (time, format!("{}: {}", case.file, case.name));
    }
    if memory > tally.most.0 {
        tally.most = (memory, format!("{}: {}", case.file, case.name));
    }
    let text = described(&error);
    match (error.exit_code(), time <= MOST_TIME, memory <= MOST_MEMORY) {
        (3, true, true) if text.contains(case.file) => Ok(true),
        (code, ..) => Err(format!("exit code {code}, {time:?}, {memory} bytes: {text}")),
    }
}

fn described(error: &Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// Fails unless the program refuses the model as it should.
fn refused_by_program(demo: &Demo, case: &Case) -> Result<(), String> {
    let out = demo.path().join("out");
    let mut command = Command::new(env!("CARGO_BIN_EXE_flux-rt"));
    command.args([
        "run", "--device", "cpu", "--prompt", "x", "--steps", "1", "--width", "32", "--height",
        "16",
    ]);
    command
        .args(["--mode", &case.mode.to_string(), "--model"])
        .arg(demo.path())
        .arg("--out")
        .arg(out);
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(3) if stderr.contains(case.file) && !stderr.contains("panicked") => Ok(()),
        code => Err(format!("the program ended with {code:?}: {stderr}")),
    }
}

#[test]
fn broken_models_are_refused_or_draw_the_same() {
    let _alone = alone();
    let demo = Demo::new();
    let picture = |mode| draw(&mut demo.load(mode).unwrap()).unwrap();
    let whole: HashMap<String, RgbImage> =
        [Mode::Xl, Mode::L].into_iter().map(|mode| (mode.to_string(), picture(mode))).collect();
    let cases = mutations::all();
    assert!(cases.len() >= LEAST_CASES, "{} cases", cases.len());
    let (mut tally, mut wrong, mut programs) = (Tally::default(), Vec::new(), 0);
    for (number, case) in cases.iter().enumerate() {
        case.apply(&demo);
        let judged = judge(case, &demo, &whole[&case.mode.to_string()], &mut tally);
        let judged = match judged {
            Ok(true) if number * FOR_PROGRAM / cases.len() >= programs => {
                programs += 1;
                refused_by_program(&demo, case)
            }
            other => other.map(|_| ()),
        };
        if let Err(reason) = judged {
            wrong.push(format!("{}: {}: {reason}", case.file, case.name));
        }
        demo.restore(case.file);
    }
    let Tally { refused, same, longest, most } = tally;
    println!(
        "{} broken models: {refused} refused, {programs} of them by the program too, {same} drew the same; \
         longest {:?} ({}), most memory {} KiB ({})",
        cases.len(),
        longest.0,
        longest.1,
        most.0 >> 10,
        most.1
    );
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert!(
        refused >= LEAST_CASES && programs >= 50,
        "{refused} refused, {programs} by the program"
    );
}
