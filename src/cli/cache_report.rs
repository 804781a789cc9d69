//! What the cache did to a picture, in words.

use crate::cache::CacheLog;
use crate::cache::ListLog;
use crate::cache::log::Counts;

/// Two lines a list, one of both lists together, one of what the marks mean.
pub(super) fn cache_report(log: &CacheLog) -> String {
    let percent = |rate: f64| format!("{:.1} %", 100.0 * rate);
    let mut text = String::new();
    for list in &log.lists {
        let Counts { hits, misses, forced, uncompared, warmup } = list.counts();
        let uncompared = match uncompared {
            0 => String::new(),
            steps => format!("{steps} not compared, "),
        };
        let compared = match list.hits_per_compared() {
            Some(rate) => format!("hits/compared {}", percent(rate)),
            None => "nothing compared".to_owned(),
        };
        let (name, timeline) = (list.name, list.timeline());
        let steps = percent(list.hits_per_step());
        text += &format!("cache {name:<6} {timeline}\n");
        text += &format!(
            "             {hits} hits, {misses} misses, {forced} forced, {uncompared}{warmup} warmup; \
             {compared}, hits/steps {steps}\n"
        );
    }
    text += "             . skipped  # computed  F computed at a limit  w warmup or mask  - not compared\n";
    let mut whole = Vec::new();
    if let Some(rate) = log.tutorial_rate() {
        whole.push(format!("tutorial's rate (double + 2 single) / 3: {}", percent(rate)));
    }
    match log.saved_ms() {
        Some(saved) => {
            let all: f64 = log.step_ms.iter().sum();
            let share = percent(saved / (all + saved));
            whole.push(format!("saved {:.3} s, {share} of the steps' time", saved / 1000.0));
        }
        None => whole.push(match log.lists.iter().all(ListLog::is_known) {
            true => {
                "nothing skipped: warmup or mask computes every step, see --cache-warmup".into()
            }
            false => "nothing skipped".into(),
        }),
    }
    text + "             " + &whole.join("; ") + "\n"
}
