//! How important the heads and neurons of a block are, told from what they give on calibration prompts.

use crate::model::plan::BlockSizes;

/// Mean and spread of the columns of a matrix whose rows come bit by bit.
#[derive(Debug, Clone)]
pub struct ColumnStatistics {
    rows: f64,
    sums: Vec<f64>,
    squares: Vec<f64>,
}

impl ColumnStatistics {
    /// Of so many columns, before any row.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        Self { rows: 0.0, sums: vec![0.0; columns], squares: vec![0.0; columns] }
    }

    /// Counts a row.
    pub fn add(&mut self, row: &[f32]) {
        self.rows += 1.0;
        for ((sum, square), &value) in self.sums.iter_mut().zip(&mut self.squares).zip(row) {
            let value = f64::from(value);
            *sum += value;
            *square += value * value;
        }
    }

    /// The mean of a column.
    #[must_use]
    pub fn mean(&self, column: usize) -> f64 {
        self.sums[column] / self.rows.max(1.0)
    }

    /// The variance of a column.
    #[must_use]
    pub fn variance(&self, column: usize) -> f64 {
        let mean = self.mean(column);
        (self.squares[column] / self.rows.max(1.0) - mean * mean).max(0.0)
    }
}

/// A layer that reads the attention's output, the hidden layer, or both: its columns' squared lengths.
#[derive(Debug, Clone)]
pub struct Reads<'a> {
    /// Over the columns of attention and hidden layer together, what was seen.
    pub statistics: &'a ColumnStatistics,
    /// `[D + M]`: the squared length of each column of the weight that multiplies it.
    pub lengths: Vec<f64>,
}

/// What is lost of an output when a column is replaced by its mean.
fn loss(reads: &Reads<'_>, column: usize) -> f64 {
    reads.statistics.variance(column) * reads.lengths[column]
}

/// A block's heads, most important first, by what all streams lose without them.
#[must_use]
pub fn order_of_heads(streams: &[Reads<'_>], sizes: BlockSizes) -> Vec<usize> {
    let head_dim = sizes.attention / sizes.heads;
    let of_head = |head: usize| {
        let columns = head * head_dim..(head + 1) * head_dim;
        let of_stream =
            |reads: &Reads<'_>| -> f64 { columns.clone().map(|column| loss(reads, column)).sum() };
        streams.iter().map(of_stream).sum::<f64>()
    };
    descending((0..sizes.heads).map(of_head).collect())
}

/// A stream's neurons, most important first.
#[must_use]
pub fn order_of_neurons(reads: &Reads<'_>, sizes: BlockSizes) -> Vec<usize> {
    descending((0..sizes.mlp).map(|neuron| loss(reads, sizes.attention + neuron)).collect())
}

/// The places of the numbers, largest first; of equal ones the earlier.
fn descending(values: Vec<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_of_columns() {
        let mut statistics = ColumnStatistics::new(2);
        for row in [[1.0, 5.0], [3.0, 5.0]] {
            statistics.add(&row);
        }
        let of = |column| (statistics.mean(column), statistics.variance(column));
        assert_eq!((of(0), of(1)), ((2.0, 1.0), (5.0, 0.0)));
    }

    /// Two heads of one column, three neurons. What never changes is worth nothing: its mean replaces it.
    #[test]
    fn what_varies_and_is_read_comes_first() {
        let mut statistics = ColumnStatistics::new(5);
        for row in [[0.0, 1.0, 9.0, 0.0, 0.0], [1.0, 3.0, 9.0, 1.0, 2.0]] {
            statistics.add(&row);
        }
        let lengths = vec![1.0, 1.0, 100.0, 5.0, 1.0];
        let reads = Reads { statistics: &statistics, lengths };
        let sizes = BlockSizes { heads: 2, attention: 2, mlp: 3, hidden: 2 };
        assert_eq!(order_of_neurons(&reads, sizes), [1, 2, 0]);
        assert_eq!(order_of_heads(std::slice::from_ref(&reads), sizes), [1, 0]);
        // A stream that reads the first head a hundred times as much outvotes it.
        let other = Reads { lengths: vec![100.0, 1.0, 0.0, 0.0, 0.0], ..reads.clone() };
        assert_eq!(order_of_heads(&[reads, other], sizes), [0, 1]);
    }
}
