//! The table and the counting, on lists whose differences are known: spec dualcache 10 and 11, made
//! there with cache-dit itself.

use flux_rt::cache::CacheOptions;
use flux_rt::cache::Counting;
use flux_rt::cache::Layout;
use flux_rt::cache::ListOptions;
use flux_rt::cache::Mask;
use flux_rt::cache::MaskPolicy;
use flux_rt::cache::Preset;
use flux_rt::cache::Reason;
use flux_rt::cache::Verdict;
use flux_rt::ops::residual_diff::rule::Counters;

/// Growth of the residual in percent, from step 1 on.
const GROWTH: [f64; 27] = [
    8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.5, 4.0, 3.0, 3.0, 2.0, 2.0, 2.0, 1.0,
    3.0, 3.0, 6.0, 7.0, 8.0, 12.0, 15.0, 22.0,
];

/// Residuals that are the same number everywhere.
fn residuals() -> Vec<f64> {
    let mut residuals = vec![100.0];
    for growth in GROWTH {
        residuals.push(residuals[residuals.len() - 1] * (1.0 + growth / 100.0));
    }
    residuals
}

/// Verdict and counter of every step.
fn run(list: &ListOptions, counting: Counting) -> Vec<(Verdict, u32)> {
    let residuals = residuals();
    let options = CacheOptions {
        layout: Layout::Unified,
        counting,
        double: list.clone(),
        single: list.clone(),
        ..CacheOptions::default()
    };
    let schedule = options.schedule([19, 38], residuals.len(), false).unwrap().remove(0);
    let mut counters = Counters::default();
    let mut reference = None;
    let mut out = Vec::new();
    for (step, residual) in residuals.into_iter().enumerate() {
        let diff = reference.map(|old: f64| ((residual - old).abs() / old) as f32);
        let number = u32::try_from(step).unwrap();
        let verdict = schedule.known[step]
            .unwrap_or_else(|| counters.decide(&schedule.limits, number, diff, None));
        if !verdict.reason.is_hit() {
            reference = Some(residual);
        }
        out.push((verdict, counters.continuous));
    }
    out
}

fn hits(steps: &[(Verdict, u32)]) -> Vec<usize> {
    let steps = steps.iter().enumerate();
    steps.filter(|(_, (verdict, _))| verdict.reason.is_hit()).map(|(step, _)| step).collect()
}

fn conservative() -> ListOptions {
    Preset::Conservative.options().unwrap().double
}

fn aggressive() -> ListOptions {
    Preset::Aggressive.options().unwrap().double
}

/// Spec 10: of each step from 8 on the difference in ten-thousandths (-1 where there is none), the
/// decision, and the counter after it.
const CONSERVATIVE: [(i32, char, u32); 20] = [
    (100, 'h', 1),
    (201, 'h', 2),
    (303, 'h', 3),
    (-1, 'f', 0),
    (150, 'h', 0),
    (556, 'm', 0),
    (300, 'h', 0),
    (609, 'm', 0),
    (200, 'h', 0),
    (404, 'h', 2),
    (612, 'm', 2),
    (100, 'h', 2),
    (403, 'h', 3),
    (-1, 'f', 0),
    (600, 'm', 0),
    (700, 'm', 0),
    (800, 'm', 0),
    (1200, 'm', 0),
    (1500, 'm', 0),
    (2200, 'm', 0),
];
const AGGRESSIVE: [(i32, char, u32); 20] = [
    (100, 'h', 1),
    (201, 'h', 2),
    (303, 'h', 3),
    (406, 'h', 4),
    (562, 'h', 5),
    (985, 'h', 6),
    (1314, 'h', 7),
    (1654, 'h', 8),
    (1887, 'h', 9),
    (2124, 'm', 9),
    (200, 'h', 9),
    (302, 'h', 10),
    (-1, 'f', 0),
    (300, 'h', 0),
    (918, 'h', 2),
    (1682, 'h', 3),
    (2617, 'm', 3),
    (1200, 'h', 3),
    (2880, 'm', 3),
    (2200, 'm', 3),
];
/// The same with `streak`; the counter is as stored, before the next step takes it to 0.
const CONSERVATIVE_STREAK: [(i32, char, u32); 20] = [
    (100, 'h', 1),
    (201, 'h', 2),
    (303, 'h', 3),
    (-1, 'f', 3),
    (150, 'h', 1),
    (556, 'm', 1),
    (300, 'h', 1),
    (609, 'm', 1),
    (200, 'h', 1),
    (404, 'h', 2),
    (612, 'm', 2),
    (100, 'h', 1),
    (403, 'h', 2),
    (715, 'm', 2),
    (600, 'm', 0),
    (700, 'm', 0),
    (800, 'm', 0),
    (1200, 'm', 0),
    (1500, 'm', 0),
    (2200, 'm', 0),
];
const AGGRESSIVE_STREAK: [(i32, char, u32); 20] = [
    (100, 'h', 1),
    (201, 'h', 2),
    (303, 'h', 3),
    (406, 'h', 4),
    (562, 'h', 5),
    (985, 'h', 6),
    (1314, 'h', 7),
    (1654, 'h', 8),
    (1887, 'h', 9),
    (2124, 'm', 9),
    (200, 'h', 1),
    (302, 'h', 2),
    (611, 'h', 3),
    (929, 'h', 4),
    (1585, 'h', 5),
    (2396, 'm', 5),
    (800, 'h', 1),
    (2096, 'm', 1),
    (1500, 'h', 1),
    (4030, 'm', 1),
];

#[test]
fn the_worked_example() {
    let tables = [
        ("conservative legacy", conservative(), Counting::Legacy, CONSERVATIVE),
        ("aggressive legacy", aggressive(), Counting::Legacy, AGGRESSIVE),
        ("conservative streak", conservative(), Counting::Streak, CONSERVATIVE_STREAK),
        ("aggressive streak", aggressive(), Counting::Streak, AGGRESSIVE_STREAK),
    ];
    for (name, list, counting, table) in tables {
        let steps = run(&list, counting);
        for (verdict, counter) in &steps[..8] {
            assert_eq!(*verdict, Verdict { reason: Reason::Warmup, diff: None }, "{name}");
            assert_eq!(*counter, 0, "{name}");
        }
        for (index, (diff, mark, counter)) in table.into_iter().enumerate() {
            let (verdict, actual) = steps[8 + index];
            let reason = match mark {
                'h' => Reason::Hit,
                'm' => Reason::Miss,
                _ => Reason::Forced,
            };
            let step = 8 + index;
            assert_eq!((verdict.reason, actual), (reason, counter), "{name}, step {step}");
            match verdict.diff {
                Some(actual) => {
                    let actual = (f64::from(actual) * 1e4).round();
                    assert!(
                        (actual - f64::from(diff)).abs() < 0.5,
                        "{name}, step {step}: {actual}"
                    );
                }
                None => assert_eq!(diff, -1, "{name}, step {step}"),
            }
        }
    }
}

/// `8-10 12` as numbers.
fn list(text: &str) -> Vec<usize> {
    let number = |text: &str| text.parse::<usize>().unwrap();
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        number(first)..=number(last)
    };
    text.split_whitespace().flat_map(range).collect()
}

/// Name, options, counting, the steps that are hits, how many steps record a difference.
type Vector = (&'static str, ListOptions, Counting, &'static str, usize);

fn vectors() -> Vec<Vector> {
    let limited = |most: u32| ListOptions { max_continuous: Some(most), ..aggressive() };
    let always = ListOptions { threshold: 1.0, max_continuous: Some(3), ..ListOptions::default() };
    let capped = ListOptions { threshold: 0.2, max_cached: Some(5), ..ListOptions::default() };
    let wide = |warmup_interval, most| ListOptions {
        threshold: 0.8,
        warmup_interval,
        max_continuous: Some(most),
        ..ListOptions::default()
    };
    let accumulated =
        ListOptions { threshold: 0.2, max_accumulated: Some(0.3), ..ListOptions::default() };
    let masked = |threshold, mask_policy, max_continuous| ListOptions {
        threshold,
        mask: Some(Mask::try_from("fast".to_owned()).unwrap()),
        mask_policy,
        max_continuous,
        ..ListOptions::default()
    };
    let dynamic = || masked(0.2, MaskPolicy::Dynamic, None);
    let dynamic_limited = masked(0.2, MaskPolicy::Dynamic, Some(2));
    let (legacy, streak) = (Counting::Legacy, Counting::Streak);
    let k1 = "8 10 11 13 14 16 17 19 20 22 23 25";
    let k2 = "8 9 11 12 14 15 17 18 20 21 23 24 26";
    let three = "8 9 10 12 13 14 16 17 18 20 21 22 24 25 26";
    let default = "8-12 14 15 17 18 19 21 23";
    let i2 = "1 3 5 7-14 16-23 25 26 27";
    vec![
        ("cons", conservative(), legacy, "8 9 10 12 14 16 17 19 20", 18),
        ("cons", conservative(), streak, "8 9 10 12 14 16 17 19 20", 19),
        ("aggr", aggressive(), legacy, "8-16 18 19 21 22 23 25", 19),
        ("aggr", aggressive(), streak, "8-16 18-22 24 26", 20),
        ("K1", limited(1), legacy, k1, 14),
        ("K1", limited(1), streak, "8 10 12 14 16 18 20 22 24 26", 10),
        ("K2", limited(2), legacy, k2, 14),
        ("K2", limited(2), streak, k2, 14),
        ("S5", capped.clone(), legacy, "8-12", 5),
        ("S5", capped, streak, "8-12", 5),
        ("always", always.clone(), legacy, three, 15),
        ("always", always, streak, three, 15),
        ("default", ListOptions::default(), legacy, default, 20),
        ("default", ListOptions::default(), streak, default, 20),
        ("I2", wide(2, 8), legacy, i2, 22),
        ("I2", wide(2, 8), streak, i2, 22),
        ("I4", wide(4, 10), legacy, "1 2 3 5-12 14-23 25 26 27", 24),
        ("I4", wide(4, 10), streak, "1 2 3 5-14 16-25 27", 24),
        ("accumulated", accumulated, streak, "8-14", 7),
        ("static", masked(0.08, MaskPolicy::Static, None), streak, "6 8 9 10 12-15 17-21 23-26", 0),
        ("dynamic", dynamic(), streak, "6 8 9 10 12-15 17-21 23 24 26", 17),
        ("dynamic K2", dynamic_limited, streak, "6 8 9 12 13 15 17 18 20 21 23 24 26", 13),
    ]
}

#[test]
fn further_vectors() {
    for (name, options, counting, cached, diffs) in vectors() {
        let steps = run(&options, counting);
        assert_eq!(hits(&steps), list(cached), "{name} {counting:?}");
        let recorded = steps.iter().filter(|(verdict, _)| verdict.diff.is_some()).count();
        assert_eq!(recorded, diffs, "{name} {counting:?}");
        if name == "always" {
            assert!(
                steps
                    .iter()
                    .all(|(verdict, _)| verdict.diff.is_none_or(|diff| (diff + 1.0).abs() < 1e-9))
            );
        }
    }
}

#[test]
fn the_edges_of_the_comparison() {
    let decide = |threshold: f64, diff: f32| {
        let list = ListOptions { threshold, ..ListOptions::default() };
        let options =
            CacheOptions { double: list.clone(), single: list, ..CacheOptions::default() };
        let limits = options.schedule([19, 38], 28, false).unwrap()[0].limits;
        Counters::default().decide(&limits, 9, Some(diff), None)
    };
    assert_eq!(decide(0.25, 0.25).reason, Reason::Miss, "equal is no hit");
    assert_eq!(decide(0.25, 0.249).reason, Reason::Hit);
    assert_eq!(decide(0.25, f32::NAN).reason, Reason::Miss, "NaN is no hit");
    let none = Verdict { reason: Reason::NoThreshold, diff: None };
    assert_eq!(decide(0.0, 0.0), none);
    assert_eq!(decide(1.0, 5.0), Verdict { reason: Reason::Hit, diff: Some(-1.0) });
    for limit in [
        ListOptions { max_cached: Some(0), ..ListOptions::default() },
        ListOptions { max_continuous: Some(0), ..ListOptions::default() },
    ] {
        for counting in [Counting::Legacy, Counting::Streak] {
            assert_eq!(hits(&run(&limit, counting)), Vec::<usize>::new());
        }
    }
}

#[test]
fn a_replay_overrules_the_table_and_counts() {
    let mut counters = Counters::default();
    let options = CacheOptions::default();
    let limits = options.schedule([19, 38], 28, false).unwrap()[0].limits;
    let forced = counters.decide(&limits, 8, Some(0.5), Some(true));
    assert_eq!(forced, Verdict { reason: Reason::Hit, diff: Some(0.5) });
    assert_eq!((counters.hits, counters.continuous, counters.last_hit), (1, 1, Some(8)));
    let refused = counters.decide(&limits, 9, Some(0.01), Some(false));
    assert_eq!(refused, Verdict { reason: Reason::Miss, diff: Some(0.01) });
    assert_eq!((counters.hits, counters.last_hit), (1, Some(8)));
}
