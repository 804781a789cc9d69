//! "Did you mean": the name nearest to one that was not found.

/// The candidate that needs the fewest edits to become `wanted`, if at most a third of it changes.
pub(crate) fn closest<'c>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let limit = wanted.len().div_ceil(3).min(8);
    let near = candidates.into_iter().filter(|name| name.len().abs_diff(wanted.len()) <= limit);
    let best = near.map(|name| (edits(wanted, name), name)).min_by_key(|(edits, _)| *edits);
    best.filter(|(edits, _)| *edits <= limit).map(|(_, name)| name)
}

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_typo_and_nothing_far() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(
            closest("x_embeder.weight", ["x_embedder.weight", "proj_out.weight"]),
            Some("x_embedder.weight")
        );
        assert_eq!(closest("x_embedder.weight", ["a", "decoder.conv_in.bias"]), None);
    }
}
