//! Where kernels find the rows and columns of a weight: of a narrower layer, in the whole whose bytes it
//! shares.

use crate::device::kept::Kept;
use crate::error::Result;
use crate::ops::expect;
use crate::ops::gemm::Weight;

/// What a weight is a part of, or itself.
pub(in crate::ops::cuda) fn whole(weight: &Weight) -> &Weight {
    match weight {
        Weight::Part(part) => &part.of,
        weight => weight,
    }
}

/// How the columns of a product lie in a weight's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::ops::cuda) struct Columns {
    /// Elements from one row to the next.
    pub(in crate::ops::cuda) stride: usize,
    /// Those from there on lie [`Self::gap`] further.
    pub(in crate::ops::cuda) gap_at: usize,
    /// 0 where none is left out between others.
    pub(in crate::ops::cuda) gap: usize,
}

impl Columns {
    /// Of two weights that one launch takes.
    pub(in crate::ops::cuda) fn of(op: &'static str, weights: [&Weight; 2]) -> Result<Self> {
        let [first, second] = weights.map(|weight| Self::of_one(op, weight));
        let (first, second) = (first?, second?);
        expect(op, "weights", first == second, || {
            (format!("columns as of the first, {first:?}"), format!("{second:?}"))
        })?;
        Ok(first)
    }

    fn of_one(op: &'static str, weight: &Weight) -> Result<Self> {
        let [_, stride] = whole(weight).shape();
        let ranges = match weight {
            Weight::Part(part) => part.columns.all_ranges(),
            _ => Kept::all(stride).all_ranges(),
        };
        let (gap_at, gap) = match &ranges[..] {
            [first] if first.start == 0 => (first.end, 0),
            [first, behind] if first.start == 0 => (first.end, behind.start - first.end),
            _ => {
                expect(op, "weight", false, || {
                    (
                        "first columns, and at most one range behind them".into(),
                        format!("{ranges:?}"),
                    )
                })?;
                (0, 0)
            }
        };
        Ok(Self { stride, gap_at, gap })
    }

    /// The columns of the whole that the product's `k` reach to.
    pub(in crate::ops::cuda) fn extent(&self, k: usize) -> usize {
        k + self.gap
    }
}

/// Fails unless the product's rows are the first of what `weight` is a part of.
pub(super) fn expect_first_rows(op: &'static str, weight: &Weight) -> Result<()> {
    let Weight::Part(part) = weight else { return Ok(()) };
    let ranges = part.rows.all_ranges();
    expect(op, "weight", matches!(&ranges[..], [] | [std::ops::Range { start: 0, .. }]), || {
        ("first rows of a whole".into(), format!("{ranges:?}"))
    })
}

/// Rows from q's first to k's, and from k's to v's, in both weights of a product whose q has `part`.
pub(in crate::ops::cuda) fn part_rows(
    op: &'static str,
    weights: [&Weight; 2],
    part: usize,
) -> Result<usize> {
    let rows = weights.map(|weight| match weight {
        Weight::Part(of) if of.rows.parts == 3 && of.rows.first == part => of.rows.of,
        _ => part,
    });
    for weight in weights {
        let Weight::Part(of) = weight else { continue };
        let fits = of.rows.parts == 3 && of.rows.first == part;
        expect(op, "weight", fits || of.rows.all_ranges().len() == 1, || {
            (format!("the first {part} rows of q, of k and of v"), format!("{:?}", of.rows))
        })?;
    }
    expect(op, "weights", rows[0] == rows[1], || {
        (format!("{} rows for each of q, k and v", rows[0]), rows[1].to_string())
    })?;
    Ok(rows[0])
}
