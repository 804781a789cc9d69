//! The targets of `fuzz/` over the corpus kept there, as it is and with a bounded number of changes.

#[path = "../../fuzz/targets.rs"]
pub(crate) mod targets;

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use flux_rt::files;

use crate::alone;
use crate::data;
use crate::memory::measured;
use crate::random::Random;
use crate::watch::Watched;
use crate::watch::watched;
use targets::TARGETS;
use targets::Target;

/// How long changed inputs are tried, for each target.
const FOR_EACH: Duration = Duration::from_millis(2_000);
/// How many at most: the same ones in every run, as far as the time reaches.
const MOST_CHANGED: usize = 4_000;
/// The longest that an input may take. Most take less than a millisecond.
const MOST_TIME: Duration = Duration::from_secs(2);
/// The most memory: a picture of 8192 x 8192 pixels is 192 MiB.
const MOST_MEMORY: usize = 64 << 20;
const MOST_PICTURE: usize = 256 << 20;

/// The files of a folder, by name.
fn corpus(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let names = files::list(folder).unwrap();
    let read = |name: String| {
        let bytes = files::map(&folder.join(&name)).unwrap().to_vec();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

/// Fails if the target panics, or takes too long or too much.
fn try_one(target: Target, name: &str, bytes: &[u8]) {
    let run = || watched(name, || measured(|| target(bytes)).1);
    let mut run_of = run();
    if run_of.time > MOST_TIME {
        // Another process may have had the machine.
        run_of = run();
    }
    let Watched { result: memory, panics, time } = run_of;
    let most = if bytes.starts_with(b"\x89PNG") { MOST_PICTURE } else { MOST_MEMORY };
    if panics > 0 || time > MOST_TIME || memory.is_none_or(|memory| memory > most) {
        let kept = std::env::temp_dir().join("flux-rt-hostile-input");
        files::write_atomic(&kept, bytes).unwrap();
        panic!("{name}: {panics} panics, {memory:?} bytes, {time:?}; input in {kept:?}");
    }
}

/// A change such as files suffer, or an attacker makes.
fn changed(bytes: &[u8], others: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    const NUMBERS: [&str; 10] = [
        "0",
        "-1",
        "1e400",
        "18446744073709551615",
        "18446744073709551616",
        "4294967296",
        "null",
        "[]",
        "{}",
        "\"\"",
    ];
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(3) {
        let length = bytes.len();
        let at = random.below(length + 1);
        let span = |random: &mut Random| at..(at + random.below(64)).min(length);
        match random.below(9) {
            0 if at < length => bytes[at] = random.byte(),
            1 if at < length => bytes[at] ^= 1 << random.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(span(random))),
            4 => {
                let again = bytes[span(random)].to_vec();
                bytes.splice(at..at, again.repeat(1 + random.below(20)));
            }
            5 => drop(bytes.splice(at..at, [random.byte()])),
            6 => {
                let number = random.of(&NUMBERS).bytes();
                let digits = |byte: &&u8| byte.is_ascii_digit();
                let first = at + bytes[at..].iter().take_while(|byte| !digits(byte)).count();
                let count = bytes[first..].iter().take_while(digits).count();
                bytes.splice(first..first + count, number);
            }
            7 => {
                let other = &random.of(others).1;
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ if length >= 8 => {
                let at = random.below(length - 7);
                let number = random.next() >> random.below(64);
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            _ => {}
        }
    }
    bytes
}

#[test]
fn no_input_of_the_corpus_does_harm_nor_do_its_neighbours() {
    let _alone = alone();
    let folder = data::path("fuzz/corpus");
    assert_eq!(files::list(&folder).unwrap().len(), TARGETS.len(), "a folder for each target");
    for (name, target) in TARGETS {
        let corpus = corpus(&folder.join(name));
        for (file, bytes) in &corpus {
            try_one(target, &format!("{name}/{file}"), bytes);
        }
        let (mut random, started) = (Random::new(8), Instant::now());
        let mut tried = 0;
        while tried < MOST_CHANGED && started.elapsed() < FOR_EACH {
            let (file, bytes) = &corpus[random.below(corpus.len())];
            let bytes = changed(bytes, &corpus, &mut random);
            try_one(target, &format!("{name}/{file}, changed, number {tried}"), &bytes);
            tried += 1;
        }
        println!("{name}: {} files, {tried} changed", corpus.len());
    }
}
