//! What options mean for a model: which steps are known before they run, and what is refused.

use flux_rt::cache::CacheOptions;
use flux_rt::cache::Layout;
use flux_rt::cache::ListOptions;
use flux_rt::cache::Mask;
use flux_rt::cache::MaskPolicy;
use flux_rt::cache::Preset;
use flux_rt::model::flux::cached::Compared;
use flux_rt::model::flux::cached::StepAction;

/// C computes, S stores too, D decides, H is a hit.
fn actions(options: &CacheOptions, steps: usize) -> Vec<String> {
    let letter = |action: &StepAction| match action {
        StepAction::Compute => 'C',
        StepAction::Store => 'S',
        StepAction::Decide => 'D',
        StepAction::Hit => 'H',
    };
    let lists = options.schedule([19, 38], steps, false).unwrap();
    lists.iter().map(|list| list.actions.iter().map(letter).collect()).collect()
}

fn both(list: ListOptions) -> CacheOptions {
    CacheOptions { double: list.clone(), single: list, ..CacheOptions::default() }
}

fn mask(text: &str) -> Option<Mask> {
    Some(Mask::try_from(text.to_owned()).unwrap())
}

#[test]
fn only_what_a_hit_can_read_is_stored() {
    let list = || ListOptions { warmup: 3, ..ListOptions::default() };
    assert_eq!(actions(&both(list()), 6), ["CCSDDD"]);
    let every_second = ListOptions { warmup_interval: 2, warmup: 4, ..list() };
    assert_eq!(actions(&both(every_second), 6), ["SDSDDD"]);
    let forecast = ListOptions { taylor_order: 1, ..list() };
    assert_eq!(actions(&both(forecast), 6), ["SSSDDD"], "a forecast needs the steps before");
    let none = ListOptions { warmup: 9, ..list() };
    assert_eq!(actions(&both(none), 4), ["CCCC"]);
    let dynamic = ListOptions { mask: mask("110010"), ..list() };
    assert_eq!(actions(&both(dynamic.clone()), 7), ["CSDDSDD"]);
    let fixed = ListOptions { mask_policy: MaskPolicy::Static, ..dynamic };
    assert_eq!(actions(&both(fixed.clone()), 7), ["CSHHSHH"]);
    let forecast = ListOptions { taylor_order: 2, mask: mask("1100101"), ..fixed };
    assert_eq!(actions(&both(forecast), 7), ["SSHHSHC"], "nothing reads the last step's effect");
}

#[test]
fn layouts_differ_in_blocks_and_rows() {
    let lists = |layout| {
        let options = CacheOptions { layout, ..Preset::Conservative.options().unwrap() };
        let lists = options.schedule([19, 38], 28, true).unwrap();
        let part = |list: flux_rt::cache::ListSchedule| {
            let blocks = list.blocks;
            (blocks.blocks, blocks.compared, blocks.text_is_read)
        };
        lists.into_iter().map(part).collect::<Vec<_>>()
    };
    let double = (0..19, Compared::Image, true);
    let joint = [double.clone(), (19..57, Compared::Joint, false)];
    assert_eq!(lists(Layout::SplitJoint), joint);
    assert_eq!(lists(Layout::Split), [double, (19..57, Compared::Image, false)]);
    assert_eq!(lists(Layout::Unified), [(0..57, Compared::Image, false)]);
    let options = both(ListOptions { bn_blocks: 2, ..ListOptions::default() });
    let list = options.schedule([19, 38], 28, true).unwrap().remove(0);
    assert!(list.blocks.text_is_read, "Bn blocks read the text");
}

#[test]
fn a_static_mask_compares_nothing() {
    let list = ListOptions {
        mask: mask("fast"),
        mask_policy: MaskPolicy::Static,
        ..ListOptions::default()
    };
    let list = both(list).schedule([19, 38], 28, true).unwrap().remove(0);
    assert!(!list.blocks.compares);
    let hits = list.actions.iter().filter(|action| **action == StepAction::Hit).count();
    assert_eq!(hits, 17);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let default = ListOptions::default;
    for (list, part) in [
        (ListOptions { fn_blocks: 0, ..default() }, "cache-fn: expected at least 1 block"),
        (ListOptions { fn_blocks: 50, bn_blocks: 7, ..default() }, "found 50 + 7"),
        (ListOptions { threshold: f64::NAN, ..default() }, "cache-threshold"),
        (ListOptions { threshold: -0.1, ..default() }, "cache-threshold"),
        (ListOptions { warmup_interval: 0, ..default() }, "cache-warmup-interval"),
        (ListOptions { taylor_order: 3, ..default() }, "cache-taylor-order: expected 0 to 2"),
        (ListOptions { mask: mask("fast"), ..default() }, "expected 20, 28 or 50 steps"),
        (
            ListOptions { mask: mask("01"), mask_policy: MaskPolicy::Static, ..default() },
            "starts with 1",
        ),
        (ListOptions { replay: Some(vec![3]), ..default() }, "cache-replay"),
        (ListOptions { replay: Some(vec![40]), ..default() }, "past the last one"),
    ] {
        let error = both(list).schedule([19, 38], 30, false).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    let mut different = CacheOptions::default();
    different.single.threshold = 0.5;
    assert!(different.schedule([19, 38], 28, false).is_err(), "unified has one list");
    different.layout = Layout::Split;
    assert!(different.schedule([19, 38], 28, false).is_ok());
    assert!(different.schedule([8, 38], 28, false).is_err(), "nothing left of 8 double blocks");
}
