//! Which rows or columns of a matrix a narrower layer keeps: prefixes, so that all widths share its bytes.

use std::ops::Range;

/// The first of each of some equal parts, then the first of what lies behind them: of q, k and v some
/// heads, of the hidden layer some neurons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kept {
    /// How many parts there are.
    pub parts: usize,
    /// How large each is.
    pub of: usize,
    /// What is kept of each.
    pub first: usize,
    /// What is kept of what lies behind them.
    pub rest: usize,
}

impl Kept {
    /// All of `len`.
    #[must_use]
    pub fn all(len: usize) -> Self {
        Self { parts: 0, of: 0, first: 0, rest: len }
    }

    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parts * self.first + self.rest
    }

    /// Where all of them lie, in order.
    #[must_use]
    pub fn all_ranges(&self) -> Vec<Range<usize>> {
        self.ranges(0..self.count())
    }

    /// Where the kept ones from `range.start` to `range.end` lie, in order.
    #[must_use]
    pub fn ranges(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let behind = self.parts * self.first;
        let parts = (0..self.parts).map(|part| (part * self.first, part * self.of, self.first));
        for (kept, lies, len) in parts.chain([(behind, self.parts * self.of, self.rest)]) {
            let start = range.start.max(kept);
            let end = range.end.min(kept + len);
            if start < end {
                let next = lies + start - kept..lies + end - kept;
                match ranges.last_mut() {
                    Some(last) if last.end == next.start => last.end = next.end,
                    _ => ranges.push(next),
                }
            }
        }
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_parts_and_of_the_rest() {
        let kept = Kept { parts: 3, of: 10, first: 4, rest: 5 };
        assert_eq!(kept.count(), 17);
        assert_eq!(kept.all_ranges(), [0..4, 10..14, 20..24, 30..35]);
        assert_eq!(kept.ranges(2..9), [2..4, 10..14, 20..21]);
        assert_eq!(kept.ranges(11..17), [23..24, 30..35]);
        assert_eq!(kept.ranges(4..4), [0..0; 0]);
    }

    #[test]
    fn without_a_gap_there_is_one_range() {
        let one = |ranges: Vec<Range<usize>>, range| ranges.len() == 1 && ranges[0] == range;
        assert!(one(Kept { parts: 3, of: 4, first: 4, rest: 2 }.ranges(0..14), 0..14));
        assert!(one(Kept::all(7).ranges(1..7), 1..7));
    }
}
